"""What a browser needs to show and play a recording: its peaks, an excerpt, or a form it can play.

Run as a program of its own, ``python -m millrace.media.listening``, since what decodes foreign files must
not be able to take a server down. Knows no HTTP and no jobs.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import wave
from pathlib import Path
from typing import Any, Literal

import numpy as np

from millrace.errors import BadInput, MillraceError
from millrace.media.decode import AudioDecoder, Samples
from millrace.media.encode import Mp3Writer, mp3_rate

View = Literal["peaks", "clip", "listen"]

MOST_PEAKS = 8000
"""Peaks of one recording; a longer one has coarser ones."""

CLIP_RATE = 44_100
"""Hz of an excerpt."""

LONGEST_CLIP = 60.0
"""Seconds."""

_FINEST = 0.01
_PEAK_RATE = 8000
_BIT_RATE = 128_000
_MEMORY = 2 * 2**30
_FAILED = 3


def peaks(path: Path, stream: int | None = None) -> dict[str, Any]:
    """Return the loudest sample of each short span, 0–100 of full scale, and how long the spans are.

    The spans are 10 ms, or as long as it takes to have at most ``MOST_PEAKS`` of them.
    """
    span = round(_FINEST * _PEAK_RATE)
    found = np.zeros(0, np.float32)
    rest = np.zeros(0, np.float32)
    with AudioDecoder(path, rate=_PEAK_RATE, stream=stream, block=10.0) as decoder:
        for block in decoder:
            samples = np.abs(np.concatenate((rest, block)))
            whole = len(samples) // span * span
            found = np.concatenate((found, samples[:whole].reshape(-1, span).max(axis=1)))
            rest = samples[whole:]
            while len(found) > MOST_PEAKS:
                # Pairs become one: what is left over belongs to the span that comes.
                even = len(found) // 2 * 2
                rest = np.concatenate((np.repeat(found[even:], span), rest))
                found = found[:even].reshape(-1, 2).max(axis=1)
                span *= 2
        seconds = decoder.seconds
    if len(rest):
        found = np.append(found, rest.max())
    scaled = np.minimum(100, np.ceil(found * 100)).astype(int)
    return {"seconds": round(seconds, 3), "span": span / _PEAK_RATE, "peaks": scaled.tolist()}


def clip(path: Path, target: Path, start: float, seconds: float, stream: int | None = None) -> None:
    """Write an excerpt as a WAV file, stereo at ``CLIP_RATE``, exactly as long as asked: silence fills it up.

    ``start`` may lie before the recording's beginning. The place is right to the sample; in Matroska, which
    tells time in milliseconds, to one of these.
    """
    wanted = round(min(seconds, LONGEST_CLIP) * CLIP_RATE)
    before = min(wanted, max(0, round(-start * CLIP_RATE)))
    out = np.zeros((wanted, 2), np.float32)
    filled = before
    for block in _from(path, max(0.0, start), stream):
        part = block[: wanted - filled]
        out[filled : filled + len(part)] = part
        filled += len(part)
        if filled >= wanted:
            break
    with wave.open(str(target), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(CLIP_RATE)
        file.writeframes((np.clip(out, -1, 1) * 32767).astype("<i2").tobytes())


def _from(path: Path, start: float, stream: int | None) -> Any:
    try:
        with AudioDecoder(path, rate=CLIP_RATE, channels=2, stream=stream, start=start) as decoder:
            yield from decoder
    except BadInput as error:
        if error.details.get("reason") != "empty" or start == 0.0:
            raise


def listen(path: Path, target: Path, stream: int | None = None) -> None:
    """Write the recording as an MP3, which every browser plays."""
    with AudioDecoder(path, stream=stream) as decoder:
        rate = mp3_rate(decoder.rate)
    with (
        AudioDecoder(path, rate=rate, channels=2, stream=stream) as decoder,
        Mp3Writer(target, rate, bit_rate=_BIT_RATE) as writer,
    ):
        block: Samples
        for block in decoder:
            writer.write(block)


def main() -> int:
    """Do what a JSON object on standard input asks for; what went wrong is told as one on standard output."""
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.nice(5)
    path, target, stream = Path(asked["path"]), Path(asked["target"]), asked.get("stream")
    try:
        if asked["view"] == "peaks":
            target.write_text(json.dumps(peaks(path, stream), separators=(",", ":")))
        elif asked["view"] == "clip":
            clip(path, target, float(asked["start"]), float(asked["seconds"]), stream)
        else:
            listen(path, target, stream)
    except MillraceError as error:
        json.dump({"code": error.code, "message": error.message}, sys.stdout)
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
