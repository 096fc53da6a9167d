"""One line for the whole of two recordings: excerpts all along them are measured and must agree.

Knows nothing of cuts; see ``cuts.py`` for what one line does not explain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from math import comb
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from millrace.workloads.sync.features import Array
from millrace.workloads.sync.recording import Recording
from millrace.workloads.sync.refine import (
    TRUSTED_CHUNK,
    Chunk,
    Line,
    feature_chunk,
    fit_line,
    liveliest,
    measure_chunk,
    places,
)
from millrace.workloads.sync.result import Segment

if TYPE_CHECKING:
    from millrace.workloads.sync.cuts import Several

T = TypeVar("T")
R = TypeVar("R")

ENOUGH = 0.5
"""The share of the excerpts that must agree."""

SOLID = 0.85
"""The share from which on nobody asks for cuts."""

_CHUNKS = 24
_CHUNK_SECONDS = 10.0
_LONG_CHUNK_SECONDS = 20.0
_PASSES = 3
_LOOSE = 0.004
_LUCK = 1e-5
_FREEDOM = 0.012
_BLUR = 2e-5
"""Seconds by which sound may drift within an excerpt before it is measured again at the right speed: a
third of a sample."""

Points = tuple[tuple[float, float, bool], ...]
"""``(master seconds, offset seconds, agrees)`` of each excerpt."""


@dataclass(slots=True)
class Pair:
    """A master and a dub under analysis; keeps what several methods share.

    ``pool`` runs at once what is done by pieces.
    """

    master: Recording
    dub: Recording
    pool: Executor | None = None
    lines: list[Line] = field(default_factory=list)
    voted: dict[float, Several | None] = field(default_factory=dict)
    drawn: dict[Recording, Array] = field(default_factory=dict)
    drawn_as: tuple[str, int] = ("", 0)

    def features(self, recording: Recording, name: str, pool: int) -> Array:
        """Return the named feature of one of the two (see ``Recording.features``); the last name is kept."""
        if self.drawn_as != (name, pool):
            self.drawn.clear()
            self.drawn_as = name, pool
        if recording not in self.drawn:
            self.drawn[recording] = recording.features(name, pool)
        return self.drawn[recording]

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return what the function makes of each item; it must not call this in turn."""
        return list(map(function, items) if self.pool is None else self.pool.map(function, items))

    def overlap(self, delay: float, stretch: float) -> tuple[float, float]:
        """Return from when to when (master seconds) both are there."""
        low = max(0.0, -delay / stretch)
        return low, max(low, min(self.master.seconds, (self.dub.seconds - delay) / stretch))


def refined(pair: Pair, delay: float, stretch: float, reach: float, believe: bool) -> Line | None:
    """Return the line that excerpts all along the overlap agree on, None unless at least half do.

    ``believe`` says that the place is known well enough to be confirmed by features where the phase
    says nothing.
    """
    for known in pair.lines:
        middle = sum(pair.overlap(delay, stretch)) / 2
        if abs(known.at(middle) - (delay + stretch * middle)) < 0.3 and abs(known.stretch - stretch) < 2e-3:
            return known
    low, high = pair.overlap(delay, stretch)
    line = by_phase(pair, low, high, delay, stretch, reach)
    if believe and high - low > 4 * _CHUNK_SECONDS and _support(line) < SOLID:
        longer = by_phase(pair, low, high, delay, stretch, reach, seconds=_LONG_CHUNK_SECONDS)
        line = longer if _support(longer) > _support(line) else line
    if believe and _support(line) < ENOUGH:
        by_sound = by_features(pair, low, high, delay, stretch, reach)
        line = by_sound if _support(by_sound) > _support(line) + 0.2 else line
    if line is None or line.support < ENOUGH:
        return None
    if not believe and not beyond_chance(line, reach):
        return None
    pair.lines.append(line)
    return line


def beyond_chance(line: Line, reach: float) -> bool:
    """Whether so many excerpts would not agree by chance: a few that stand out, or many that do not.

    An excerpt that says nothing answers anywhere within ``reach``; two of them make a line, and each
    further one lies on it by chance as often as the tolerance is wide.
    """
    agreeing = [chunk for chunk, inside in zip(line.chunks, line.inliers, strict=True) if inside]
    if sum(chunk.z >= TRUSTED_CHUNK for chunk in agreeing) >= 3:
        return True
    total, more = len(line.chunks), len(agreeing) - 2
    expected = comb(total, 2) * comb(total - 2, more) * (_LOOSE / reach) ** more if more > 0 else 1.0
    return expected < _LUCK


def _support(line: Line | None) -> float:
    return 0.0 if line is None else line.support


def _chunk_seconds(span: float, most: float) -> float:
    return min(most, max(0.5, span / 4))


def by_phase(
    pair: Pair,
    low: float,
    high: float,
    delay: float,
    stretch: float,
    reach: float,
    count: int = _CHUNKS,
    seconds: float = _CHUNK_SECONDS,
) -> Line | None:
    """Measure excerpts by GCC-PHAT: around the expected place, then along the line found, until it stays.

    Of a third of them half must agree, or one stand out, for the rest to be asked.
    """
    if high - low < 0.5:
        return None
    seconds = _chunk_seconds(high - low, seconds)
    stretches = places(low, high, count, seconds)
    first = liveliest(pair.master, stretches[::3], seconds)

    def measure(at: list[float], delay: float, stretch: float, reach: float) -> list[Chunk]:
        return pair.each(
            lambda t: measure_chunk(pair.master, pair.dub, t, seconds, delay, stretch, reach), at
        )

    chunks = measure(first, delay, stretch, reach)
    line = fit_line(chunks, stretch, tolerance=_LOOSE, freedom=_FREEDOM)
    hopeless = line is None or sum(line.inliers) < max(3, ENOUGH * len(chunks))
    if len(chunks) >= 4 and hopeless and all(chunk.z < TRUSTED_CHUNK for chunk in chunks):
        return None
    rest = liveliest(pair.master, [each for n, each in enumerate(stretches) if n % 3], seconds)
    at = sorted(first + rest)
    chunks += measure(rest, delay, stretch, reach)
    chunks.sort(key=lambda chunk: chunk.at)
    line = fit_line(chunks, stretch, tolerance=_LOOSE, freedom=_FREEDOM)
    if line is None or sum(line.inliers) < min(2, len(at)):
        return line
    for _ in range(_PASSES):
        blurred = abs(line.stretch - line.base) * seconds > _BLUR
        if blurred:
            chunks = measure(at, line.delay, line.stretch, 0.03)
        closer = fit_line(chunks, line.stretch if blurred else line.base, tolerance=0.001, freedom=1e-3)
        if closer is None or sum(closer.inliers) < 0.8 * sum(line.inliers):
            break
        line = closer
        if not blurred:
            break
    return _settled(line)


def _settled(line: Line) -> Line:
    """Take a drift that is within the measurement's own error for none."""
    at = np.array([c.at for c, inside in zip(line.chunks, line.inliers, strict=True) if inside])
    if len(at) == 0 or line.stretch == 1.0:
        return line
    span = float(np.ptp(at))
    error = 1.4826 * line.spread / np.sqrt(len(at)) / max(float(np.std(at)), 1e-9) if len(at) > 2 else np.inf
    slope = line.stretch - 1.0
    if abs(slope) * span > 2e-4 and abs(slope) > 5 * error:
        return line
    if abs(slope) * span > 5e-3 and len(at) > 2:
        return line
    middle = float(at.mean())
    return replace(line, stretch=1.0, delay=line.at(middle) - middle)


def by_features(
    pair: Pair, low: float, high: float, delay: float, stretch: float, reach: float
) -> Line | None:
    """Measure excerpts by their features, for dubs whose phase was processed away."""
    if high - low < 4.0:
        return None
    seconds = _chunk_seconds(high - low, _LONG_CHUNK_SECONDS)
    chunks = [
        feature_chunk(pair.master, pair.dub, at, seconds, delay, stretch, reach)
        for at in liveliest(pair.master, places(low, high, _CHUNKS, seconds), seconds)
    ]
    found = [chunk for chunk in chunks if chunk is not None and chunk.z > 3.0]
    if len(found) < 4:
        return None
    line = fit_line(found, stretch, tolerance=0.02, freedom=_FREEDOM, by="features")
    return None if line is None else _settled(line)


def whole(pair: Pair, line: Line) -> tuple[tuple[Segment, ...], Points]:
    """Return the one segment of a line, and its points."""
    low, high = pair.overlap(line.delay, line.stretch)
    segment = Segment(low, high, line.delay, line.stretch, line.support, line.by)
    return (segment,), points_of(line)


def points_of(line: Line) -> Points:
    """Return the excerpts of a line, as offsets."""
    return tuple(
        (chunk.at, -(chunk.delay + (line.base - 1.0) * chunk.at), inside)
        for chunk, inside in zip(line.chunks, line.inliers, strict=True)
    )
