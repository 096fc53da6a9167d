"""Coarse alignment: where, and at which speed, one recording's features lie in another's.

Time runs as everywhere in this package: what happens at master time *m* is heard in the dub at
``delay + stretch * m`` seconds. Normalised correlation of several bands by FFT; Knapp & Carter 1976
is for the refinement, see ``refine.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from millrace.workloads.sync.features import Array

FILM = 24 / 1.001

STRETCHES: dict[float, str] = {
    1.0: "same speed",
    1.001: "0.1 % slower: 24 to 23.976 fps (or 30 to 29.97, 60 to 59.94)",
    1 / 1.001: "0.1 % faster: 23.976 to 24 fps (or 29.97 to 30, 59.94 to 60)",
    24 / 25: "PAL speed-up: 24 to 25 fps",
    25 / 24: "PAL slow-down: 25 to 24 fps",
    FILM / 25: "PAL speed-up: 23.976 to 25 fps",
    25 / FILM: "PAL slow-down: 25 to 23.976 fps",
}
"""The usual ratios of the dub's duration to the master's, and what causes each."""

_ROOM = 1.03
"""How much longer transforms are than they must be: so those of the master do for the other speeds too."""

_LONG = 20_000
"""Frames from which on speeds are told apart by averages of ``_ROUGH`` frames."""

_ROUGH = 4

_PIECE = 65_536
"""Lags of which the energies are looked up at a time, so that ten hours take little more memory."""

_SAMPLED = 30_000
"""Lags from which what is usual is known well enough."""

TRUSTED_PEAK = 9.0
"""Deviations a correlation peak must stand out by. Unrelated recordings stay below 5."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The best place found.

    delay, stretch   see the module; delay in seconds.
    z                height in deviations (by the median absolute one) above all other places.
    similarity       correlation of the features there, -1 to 1; does not depend on the length.
    rival            height of the next best place relative to this one, 0-1.
    curve            ``(delays, z)`` around the peak, to be drawn.
    """

    delay: float
    stretch: float
    z: float
    similarity: float
    rival: float
    curve: tuple[Array, Array]


def fast_length(least: int) -> int:
    """Return the smallest number not below ``least`` with no prime factor above 5."""
    best = 1 << max(0, least - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(0, (-(-least // three) - 1).bit_length())
            if least <= two < best:
                best = two
            three *= 3
        five *= 5
    return best


class Searcher:
    """Looks for other features in those of the master, ``(bands, frames)`` at ``rate`` frames a second.

    Transforms of the master are kept only while that takes little memory. Several threads may look at once.
    """

    _KEPT = 60_000_000

    def __init__(self, master: Array, rate: float) -> None:
        self.master = master
        self.rate = rate
        self.frames = master.shape[1]
        self._energy = _cumulated(master)
        self._kept: tuple[int, list[NDArray[np.complex64]]] = (0, [])
        self._blocks: tuple[int, list[NDArray[Any]]] = (0, [])

    def find(self, dub: Array, stretch: float = 1.0, least: float | None = None) -> Peak | None:
        """Return the best delay of ``dub`` (stretched by ``stretch``), or None if there is nothing to see.

        ``least`` is the shortest overlap in seconds that counts (default: a tenth of the shorter one,
        3 s at least where there is that much).
        """
        other = warp(dub, stretch)
        found = self.correlate(other, least)
        if found is None:
            return None
        lags, z, similarity = found
        best = int(np.argmax(z))
        if z[best] <= 0:
            return None
        shift = lags[best] + _vertex(z, best)
        apart = np.abs(lags - lags[best]) > round(self.rate * 1.5)
        rival = float(np.max(z[apart], initial=0.0) / z[best])
        near = slice(max(0, best - round(10 * self.rate)), best + round(10 * self.rate) + 1)
        return Peak(
            delay=float(shift / self.rate * stretch),
            stretch=stretch,
            z=float(z[best]),
            similarity=float(similarity[best]),
            rival=max(0.0, rival),
            curve=((lags[near] / self.rate * stretch).astype(np.float32), z[near].astype(np.float32)),
        )

    def correlate(
        self, other: Array, least: float | None = None
    ) -> tuple[NDArray[np.int64], Array, Array] | None:
        """Return lags (frames), the deviation of each from the usual, and the similarity at each."""
        n, k = self.frames, other.shape[1]
        shorter = min(n, k)
        wanted = (
            min(shorter * 0.9, max(3.0 * self.rate, shorter * 0.1)) if least is None else least * self.rate
        )
        enough = max(4, int(np.ceil(wanted)))
        if shorter < enough:
            return None
        # The overlap grows with the lag up to the shorter length, and shrinks again.
        lags = np.arange(enough - n, k - enough + 1)
        total = self._products(other)[enough - 1 : n + k - enough]
        energy, weight = self._energies(other, lags)
        floor = np.float32(max(1e-9, 1e-3 * float(energy.max())))
        similarity: Array = np.where(energy > floor, total, np.float32(0.0))
        similarity /= np.maximum(energy, floor)
        raw: Array = similarity * weight
        sampled = raw[:: max(1, len(raw) // _SAMPLED)]
        middle = np.median(sampled)
        deviation = 1.4826 * float(np.median(np.abs(sampled - middle)))
        if deviation <= 0:
            return None
        raw -= middle
        raw /= np.float32(deviation)
        return lags, raw, similarity

    def _energies(self, other: Array, lags: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return, at each lag, what the product would be if both were alike, and the root of the overlap."""
        n, k = self.frames, other.shape[1]
        cumulated = _cumulated(other)
        energy, weight = np.empty(len(lags), np.float32), np.empty(len(lags), np.float32)
        for at in range(0, len(lags), _PIECE):
            part = lags[at : at + _PIECE]
            start, end = np.maximum(0, -part), np.minimum(n, k - part)
            own = self._energy.take(end) - self._energy.take(start)
            others = cumulated.take(end + part) - cumulated.take(start + part)
            energy[at : at + _PIECE] = np.sqrt(own * others)
            weight[at : at + _PIECE] = np.sqrt(end - start)
        return energy, weight

    def _products(self, other: Array) -> Array:
        """Return the sum of products at each lag from ``1 - frames`` to ``len(other) - 1``."""
        if 8 * other.shape[1] < self.frames:
            return self._short_products(other)
        size, spectra = self._spectra(self.frames + other.shape[1] - 1)
        total = np.zeros(size // 2 + 1, np.complex64)
        for number, band in enumerate(other):
            mine = spectra[number] if spectra else np.conj(np.fft.rfft(self.master[number], size))
            total += mine * np.fft.rfft(band, size)
        product: Array = np.fft.irfft(total, size).astype(np.float32, copy=False)
        if self.frames == 1:
            return product[: other.shape[1]]
        return np.concatenate([product[size - (self.frames - 1) :], product[: other.shape[1]]])

    def _spectra(self, least: int) -> tuple[int, list[NDArray[np.complex64]]]:
        """Return a size that suffices, and the master's transforms of it; none where they were too large."""
        size, spectra = self._kept
        if not least <= size <= 1.2 * least:
            size, spectra = fast_length(round(least * _ROOM)), []
            if len(self.master) * size * 4 <= self._KEPT:
                spectra = [np.conj(np.fft.rfft(band, size)) for band in self.master]
            self._kept = size, spectra
        return size, spectra

    def _short_products(self, other: Array) -> Array:
        """Like ``_products`` for a short window, in overlapping blocks of the master (overlap-save)."""
        count = other.shape[1]
        size = fast_length(4 * count)
        step = size - count + 1
        kept, blocks = self._blocks
        if kept != count:
            number = -(-(self.frames + count - 1) // step)
            padded = np.zeros((len(self.master), (number - 1) * step + size), np.float32)
            padded[:, count - 1 : count - 1 + self.frames] = self.master
            windows = sliding_window_view(padded, size, axis=1)[:, ::step]
            blocks = [np.fft.rfft(band, axis=1) for band in windows]
            self._blocks = count, blocks
        total = np.zeros_like(blocks[0])
        for block, band in zip(blocks, other, strict=True):
            total += block * np.conj(np.fft.rfft(band, size))
        products = np.fft.irfft(total, size, axis=1)[:, :step].ravel()[: self.frames + count - 1]
        return products[::-1].astype(np.float32, copy=False)


def warp(features: Array, stretch: float) -> Array:
    """Return dub features as they would be at the master's speed (linear interpolation)."""
    if stretch == 1.0 or features.shape[1] == 0:
        return features
    count = int(features.shape[1] / stretch)
    at = np.arange(count) * stretch
    left = np.minimum(at.astype(np.int64), features.shape[1] - 1)
    right = np.minimum(left + 1, features.shape[1] - 1)
    share = (at - left).astype(np.float32)
    rest = 1 - share
    warped = np.empty((len(features), count), np.float32)
    for out, band in zip(warped, features, strict=True):
        np.multiply(band.take(left), rest, out=out)
        out += band.take(right) * share
    return warped


Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""What applies a function to each of some things, like ``map``, maybe several at once."""


def find_speed(searcher: Searcher, dub: Array, each: Each = map) -> Peak | None:
    """Return the best peak over the usual speeds; the same speed is taken at once if it is beyond doubt.

    Of long recordings, which stand out far at the right speed, the others are compared at a quarter of the
    rate and only the likeliest is looked at closely.
    """
    best = searcher.find(dub)
    if best is not None and best.z > 4 * TRUSTED_PEAK:
        return best
    others = [stretch for stretch in STRETCHES if stretch != 1.0]
    if min(searcher.frames, dub.shape[1]) > _LONG:
        others = _likeliest(searcher, dub, others, each)
    for peak in each(lambda stretch: searcher.find(dub, stretch), others):
        if peak is not None and (best is None or peak.z > best.z * 1.05):
            best = peak
    return best


def _likeliest(searcher: Searcher, dub: Array, stretches: list[float], each: Each) -> list[float]:
    """Return the one of the stretches that stands out most among averages; none if none does."""
    rough, small = Searcher(_averaged(searcher.master), searcher.rate / _ROUGH), _averaged(dub)
    seen = [peak for peak in each(lambda stretch: rough.find(small, stretch), stretches) if peak is not None]
    return [peak.stretch for peak in sorted(seen, key=lambda peak: peak.z)[-1:]]


def _averaged(features: Array) -> Array:
    count = features.shape[1] // _ROUGH
    averaged: Array = features[:, : count * _ROUGH : _ROUGH].copy()
    for shift in range(1, _ROUGH):
        averaged += features[:, shift : count * _ROUGH : _ROUGH]
    return averaged


def cause_of(stretch: float, tolerance: float = 1e-4) -> str | None:
    """Name what usually causes this stretch, or None."""
    for usual, cause in STRETCHES.items():
        if usual != 1.0 and abs(stretch / usual - 1.0) < tolerance:
            return cause
    return None


def _cumulated(features: Array) -> NDArray[np.float64]:
    power = np.zeros(features.shape[1], np.float32)
    for band in features:
        power += band * band
    return np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])


def _vertex(values: Array, at: int) -> float:
    """Return where, relative to ``at``, the parabola through it and its neighbours is highest."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = float(values[at - 1]), float(values[at]), float(values[at + 1])
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
