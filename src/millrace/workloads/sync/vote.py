"""Where one line for the whole file fails: windows of the dub vote for their own place in the master.

Recovers unlisted drift (the votes lie on a slanted line) and finds cuts (they lie on several).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from millrace.workloads.sync.align import Each, Searcher, warp
from millrace.workloads.sync.features import Array

_WINDOW = 40.0
_WINDOWS = 36
_CHOICES = 4
_WEAK = 4.2
"""Deviations from which on a place is considered at all."""
_STRONG = 7.5
"""Deviations at which a window is believed alone; unrelated windows reach 5.5."""
_GRID = np.arange(-0.012, 0.0121, 0.004)
"""Deviations from the same speed that are tried: a window tells them apart to half of that."""
_TRIED = 12
_JUMP = 6.0
_LOOSE = 0.06


@dataclass(frozen=True, slots=True)
class Vote:
    """A window of the dub, its middle at ``dub`` seconds, says that this is heard at ``master`` seconds."""

    dub: float
    master: float
    z: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of windows on one line ``dub = delay + stretch * master``, between two dub times (seconds)."""

    delay: float
    stretch: float
    dub_start: float
    dub_end: float
    votes: tuple[Vote, ...]
    windows: int

    @property
    def strength(self) -> float:
        """The evidence of all its votes together, in deviations."""
        return float(np.sqrt(sum(vote.z**2 for vote in self.votes)))


class Booth:
    """Where the windows of a dub vote for their places in the master.

    ``master`` and ``dub`` are features, ``(bands, frames)`` at ``rate`` frames a second; ``each`` is like
    ``map`` and may ask several windows at once.
    """

    def __init__(self, master: Array, dub: Array, rate: float, each: Each = map) -> None:
        self._each = each
        self._dub = dub
        self._rate = rate
        self._searcher = Searcher(master, rate)
        seconds = dub.shape[1] / rate
        self._window = max(2.0, min(_WINDOW, seconds / 8))
        self._size = round(self._window * rate)
        self._count = max(1, min(_WINDOWS, int(seconds / self._window * 1.5)))

    def collect(self, stretch: float = 1.0) -> list[list[Vote]]:
        """Return, for each window along the dub, the places in the master that it may come from."""
        return list(self._each(lambda window: self._votes(window, stretch), self._windows(self._count)))

    def likely_speed(self, stretch: float = 1.0) -> float | None:
        """Return the speed around ``stretch`` at which some windows stand out most; None if none do."""
        windows = self._windows(min(self._count, _TRIED))
        heights = []
        for speed in stretch * (1 + _GRID):
            heights.append(sum(self._each(partial(self._height, stretch=speed), windows)))
        top = int(np.argmax(heights))
        return float(stretch * (1 + _GRID[top])) if heights[top] > 0 else None

    def _height(self, window: int, stretch: float) -> float:
        return max((vote.z - _WEAK for vote in self._votes(window, stretch)), default=0.0)

    def _windows(self, count: int) -> list[int]:
        return [int(start) for start in np.linspace(0, max(0, self._dub.shape[1] - self._size), count)]

    def _votes(self, start: int, stretch: float) -> list[Vote]:
        piece = np.ascontiguousarray(self._dub[:, start : start + self._size])
        if np.count_nonzero(piece.any(axis=0)) < self._size / 4:
            return []
        middle = (start + self._size / 2) / self._rate
        return _candidates(self._searcher, warp(piece, stretch), self._rate, middle, self._window)


def _candidates(searcher: Searcher, piece: Array, rate: float, middle: float, window: float) -> list[Vote]:
    found = searcher.correlate(piece, least=min(window, searcher.frames / rate) / 2)
    if found is None:
        return []
    lags, z, _ = found
    z = z.copy()
    choices = []
    for _ in range(_CHOICES):
        best = int(np.argmax(z))
        if z[best] < _WEAK:
            break
        choices.append(Vote(middle, float((piece.shape[1] / 2 - lags[best]) / rate), float(z[best])))
        near = round(rate * 0.5)
        z[max(0, best - near) : best + near + 1] = -1.0
    return choices


def chain(votes: list[list[Vote]], stretch: float = 1.0, freedom: float = 0.012) -> list[Vote]:
    """Return the one vote of each window (or none) that together tell the likeliest story.

    Dynamic programming over the windows in order: a vote earns its height, a change of line costs as
    much as a strong window, going back in the master costs twice that.
    """
    states: list[tuple[float, Vote, int]] = []
    frontier: list[int] = []
    for window in votes:
        added = []
        for vote in window:
            gain = vote.z - _WEAK + 0.5
            best, origin = gain - 2.0, -1
            for index in frontier:
                score, before, _ = states[index]
                value = score + gain - _cost(before, vote, stretch, freedom)
                if value > best:
                    best, origin = value, index
            states.append((best, vote, origin))
            added.append(len(states) - 1)
        frontier = (frontier + added)[-60:]
    if not states:
        return []
    at = max(range(len(states)), key=lambda index: states[index][0])
    path = []
    while at >= 0:
        path.append(states[at][1])
        at = states[at][2]
    return path[::-1]


def _cost(before: Vote, after: Vote, stretch: float, freedom: float) -> float:
    expected = (after.dub - before.dub) / stretch
    moved = after.master - before.master
    slack = _LOOSE + freedom * expected
    if abs(moved - expected) <= slack:
        return 0.3 * abs(moved - expected) / slack
    return _JUMP if moved > -0.5 else 2 * _JUMP


def pieces(
    path: list[Vote], votes: list[list[Vote]], stretch: float = 1.0, freedom: float = 0.012
) -> list[Piece]:
    """Return the runs of a chain that lie on one line each, believable ones only.

    All runs share one stretch (a cut does not change the speed): the median of what the longer ones
    say. A run needs two votes that agree, or one that is beyond doubt.
    """
    runs: list[list[Vote]] = []
    for vote in path:
        if runs and _cost(runs[-1][-1], vote, stretch, freedom) <= 1.0:
            runs[-1].append(vote)
        else:
            runs.append([vote])
    speed = _common_stretch(runs, stretch, freedom)
    runs = [part for run in runs for part in _split(run, speed)]
    middles = [window[0].dub for window in votes if window]
    found = []
    for run in runs:
        delay = float(np.median([vote.dub - speed * vote.master for vote in run]))
        agreeing = tuple(v for v in run if abs(v.dub - speed * v.master - delay) <= 3 * _LOOSE)
        if len(agreeing) < 2 and not (agreeing and agreeing[0].z >= _STRONG):
            continue
        if max(v.z for v in agreeing) < 5.0 or (sum(v.z**2 for v in agreeing)) ** 0.5 < _STRONG:
            continue
        start, end = agreeing[0].dub, agreeing[-1].dub
        windows = sum(1 for middle in middles if start <= middle <= end)
        found.append(Piece(delay, speed, start, end, agreeing, windows))
    return _joined(found)


def _common_stretch(runs: list[list[Vote]], stretch: float, freedom: float) -> float:
    """Return the stretch that the long runs have in common: Theil–Sen within each, weighted by length."""
    slopes: list[float] = []
    for run in runs:
        if len(run) < 4:
            continue
        dub, master = np.array([v.dub for v in run]), np.array([v.master for v in run])
        first, second = np.triu_indices(len(run), 1)
        apart = master[second] - master[first]
        far = np.abs(apart) > 0.25 * max(float(np.ptp(master)), 1.0)
        slopes += list((dub[second] - dub[first])[far] / apart[far])
    if not slopes:
        return stretch
    speed = float(np.median(slopes))
    return speed if abs(speed / stretch - 1) <= 1.5 * freedom else stretch


def _split(run: list[Vote], speed: float) -> list[list[Vote]]:
    """Split a run where its delay steps by more than a window's uncertainty."""
    parts = [[run[0]]]
    for before, vote in pairwise(run):
        step = abs((vote.dub - speed * vote.master) - (before.dub - speed * before.master))
        if step <= 2 * _LOOSE:
            parts[-1].append(vote)
        else:
            parts.append([vote])
    return parts


def _joined(found: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in found:
        if joined and abs(joined[-1].delay - piece.delay) <= _LOOSE:
            last = joined[-1]
            joined[-1] = replace(
                last,
                dub_end=piece.dub_end,
                votes=last.votes + piece.votes,
                windows=last.windows + piece.windows,
            )
        else:
            joined.append(piece)
    return joined
