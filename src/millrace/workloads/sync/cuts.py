"""What one line does not explain: cuts, added material, and speeds that nobody lists.

Windows of the dub vote for their places (``vote.py``); each piece that the votes make is then measured
by its own excerpts, and pieces that nothing confirms are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from millrace.workloads.sync import vote
from millrace.workloads.sync.features import FRAME_RATE
from millrace.workloads.sync.lines import (
    ENOUGH,
    Pair,
    Points,
    by_features,
    by_phase,
    points_of,
    refined,
    whole,
)
from millrace.workloads.sync.recording import Recording
from millrace.workloads.sync.refine import TRUSTED_CHUNK, Chunk, Line
from millrace.workloads.sync.result import Segment

_FRAMES = 100_000
_BELIEVED = 0.35
_PLAIN = 0.7
_AROUND = 20.0
"""Seconds around the windows that vote for either side in which a cut is looked for: half a window."""

Several = tuple[tuple[Segment, ...], Points, float]
"""Segments, their measured points, and the share of the evidence that supports them."""


def voting_pool(pair: Pair) -> int:
    """Return how many frames are averaged for voting, so that it stays quick on long recordings."""
    frames = max(pair.master.facts.frames, pair.dub.facts.frames)
    return next((pool for pool in (1, 2, 4, 8) if frames / pool <= _FRAMES), 8)


def by_votes(pair: Pair, stretch: float) -> Several | None:
    """Return segments found by windows voting, their points, and the share of windows that agree."""
    if stretch not in pair.voted:
        pair.voted[stretch] = _vote(pair, stretch)
    return pair.voted[stretch]


def _vote(pair: Pair, stretch: float) -> Several | None:
    pool = voting_pool(pair)
    master, dub = pair.each(lambda one: pair.features(one, "mfcc", pool), (pair.master, pair.dub))
    booth = vote.Booth(master, dub, FRAME_RATE / pool, pair.each)
    plain = _elected(pair, booth, stretch)
    if plain is not None and plain[2] >= _PLAIN:
        return plain
    speed = booth.likely_speed(stretch)
    if speed is None:
        return plain
    drifting = _elected(pair, booth, speed)
    if drifting is None or (plain is not None and plain[2] >= drifting[2]):
        return plain
    return drifting


def _elected(pair: Pair, booth: vote.Booth, stretch: float) -> Several | None:
    votes = booth.collect(stretch)
    found = vote.pieces(vote.chain(votes, stretch), votes, stretch)
    agreeing = sum(len(piece.votes) for piece in found)
    if agreeing < max(2, _BELIEVED * len(votes)):
        return None
    return _confirmed(pair, found)


def _confirmed(pair: Pair, found: Sequence[vote.Piece]) -> Several | None:
    """Refine each piece by its excerpts; pieces that nothing confirms are left out."""
    if len(found) == 1:
        line = refined(pair, found[0].delay, found[0].stretch, 0.5, believe=True)
        if line is None:
            return None
        return *whole(pair, line), line.support
    edges = [pair.overlap(found[0].delay, found[0].stretch)[0]]
    for before, after in pairwise(found):
        edges += _boundary(pair, before, after)
    edges.append(pair.overlap(found[-1].delay, found[-1].stretch)[1])
    segments: list[Segment] = []
    points: list[tuple[float, float, bool]] = []
    for number, piece in enumerate(found):
        low, high = edges[2 * number], edges[2 * number + 1]
        line = _piece_line(pair, piece, low, high)
        if line is None or line.support < ENOUGH:
            continue
        segments.append(Segment(low, high, line.delay, line.stretch, line.support, line.by))
        points += points_of(line)
    if not segments:
        return None
    joined = _joined(segments)
    windows = sum(piece.windows for piece in found)
    agreeing = sum(len(piece.votes) for piece in found)
    return tuple(joined), tuple(points), min(1.0, agreeing / max(1, windows))


def _piece_line(pair: Pair, piece: vote.Piece, low: float, high: float) -> Line | None:
    margin = min(0.5, (high - low) / 10)
    line = by_phase(pair, low + margin, high - margin, piece.delay, piece.stretch, 0.5, count=12)
    if line is None or line.support < ENOUGH:
        line = by_features(pair, low, high, piece.delay, piece.stretch, 0.5) or line
    return line


def _joined(segments: list[Segment]) -> list[Segment]:
    """Join neighbours whose lines turn out to be one (within 4 ms)."""
    joined = segments[:1]
    for segment in segments[1:]:
        last = joined[-1]
        if abs(last.delay + last.stretch * segment.start - segment.dub_start) < 0.004:
            joined[-1] = replace(last, end=segment.end, support=min(last.support, segment.support))
        else:
            joined.append(segment)
    return joined


def by_steps(pair: Pair, line: Line | None) -> Several | None:
    """Return segments where the excerpts of one line step between a few delays (cuts of some frames)."""
    if line is None or line.by != "phase":
        return None
    sure = [c for c in line.chunks if c.z >= TRUSTED_CHUNK]
    runs: list[list[Chunk]] = []
    for chunk in sure:
        if runs and abs(chunk.delay - runs[-1][-1].delay) < 0.004:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    runs = [run for run in runs if len(run) >= 3]
    explained = sum(len(run) for run in runs)
    if len(runs) < 2 or explained < 0.8 * len(line.chunks):
        return None
    stretch = line.stretch
    found = [_piece_of(run, stretch) for run in runs]
    return _confirmed(pair, found)


def _piece_of(run: list[Chunk], stretch: float) -> vote.Piece:
    delay = float(np.median([c.delay for c in run]))
    votes = tuple(vote.Vote(delay + stretch * c.at, c.at, c.z) for c in run)
    return vote.Piece(delay, stretch, votes[0].dub, votes[-1].dub, votes, len(votes))


def _boundary(pair: Pair, before: vote.Piece, after: vote.Piece) -> tuple[float, float]:
    """Return where in the master one piece ends and the next begins (seconds), to a frame or two.

    The cut is where following the first line stops to pay and the second starts: prefix sums of the
    similarity along each, half a window beyond the votes, which straddle the cut.
    Material missing from the dub leaves a gap in the master; material added to it leaves none.
    """
    low = max(before.dub_start, before.dub_end - _AROUND)
    high = min(after.dub_end, after.dub_start + _AROUND)
    stretch = before.stretch
    missing = after.delay < before.delay
    step = 1 / FRAME_RATE
    if missing:
        times = np.arange(low, high, step)
        first = _along(pair, (times - before.delay) / stretch, times)
        second = _along(pair, (times - after.delay) / stretch, times)
    else:
        times = np.arange((low - before.delay) / stretch, (high - after.delay) / stretch, step)
        first = _along(pair, times, before.delay + stretch * times)
        second = _along(pair, times, after.delay + stretch * times)
    if len(times) == 0:
        middle = (low + high) / 2
        return (middle - before.delay) / stretch, (middle - after.delay) / stretch
    gain = np.concatenate([[0.0], np.cumsum(first - second)])
    cut = float(times[0] + int(np.argmax(gain)) * step)
    if missing:
        return (cut - before.delay) / stretch, (cut - after.delay) / stretch
    return cut, cut


def _along(pair: Pair, at: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the product of the features at master times ``at`` and dub times ``there``, both ascending."""
    if len(at) == 0:
        return np.zeros(0)
    product: NDArray[np.float64] = (_frames_at(pair.master, at) * _frames_at(pair.dub, there)).sum(axis=0)
    return product


def _frames_at(recording: Recording, times: NDArray[np.float64]) -> NDArray[np.float32]:
    index = np.rint(times * FRAME_RATE).astype(int)
    return recording.excerpt("mfcc", int(index[0]), int(index[-1] - index[0]) + 1)[:, index - index[0]]
