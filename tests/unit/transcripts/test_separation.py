"""Stems: exact length, sum, no clipping, archives, and what the DSP separator can and cannot do."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from millrace.engine.context import StageContext
from millrace.errors import BadInput, StageError
from millrace.media.decode import read_audio
from millrace.workloads.transcripts.separation import separate
from millrace.workloads.transcripts.separators import SeparationSettings, Survey, doctor
from millrace.workloads.transcripts.separators.dsp import DspSeparator
from tests.unit.media.media_files import tone, write_media, write_wav

RATE = 44100


def voice(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Something that moves like speech: harmonics of a gliding pitch, in syllables with pauses."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = 140 + 30 * np.sin(2 * np.pi * 0.4 * t) + 15 * np.sin(2 * np.pi * 2.3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formant = 700 + 500 * np.sin(2 * np.pi * 1.7 * t)
    sound = sum(
        np.exp(-(((k * pitch - formant) / 400) ** 2)) * np.sin(k * phase + rng.uniform(0, 6))
        for k in range(1, 25)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, 1) * (np.sin(2 * np.pi * 0.31 * t) > -0.6)
    return (0.25 * sound * syllables).astype(np.float32)


def bed(seconds: float, rate: int = RATE, *, wide: bool = True) -> np.ndarray:
    """A sustained chord with its notes spread between the sides, or all in the middle."""
    t = np.arange(round(seconds * rate)) / rate
    left = sum(np.sin(2 * np.pi * f * t) for f in (220.0, 329.6, 440.0))
    right = sum(np.sin(2 * np.pi * f * t) for f in (277.2, 392.0, 554.4))
    if not wide:
        left = right = (left + right) / 2
    return (0.07 * np.stack([left, right], axis=1)).astype(np.float32)


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    target = (estimate @ reference) / (reference @ reference) * reference
    noise = estimate - target
    return float(10 * np.log10((target @ target) / (noise @ noise)))


def context(tmp_path: Path, *, asr: bool = False, **more) -> StageContext:
    seen = more.pop("seen", [])
    return StageContext(
        job="b",
        idx=0,
        name="a.wav",
        stage="demucs",
        input={},
        workdir=tmp_path / "work",
        options={"tasks": {"asr": asr, "demucs": True}},
        report=lambda fraction, phase: seen.append((fraction, phase)),
        **more,
    )


def run(tmp_path, samples, rate=RATE, **more):
    ctx = context(tmp_path, **more)
    result = separate(ctx, write_wav(tmp_path / "a.wav", samples, rate))
    return result, ctx.workdir / "artifacts"


def dsp(mix: np.ndarray, *, side: float, block: int = 44100) -> np.ndarray:
    survey = Survey(RATE, len(mix), 1.0, 0.0, 1.0, side)
    blocks = (mix[n : n + block] for n in range(0, len(mix), block))
    pairs = list(DspSeparator().vocals(blocks, survey, lambda fraction: None))
    assert np.array_equal(np.concatenate([mixed for mixed, _ in pairs]), mix)
    return np.concatenate([found for _, found in pairs])


@pytest.mark.parametrize(("rate", "times"), [(44100, 1), (48000, 1), (16000, 2), (8000, 4), (22050, 2)])
def test_the_stems_are_as_long_as_the_recording_to_the_sample_frame(tmp_path, rate, times):
    frames = rate * 2 + 617
    result, out = run(tmp_path, np.stack([voice(3, rate)[:frames]] * 2, axis=1), rate)
    assert result["frames"] == frames * times
    for stem in ("vocals.mp3", "no_vocals.mp3"):
        samples, stem_rate = read_audio(out / stem, channels=2)
        assert (len(samples), stem_rate) == (frames * times, rate * times)


def test_the_stems_sum_to_the_recording(tmp_path):
    mix = voice(4)[:, None] + bed(4)
    _, out = run(tmp_path, mix)
    both = read_audio(out / "vocals.mp3", channels=2)[0] + read_audio(out / "no_vocals.mp3", channels=2)[0]
    assert si_sdr(both.ravel(), mix.ravel()) > 20  # what is missing is the MP3 coding


def test_a_recording_at_full_scale_does_not_clip_and_still_sums(tmp_path):
    loud = voice(4)[:, None] + bed(4)
    loud /= np.abs(loud).max()
    result, out = run(tmp_path, loud)
    stems = [read_audio(out / name, channels=2)[0] for name in ("vocals.mp3", "no_vocals.mp3")]
    assert max(np.abs(stem).max() for stem in stems) <= 1.0
    assert result["gain_db"] == -1.0
    assert si_sdr((stems[0] + stems[1]).ravel(), loud.ravel()) > 20


def test_stems_do_not_clip_where_the_recording_itself_is_clipped(tmp_path):
    result, out = run(tmp_path, np.clip((voice(4)[:, None] + bed(4)) * 20, -1, 1))
    stems = [read_audio(out / name, channels=2)[0] for name in ("vocals.mp3", "no_vocals.mp3")]
    assert max(np.abs(stem).max() for stem in stems) <= 1.0
    assert result["lowest_gain_db"] < result["gain_db"]


def test_the_archives_hold_what_they_say_stored_not_squeezed(tmp_path):
    srt = tmp_path / "earlier.srt"
    srt.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n", encoding="utf-8")
    _, out = run(
        tmp_path, bed(2), asr=True, published={"output.srt": "k"}, fetch_blob=lambda key, target: srt
    )
    with zipfile.ZipFile(out / "demucs.zip") as archive:
        assert archive.namelist() == ["vocals.mp3", "no_vocals.mp3"]
        assert archive.read("vocals.mp3") == (out / "vocals.mp3").read_bytes()
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    with zipfile.ZipFile(out / "result.zip") as archive:
        assert archive.namelist() == ["output.srt", "vocals.mp3", "no_vocals.mp3"]
        assert archive.read("output.srt") == srt.read_bytes()


def test_without_recognition_there_is_no_result_zip(tmp_path):
    _, out = run(tmp_path, bed(1), asr=False)
    assert sorted(path.name for path in out.iterdir()) == ["demucs.zip", "no_vocals.mp3", "vocals.mp3"]


def test_progress_rises_and_names_the_phases(tmp_path):
    seen = []
    run(tmp_path, bed(30, 16000), 16000, seen=seen)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert len({fraction for fraction in fractions if 0.05 < fraction < 0.97}) >= 3
    assert [phase for n, (_, phase) in enumerate(seen) if n == 0 or seen[n - 1][1] != phase] == [
        "demucs",
        "zip_demucs",
    ]


def test_again_gives_the_same_stems(tmp_path):
    _, out = run(tmp_path, voice(2)[:, None] + bed(2))
    first = (out / "vocals.mp3").read_bytes()
    _, out = run(tmp_path, voice(2)[:, None] + bed(2))
    assert (out / "vocals.mp3").read_bytes() == first


def test_silence_gives_silent_stems(tmp_path):
    result, out = run(tmp_path, np.zeros((RATE, 2), np.float32))
    assert result["gain_db"] == 0.0
    assert np.abs(read_audio(out / "no_vocals.mp3", channels=2)[0]).max() < 1e-4


def test_a_film_without_sound_is_bad_audio(tmp_path):
    film = write_media(tmp_path / "film.mp4", None, video=1.0)
    with pytest.raises(BadInput, match="no audio stream") as error:
        separate(context(tmp_path), film)
    assert error.value.code == "bad_audio"


def test_longer_than_allowed_is_bad_audio(tmp_path):
    with pytest.raises(BadInput, match="longer than the 1 seconds"):
        run(tmp_path, tone(2.0), 16000, settings={"max_seconds": 1.0})


@pytest.mark.parametrize("block", [441, 44100, 10**9])
def test_dsp_does_not_depend_on_how_the_recording_is_cut(block):
    mix = voice(21)[:, None] + bed(21)
    np.testing.assert_allclose(dsp(mix, side=1.0, block=block), dsp(mix, side=1.0, block=30011), atol=1e-5)


def test_dsp_lifts_a_centred_voice_out_of_a_wide_bed():
    found, clean = dsp(voice(12)[:, None] + bed(12), side=1.0), voice(12)
    mix = (voice(12)[:, None] + bed(12)).mean(axis=1)
    assert si_sdr(found.mean(axis=1), clean) > si_sdr(mix, clean) + 6


def test_dsp_tells_voice_and_bed_apart_in_mono_by_change_alone():
    mix = voice(12)[:, None] + bed(12, wide=False)
    assert si_sdr(dsp(mix, side=0.0).mean(axis=1), voice(12)) > si_sdr(mix.mean(axis=1), voice(12)) + 4


def test_dsp_keeps_bounded_memory_whatever_the_length():
    def blocks(seconds):
        second = voice(1)[:, None] + bed(1)
        for _ in range(seconds):
            yield second.copy()

    def peak(seconds):
        survey = Survey(RATE, seconds * RATE, 1.0, 0.0, 1.0, 1.0)
        tracemalloc.start()
        for _ in DspSeparator().vocals(blocks(seconds), survey, lambda fraction: None):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(120) < peak(40) * 1.1


def test_demucs_without_its_package_or_model_says_what_to_do(tmp_path):
    pytest.importorskip("demucs", reason="the demucs extra is not installed")
    ctx = context(
        tmp_path, settings={"separation": {"engine": "demucs"}}, site={"models_dir": str(tmp_path / "models")}
    )
    with pytest.raises(StageError, match="demucs, is not a directory"):
        separate(ctx, write_wav(tmp_path / "a.wav", tone(0.5)))


def test_doctor_names_the_missing_model(tmp_path):
    lines = doctor(SeparationSettings(engine="demucs", model="mine"), tmp_path)
    assert lines[-1] == (
        "demucs model mine",
        False,
        f"put mine.yaml or mine.safetensors or mine.th into {tmp_path / 'demucs'}",
    )
