"""The segmenter keeps FunASR's two promises; the detectors hear a voice."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.workloads.transcripts.silero import NumpyDetector, read_weights, weights_file
from millrace.workloads.transcripts.vad import (
    FRAME,
    FRAME_MS,
    EmbeddedDetector,
    OnnxDetector,
    Segmenter,
    load_detector,
    onnx_file,
    speech,
)
from tests.voice import speak

SPEECH, SILENCE = 0.9, 0.05


def segments(probabilities, max_segment_ms=8000, end_silence_ms=50):
    """What the segmenter makes of a whole stream, in frames."""
    segmenter = Segmenter(max_segment_ms, end_silence_ms)
    found = [segmenter.push(p) for p in probabilities]
    found.append(segmenter.finish())
    return [segment for segment in found if segment is not None]


def frames(found):
    return [(segment.start // FRAME, segment.end // FRAME) for segment in found]


def test_a_segment_closes_after_the_wanted_silence_and_not_before():
    stream = [SILENCE] * 5 + [SPEECH] * 10 + [SILENCE] * 3 + [SPEECH] * 10 + [SILENCE] * 40
    assert frames(segments(stream, end_silence_ms=96)) == [(5, 15), (18, 28)]
    assert frames(segments(stream, end_silence_ms=97)) == [(5, 28)]
    assert frames(segments(stream, end_silence_ms=1)) == [(5, 15), (18, 28)]


def test_a_long_segment_is_split_at_its_least_probable_frame():
    stream = [SPEECH] * 100
    stream[40] = 0.6
    stream[20] = 0.55
    assert frames(segments(stream, max_segment_ms=50 * 32)) == [(0, 40), (40, 90), (90, 100)]


def test_a_dip_between_the_two_thresholds_does_not_end_speech():
    stream = [SPEECH] * 10 + [0.4] * 20 + [SPEECH] * 10
    assert frames(segments(stream)) == [(0, 40)]


def test_a_single_frame_is_noise():
    assert segments([SILENCE] * 10 + [SPEECH] + [SILENCE] * 10) == []


def test_silence_has_no_segments():
    assert segments([SILENCE] * 1000) == []
    assert segments([]) == []


def test_a_pause_longer_than_a_segment_may_be_ends_it():
    stream = [SPEECH] * 10 + [SILENCE] * 300 + [SPEECH] * 10
    found = frames(segments(stream, max_segment_ms=100 * 32, end_silence_ms=1_000_000))
    assert found == [(0, 10), (310, 320)]


def test_a_segment_hears_a_tenth_of_a_second_around_it():
    (found,) = segments([SILENCE] * 20 + [SPEECH] * 10 + [SILENCE] * 20, end_silence_ms=320)
    assert found.start - found.heard_from == 1600
    assert found.heard_to - found.end == 1600


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(0, 1), max_size=400),
    st.integers(1, 5000),
    st.integers(1, 20_000),
)
def test_any_stream_gives_ordered_segments_within_the_limits(probabilities, max_ms, silence_ms):
    found = segments(probabilities, max_ms, silence_ms)
    longest = max(2 * FRAME_MS, max_ms) * 16
    heard = 0
    for segment in found:
        assert heard <= segment.heard_from <= segment.start < segment.end <= segment.heard_to
        assert segment.end - segment.start <= longest
        heard = segment.heard_to
    assert heard <= len(probabilities) * FRAME
    inside = {n for begin, end in frames(found) for n in range(begin, end)}
    loud = [p >= 0.5 for p in probabilities]
    for n, (this, following) in enumerate(pairwise(loud)):
        if this and following and max_ms >= 10 * FRAME_MS:
            assert n in inside or n + 1 in inside


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=300), st.integers(64, 3000), st.integers(1, 500))
def test_what_a_later_segment_hears_is_still_there(probabilities, max_ms, silence_ms):
    segmenter = Segmenter(max_ms, silence_ms)
    gone = 0
    for probability in [*probabilities, None]:
        segment = segmenter.finish() if probability is None else segmenter.push(probability)
        if segment is not None:
            assert segment.heard_from >= gone
        gone = max(gone, segmenter.needed_from)


no_onnx = pytest.mark.skipif(onnx_file() is None, reason="no package with Silero's ONNX file is installed")
detectors = pytest.mark.parametrize(
    "make",
    [
        pytest.param(EmbeddedDetector, id="embedded"),
        pytest.param(lambda: NumpyDetector(read_weights(weights_file())), id="numpy"),
        pytest.param(lambda: OnnxDetector(onnx_file()), id="onnx", marks=no_onnx),
    ],
)


@detectors
def test_a_detector_hears_a_voice_between_pauses(make):
    still = np.zeros(16000, np.float32)
    recording = np.concatenate([still, speak("aeiou"), still, speak("oieau"), still])
    spoken = len(speak("aeiou"))
    found = list(speech(np.array_split(recording, 9), make(), Segmenter(8000, 200)))
    assert len(found) == 2
    for one, start in zip(found, (16000, 16000 + spoken + 16000), strict=True):
        assert one.segment.start == pytest.approx(start, abs=0.15 * 16000)
        assert one.segment.end == pytest.approx(start + spoken, abs=0.15 * 16000)
        segment = one.segment
        assert np.array_equal(one.samples, recording[segment.heard_from : segment.heard_to])


@detectors
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_silence_and_noise_are_no_speech(make, noise):
    recording = np.random.default_rng(1).normal(0, noise, 16000 * 5).astype(np.float32)
    assert list(speech([recording], make(), Segmenter(8000, 50))) == []


@pytest.mark.parametrize("size", [100, 512, 7777, 10**6])
def test_the_size_of_blocks_changes_nothing(size):
    recording = np.concatenate([speak("aeiou oeaiu uieao", pause=0.3), np.zeros(333, np.float32)])
    blocks = [recording[n : n + size] for n in range(0, len(recording), size)]
    detector = load_detector()
    whole = list(speech([recording], detector, Segmenter(1000, 50)))
    parts = list(speech(blocks, detector, Segmenter(1000, 50)))
    assert [one.segment for one in parts] == [one.segment for one in whole]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(parts, whole, strict=True))


def test_speech_until_the_very_end_is_heard_to_the_very_end():
    recording = np.concatenate([np.zeros(8000, np.float32), speak("aeiouaeiou")])[: 8000 + 20001]
    (*_, last) = speech([recording], load_detector(), Segmenter(8000, 50))
    assert last.segment.end == last.segment.heard_to == len(recording)


def test_the_network_in_numpy_agrees_with_the_one_in_the_wheel():
    still = np.zeros(8000, np.float32)
    recording = np.concatenate([still, speak("aeiou oieau uieao", pause=0.4), still])
    frames = recording[: len(recording) // FRAME * FRAME].reshape(-1, FRAME)
    ours = NumpyDetector(read_weights(weights_file()))
    found = np.concatenate([ours.probabilities(part) for part in np.array_split(frames, 7)])
    theirs = EmbeddedDetector().probabilities(frames)
    assert np.abs(found - theirs).mean() < 0.03
    assert np.corrcoef(found, theirs)[0, 1] > 0.99
    ours.reset()
    assert np.allclose(ours.probabilities(frames), found, atol=1e-4), "how the frames come does not matter"


def test_weights_that_are_no_silero_are_refused(tmp_path):
    whole = weights_file().read_bytes()
    for n, content in enumerate((b"", b"GGUF" + whole[4:], whole[:5000], whole[:300])):
        path = tmp_path / f"{n}.bin"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"\.bin|lack"):
            NumpyDetector(read_weights(path))
