"""What the demonstration of transcripts plays: present, short, in three formats, with and without music."""

import numpy as np
import pytest

from millrace.media.decode import read_audio
from millrace.media.probe import probe
from millrace.workloads.transcripts.demo import _speech, _write, band


@pytest.mark.parametrize("name", ["meeting", "story", "weather"])
def test_the_samples_ship_with_the_package(name):
    samples, rate = _speech(name)
    assert rate == 44100
    assert 5 < len(samples) / rate < 15
    assert np.abs(samples).max() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("suffix", "film"), [("wav", False), ("flac", False), ("mkv", True)])
def test_they_are_written_as_what_their_names_say(tmp_path, suffix, film):
    samples, rate = _speech("story", music=-14.0)
    path = _write(tmp_path / f"a.{suffix}", samples, rate, film=film)
    heard, _ = read_audio(path, channels=2)
    np.testing.assert_allclose(heard[: len(samples)], samples, atol=1e-3)
    assert probe(path).video == film


def test_the_music_stands_on_both_sides():
    bed = band(4.0, 22050)
    left, right = bed.T
    assert np.corrcoef(left, right)[0, 1] < 0.8
    assert 0.5 < left.std() / right.std() < 2
