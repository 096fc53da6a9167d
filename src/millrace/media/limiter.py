"""A look-ahead limiter that turns several stems down together, so that they still sum to their mix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_HOP = 64
_REACH = 16
"""The gain moves over this many hops before and after a peak: 23 ms at 44,100 Hz."""


class Limiter:
    """Keeps every stem within ±``ceiling`` by one gain for all of them, in blocks of any size.

    The gain follows the smallest one that any sample needs: its minimum over ``_REACH`` hops each
    way, averaged over one hop less each way and interpolated. Every value that enters the average of
    a hop is thus at most what that hop and its two neighbours need, so the result never exceeds the
    ceiling. Where nothing is too loud the samples pass unchanged.
    """

    def __init__(self, ceiling: float, stems: int = 2) -> None:
        """``ceiling`` is an amplitude (1.0: full scale); all ``stems`` have the same shape ``(n, 2)``."""
        self._ceiling = ceiling
        self._waiting = [np.zeros((0, 2), np.float32) for _ in range(stems)]
        self._needed = np.ones(2 * _REACH, np.float32)
        self.lowest = 1.0

    def push(self, *stems: Samples) -> list[Samples]:
        """Take one block of each stem; return what can be let go, the same number of samples of each."""
        self._waiting = [np.concatenate(pair) for pair in zip(self._waiting, stems, strict=True)]
        known = len(self._needed) - 2 * _REACH
        loudest = self._loudest(known * _HOP, len(self._waiting[0]) // _HOP * _HOP)
        self._needed = np.concatenate([self._needed, self._gain(loudest)])
        return self._release(len(self._needed) - 4 * _REACH)

    def flush(self) -> list[Samples]:
        """Return the rest."""
        known = len(self._needed) - 2 * _REACH
        length = len(self._waiting[0])
        missing = -length % _HOP
        self._waiting = [np.pad(stem, ((0, missing), (0, 0))) for stem in self._waiting]
        loudest = self._loudest(known * _HOP, length + missing)
        self._needed = np.concatenate([self._needed, self._gain(loudest), np.ones(2 * _REACH, np.float32)])
        out = self._release((length + missing) // _HOP)
        return [stem[: len(stem) - missing] for stem in out]

    def _loudest(self, begin: int, end: int) -> Samples:
        peaks = [np.abs(stem[begin:end]).max(axis=1, initial=0.0) for stem in self._waiting]
        peak: Samples = np.maximum.reduce(peaks).reshape(-1, _HOP).max(axis=1)
        return peak

    def _gain(self, peak: Samples) -> Samples:
        gain: Samples = np.minimum(1.0, self._ceiling / np.maximum(peak, 1e-9)).astype(np.float32)
        return gain

    def _release(self, hops: int) -> list[Samples]:
        """Let the first ``hops`` hops go; ``_needed`` starts ``2 * _REACH`` hops before them."""
        if hops <= 0:
            return [stem[:0] for stem in self._waiting]
        window = self._needed[: hops + 4 * _REACH]
        samples = hops * _HOP
        out = [stem[:samples] for stem in self._waiting]
        lowest = float(window.min())
        if lowest < 1.0:
            self.lowest = min(self.lowest, lowest)
            curve = _smooth(window, hops)[:, None]
            out = [stem * curve for stem in out]
        self._waiting = [stem[samples:] for stem in self._waiting]
        self._needed = self._needed[hops:]
        return out


def _smooth(needed: Samples, hops: int) -> Samples:
    """Return a gain a sample for ``hops`` hops; ``needed`` has ``2 * _REACH`` hops more on each side."""
    view = np.lib.stride_tricks.sliding_window_view
    lowest = view(needed, 2 * _REACH + 1).min(axis=1)  # hop −_REACH first
    average = view(lowest, 2 * _REACH - 1).mean(axis=1)  # hop −1 first, hops + 2 of them
    edges = (average[:-1] + average[1:]) / 2
    ramp = (np.arange(_HOP, dtype=np.float32) + 0.5) / _HOP
    curve: Samples = (edges[:hops, None] + (edges[1 : hops + 1] - edges[:hops])[:, None] * ramp).reshape(-1)
    return curve.astype(np.float32)
