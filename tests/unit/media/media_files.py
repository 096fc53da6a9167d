"""Small media files, made by the tests that need them."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def tone(seconds: float, rate: int = 16000, frequency: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A sine as float32, shape (n,)."""
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    """A 16-bit PCM file; samples (n,) or (n, channels)."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def write_media(
    path: Path,
    samples: np.ndarray | list[np.ndarray] | None,
    *,
    rate: int = 48000,
    codec: str = "flac",
    start: float = 0.0,
    holes: dict[float, float] | None = None,
    video: float = 0.0,
) -> Path:
    """A file with a stream for each array of samples, starting at ``start``, and a film of ``video`` seconds.

    ``holes`` maps a position in the samples (seconds) to how much later the rest of them plays.
    """
    streams = samples if isinstance(samples, list) else [] if samples is None else [samples]
    with av.open(str(path), "w") as container:
        film = _film(container) if video else None
        audio = [
            container.add_stream(codec, rate=rate, layout="mono" if s.ndim == 1 else "stereo")
            for s in streams
        ]
        if film is not None:
            for n in range(round(video * 10)):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                picture.pts = n
                container.mux(film.encode(picture))
            container.mux(film.encode(None))
        for stream, data in zip(audio, streams, strict=True):
            _encode(container, stream, data, rate, start, holes or {})
    return path


def _film(container):
    film = container.add_stream("mpeg4", rate=10)
    film.width = film.height = 64
    film.pix_fmt = "yuv420p"
    film.time_base = film.codec_context.time_base = Fraction(1, 10)
    return film


def _encode(container, stream, data, rate, start, holes):
    size = stream.codec_context.frame_size or 1024
    wanted = stream.codec_context.format.name
    converter = av.AudioResampler(format=wanted, layout=stream.codec_context.layout, rate=rate)
    for begin in range(0, len(data), size):
        part = np.ascontiguousarray(data[begin : begin + size].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout=stream.codec_context.layout.name)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        late = sum(later for at, later in holes.items() if begin >= round(at * rate))
        for converted in converter.resample(frame):
            converted.pts = begin + round((start + late) * rate)
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))
