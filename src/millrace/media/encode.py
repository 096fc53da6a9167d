"""MP3 files that a gapless player plays back at exactly the length that was written.

An MP3 stream is padded to whole frames of 1152 samples and delayed by its encoder. The first frame
of the file (the "Info" frame, as LAME defined it) says by how much, so that a decoder can cut both
off again. Knows no jobs and no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

Samples = NDArray[np.float32]

MP3_RATES = (32000, 44100, 48000)
"""The sample rates, in Hz, at which MP3 allows 256 kbit/s (MPEG-1 Layer III)."""

_OPTIONS = {"compression_level": "5"}
"""LAME's -q 5: a seventh less work than FFmpeg's default, at the same distance from the original."""

_FRAME = 1152
_DELAY = 576
"""What the Info frame calls the encoder's delay: LAME's own, without the decoder's 529 samples."""


def mp3_rate(rate: int) -> int:
    """Return the MP3 rate for material sampled at ``rate`` Hz: the same, a multiple of it, or the nearest.

    A whole multiple keeps the length exact: 16,000 Hz become 32,000 Hz, two samples for each.
    """
    for allowed in MP3_RATES:
        if allowed % rate == 0:
            return allowed
    return 44100 if rate % 44100 == 0 else 48000


class Mp3Writer:
    """Writes stereo float samples to an MP3 file of constant bit rate, in any number of blocks.

    Use it as a context manager. Left without an error, the file at ``path`` is complete and, decoded
    by anything that honours the Info frame, yields exactly ``frames`` samples a channel.
    """

    def __init__(
        self, path: Path, rate: int, *, bit_rate: int = 256_000, tags: Mapping[str, str] | None = None
    ) -> None:
        """Create the file. ``rate`` must be one of ``MP3_RATES``; ``bit_rate`` is in bit/s.

        Raises:
            ValueError: MP3 has no such rate at this bit rate.
        """
        import av

        if rate not in MP3_RATES:
            raise ValueError(f"an MP3 of {bit_rate} bit/s needs a rate of {MP3_RATES} Hz, not {rate}")
        self.path = Path(path)
        self.rate = rate
        self.frames = 0
        self._pending = np.zeros((0, 2), np.float32)
        self._container: OutputContainer = av.open(str(path), "w", format="mp3")
        self._container.metadata.update(tags or {})
        self._stream: AudioStream = self._container.add_stream(
            "libmp3lame", rate=rate, layout="stereo", options=_OPTIONS
        )
        self._stream.bit_rate = bit_rate

    def __enter__(self) -> Mp3Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        else:
            self._container.close()

    def write(self, samples: Samples) -> None:
        """Append samples of shape ``(n, 2)``, full scale ±1."""
        waiting = np.concatenate([self._pending, samples]) if len(self._pending) else samples
        whole = len(waiting) - len(waiting) % _FRAME
        for begin in range(0, whole, _FRAME):
            self._encode(waiting[begin : begin + _FRAME])
        self._pending = waiting[whole:].copy()

    def _encode(self, samples: Samples) -> None:
        import av

        planes = np.ascontiguousarray(samples.T, dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate = self.rate
        frame.pts = self.frames
        frame.time_base = Fraction(1, self.rate)
        self.frames += len(samples)
        self._container.mux(self._stream.encode(frame))

    def _finish(self) -> None:
        if len(self._pending):
            self._encode(self._pending)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        if self.frames:
            _correct_padding(self.path, self.frames)


def _correct_padding(path: Path, frames: int) -> None:
    """Make the Info frame's padding right for a stream of ``frames`` samples.

    FFmpeg's muxer caps the padding at one frame, which is too little for about one length in twelve:
    such a file would decode up to 46 samples too long.

    Format: http://gabriel.mp3-tech.org/mp3infotag.html. The field after the encoder's name and 12
    bytes more holds delay and padding, 12 bits each; a CRC-16 closes the frame's first 190 bytes.
    """
    with path.open("r+b") as file:
        head = bytearray(file.read(8192))
        info = head.find(b"Info")
        start = info - 36
        count = int.from_bytes(head[info + 8 : info + 12], "big")
        field = info + 120 + 21
        padding = count * _FRAME - _DELAY - frames
        if info < 36 or not 0 <= padding < 4096 or len(head) < start + 192:
            raise ValueError(f"{path.name}: the MP3 encoder wrote no Info frame that fits {frames} samples")
        head[field : field + 3] = (_DELAY << 12 | padding).to_bytes(3, "big")
        head[start + 190 : start + 192] = _crc16(head[start : start + 190]).to_bytes(2, "big")
        file.seek(start)
        file.write(head[start : start + 192])


def _crc16(data: bytes | bytearray) -> int:
    """CRC-16/ARC, as the Info frame uses it."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc
