"""The demonstration of transcripts: three short recordings, one of them a film, some over music."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.media.decode import read_audio
from millrace.workloads import DemoJob, DemoStand

Samples = NDArray[np.float32]

_RATE = 44100


def demo(stand: DemoStand) -> DemoJob:
    """Submit a batch as a client of the contract would: an upload and two local paths."""
    folder = stand.media / "recordings"
    folder.mkdir()
    meeting = _write(folder / "meeting.wav", *_speech("meeting"))
    story = _write(folder / "story with music.flac", *_speech("story", music=-20.0))
    weather = _write(folder / "weather film.mkv", *_speech("weather", music=-14.0), film=True)
    items = [
        {"kind": "upload", "fileIndex": 0},
        {"kind": "audioPath", "audioPath": str(story)},
        {"kind": "audioPath", "audioPath": str(weather)},
    ]
    options = {"policy": "stage-first", "tasks": {"asr": True, "demucs": True}}
    with meeting.open("rb") as upload:
        answer = stand.client.post(
            "/v2/batches",
            files={"audio": (meeting.name, upload, "audio/wav")},
            data={"items": json.dumps(items), "options": json.dumps(options)},
        )
    answer.raise_for_status()
    batch = answer.json()["data"]["batchId"]
    seconds = sum(read_audio(path)[0].size / _RATE for path in (meeting, story, weather))
    return DemoJob(
        job=batch,
        title="Recordings become subtitles and stems: POST /v2/batches",
        seconds=seconds,
        tell=lambda: list(_subtitles(stand, batch, len(items))),
    )


def _subtitles(stand: DemoStand, batch: str, number: int) -> Iterator[str]:
    for idx in range(number):
        answer = stand.client.get(f"/v2/batches/{batch}/items/{idx}/artifacts/output.srt")
        if answer.status_code == 200:
            yield from answer.text.strip().splitlines()
            yield ""


def _speech(name: str, *, music: float | None = None) -> tuple[Samples, int]:
    """Return a sample that ships with Millrace as stereo; ``music`` around it, in dB against the voice."""
    with as_file(files("millrace.workloads.transcripts") / "samples" / f"{name}.ogg") as path:
        voice, rate = read_audio(path, rate=_RATE)
    stereo = np.repeat(voice[:, None], 2, axis=1)
    if music is not None:
        bed = band(len(voice) / rate, rate)[: len(voice)]
        level = float(np.sqrt((voice**2).mean() / (bed**2).mean())) * 10 ** (music / 20)
        stereo = stereo + bed * np.float32(level)
    return (stereo * np.float32(0.8 / np.abs(stereo).max())).astype(np.float32), rate


def band(seconds: float, rate: int) -> Samples:
    """Return a little music, ``(n, 2)``: plucked chords left and right, over a bass in the middle."""
    length = round(seconds * rate)
    out = np.zeros((length + rate, 2), np.float32)
    chords = ((57, 60, 64), (53, 57, 60), (48, 55, 64), (55, 59, 62))
    beat = 0.5
    for number in range(int(seconds / beat) + 1):
        chord = chords[number // 4 % len(chords)]
        start = round(number * beat * rate)
        for voice, note in enumerate(chord):
            tone = _pluck(note + 12 * (number % 2), 1.0, rate)
            # One note left, one right, one between: no two instruments stand in the same place.
            right = (0.1, 0.9, 0.3)[(voice + number) % 3]
            end = min(len(out), start + len(tone))
            out[start:end, 0] += tone[: end - start] * (1 - right)
            out[start:end, 1] += tone[: end - start] * right
        if number % 2 == 0:
            tone = 0.5 * _pluck(chord[0] - 24, 1.0, rate)
            end = min(len(out), start + len(tone))
            out[start:end] += tone[: end - start, None]
    return out[:length]


def _pluck(note: int, seconds: float, rate: int) -> Samples:
    """Return one plucked string by a few decaying harmonics; ``note`` as in MIDI, 69 being 440 Hz."""
    t = np.arange(round(seconds * rate), dtype=np.float32) / rate
    pitch = 440.0 * 2 ** ((note - 69) / 12)
    tone = sum(np.exp(-t * (3 + 2 * k)) * np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 6))
    attack = np.minimum(1.0, t / 0.005)
    return np.asarray(tone * attack * 0.2, np.float32)


def _write(path: Path, samples: Samples, rate: int, *, film: bool = False) -> Path:
    """Write a recording in the format of its suffix, with moving pictures beside it if asked."""
    import av

    codec = "pcm_s16le" if path.suffix == ".wav" else "flac"
    with av.open(str(path), "w") as container:
        audio: Any = container.add_stream(codec, rate=rate, layout="stereo")
        audio.codec_context.format = "s16"
        if film:
            _pictures(container, len(samples) / rate)
        size = audio.codec_context.frame_size or 4096
        whole = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
        for begin in range(0, len(whole), size):
            part = np.ascontiguousarray(whole[begin : begin + size].reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def _pictures(container: Any, seconds: float) -> None:
    import av

    stream = container.add_stream("mpeg4", rate=10)
    stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
    for number in range(round(seconds * 10)):
        picture = np.full((96, 160, 3), 40, np.uint8)
        picture[:, : 160 * number // max(1, round(seconds * 10))] = (200, 120, 40)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
