"""From two recordings to an answer: coarse alignment, refinement, votes where needed, and trust.

No number without trust: what cannot be confirmed by excerpts all along the recording is ``no_match``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from millrace.workloads.sync import trust
from millrace.workloads.sync.align import TRUSTED_PEAK, Peak, Searcher, find_speed
from millrace.workloads.sync.cuts import by_steps, by_votes
from millrace.workloads.sync.features import Array
from millrace.workloads.sync.lines import SOLID, Pair, Points, refined, whole
from millrace.workloads.sync.recording import Recording
from millrace.workloads.sync.result import Analysis, Answer, Segment

__all__ = ["Method", "Pair", "analyse", "coarse_pool", "locate"]

_SURE = 0.8
_SHORT = 1800.0
_SEEN = 4.5

Features = Callable[[Recording], tuple[Array, float]]
"""Features of a recording, normalised, ``(bands, frames)``, and their rate in frames a second."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to compare recordings: its name in the contract, its label in results, its features.

    ``check`` looks at a finished answer and may lower its confidence or refuse it.
    """

    name: str
    label: str
    features: Features
    check: Callable[[Recording, Recording, Answer], Answer] | None = None


def coarse_pool(recording: Recording) -> int:
    """Return how many frames are averaged for the search over whole files, so that memory stays bounded."""
    return 1 if recording.seconds <= _SHORT else 4


def locate(pair: Pair, method: Method) -> Answer:
    """Return what one method finds."""
    began = time.perf_counter()
    (master, rate), (dub, other_rate) = pair.each(method.features, (pair.master, pair.dub))
    if rate != other_rate:
        raise ValueError("a method's features must have one rate for both recordings")
    peak = find_speed(Searcher(master, rate), dub, pair.each)
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
        similarity = trust.agreement(master, dub, rate, segments)
        answer = replace(
            answer,
            segments=segments,
            points=points,
            similarity=similarity,
            confidence=trust.confidence(segments, similarity),
        )
        if method.check is not None:
            answer = method.check(pair.master, pair.dub, answer)
    return replace(answer, seconds=time.perf_counter() - began)


def _segments(pair: Pair, peak: Peak | None, reach: float) -> tuple[tuple[Segment, ...], Points]:
    """Return the segments that the peak, or else the windows' votes, lead to; none if nothing holds."""
    line = None
    if peak is not None and peak.z >= _SEEN:
        line = refined(pair, peak.delay, peak.stretch, reach, believe=peak.z >= TRUSTED_PEAK)
    if line is not None and line.support >= SOLID:
        return whole(pair, line)
    trusted = peak is not None and peak.z >= TRUSTED_PEAK
    several = by_steps(pair, line) or by_votes(pair, peak.stretch if peak and trusted else 1.0)
    if several is not None and (line is None or several[2] > line.support):
        return several[0], several[1]
    if line is not None:
        return whole(pair, line)
    return (), ()


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
