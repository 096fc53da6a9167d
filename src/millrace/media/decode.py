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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from millrace.errors import BadInput
from millrace.media.probe import MAX_SECONDS, AudioInfo, describe, open_media

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

Samples = NDArray[np.float32]

_HOLE = 0.1
"""Timestamps may jitter by this many seconds before a difference counts as a hole (as in FFmpeg)."""

_LONGEST_HOLE = 3600.0
"""A jump beyond this is a clock that was set anew (a wrap, a joined recording), not silence."""

_LATEST_START = 60.0
"""In Matroska and MP4 time zero is the film's start; a file whose first stream starts later than this was
cut from a longer one, and its own start counts."""

_GATHERED = 16384
"""Samples that are resampled at a time; half a second at most, as a file may claim one sample a second."""

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
    fraction         0–1: how far into the file it is, by bytes.
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
    ) -> None:
        """Open the file and decode its first frame; ``start``, in seconds, leaves out what comes before.

        ``rate`` None keeps the stream's own; ``stream`` counts the audio streams from 0 (None: the
        first); ``block`` is in seconds. One channel is a level-keeping mix of all, or the one that
        ``channel`` chooses (from 0); two are left and right (of more, mixed down; of one, the same twice).

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
            self._start = start
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
                self.fraction = min(1.0, packet.pos / self._size)
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
        """Yield the stream on its own clock: frames resampled, holes filled, an early start trimmed."""
        converter: _Converter | None = None
        clock, trim, started = self._origin, 0, False
        for frame in self._all_frames():
            starts = frame.time
            hole = starts - clock if starts is not None else 0.0
            if not started or hole > _HOLE:
                if converter is not None:
                    yield from converter.flush()
                    converter = None
                if 0 < hole <= _LONGEST_HOLE:
                    yield from self._silence(round(hole * self.rate))
                elif not started and -1.0 <= hole < 0:
                    trim = round(-hole * self.rate)
                clock, started = clock + hole, True
            clock += frame.samples / frame.sample_rate
            if converter is None or not converter.takes(frame):
                if converter is not None:
                    yield from converter.flush()
                converter = _Converter(frame, self.rate, self.channels, self._block, self._channel)
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


class _Converter:
    """Turns frames of one format into float blocks of the wanted rate and channels.

    ``rematrix_maxval`` keeps the mix of many channels from growing beyond full scale, which
    libswresample does not do for float samples by itself (two equal channels would gain 3 dB).
    Layouts without a meaning (24 channels of a mixing desk) are averaged: FFmpeg would take them
    for surround channels and drop some.
    """

    def __init__(
        self, frame: AudioFrame, rate: int, channels: int, block: int, channel: int | None = None
    ) -> None:
        from av.audio.fifo import AudioFifo
        from av.audio.resampler import AudioResampler

        self._gathered = AudioFifo()
        self._enough = min(_GATHERED, frame.sample_rate // 2)
        self._format = (frame.format.name, frame.layout.name, frame.sample_rate)
        self._channels = channels
        count = frame.layout.nb_channels
        self._channel = min(channel, count - 1) if channel is not None else None
        self._averaged = count > 8 or (count > 2 and frame.layout.name == f"{count} channels")
        if self._averaged or self._channel is not None:
            layout = frame.layout.name
        elif channels == 1 or count == 1:
            layout = "mono"
        else:
            layout = "stereo"
        self._decoded = count if layout == frame.layout.name else (1 if layout == "mono" else 2)
        self._resampler: AudioResampler = AudioResampler(
            format="flt", layout=layout, rate=rate, frame_size=block, options={"rematrix_maxval": "1.0"}
        )

    def takes(self, frame: AudioFrame) -> bool:
        """Whether the frame is of the format this converter was made for."""
        return (frame.format.name, frame.layout.name, frame.sample_rate) == self._format

    def convert(self, frame: AudioFrame) -> Iterator[Samples]:
        """Yield the blocks that the frame completes.

        Frames are gathered first: a call of the resampler costs more than the sound in one of them.
        """
        frame.pts = None
        self._gathered.write(frame)
        if self._gathered.samples >= self._enough:
            yield from self._resample_gathered()

    def flush(self) -> Iterator[Samples]:
        """Yield what is still inside, the last of the stream."""
        yield from self._resample_gathered()
        yield from map(self._samples, self._resampler.resample(None))

    def _resample_gathered(self) -> Iterator[Samples]:
        frame = self._gathered.read()
        if frame is not None:
            frame.pts = None
            yield from map(self._samples, self._resampler.resample(frame))

    def _samples(self, frame: Any) -> Samples:
        flat: Samples = frame.to_ndarray().reshape(-1, self._decoded)
        if self._channel is not None:
            flat = flat[:, self._channel : self._channel + 1]
        elif self._averaged:
            flat = flat.mean(axis=1, dtype=np.float32, keepdims=True)
        if self._channels == 1:
            return np.ascontiguousarray(flat[:, 0])
        return np.repeat(flat, 2, axis=1) if flat.shape[1] == 1 else flat
