"""Fine alignment: the delay of short excerpts by GCC-PHAT, and the line through them.

Generalised cross-correlation with phase transform: Knapp & Carter, "The generalized correlation
method for estimation of time delay", IEEE Trans. ASSP 24(4), 1976.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from millrace.workloads.sync.align import Searcher, fast_length, warp
from millrace.workloads.sync.features import FRAME_RATE, SAMPLE_RATE, Array
from millrace.workloads.sync.interpolation import evenly_sampled
from millrace.workloads.sync.recording import Recording

_LOW, _HIGH = 80.0, 6000.0
_FAINT = 1e-6
"""Bins this much below a chunk's strongest are noise of the coding, not sound (band-limited dubs)."""

_TAPS = 4
"""Taps on either side by which the dub is brought to the master's speed: clean in the band looked at."""

TRUSTED_CHUNK = 7.0
"""Deviations by which a chunk's peak must stand out to be believed; noise reaches 5."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One excerpt's answer: at master time ``at`` (its middle, seconds) the dub is ``delay`` later."""

    at: float
    delay: float
    z: float


@dataclass(frozen=True, slots=True)
class Line:
    """``dub = delay + stretch * master``, and how well it is supported.

    base       the stretch that the chunks' delays are relative to.
    inliers    of ``chunks``, those within the tolerance.
    spread     median absolute deviation of the inliers from the line, in seconds.
    by         ``phase`` (to a fraction of a sample) or ``features`` (to a few milliseconds).
    """

    delay: float
    stretch: float
    base: float
    inliers: tuple[bool, ...]
    chunks: tuple[Chunk, ...]
    spread: float
    by: str

    @property
    def support(self) -> float:
        """The share of the chunks that agree, 0-1."""
        return sum(self.inliers) / len(self.inliers) if self.inliers else 0.0

    def at(self, master: float) -> float:
        """Return the dub's time for a master time, both in seconds."""
        return self.delay + self.stretch * master


def phase_delay(master: Array, dub: Array, reach: int) -> tuple[float, float]:
    """Return where ``master`` lies in ``dub``, and by how many deviations that stands out.

    ``dub`` starts ``reach`` samples early and is ``2 * reach`` longer; the answer is in samples,
    from ``-reach`` to ``reach``, to a fraction of one. Polarity does not matter.
    """
    size = fast_length(len(dub) + 16)
    first = np.fft.rfft(master * _taper(len(master)), size)
    second = np.fft.rfft(dub, size)
    cross = np.conj(first) * second
    strength = np.abs(cross)
    frequency = np.arange(len(cross)) * (SAMPLE_RATE / size)
    band = (frequency >= _LOW) & (frequency <= _HIGH)
    if not band.any() or float(strength[band].max()) <= 0:
        return 0.0, 0.0
    smooth = _smoothed(strength, max(1, round(20.0 / (SAMPLE_RATE / size))))
    used = band & (smooth > _FAINT * float(smooth[band].max()))
    white = np.where(used, cross / np.maximum(strength, 1e-20), 0).astype(np.complex64)
    curve = np.fft.irfft(white, size)[: 2 * reach + 1]
    height = np.abs(curve)
    best = int(np.argmax(height))
    noise = float(np.median(height)) / 0.6745
    if noise <= 0:
        return 0.0, 0.0
    return best + _summit(np.sign(curve[best]) * curve, best) - reach, float(height[best]) / noise


@lru_cache(8)
def _taper(length: int) -> Array:
    return np.hanning(length).astype(np.float32)


def _smoothed(values: Array, width: int) -> Array:
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    low, high = np.maximum(index - width, 0), np.minimum(index + width + 1, len(values))
    mean: Array = ((total[high] - total[low]) / (high - low)).astype(np.float32)
    return mean


def _summit(curve: Array, best: int, half: int = 24, steps: int = 64) -> float:
    """Return the highest point between samples, by windowed-sinc interpolation around ``best``."""
    low, high = max(0, best - half), min(len(curve), best + half + 1)
    if high - low < 5:
        return 0.0
    at = np.linspace(-1.0, 1.0, 2 * steps + 1)
    distance = at[:, None] - (np.arange(low, high) - best)[None, :]
    kernel = np.sinc(distance) * np.cos(np.pi * np.clip(distance / (half + 1), -1, 1) / 2) ** 2
    fine = kernel @ curve[low:high].astype(np.float64)
    top = int(np.argmax(fine))
    shift = at[top]
    if 0 < top < len(fine) - 1:
        left, middle, right = fine[top - 1 : top + 2]
        bend = left - 2 * middle + right
        if bend < 0:
            shift += 0.5 * (left - right) / bend / steps
    return float(np.clip(shift, -1.0, 1.0))


def measure_chunk(
    master: Recording, dub: Recording, at: float, seconds: float, delay: float, stretch: float, reach: float
) -> Chunk:
    """Return the dub's true delay at master time ``at``, looked for ``reach`` seconds around the expected.

    The excerpt of the dub is brought to the master's speed first.
    """
    length = round(seconds * SAMPLE_RATE)
    begin = round((at - seconds / 2) * SAMPLE_RATE)
    margin = round(reach * SAMPLE_RATE)
    excerpt = master.sound(begin, length)
    wanted = length + 2 * margin
    start = delay * SAMPLE_RATE + stretch * (begin - margin)
    if stretch == 1.0:
        start = round(start)
        other = dub.sound(start, wanted)
    else:
        first = int(np.floor(start)) - _TAPS
        sound = dub.sound(first, int(wanted * stretch) + 2 * _TAPS + 3)
        other = evenly_sampled(sound, start - first, stretch, wanted, _TAPS)
    lag, z = phase_delay(excerpt, other, margin)
    middle = (begin + length / 2) / SAMPLE_RATE
    found = (start + stretch * (margin + lag + length / 2)) / SAMPLE_RATE
    return Chunk(middle, found - stretch * middle, z)


def fit_line(
    chunks: Sequence[Chunk], stretch: float, tolerance: float, freedom: float, by: str = "phase"
) -> Line | None:
    """Return the line that most chunks agree with, None if fewer than two (one, if it is alone) do.

    Every pair of chunks proposes a line whose stretch differs from ``stretch`` by at most ``freedom``
    (and each chunk one of just that stretch); the one with most chunks within ``tolerance`` seconds
    wins and is fitted to them by least squares. Chunks carry delays relative to ``stretch``.
    """
    if not chunks:
        return None
    at = np.array([c.at for c in chunks])
    delay = np.array([c.delay for c in chunks])
    weight = np.array([min(c.z, 50.0) for c in chunks])
    best = _consensus(at, delay, weight, tolerance, freedom)
    needed = 1 if len(chunks) <= 2 else 2
    if best.sum() < needed:
        return None
    slope, start = _least_squares(at[best], delay[best], freedom)
    off = np.abs(delay - (start + slope * at))
    inliers = off <= tolerance
    if inliers.sum() >= max(3, needed) and freedom > 0:
        slope, start = _least_squares(at[inliers], delay[inliers], freedom)
        off = np.abs(delay - (start + slope * at))
        inliers = off <= tolerance
    if not inliers.any():
        return None
    return Line(
        delay=float(start),
        stretch=float(stretch + slope),
        base=stretch,
        inliers=tuple(bool(b) for b in inliers),
        chunks=tuple(chunks),
        spread=float(np.median(off[inliers])),
        by=by,
    )


def _consensus(
    at: NDArray[np.float64],
    delay: NDArray[np.float64],
    weight: NDArray[np.float64],
    tolerance: float,
    freedom: float,
) -> NDArray[np.bool_]:
    """Return which chunks lie on the line that most agree with (the heaviest, among equals)."""
    first, second = np.triu_indices(len(at), 1)
    apart = at[second] - at[first]
    usable = np.abs(apart) > 1e-6
    first, second, apart = first[usable], second[usable], apart[usable]
    slopes = (delay[second] - delay[first]) / apart
    sane = np.abs(slopes) <= freedom
    slopes = np.concatenate([slopes[sane], np.zeros(len(at))])
    starts = np.concatenate([delay[first[sane]] - slopes[: int(sane.sum())] * at[first[sane]], delay])
    within = np.abs(delay[None, :] - (starts[:, None] + slopes[:, None] * at[None, :])) <= tolerance
    score = within.sum(axis=1) + (within @ weight) / (weight.sum() + 1.0) * 0.5
    return np.asarray(within[int(np.argmax(score))])


def _least_squares(
    at: NDArray[np.float64], delay: NDArray[np.float64], freedom: float
) -> tuple[float, float]:
    middle = at.mean()
    moment = float(((at - middle) ** 2).sum())
    slope = (
        float(((at - middle) * (delay - delay.mean())).sum() / moment) if moment > 0 and freedom > 0 else 0.0
    )
    slope = float(np.clip(slope, -freedom, freedom))
    return slope, float(delay.mean() - slope * middle)


Starts = NDArray[np.float64]
"""Where, in seconds of the master, an excerpt of a stretch may start."""


def places(low: float, high: float, count: int, seconds: float) -> list[Starts]:
    """Return up to ``count`` stretches between the master times ``low`` and ``high``, in order."""
    span = high - low
    seconds = min(seconds, span)
    count = max(1, min(count, int(span / max(seconds / 2, 0.25))))
    edges = np.linspace(low, high - seconds, count + 1) if count > 1 else np.array([low, high - seconds])
    return [
        np.linspace(left, right, 3) if right - left > seconds / 2 else np.array([(left + right) / 2])
        for left, right in pairwise(edges)
    ]


def liveliest(master: Recording, stretches: Sequence[Starts], seconds: float) -> list[float]:
    """Return the middle of the liveliest excerpt of each stretch, as master times.

    Silence and steady tones are passed over: a chunk there would say nothing.
    """
    chosen = []
    for options in stretches:
        lively = [_liveliness(master, start, seconds) for start in options]
        best = int(np.argmax(lively))
        if lively[best] > 0:
            chosen.append(float(options[best] + seconds / 2))
    return chosen


def _liveliness(master: Recording, start: float, seconds: float) -> float:
    first, last = round(start * FRAME_RATE), round((start + seconds) * FRAME_RATE)
    heard = master.heard(first, last)
    if len(heard) < 10 or heard.mean() < 0.1:
        return 0.0
    mel = master.mel(first, last)
    return float(np.abs(np.diff(mel[::3], axis=0)).mean()) * float(heard.mean())


def feature_chunk(
    master: Recording, dub: Recording, at: float, seconds: float, delay: float, stretch: float, reach: float
) -> Chunk | None:
    """Like ``measure_chunk``, on features: coarser, but indifferent to phase.

    For dubs whose sound was processed so that its phase is lost: pitch kept on a change of speed,
    another recording of the same performance.
    """
    begin, end = round((at - seconds / 2) * FRAME_RATE), round((at + seconds / 2) * FRAME_RATE)
    margin = round(reach * FRAME_RATE)
    wanted = end - begin + 2 * margin
    start = delay * FRAME_RATE + stretch * (begin - margin)
    first = int(np.floor(start))
    other = warp(dub.excerpt("mfcc", first, int(wanted * stretch) + 3), stretch)[:, :wanted]
    found = Searcher(master.excerpt("mfcc", begin, end - begin), FRAME_RATE).find(
        other, least=(end - begin) / FRAME_RATE
    )
    if found is None:
        return None
    middle = (begin + end) / 2 / FRAME_RATE
    lag = found.delay * stretch - stretch * reach + (first - start) / FRAME_RATE
    return Chunk(middle, delay + lag, found.z)
