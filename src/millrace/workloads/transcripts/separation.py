"""The second half of the transcripts workload: a recording's voice and the rest as two MP3 stems.

A first pass measures the recording, a second one separates and encodes it; both hold some seconds of
it at a time, whatever its length.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from millrace.engine.context import StageContext
from millrace.errors import BadInput
from millrace.media.decode import AudioDecoder
from millrace.media.encode import Mp3Writer, mp3_rate
from millrace.media.limiter import Limiter
from millrace.media.probe import MAX_SECONDS
from millrace.workloads.transcripts.separators import Samples, Separator, Survey, separator_for

VOCALS, ACCOMPANIMENT, TRANSCRIPT = "vocals.mp3", "no_vocals.mp3", "output.srt"
STEMS_ZIP, RESULT_ZIP = "demucs.zip", "result.zip"

BIT_RATE = 256_000
"""Of each stem, in bit/s."""

CEILING = 10 ** (-1 / 20)
"""No stem goes above −1 dBFS: an MP3 decodes to peaks somewhat above what went in."""

_BLOCK_SECONDS = 4.0
_SURVEYED, _SEPARATED = 0.05, 0.97
"""How far the stage is, of 1, when it has measured the recording, and when the stems are written."""


def separate(ctx: StageContext, source: Path, *, stream: int | None = None) -> Mapping[str, Any]:
    """Write ``vocals.mp3``, ``no_vocals.mp3``, ``demucs.zip`` and, after recognition, ``result.zip``.

    ``stream`` counts the audio streams of ``source`` from 0. Both stems are stereo, as long as the
    recording to the sample frame (where its rate is one of MP3's or divides one; else the nearest
    frame), and sum to it, times the gain reported: one constant gain where its peaks come near full
    scale, and a limiter common to both for the rare moments when a single stem goes beyond. Returns
    what is known about the stems. Idempotent.

    Raises:
        BadInput: the file has no audio that can be decoded (code ``bad_audio``).
        StageError: the separator that was asked for is not usable here.
    """
    ctx.progress(0.0, "demucs")
    separator = separator_for(ctx)
    limit = float(ctx.settings.get("max_seconds", MAX_SECONDS))
    survey = _survey(ctx, source, stream, limit)
    gain = min(1.0, CEILING / survey.peak) if survey.peak > 0 else 1.0
    vocals, rest = ctx.artifact(VOCALS, "audio/mpeg"), ctx.artifact(ACCOMPANIMENT, "audio/mpeg")
    with AudioDecoder(
        source, rate=survey.rate, channels=2, stream=stream, block=_BLOCK_SECONDS, max_seconds=limit
    ) as decoder:
        pairs = separator.vocals(iter(decoder), survey, _between(ctx, _SURVEYED, _SEPARATED))
        limiter = _encode(pairs, vocals, rest, survey.rate, gain, together=ctx.slots > 1)
    stems = {VOCALS: vocals, ACCOMPANIMENT: rest}
    _zip(ctx.artifact(STEMS_ZIP, "application/zip"), stems)
    ctx.progress(_SEPARATED, "zip_demucs")
    if _recognised(ctx):
        ctx.progress(0.98, "zip_result")
        _zip(ctx.artifact(RESULT_ZIP, "application/zip"), {TRANSCRIPT: ctx.published(TRANSCRIPT), **stems})
    return _summary(separator, survey, gain * limiter.lowest, gain)


def _summary(separator: Separator, survey: Survey, lowest: float, gain: float) -> dict[str, Any]:
    return {
        "separator": separator.name,
        "approximate": separator.approximate,
        "rate": survey.rate,
        "frames": survey.frames,
        "seconds": round(survey.frames / survey.rate, 3),
        "gain_db": round(20 * float(np.log10(gain)), 2),
        "lowest_gain_db": round(20 * float(np.log10(lowest)), 2),
    }


def _survey(ctx: StageContext, source: Path, stream: int | None, limit: float) -> Survey:
    """Decode the whole recording once, and measure it."""
    with AudioDecoder(source, channels=2, stream=stream) as decoder:
        rate = mp3_rate(decoder.rate)
    frames, peak = 0, 0.0
    sums = np.zeros(3)
    with AudioDecoder(
        source, rate=rate, channels=2, stream=stream, block=_BLOCK_SECONDS, max_seconds=limit
    ) as decoder:
        for block in decoder:
            frames += len(block)
            peak = max(peak, float(np.abs(block).max()))
            mid = (block[:, 0] + block[:, 1]).astype(np.float64) / 2
            side = (block[:, 0] - block[:, 1]).astype(np.float64) / 2
            sums += (mid.sum(), mid @ mid, side @ side)
            ctx.progress(_SURVEYED * decoder.fraction, "demucs")
    if frames == 0:
        raise BadInput(
            f"{source.name} has an audio stream of zero length", code="bad_audio", details={"reason": "empty"}
        )
    total, power, side_power = (float(value) for value in sums)
    mean = total / frames
    deviation = max(0.0, power / frames - mean * mean) ** 0.5
    return Survey(rate, frames, peak, mean, deviation, (side_power / power) ** 0.5 if power else 0.0)


def _encode(
    pairs: Iterator[tuple[Samples, Samples]],
    vocals: Path,
    rest: Path,
    rate: int,
    gain: float,
    *,
    together: bool,
) -> Limiter:
    """Write voice and accompaniment, turned down together where they would clip.

    Encoding is most of the work; ``together`` encodes the two on two cores.
    """
    limiter = Limiter(CEILING)
    scale = np.float32(gain)
    with (
        ThreadPoolExecutor(1) as pool,
        Mp3Writer(vocals, rate, bit_rate=BIT_RATE) as out,
        Mp3Writer(rest, rate, bit_rate=BIT_RATE) as other,
    ):

        def write(stems: list[Samples]) -> None:
            beside = pool.submit(other.write, stems[1]) if together else None
            out.write(stems[0])
            if beside is not None:
                beside.result()
            else:
                other.write(stems[1])

        for mix, voice in pairs:
            write(limiter.push(voice * scale, (mix - voice) * scale))
        write(limiter.flush())
    return limiter


def _zip(path: Path, members: Mapping[str, Path]) -> None:
    """Pack files that are compressed already: stored, and streamed from disk to disk."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, member in members.items():
            archive.write(member, name)


def _recognised(ctx: StageContext) -> bool:
    return bool(ctx.options.get("tasks", {}).get("asr", True))


def _between(ctx: StageContext, low: float, high: float) -> Callable[[float], None]:
    return lambda fraction: ctx.progress(low + (high - low) * fraction, "demucs")
