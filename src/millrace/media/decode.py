"""Any audio or video file as float samples, in blocks of bounded size.

Time is kept: a stream that starts late, or that has holes in it, yields silence there, so that
sample *n* is what a player plays *n / rate* seconds after the file's start. What a file declares
(duration, sizes) is never trusted: memory is bounded by the block, work by ``max_seconds`` of
really decoded audio.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np

from millrace.errors import BadInput
from millrace.media import steady
from millrace.media.conversion import FAIR, GOOD, Converter, Samples
from millrace.media.probe import MAX_SECONDS, AudioInfo, describe, open_media, probe

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

__all__ = ["AudioDecoder", "Samples", "in_bulk", "read_audio"]

_HOLE = 0.1
"""Timestamps may jitter by this many seconds before a difference counts as a hole (as in FFmpeg)."""

_LONGEST_HOLE = 3600.0
"""A jump beyond this is a clock that was set anew (a wrap, a joined recording), not silence."""

_LATEST_START = 60.0
"""In Matroska and MP4 time zero is the film's start; a file whose first stream starts later than this was
cut from a longer one, and its own start counts."""

_WORTH_BULK = 4_000_000
"""Bytes from which on a second way into the file, which decodes in bulk, gains more than it costs."""

_ABSOLUTE_CLOCKS = ("matroska", "mov")

_SEEKABLE = ("wav", "flac", "matroska", "mov", "ogg")
"""Containers whose timestamps are right after a jump. In others (MP3) they are guessed from the bit rate."""

_RUN_UP = 1.0
"""Seconds before the wanted start at which decoding begins: codecs with a memory need some frames."""


class AudioDecoder:
    """Decodes one audio stream of a file; iterate over it for blocks, once.

    rate, channels   of what it yields: Hz, and 1 or 2.
    stream           what the file declares about the stream.
    seconds          how much was yielded so far (silence put in for holes included).
    damaged          how many packets could not be decoded and were left out.
    fraction         0–1: how far into the file it is, by bytes or by the duration that it declares.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate: int | None = None,
        channels: Literal[1, 2] = 1,
        stream: int | None = None,
        channel: int | None = None,
        block: float = 1.0,
        max_seconds: float = MAX_SECONDS,
        start: float = 0.0,
        fair: bool = False,
    ) -> None:
        """Open the file and decode its first frame; ``start``, in seconds, leaves out what comes before.

        ``rate`` None keeps the stream's own; ``stream`` counts the audio streams from 0 (None: the
        first); ``block`` is in seconds. One channel is a level-keeping mix of all, or the one that
        ``channel`` chooses (from 0); two are left and right (of more, mixed down; of one, the same twice).
        ``fair`` resamples at half the cost, good for analysis and not for ears.

        Raises BadInput (code ``bad_audio``) if the file is not media, has no such stream or channel, holds no
        samples that can be decoded, and, while iterating, if it is longer than ``max_seconds``.
        """
        self.path = Path(path)
        self.channels: Literal[1, 2] = channels
        self._channel = channel
        self.damaged = 0
        self.fraction = 0.0
        self._max_seconds = max_seconds
        self._yielded = 0
        self._size = max(1, self.path.stat().st_size) if self.path.exists() else 1
        self._stack = ExitStack()
        try:
            self._container: InputContainer = self._stack.enter_context(open_media(self.path))
            info = describe(self._container, self.path)
            self.stream: AudioInfo = info.stream(stream)
            self._container_name = info.container
            self._declared = self.stream.duration or info.duration
            self._start = start
            self._resampling = FAIR if fair else GOOD
            self._origin = self._clock_zero(info.container) + start
            if start > _RUN_UP and info.container in _SEEKABLE:
                self._container.seek(round((self._origin - _RUN_UP) * 1e6))
            self._frames = self._decode_frames()
            first = next(self._frames, None)
            if first is None:
                raise self._nothing_decoded()
            self._first: AudioFrame = first
            self._check_channel(first.layout.nb_channels)
            self.rate = rate or first.sample_rate
            self._block = max(1, round(block * self.rate))
        except BaseException:
            self._stack.close()
            raise

    @property
    def seconds(self) -> float:
        """How many seconds were yielded so far."""
        return self._yielded / self.rate

    def __enter__(self) -> AudioDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __iter__(self) -> Iterator[Samples]:
        """Yield float32 blocks, ``(n,)`` for one channel and ``(n, 2)`` for two, in order, none empty."""
        for block in self._blocks():
            self._yielded += len(block)
            if self._yielded > self._max_seconds * self.rate:
                raise BadInput(
                    f"{self.path.name} is longer than the {self._max_seconds:g} seconds that are allowed",
                    code="bad_audio",
                    details={"reason": "too_long", "max_seconds": self._max_seconds},
                )
            yield block

    def _clock_zero(self, container: str) -> float:
        """Return the file's own time, in seconds, that is time zero for who plays it."""
        start = (self._container.start_time or 0) / 1e6
        if container in _ABSOLUTE_CLOCKS and start <= _LATEST_START:
            return 0.0
        return max(0.0, start)

    def _decode_frames(self) -> Iterator[AudioFrame]:
        import av

        chosen = self._container.streams.audio[self.stream.position]
        if chosen.codec_context is None:
            raise BadInput(
                f"{self.path.name}: its audio is in a codec that cannot be decoded",
                code="bad_audio",
                details={"reason": "unsupported_codec"},
            )
        for other in self._container.streams:
            other.discard = av.stream.Discard.default if other is chosen else av.stream.Discard.all
        for packet in self._packets():
            if packet.stream_index != self.stream.index:
                continue
            if packet.pos is not None and packet.pos > 0:
                self.fraction = max(self.fraction, min(1.0, packet.pos / self._size))
            try:
                for frame in packet.decode():
                    if frame.samples > 0 and frame.sample_rate > 0 and not self._before_start(frame):
                        yield frame
            except (av.FFmpegError, ValueError):
                self.damaged += 1

    def _before_start(self, frame: AudioFrame) -> bool:
        if not self._start or frame.time is None:
            return False
        return bool(frame.time + frame.samples / frame.sample_rate <= self._origin)

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        import av

        packets = self._container.demux(self._container.streams.audio[self.stream.position])
        while True:
            try:
                yield next(packets)
            except (StopIteration, av.EOFError):
                return
            except av.FFmpegError:
                self.damaged += 1
                return

    def _check_channel(self, count: int) -> None:
        if self._channel is not None and not 0 <= self._channel < count:
            raise BadInput(
                f"{self.path.name}: there is no channel {self._channel}: the stream has {count}, "
                "counted from 0",
                code="bad_audio",
                details={"reason": "no_such_channel"},
            )

    def _nothing_decoded(self) -> BadInput:
        if self.damaged:
            what = f"none of its {self.stream.codec} audio can be decoded: the file is damaged or cut off"
            return BadInput(f"{self.path.name}: {what}", code="bad_audio", details={"reason": "damaged"})
        return BadInput(
            f"{self.path.name} has an audio stream of zero length",
            code="bad_audio",
            details={"reason": "empty"},
        )

    def _blocks(self) -> Iterator[Samples]:
        """Yield the stream on its own clock, in bulk as far as it is steady, then frame by frame."""
        done = 0
        try:
            for block in self._in_bulk():
                yield block
                done += len(block)
            return
        except steady.Unsteady:
            pass
        for block in self._frame_by_frame():
            kept, done = block[done:], max(0, done - len(block))
            if len(kept):
                yield kept

    def _in_bulk(self) -> Iterator[Samples]:
        converter = self._converter(self._first)
        starts = self._first.time
        worth = _worth_bulk(self._size, self._container_name)
        if not worth or self._start or starts is None or not converter.plain:
            raise steady.Unsteady("it is not known to be steady, or too short to gain by it")
        silence, trim = self._gap(starts - self._origin)
        yield from self._silence(silence)
        seconds = 0.0
        for frame in steady.frames(
            self.path,
            self._container_name,
            self.stream,
            rate=self.rate,
            layout=converter.layout,
            gathered=converter.enough,
            lasting=converter.enough / self._first.sample_rate,
            block=self._block,
            tolerance=_HOLE,
            options=self._resampling,
        ):
            if seconds == 0.0 and abs((frame.time or 0.0) - starts) > _HOLE:
                raise steady.Unsteady("it does not begin with its first frame")
            seconds += frame.samples / self.rate
            if self._declared:
                self.fraction = max(self.fraction, min(1.0, seconds / self._declared))
            block = converter.samples(frame)
            kept, trim = block[trim:], max(0, trim - len(block))
            if len(kept):
                yield kept

    def _converter(self, frame: AudioFrame) -> Converter:
        return Converter(frame, self.rate, self.channels, self._block, self._channel, self._resampling)

    def _gap(self, hole: float) -> tuple[int, int]:
        """Return the silence that fills a hole, and what to leave out where sound is early, in samples."""
        if 0 < hole <= _LONGEST_HOLE:
            return round(hole * self.rate), 0
        return 0, round(-hole * self.rate) if -1.0 <= hole < 0 else 0

    def _frame_by_frame(self) -> Iterator[Samples]:
        """Yield the stream on its own clock: frames resampled, holes filled, an early start trimmed."""
        converter: Converter | None = None
        clock, trim, started = self._origin, 0, False
        for frame in self._all_frames():
            starts = frame.time
            hole = starts - clock if starts is not None else 0.0
            if not started or hole > _HOLE:
                if converter is not None:
                    yield from converter.flush()
                    converter = None
                silence, early = self._gap(hole)
                yield from self._silence(silence)
                trim = max(trim, early)
                clock, started = clock + hole, True
            clock += frame.samples / frame.sample_rate
            if converter is None or not converter.takes(frame):
                if converter is not None:
                    yield from converter.flush()
                converter = self._converter(frame)
            for block in converter.convert(frame):
                kept, trim = block[trim:], max(0, trim - len(block))
                if len(kept):
                    yield kept
        if converter is not None:
            yield from (block for block in converter.flush() if len(block))

    def _all_frames(self) -> Iterator[AudioFrame]:
        yield self._first
        yield from self._frames

    def _silence(self, samples: int) -> Iterator[Samples]:
        while samples > 0:
            n = min(samples, self._block)
            yield np.zeros(n if self.channels == 1 else (n, 2), np.float32)
            samples -= n


def read_audio(
    path: Path,
    *,
    rate: int | None = None,
    channels: Literal[1, 2] = 1,
    stream: int | None = None,
    max_seconds: float = MAX_SECONDS,
) -> tuple[Samples, int]:
    """Return a whole file's samples, ``(n,)`` or ``(n, 2)``, and their rate; see ``AudioDecoder``."""
    with AudioDecoder(
        path, rate=rate, channels=channels, stream=stream, block=10.0, max_seconds=max_seconds
    ) as decoder:
        blocks = list(decoder)
        if not blocks:
            raise decoder._nothing_decoded()
        return np.concatenate(blocks), decoder.rate


def in_bulk(path: Path) -> bool:
    """Whether all channels of this file are decoded in bulk, other threads going on, if it is steady.

    Raises BadInput (``bad_audio``) if it is no readable media.
    """
    info = probe(path)
    return _worth_bulk(info.bytes, info.container)


def _worth_bulk(size: int, container: str) -> bool:
    return size >= _WORTH_BULK and container in steady.CONTAINERS
