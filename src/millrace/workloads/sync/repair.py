"""Makes a corrected dub: moved, and brought to the master's speed, so that it plays in sync.

The film and other streams are copied packet by packet; sound is written anew. What no delay and no
change of speed can mend (material missing in the middle) is replaced by silence of its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from millrace.errors import BadInput, InvalidRequest
from millrace.media.decode import AudioDecoder, Samples
from millrace.media.probe import probe
from millrace.workloads.sync.interpolation import PHASES, sinc_table
from millrace.workloads.sync.result import Segment

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

CODECS = {
    ".wav": "pcm_s24le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".mp4": "aac",
    ".m4a": "aac",
    ".mov": "pcm_s24le",
    ".mkv": "flac",
    ".mka": "flac",
    ".ogg": "libopus",
    ".opus": "libopus",
}
"""What sound is written as, by the file's ending."""

_FADE = 0.005
_RATES = {"libopus": 48000}
_BLOCK = 1.0
_HALF = 16

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to the dub: pieces of it placed on the master's clock.

    seconds   how long the result is.
    """

    segments: tuple[Segment, ...]
    seconds: float


def plan(segments: Sequence[Segment], dub_seconds: float) -> Plan:
    """Return the plan for the segments of an answer; BadInput if there are none.

    A dub that goes on before or after the part in common with the master keeps that part as far as
    it has a place: what would come before the master's start is cut off.
    """
    if not segments:
        raise BadInput(
            "the dub matches no part of the master: there is nothing to repair by", code="no_match"
        )
    first, last = segments[0], segments[-1]
    start = max(0.0, first.start - first.dub_start / first.stretch)
    end = last.end + max(0.0, dub_seconds - last.dub_end) / last.stretch
    placed = list(segments)
    placed[0] = _with(placed[0], start=start)
    placed[-1] = _with(placed[-1], end=end)
    return Plan(tuple(placed), max(end, start))


def _with(segment: Segment, start: float | None = None, end: float | None = None) -> Segment:
    return Segment(
        segment.start if start is None else start,
        segment.end if end is None else end,
        segment.delay,
        segment.stretch,
        segment.support,
        segment.by,
    )


def repair(dub: Path, out: Path, todo: Plan, progress: Progress = lambda fraction: None) -> None:
    """Write the corrected dub to ``out``, whose ending chooses container and codec.

    Every audio stream is corrected alike. Raises InvalidRequest for an ending that is not known and
    BadInput if the dub cannot be read.
    """
    if out.suffix.lower() not in CODECS:
        raise InvalidRequest(f"cannot write {out.suffix!r}; choose one of {', '.join(sorted(CODECS))}")
    info = probe(dub)
    import av

    video = info.video > 0 and out.suffix.lower() in (".mkv", ".mp4", ".mov")
    count = len(info.audio) if out.suffix.lower() in (".mkv", ".mka", ".mp4", ".m4a", ".mov") else 1
    with av.open(str(dub)) as source, av.open(str(out), "w") as target:
        tracks = [_Track(target, dub, n, out.suffix.lower(), todo) for n in range(count)]
        film = _Film(source, target) if video else None
        _write(target, tracks, film, todo.seconds, progress)


def _write(
    target: OutputContainer, tracks: list[_Track], film: _Film | None, seconds: float, progress: Progress
) -> None:
    """Write sound and film side by side, a second at a time, so that the muxer need not hold much."""
    at = 0.0
    while True:
        at += _BLOCK
        more = [track.write_until(target, at) for track in tracks]
        if film is not None:
            film.copy_until(target, at)
        progress(min(1.0, at / max(seconds, 1e-9)))
        if not any(more):
            break
    for track in tracks:
        track.finish(target)
    if film is not None:
        film.copy_until(target, float("inf"))


class _Film:
    """Copies the video and subtitle packets of the dub as they are."""

    def __init__(self, source: InputContainer, target: OutputContainer) -> None:
        wanted = [stream for stream in source.streams if stream.type == "video"]
        self._streams = {stream.index: target.add_stream_from_template(stream) for stream in wanted}
        self._packets: Iterator[Any] = iter(source.demux(*wanted))
        self._waiting: Any = None

    def copy_until(self, target: OutputContainer, seconds: float) -> None:
        """Copy the packets that belong before a time."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = None
            if packet is None:
                return
            if packet.dts is None:
                continue
            if float(packet.dts * packet.time_base) >= seconds:
                self._waiting = packet
                return
            packet.stream = self._streams[packet.stream_index]
            target.mux(packet)


class _Track:
    """One corrected audio stream."""

    def __init__(self, target: OutputContainer, dub: Path, stream: int, ending: str, todo: Plan) -> None:
        with AudioDecoder(dub, stream=stream) as decoder:
            declared = decoder.stream
            own_rate = decoder.rate
        codec = CODECS[ending]
        self._rate = _RATES.get(codec, own_rate)
        self._channels = 1 if declared.channels == 1 else 2
        self._layout = "mono" if self._channels == 1 else "stereo"
        self._stream: AudioStream = target.add_stream(codec, rate=self._rate, layout=self._layout)  # type: ignore[assignment]
        if declared.language:
            self._stream.metadata["language"] = declared.language
        if codec in ("aac", "libmp3lame", "libopus"):
            self._stream.bit_rate = 128_000 * self._channels
        self._blocks = corrected(dub, stream, self._rate, self._channels, todo)
        self._resampler: Any = None
        self._written = 0

    def write_until(self, target: OutputContainer, seconds: float) -> bool:
        """Encode blocks up to a time; False once there are no more."""
        while self._written < seconds * self._rate:
            block = next(self._blocks, None)
            if block is None:
                return False
            self._encode(target, block)
        return True

    def _encode(self, target: OutputContainer, block: Samples) -> None:
        import av

        if self._resampler is None:
            context = self._stream.codec_context
            context.open()
            self._resampler = av.AudioResampler(
                format=context.format.name,
                layout=self._layout,
                rate=self._rate,
                frame_size=context.frame_size or 4096,
            )
        flat = np.ascontiguousarray(block.reshape(1, -1), np.float32)
        frame = av.AudioFrame.from_ndarray(flat, format="flt", layout=self._layout)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._written
        self._written += len(block)
        for ready in self._resampler.resample(frame):
            target.mux(self._stream.encode(ready))

    def finish(self, target: OutputContainer) -> None:
        """Encode what is still inside."""
        if self._resampler is not None:
            for ready in self._resampler.resample(None):
                target.mux(self._stream.encode(ready))
        target.mux(self._stream.encode(None))


def corrected(dub: Path, stream: int, rate: int, channels: int, todo: Plan) -> Iterator[Samples]:
    """Yield the sound of the dub on the master's clock, in blocks of a second, ``(n,)`` or ``(n, 2)``.

    Each piece is read at its own place and speed (one that is only moved, by whole samples); between
    pieces is silence. Edges are faded over 5 ms.
    """
    reader = _Reader(dub, stream, rate, channels)
    at = 0
    for piece in todo.segments:
        begin, end = round(piece.start * rate), round(piece.end * rate)
        while at < begin:
            count = min(rate, begin - at)
            yield (
                np.zeros((count, channels), np.float32)[:, 0]
                if channels == 1
                else np.zeros((count, 2), np.float32)
            )
            at += count
        begin = at
        while at < end:
            count = min(rate, end - at)
            positions = piece.delay * rate + piece.stretch * np.arange(at, at + count)
            if piece.stretch == 1.0:
                positions = np.rint(positions)
            block = reader.at(positions)
            _fade(block, at - begin, end - at - count, round(_FADE * rate))
            yield block
            at += count


def _fade(block: Samples, before: int, after: int, length: int) -> None:
    ramp = np.arange(1, length + 1, dtype=np.float32) / (length + 1)
    size = min(length, len(block))
    shaped = ramp if block.ndim == 1 else ramp[:, None]
    if before == 0:
        block[:size] *= shaped[:size]
    if after == 0:
        block[len(block) - size :] *= shaped[:size][::-1]


class _Reader:
    """Reads a stream at any ascending, fractional sample positions: windowed-sinc interpolation.

    32 taps with a Kaiser window (beta 9): transparent below 0.9 of the band, for ratios near one.
    """

    def __init__(self, path: Path, stream: int, rate: int, channels: int) -> None:
        self._decoder = AudioDecoder(
            path, rate=rate, channels=1 if channels == 1 else 2, stream=stream, block=_BLOCK
        )
        self._blocks = iter(self._decoder)
        self._channels = channels
        self._kept = np.zeros((_HALF * 2, channels), np.float32)
        self._first = -_HALF * 2
        self._ended = False

    def at(self, positions: NDArray[np.floating[Any]]) -> Samples:
        """Return samples at these positions, zero outside the stream."""
        whole = np.floor(positions).astype(np.int64)
        self._load(int(whole[-1]) + _HALF + 1)
        drop = int(whole[0]) - _HALF - self._first
        if drop > 0:
            self._kept = self._kept[drop:]
            self._first += drop
        share = positions - whole
        if not share.any():
            out = self._pick(whole)
        else:
            taps = np.arange(1 - _HALF, _HALF + 1)
            nearby = self._pick((whole[:, None] + taps).ravel()).reshape(len(whole), len(taps), -1)
            weights = sinc_table(_HALF)[np.rint(share * PHASES).astype(np.int64)]
            out = np.einsum("ntc,nt->nc", nearby, weights)
        return out[:, 0].copy() if self._channels == 1 else out

    def _pick(self, index: NDArray[np.int64]) -> Samples:
        at = index - self._first
        inside = (at >= 0) & (at < len(self._kept))
        out = np.zeros((len(index), self._channels), np.float32)
        out[inside] = self._kept[at[inside]]
        return out

    def _load(self, until: int) -> None:
        parts = [self._kept]
        have = self._first + len(self._kept)
        while have < until and not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
                self._decoder.close()
                break
            parts.append(block.reshape(len(block), -1))
            have += len(block)
        if len(parts) > 1:
            self._kept = np.concatenate(parts)
