"""Frames of one format, as FFmpeg decodes them, into float samples of the wanted rate and channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler

Samples = NDArray[np.float32]

GOOD = {"rematrix_maxval": "1.0"}
"""Options of libswresample: the mix of many channels does not grow beyond full scale, which for float samples
it would (two equal channels would gain 3 dB)."""

FAIR = GOOD | {"filter_size": "16", "kaiser_beta": "6"}
"""The same for half the work: flat to 0.37 of the lower rate, 60 dB down from 0.61 on."""

_GATHERED = 16384
"""Samples that are resampled at a time; half a second at most, as a file may claim one sample a second."""


class Converter:
    """Turns frames of one format into float blocks of the wanted rate and channels.

    enough   samples that are resampled at a time.
    layout   FFmpeg's name of what comes out of the resampling.
    plain    whether that is all there is to it.

    Layouts without a meaning (24 channels of a mixing desk) are averaged: FFmpeg would take them
    for surround channels and drop some.
    """

    def __init__(
        self,
        frame: AudioFrame,
        rate: int,
        channels: int,
        block: int,
        channel: int | None,
        resampling: Mapping[str, str],
    ) -> None:
        from av.audio.fifo import AudioFifo
        from av.audio.resampler import AudioResampler

        self._gathered = AudioFifo()
        self.enough = min(_GATHERED, frame.sample_rate // 2)
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
        self.layout = layout
        self.plain = not self._averaged and self._channel is None
        self._resampler: AudioResampler = AudioResampler(
            format="flt", layout=layout, rate=rate, frame_size=block, options=dict(resampling)
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
        if self._gathered.samples >= self.enough:
            yield from self._resample_gathered()

    def flush(self) -> Iterator[Samples]:
        """Yield what is still inside, the last of the stream."""
        yield from self._resample_gathered()
        yield from map(self.samples, self._resampler.resample(None))

    def _resample_gathered(self) -> Iterator[Samples]:
        frame = self._gathered.read()
        if frame is not None:
            frame.pts = None
            yield from map(self.samples, self._resampler.resample(frame))

    def samples(self, frame: Any) -> Samples:
        """Return a frame that was resampled as this converter does it."""
        flat: Samples = frame.to_ndarray().reshape(-1, self._decoded)
        if self._channel is not None:
            flat = flat[:, self._channel : self._channel + 1]
        elif self._averaged:
            flat = flat.mean(axis=1, dtype=np.float32, keepdims=True)
        if self._channels == 1:
            return np.ascontiguousarray(flat[:, 0])
        return np.repeat(flat, 2, axis=1) if flat.shape[1] == 1 else flat
