"""Offsets, drift and cuts are found to a fraction of a millisecond; nothing is found where nothing is."""

from pathlib import Path

import numpy as np
import pytest

from millrace.media.decode import read_audio
from millrace.workloads.sync import align
from tests.unit.sync.sounds import RATE, bed, compared, later, recorded, stretched

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
SECONDS = 60.0


@pytest.fixture(scope="module")
def sound():
    return bed(SECONDS, 1)


@pytest.fixture(scope="module")
def master(sound, tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("master"), "master", sound)


@pytest.mark.parametrize("delay", [0.0, 15.023, -0.5, -37.4, 0.0123])
def test_an_offset_is_exact_and_has_the_right_sign(master, sound, tmp_path, delay):
    found = compared(master, recorded(tmp_path, "dub", later(sound, delay)))
    assert found.chosen.offset == pytest.approx(-delay, abs=1e-4)
    assert found.status == ("offset" if abs(delay) > 0.02 else "in_sync")
    assert found.confidence > 0.95
    assert found.chosen.drift_ppm == 0.0


@pytest.mark.parametrize("method", ["mfcc", "onset", "spectral", "correlation", "ai"])
def test_each_method_finds_it_alone(master, sound, tmp_path, method):
    found = compared(master, recorded(tmp_path, "dub", later(sound, 7.25)), method)
    assert found.chosen.offset == pytest.approx(-7.25, abs=1e-4)
    assert [answer.method for answer in found.answers] == [method]


@pytest.mark.parametrize("method", ["mfcc", "onset", "spectral", "correlation", "ai", "auto"])
def test_unrelated_sound_is_no_match(master, tmp_path, method):
    found = compared(master, recorded(tmp_path, "dub", bed(SECONDS, 2)), method)
    assert found.status == "no_match"
    assert found.chosen.offset is None
    assert found.confidence == 0.0
    assert found.as_dict()["offset_seconds"] is None


@pytest.mark.parametrize("seconds", [3.0, 8.0, 25.0])
def test_unrelated_short_sounds_are_no_match(tmp_path, seconds):
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        first = recorded(folder, "master", bed(seconds, 100 + seed))
        assert compared(first, recorded(folder, "dub", bed(seconds, 200 + seed))).status == "no_match"


@pytest.mark.parametrize(
    ("ratio", "cause"),
    [
        (1.001, "0.1 % slower"),
        (1 / 1.001, "0.1 % faster"),
        (24 / 25, "24 to 25 fps"),
        (25 / (24 / 1.001), "25 to 23.976 fps"),
        (1.004, None),
        (0.9935, None),
    ],
)
def test_drift_is_measured_listed_or_not(master, sound, tmp_path, ratio, cause):
    found = compared(master, recorded(tmp_path, "dub", later(stretched(sound, ratio), 2.25)))
    assert found.status == "drift"
    assert found.chosen.drift_ppm == pytest.approx((ratio - 1) * 1e6, abs=2.0)
    assert found.chosen.offset == pytest.approx(-2.25, abs=1e-3)
    said = found.as_dict()["drift"]["cause"]
    assert said is None if cause is None else cause in said


@pytest.mark.parametrize("ratio", [1.001, 24 / 25, 25 / 24])
def test_the_speed_of_long_recordings_is_told_from_averages(master, sound, tmp_path, monkeypatch, ratio):
    monkeypatch.setattr(align, "_LONG", 1000)
    found = compared(master, recorded(tmp_path, "dub", later(stretched(sound, ratio), 1.5)))
    assert found.status == "drift"
    assert found.chosen.drift_ppm == pytest.approx((ratio - 1) * 1e6, abs=1)
    assert found.chosen.offset == pytest.approx(-1.5, abs=1e-4)


def test_a_cut_makes_two_segments(master, sound, tmp_path):
    dub = np.concatenate([sound[: 30 * RATE], sound[42 * RATE :]])
    found = compared(master, recorded(tmp_path, "dub", dub))
    assert found.status == "cuts"
    first, second = found.chosen.segments
    assert (first.start, first.end) == pytest.approx((0, 30), abs=0.05)
    assert (second.start, second.end) == pytest.approx((42, 60), abs=0.05)
    assert first.offset == pytest.approx(0, abs=1e-4)
    assert second.offset == pytest.approx(12, abs=1e-4)


def test_two_threads_find_what_one_finds(master, sound, tmp_path):
    dubs = {
        "late": later(sound, 7.25),
        "drifting": stretched(sound, 1.004),
        "cut": np.concatenate([sound[: 30 * RATE], sound[42 * RATE :]]),
        "unrelated": bed(SECONDS, 2),
    }
    for name, dub in dubs.items():
        other = recorded(tmp_path, name, dub)
        alone, together = (compared(master, other, slots=slots).as_dict() for slots in (1, 2))
        for found in (alone, together):
            del found["timings_seconds"]
            for method in found["methods"]:
                del method["seconds"]
        assert together == alone, name


def test_added_material_makes_two_segments(master, sound, tmp_path):
    dub = np.concatenate([sound[: 25 * RATE], bed(8, 77), sound[25 * RATE :]])
    first, second = compared(master, recorded(tmp_path, "dub", dub)).chosen.segments
    assert first.end == pytest.approx(25, abs=0.05)
    assert second.start == pytest.approx(25, abs=0.05)
    assert second.offset == pytest.approx(-8, abs=1e-4)
    assert second.dub_start == pytest.approx(33, abs=0.05)


def test_a_cut_of_three_frames_is_seen(master, sound, tmp_path):
    dub = np.concatenate([sound[: 30 * RATE], sound[30 * RATE + 1920 :]])
    found = compared(master, recorded(tmp_path, "dub", dub))
    assert found.status == "cuts"
    assert [s.offset for s in found.chosen.segments] == pytest.approx([0.0, 0.12], abs=1e-4)


def test_noise_as_loud_as_the_sound_changes_nothing(master, sound, tmp_path):
    noise = np.random.default_rng(3).standard_normal(len(sound)).astype(np.float32) * sound.std()
    found = compared(master, recorded(tmp_path, "dub", later(sound + noise, 0.5)))
    assert found.chosen.offset == pytest.approx(-0.5, abs=1e-3)
    assert found.confidence > 0.7


def test_level_polarity_and_a_telephone_band_change_nothing(master, sound, tmp_path):
    spectrum = np.fft.rfft(sound)
    hertz = np.arange(len(spectrum)) * RATE / len(sound)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    dub = -0.1 * np.fft.irfft(spectrum, len(sound)).astype(np.float32)
    found = compared(master, recorded(tmp_path, "dub", later(dub, 1.5)))
    assert found.chosen.offset == pytest.approx(-1.5, abs=1e-3)


def test_silence_and_a_tone_at_the_head_are_ignored(sound, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(10 * RATE) / RATE).astype(np.float32)
    quiet = np.zeros(5 * RATE, np.float32)
    first = recorded(tmp_path, "master", np.concatenate([tone, quiet, sound]))
    other = recorded(tmp_path, "dub", np.concatenate([tone, quiet, np.zeros(3 * RATE, np.float32), sound]))
    found = compared(first, other)
    assert (found.status, len(found.chosen.segments)) == ("offset", 1)
    assert found.chosen.offset == pytest.approx(-3, abs=1e-4)


def test_confidence_does_not_grow_with_the_length(sound, tmp_path):
    noise = np.random.default_rng(3).standard_normal(len(sound)).astype(np.float32) * sound.std()
    trust = []
    for seconds in (15, 30, 60):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        count = seconds * RATE
        first = recorded(folder, "master", sound[:count])
        trust.append(compared(first, recorded(folder, "dub", (sound + noise)[:count]), "onset").confidence)
    assert max(trust) - min(trust) < 0.05


def test_an_excerpt_is_found_in_the_whole(master, sound, tmp_path):
    found = compared(master, recorded(tmp_path, "dub", sound[40 * RATE : 46 * RATE]))
    assert found.chosen.offset == pytest.approx(40, abs=1e-4)


def test_the_same_recording_is_in_sync(master):
    found = compared(master, master)
    assert found.status == "in_sync"
    assert found.as_dict()["offset_seconds"] == 0.0
    assert found.confidence > 0.99


def test_sample_rates_need_not_agree(sound, master, tmp_path):
    other = np.interp(np.arange(int(len(sound) * 3)) / 3, np.arange(len(sound)), sound).astype(np.float32)
    found = compared(master, recorded(tmp_path, "dub", later(other, 2.0, 48000), 48000))
    assert found.chosen.offset == pytest.approx(-2, abs=2e-4)


def test_the_result_has_frames_timecode_and_figures(master, sound, tmp_path):
    result = compared(master, recorded(tmp_path, "dub", later(sound, 15.023)), "mfcc", "onset").as_dict()
    assert result["offset_frames"]["25"] == {"frames": -376, "timecode": "-00:00:15:01"}
    assert set(result["offset_frames"]) == {"23.976", "24", "25", "29.97", "30"}
    assert result["offset_ms"] == pytest.approx(-15023, abs=0.1)
    assert result["method_used"] in ("MFCC", "Onset")
    assert [each["method"] for each in result["methods"]] == ["mfcc", "onset"]
    assert result["peak"]["z_score"] > 9
    assert 0 <= result["peak"]["next_peak_ratio"] < 1
    assert result["segments"][0]["measured_by"] == "phase"


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of recordings is not here")
def test_another_language_over_the_same_music_fits_and_without_it_does_not(tmp_path):
    music, _ = read_audio(CORPUS / "music" / "instrumental-vibe-ace.ogg", rate=RATE)
    english, _ = read_audio(CORPUS / "speech" / "librispeech-198-209-0000.ogg", rate=RATE)
    other, _ = read_audio(CORPUS / "speech" / "librispeech-5703-47212-0000.ogg", rate=RATE)
    music = music[: 45 * RATE] / music.std()
    voices = [np.resize(voice / voice.std(), len(music)) for voice in (english, other)]
    first = recorded(tmp_path, "master", 0.08 * (music + voices[0]))
    found = compared(first, recorded(tmp_path, "dub", later(0.08 * (music + voices[1]), 11.2)))
    assert found.chosen.offset == pytest.approx(-11.2, abs=1e-3)
    assert compared(first, recorded(tmp_path, "voice", 0.08 * voices[1])).status == "no_match"
