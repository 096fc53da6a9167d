"""Peaks, excerpts and a playable form of any recording."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from millrace.errors import BadInput
from millrace.media import listening
from millrace.media.decode import read_audio

RATE = 44_100


def sweep(seconds: float) -> NDArray[np.float32]:
    """A tone that rises and grows: no two places of it are alike."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (200 * t + 150 * t * t)) * (0.2 + 0.05 * t)
    return tone.astype(np.float32)


def write_wav(path: Path, samples: NDArray[np.float32]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def encode(path: Path, samples: NDArray[np.float32], codec: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None, :], "s16", "mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, "mono", RATE, frame_size=stream.frame_size or 4096)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def read_clip(path: Path) -> NDArray[np.float32]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (listening.CLIP_RATE, 2)
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return (data[:, 0] / 32767).astype(np.float32)


def test_peaks_are_the_loudest_of_each_hundredth(tmp_path: Path) -> None:
    samples = np.zeros(RATE * 2, np.float32)
    samples[RATE // 2 : RATE // 2 + 400] = 0.5
    samples[-300:] = -0.9
    found = listening.peaks(write_wav(tmp_path / "a.wav", samples))
    assert found["seconds"] == pytest.approx(2.0, abs=0.01)
    assert found["span"] == 0.01
    assert len(found["peaks"]) in (200, 201)
    assert max(found["peaks"][:48]) <= 3
    assert 45 <= found["peaks"][50] <= 75
    assert max(found["peaks"][197:]) >= 80


def test_a_long_recording_has_coarser_peaks_in_the_same_places(tmp_path: Path) -> None:
    seconds = 400
    samples = np.zeros(RATE * seconds, np.float32)
    at = 300
    samples[RATE * at : RATE * at + 2000] = 0.7
    found = listening.peaks(write_wav(tmp_path / "a.wav", samples))
    assert len(found["peaks"]) <= listening.MOST_PEAKS
    assert found["span"] * len(found["peaks"]) == pytest.approx(seconds, abs=2 * found["span"])
    loudest = int(np.argmax(found["peaks"]))
    assert loudest * found["span"] <= at + 0.05
    assert (loudest + 1) * found["span"] >= at


FORMATS = {"a.wav": "", "a.flac": "flac", "a.mp3": "libmp3lame", "a.m4a": "aac", "a.mkv": "pcm_s16le"}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("start", [0.0, 0.4, 7.25])
def test_a_clip_begins_where_it_should(tmp_path: Path, name: str, start: float) -> None:
    path = tmp_path / name
    write_wav(path, sweep(10)) if not FORMATS[name] else encode(path, sweep(10), FORMATS[name])
    whole, _ = read_audio(path, rate=RATE)
    listening.clip(path, tmp_path / "clip.wav", start, 1.0)
    got = read_clip(tmp_path / "clip.wav")
    assert len(got) == RATE
    # Matroska tells time in milliseconds; the others to the sample.
    slack = range(-RATE // 1000, RATE // 1000 + 1) if name == "a.mkv" and start else [0]
    first = round(start * RATE)
    inner = slice(100, RATE - 100)
    off = min(np.abs(got[inner] - whole[first + lag : first + lag + RATE][inner]).max() for lag in slack)
    assert off < 2e-3


def test_a_clip_is_filled_up_with_silence_on_both_sides(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sweep(2))
    listening.clip(path, tmp_path / "before.wav", -0.5, 1.0)
    before = read_clip(tmp_path / "before.wav")
    assert len(before) == RATE
    assert not before[: RATE // 2].any()
    assert before[RATE // 2 :].any()
    listening.clip(path, tmp_path / "after.wav", 5.0, 1.0)
    assert not read_clip(tmp_path / "after.wav").any()


def test_what_browsers_cannot_play_becomes_an_mp3(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", sweep(3), "pcm_s16le")
    listening.listen(path, tmp_path / "a.mp3")
    samples, rate = read_audio(tmp_path / "a.mp3")
    assert len(samples) / rate == pytest.approx(3.0, abs=0.01)


def test_the_program_says_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("not a recording")
    with pytest.raises(BadInput):
        listening.peaks(bad)
    asked = {"view": "peaks", "path": str(bad), "target": str(tmp_path / "out")}
    run = subprocess.run(
        [sys.executable, "-m", "millrace.media.listening"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 3
    assert json.loads(run.stdout)["code"] == "bad_audio"
    assert "bad.wav" in json.loads(run.stdout)["message"]
