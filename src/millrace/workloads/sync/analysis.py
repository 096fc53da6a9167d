"""From two recordings to an answer: coarse alignment, refinement, votes where needed, and trust.

No number without trust: what cannot be confirmed by excerpts all along the recording is ``no_match``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from millrace.workloads.sync import vote
from millrace.workloads.sync.align import TRUSTED_PEAK, Peak, Searcher, find_speed
from millrace.workloads.sync.features import FRAME_RATE, Array
from millrace.workloads.sync.recording import Recording
from millrace.workloads.sync.refine import (
    TRUSTED_CHUNK,
    Chunk,
    Line,
    feature_chunk,
    fit_line,
    measure_chunk,
    places,
)
from millrace.workloads.sync.result import Analysis, Answer, Segment

_CHUNKS = 24
_CHUNK_SECONDS = 20.0
_PASSES = 3
_ENOUGH = 0.5
_SOLID = 0.85
_FREEDOM = 0.012
_SURE = 0.8

Features = Callable[[Recording], tuple[Array, float]]
"""Features of a recording, normalised, ``(bands, frames)``, and their rate in frames a second."""


Several = tuple[tuple[Segment, ...], tuple[tuple[float, float, bool], ...], float]
"""Segments, their measured points, and the share of the evidence that supports them."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to compare recordings: its name in the contract, its label in results, its features.

    ``check`` looks at a finished answer and may lower its confidence or refuse it.
    """

    name: str
    label: str
    features: Features
    check: Callable[[Recording, Recording, Answer], Answer] | None = None


@dataclass(slots=True)
class Pair:
    """A master and a dub under analysis; keeps what several methods share."""

    master: Recording
    dub: Recording
    lines: list[Line] = field(default_factory=list)
    _mfcc: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    _voted: dict[float, Several | None] = field(default_factory=dict)

    def detail(self) -> tuple[Array, Array]:
        """Return the features of both by which cuts and unlisted drift are looked for."""
        pool = voting_pool(self)
        if pool not in self._mfcc:
            self._mfcc[pool] = self.master.features("mfcc", pool), self.dub.features("mfcc", pool)
        return self._mfcc[pool]

    def overlap(self, delay: float, stretch: float) -> tuple[float, float]:
        """Return from when to when (master seconds) both are there."""
        low = max(0.0, -delay / stretch)
        return low, max(low, min(self.master.seconds, (self.dub.seconds - delay) / stretch))


def voting_pool(pair: Pair) -> int:
    """Return how many frames are averaged for voting, so that it stays quick on long recordings."""
    frames = max(pair.master.facts.frames, pair.dub.facts.frames)
    return next(pool for pool in (1, 2, 4, 8, 16) if frames / pool <= 100_000 or pool == 8)


def coarse_pool(recording: Recording) -> int:
    """Return how many frames are averaged for the search over whole files, so that memory stays bounded."""
    hours = recording.seconds / 3600
    return 1 if hours <= 2 else 2 if hours <= 4 else 4


def locate(pair: Pair, method: Method) -> Answer:
    """Return what one method finds."""
    began = time.perf_counter()
    master, rate = method.features(pair.master)
    dub, other_rate = method.features(pair.dub)
    if rate != other_rate:
        raise ValueError("a method's features must have one rate for both recordings")
    peak = find_speed(Searcher(master, rate), dub)
    segments, points = _segments(pair, peak, reach=max(0.5, 1.5 / rate))
    answer = Answer(method.name, method.label)
    if peak is not None:
        answer = replace(
            answer,
            z=peak.z,
            similarity=peak.similarity,
            rival=peak.rival,
            curve=(tuple(float(-v) for v in peak.curve[0]), tuple(float(v) for v in peak.curve[1])),
        )
    if segments:
        similarity = agreement(master, dub, rate, segments)
        answer = replace(
            answer,
            segments=segments,
            points=points,
            similarity=similarity,
            confidence=_confidence(segments, similarity, points),
        )
        if method.check is not None:
            answer = method.check(pair.master, pair.dub, answer)
    return replace(answer, seconds=time.perf_counter() - began)


def _segments(
    pair: Pair, peak: Peak | None, reach: float
) -> tuple[tuple[Segment, ...], tuple[tuple[float, float, bool], ...]]:
    """Return the segments that the peak, or else the windows' votes, lead to; none if nothing holds."""
    line = None
    if peak is not None and peak.z >= 4.5:
        line = refined(pair, peak.delay, peak.stretch, reach, believe=peak.z >= TRUSTED_PEAK)
    if line is not None and line.support >= _SOLID:
        return _whole(pair, line)
    trusted = peak is not None and peak.z >= TRUSTED_PEAK
    several = _by_steps(pair, line) or _by_votes(pair, peak.stretch if peak and trusted else 1.0)
    if several is not None and (line is None or several[2] > line.support):
        return several[0], several[1]
    if line is not None:
        return _whole(pair, line)
    return (), ()


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
    line = _by_phase(pair, low, high, delay, stretch, reach)
    if (line is None or line.support < _ENOUGH) and believe:
        by_features = _by_features(pair, low, high, delay, stretch, reach)
        if by_features is not None and (line is None or by_features.support > line.support + 0.2):
            line = by_features
    if line is None or line.support < _ENOUGH:
        return None
    if sum(line.inliers) < 3 and not believe:
        return None
    pair.lines.append(line)
    return line


def _chunk_seconds(span: float) -> float:
    return min(_CHUNK_SECONDS, max(0.5, span / 4))


def _by_phase(
    pair: Pair, low: float, high: float, delay: float, stretch: float, reach: float, count: int = _CHUNKS
) -> Line | None:
    """Measure excerpts by GCC-PHAT: around the expected place, then along the line found, until it stays."""
    if high - low < 0.5:
        return None
    seconds = _chunk_seconds(high - low)
    at = places(pair.master, low, high, count, seconds)

    def measure(delay: float, stretch: float, reach: float) -> list[Chunk]:
        return [measure_chunk(pair.master, pair.dub, t, seconds, delay, stretch, reach) for t in at]

    line = fit_line(measure(delay, stretch, reach), stretch, tolerance=0.004, freedom=_FREEDOM)
    if line is None or sum(line.inliers) < min(2, len(at)):
        return line
    for _ in range(_PASSES):
        closer = fit_line(
            measure(line.delay, line.stretch, 0.03), line.stretch, tolerance=0.001, freedom=1e-3
        )
        if closer is None or sum(closer.inliers) < 0.8 * sum(line.inliers):
            break
        moved = abs(closer.stretch - line.stretch)
        line = closer
        if moved < 1e-6:
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


def _by_features(
    pair: Pair, low: float, high: float, delay: float, stretch: float, reach: float
) -> Line | None:
    """Measure excerpts by their features, for dubs whose phase was processed away."""
    if high - low < 4.0:
        return None
    seconds = _chunk_seconds(high - low)
    chunks = [
        feature_chunk(pair.master, pair.dub, at, seconds, delay, stretch, reach)
        for at in places(pair.master, low, high, _CHUNKS, seconds)
    ]
    found = [chunk for chunk in chunks if chunk is not None and chunk.z > 3.0]
    if len(found) < 4:
        return None
    line = fit_line(found, stretch, tolerance=0.02, freedom=_FREEDOM, by="features")
    return None if line is None else _settled(line)


def _whole(pair: Pair, line: Line) -> tuple[tuple[Segment, ...], tuple[tuple[float, float, bool], ...]]:
    low, high = pair.overlap(line.delay, line.stretch)
    segment = Segment(low, high, line.delay, line.stretch, line.support, line.by)
    return (segment,), _points(line)


def _points(line: Line) -> tuple[tuple[float, float, bool], ...]:
    return tuple(
        (chunk.at, -(chunk.delay + (line.base - 1.0) * chunk.at), inside)
        for chunk, inside in zip(line.chunks, line.inliers, strict=True)
    )


def _by_votes(pair: Pair, stretch: float) -> Several | None:
    """Return segments found by windows voting, their points, and the share of windows that agree."""
    if stretch not in pair._voted:
        pair._voted[stretch] = _vote(pair, stretch)
    return pair._voted[stretch]


def _vote(pair: Pair, stretch: float) -> Several | None:
    master, dub = pair.detail()
    rate = FRAME_RATE / voting_pool(pair)
    for grid in (False, True):
        votes = vote.collect(master, dub, rate, stretch, grid)
        asked = sum(1 for window in votes if window)
        found = vote.pieces(vote.chain(votes, stretch), votes, stretch)
        agreeing = sum(len(piece.votes) for piece in found)
        if asked and agreeing >= max(2, 0.35 * len(votes)):
            confirmed = _confirmed(pair, found, master, dub, rate)
            if confirmed is not None and (confirmed[2] >= 0.7 or grid):
                return confirmed
    return None


def _confirmed(
    pair: Pair, found: Sequence[vote.Piece], master: Array, dub: Array, rate: float
) -> Several | None:
    """Refine each piece by its excerpts; pieces that nothing confirms are left out."""
    if len(found) == 1:
        line = refined(pair, found[0].delay, found[0].stretch, 0.5, believe=True)
        if line is None:
            return None
        return *_whole(pair, line), line.support
    edges = [pair.overlap(found[0].delay, found[0].stretch)[0]]
    for before, after in pairwise(found):
        edges += vote.boundary(master, dub, rate, before, after)
    edges.append(pair.overlap(found[-1].delay, found[-1].stretch)[1])
    segments: list[Segment] = []
    points: list[tuple[float, float, bool]] = []
    for number, piece in enumerate(found):
        low, high = edges[2 * number], edges[2 * number + 1]
        line = _piece_line(pair, piece, low, high)
        if line is None or line.support < _ENOUGH:
            continue
        segments.append(Segment(low, high, line.delay, line.stretch, line.support, line.by))
        points += _points(line)
    if not segments:
        return None
    joined = _joined(segments)
    windows = sum(piece.windows for piece in found)
    agreeing = sum(len(piece.votes) for piece in found)
    return tuple(joined), tuple(points), min(1.0, agreeing / max(1, windows))


def _piece_line(pair: Pair, piece: vote.Piece, low: float, high: float) -> Line | None:
    margin = min(0.5, (high - low) / 10)
    line = _by_phase(pair, low + margin, high - margin, piece.delay, piece.stretch, 0.5, count=12)
    if line is None or line.support < _ENOUGH:
        line = _by_features(pair, low, high, piece.delay, piece.stretch, 0.5) or line
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


def _by_steps(pair: Pair, line: Line | None) -> Several | None:
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
    master, dub = pair.detail()
    return _confirmed(pair, found, master, dub, FRAME_RATE / voting_pool(pair))


def _piece_of(run: list[Chunk], stretch: float) -> vote.Piece:
    delay = float(np.median([c.delay for c in run]))
    votes = tuple(vote.Vote(delay + stretch * c.at, c.at, c.z) for c in run)
    return vote.Piece(delay, stretch, votes[0].dub, votes[-1].dub, votes, len(votes))


def agreement(master: Array, dub: Array, rate: float, segments: Sequence[Segment]) -> float:
    """Return the correlation of the features along the segments, 0-1."""
    both = own = other = 0.0
    for segment in segments:
        at = np.arange(int(segment.start * rate), int(segment.end * rate))
        there = np.rint((segment.delay + segment.stretch * at / rate) * rate).astype(int)
        inside = (at < master.shape[1]) & (there >= 0) & (there < dub.shape[1])
        at, there = at[inside], there[inside]
        for mine, theirs in zip(master, dub, strict=True):
            one, two = mine[at], theirs[there]
            both += float(one @ two)
            own += float(one @ one)
            other += float(two @ two)
    return max(0.0, both / (own * other) ** 0.5) if own > 0 and other > 0 else 0.0


def _confidence(
    segments: Sequence[Segment], similarity: float, points: Sequence[tuple[float, float, bool]]
) -> float:
    """Return 0-1 from two figures that do not grow with the length: how many agree, and how alike it sounds.

    All excerpts agreeing on a clean copy give 1; noise as loud as the sound, or another language over
    the same bed, about 0.9.
    """
    span = sum(s.end - s.start for s in segments)
    support = sum(s.support * (s.end - s.start) for s in segments) / span if span > 0 else 0.0
    alike = 1.0 - np.exp(-similarity / 0.1)
    return float(np.clip(support**0.5 * alike, 0.0, 0.999))


def analyse(
    pair: Pair,
    rounds: Sequence[Sequence[Method]],
    tolerance: float,
    progress: Callable[[float, str], None] = lambda fraction, phase: None,
) -> Analysis:
    """Return the result of all methods together; ``tolerance`` in seconds separates in sync from offset.

    Methods of a later round run only where those before are unsure or disagree.
    """
    answers: list[Answer] = []
    chosen, confidence, notes = Answer("", ""), 0.0, [""]
    total = sum(len(methods) for methods in rounds)
    for methods in rounds:
        if answers and confidence >= _SURE and not notes:
            break
        for method in methods:
            progress(len(answers) / total, method.name)
            answers.append(locate(pair, method))
        chosen, confidence, notes = _decide(answers)
    return Analysis(
        master=_about(pair.master),
        dub=_about(pair.dub),
        chosen=chosen,
        answers=tuple(answers),
        tolerance=tolerance,
        confidence=confidence,
        method_used=chosen.label,
        notes=tuple(notes),
        timings={answer.label: answer.seconds for answer in answers},
    )


def _about(recording: Recording) -> dict[str, object]:
    facts = recording.facts
    return {
        "seconds": round(facts.seconds, 3),
        "stream": facts.stream,
        "streams": facts.streams,
        "codec": facts.codec,
        "channels": facts.channels,
        "sample_rate": facts.rate,
    }


def _decide(answers: Sequence[Answer]) -> tuple[Answer, float, list[str]]:
    """Return the answer that counts: the most trusted; less trusted where another sure one contradicts it."""
    chosen = max(answers, key=lambda answer: answer.confidence)
    confidence = chosen.confidence
    notes = []
    for other in answers:
        if other is chosen or not other.segments or not chosen.segments:
            continue
        apart = abs((other.offset or 0.0) - (chosen.offset or 0.0))
        if apart > 0.05:
            notes.append(f"{other.label} found another offset: {other.offset:.3f} s")
            confidence *= 1.0 - 0.5 * other.confidence
    silent = [a.label for a in answers if not a.segments]
    if silent and chosen.segments:
        notes.append(f"no match by {', '.join(silent)}")
    return chosen, confidence, notes
