"""What two recordings are compared by: log-mel energies at 100 Hz, and the features drawn from them.

Pure functions on arrays; nothing here reads a file. Sound is mono float32 at ``SAMPLE_RATE``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]

SAMPLE_RATE = 16000
"""Hz at which recordings are analysed: the band up to 6 kHz carries all that alignment needs."""

FRAME_RATE = 100
"""Feature frames in a second."""

HOP = SAMPLE_RATE // FRAME_RATE
WINDOW = 400
BANDS = 40
_FFT = WINDOW
_CHUNK = 208
_ROWS = 16
_LOWEST, _HIGHEST = 60.0, 7600.0

RANGE = 6.0
"""Energies more than this many powers of ten (60 dB) below a recording's loud parts count as silence."""

_MEAN_SECONDS = 2.0
_CLIP = 3.0


@cache
def mel_filters() -> Array:
    """Return triangular mel filters, shape ``(WINDOW // 2 + 1, BANDS)`` (HTK formula, unit peak)."""
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (_LOWEST, _HIGHEST))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, BANDS + 2) / 2595.0) - 1.0)
    bins = np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT
    rise = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)


def log_mel(samples: Array) -> Array:
    """Return log10 mel power of each whole window, shape ``(frames, BANDS)``.

    Frame *n* covers the samples from ``n * HOP`` to ``n * HOP + WINDOW``; there are
    ``1 + (len(samples) - WINDOW) // HOP`` of them, none for shorter input.
    """
    if len(samples) < WINDOW:
        return np.zeros((0, BANDS), np.float32)
    windows = sliding_window_view(samples, WINDOW)[::HOP]
    power = np.empty((len(windows), BANDS), np.float32)
    # Memory is taken once: fresh pages for each chunk cost more than what is computed in them.
    faded = np.empty((_CHUNK, WINDOW), np.float32)
    spectrum: NDArray[Any] = np.empty((_CHUNK, _FFT // 2 + 1), np.complex64)
    strength = np.empty(spectrum.shape, np.float32)
    for start in range(0, len(windows), _CHUNK):
        part = windows[start : start + _CHUNK]
        count = len(part)
        np.multiply(part, _hann(), out=faded[:count])
        np.fft.rfft(faded[:count], axis=1, out=spectrum[:count])
        squares = spectrum[:count].view(np.float32)
        np.multiply(squares, squares, out=squares)
        np.add(squares[:, ::2], squares[:, 1::2], out=strength[:count])
        _filtered(strength[:count], power[start : start + count])
    power += np.float32(1e-9)
    return np.log10(power, out=power)


def _filtered(strength: Array, out: Array) -> None:
    """Write ``strength @ filters`` in products too small for BLAS to spread over threads.

    A worker has one core; threads that wait for others cost several times what they give.
    """
    whole = len(strength) // _ROWS * _ROWS
    if whole:
        np.matmul(
            strength[:whole].reshape(-1, _ROWS, strength.shape[1]),
            mel_filters(),
            out=out[:whole].reshape(-1, _ROWS, BANDS),
        )
    np.matmul(strength[whole:], mel_filters(), out=out[whole:])


@cache
def _hann() -> Array:
    return np.hanning(WINDOW).astype(np.float32)


@cache
def _dct(count: int, size: int) -> Array:
    """Return the first ``count`` rows after the constant one of the DCT-II, shape ``(size, count)``."""
    n = np.arange(size)
    return np.stack(
        [np.cos(np.pi * k * (2 * n + 1) / (2 * size)) for k in range(1, count + 1)], axis=1
    ).astype(np.float32)


def mfcc(mel: Array) -> Array:
    """Return 13 mel cepstral coefficients (level left out), shape ``(frames, 13)``."""
    return mel @ _dct(13, BANDS)


def onset(mel: Array) -> Array:
    """Return how much each of 8 bands has grown within 20 ms (spectral flux), shape ``(frames, 8)``."""
    return _pooled_bands(np.maximum(_delta(mel, 2), 0.0), 8)


def spectral(mel: Array) -> Array:
    """Return how 20 bands change over 40 ms, rise and fall alike, shape ``(frames, 20)``."""
    return _pooled_bands(_delta(mel, 4), 20)


def envelope(mel: Array) -> Array:
    """Return the loudness of 4 broad bands, shape ``(frames, 4)``."""
    return _pooled_bands(mel, 4)


def patches(mel: Array) -> Array:
    """Return an embedding of each frame with half a second around it, shape ``(frames, 24)``.

    A two-dimensional DCT of the log-mel patch (4 rates of change by 6 spectral shapes), each vector
    brought to unit length, so that loudness and timbre weigh less than the pattern. Needs no weights.
    """
    shapes = mel @ _dct(6, BANDS)
    width = 49
    padded = np.pad(shapes, ((width // 2, width // 2), (0, 0)), mode="edge")
    frames = sliding_window_view(padded, width, axis=0)
    embedded = (frames @ _dct(4, width)).reshape(len(mel), -1)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True) + np.float32(1.0)
    return embedded.astype(np.float32, copy=False)


def _delta(mel: Array, lag: int) -> Array:
    change = np.zeros_like(mel)
    if len(mel) > lag:
        change[lag:] = mel[lag:] - mel[:-lag]
    return change


def _pooled_bands(mel: Array, count: int) -> Array:
    return mel @ _averages(count)


@cache
def _averages(count: int) -> Array:
    """Return what averages neighbours so that ``count`` bands are left, shape ``(BANDS, count)``."""
    width = BANDS // count
    return np.repeat(np.eye(count, dtype=np.float32) / np.float32(width), width, axis=0)


FEATURES: dict[str, Callable[[Array], Array]] = {
    "mfcc": mfcc,
    "onset": onset,
    "spectral": spectral,
    "correlation": envelope,
    "embedding": patches,
}
"""Features by name: each a function from log-mel frames to ``(frames, bands)``."""

CONTEXT = 25
"""Frames of log-mel on either side that a feature may look at."""


def normalise(
    bands: Array, rate: float, active: NDArray[np.bool_] | None = None, seconds: float = _MEAN_SECONDS
) -> Array:
    """Make ``(bands, frames)`` comparable between recordings, in place, and return it.

    From each band its moving mean over ``seconds`` is taken away (level, equalisation, hum, steady
    tones), what remains is brought to unit deviation over the active frames and clipped, so that no
    bang decides alone; frames that are not active become zero.
    """
    frames = bands.shape[1]
    if frames == 0:
        return bands
    width = max(3, min(round(seconds * rate), frames // 2) | 1)
    for band in bands:
        band -= _moving_mean(band, width)
        if active is not None:
            band *= active
        heard = band if active is None else band[active]
        deviation = float(np.sqrt(np.mean(heard**2))) if len(heard) else 0.0
        if deviation > 1e-4:
            band /= deviation
            np.clip(band, -_CLIP, _CLIP, out=band)
        else:
            band[:] = 0.0
    return bands


def _moving_mean(values: Array, width: int) -> Array:
    half = width // 2
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    mean: Array = ((total[high] - total[low]) / (high - low)).astype(np.float32)
    return mean
