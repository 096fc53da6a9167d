"""What an analysis says, as plain data.

Sign: ``offset_seconds`` is by how much the dub has to be moved to fit its master: negative where the
dub is late (its events come after the master's), positive where it is early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from millrace.workloads.sync.align import cause_of
from millrace.workloads.sync.timecode import in_all_rates

Status = Literal["in_sync", "offset", "drift", "cuts", "no_match"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the master, ``start`` to ``end`` seconds, that the dub follows without a break.

    There master time *m* is heard in the dub at ``delay + stretch * m``. ``support`` is the share of
    its excerpts that agree; ``by`` says what measured it, ``phase`` or ``features``.
    """

    start: float
    end: float
    delay: float
    stretch: float
    support: float
    by: str

    @property
    def dub_start(self) -> float:
        """Where it begins in the dub, in seconds."""
        return self.delay + self.stretch * self.start

    @property
    def dub_end(self) -> float:
        """Where it ends in the dub, in seconds."""
        return self.delay + self.stretch * self.end

    @property
    def offset(self) -> float:
        """Its offset in seconds where it begins (see the module for the sign)."""
        return self.start - self.dub_start


@dataclass(frozen=True, slots=True)
class Answer:
    """What one method found: no segments where it found no match.

    z, similarity, rival   of its correlation peak (see ``align.Peak``).
    points                 ``(master seconds, offset seconds, agrees)`` of each excerpt measured.
    curve                  ``(offsets, z)`` around the peak, to be drawn.
    """

    method: str
    label: str
    segments: tuple[Segment, ...] = ()
    confidence: float = 0.0
    z: float = 0.0
    similarity: float = 0.0
    rival: float = 0.0
    points: tuple[tuple[float, float, bool], ...] = ()
    curve: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    seconds: float = 0.0

    @property
    def delay(self) -> float:
        """How much later the dub is at the master's start, in seconds (by its first segment)."""
        return self.segments[0].delay

    @property
    def stretch(self) -> float:
        """The dub's duration relative to the master's."""
        return self.segments[0].stretch

    @property
    def offset(self) -> float | None:
        """The offset at the master's start, or where the first segment begins if there are several."""
        if not self.segments:
            return None
        return -self.delay if len(self.segments) == 1 else self.segments[0].offset

    @property
    def drift_ppm(self) -> float | None:
        """How much slower (positive) or faster (negative) the dub runs, in parts per million."""
        return (self.stretch - 1.0) * 1e6 if self.segments else None


def status_of(answer: Answer, tolerance: float) -> Status:
    """Name the answer; offsets up to ``tolerance`` seconds all along count as in sync."""
    if not answer.segments:
        return "no_match"
    if len(answer.segments) > 1:
        return "cuts"
    only = answer.segments[0]
    if abs(only.stretch - 1.0) * (only.end - only.start) > tolerance:
        return "drift"
    return "in_sync" if abs(only.delay) <= tolerance else "offset"


@dataclass(frozen=True, slots=True)
class Analysis:
    """The whole result of a pair. ``chosen`` is the answer that counts, one of ``answers``."""

    master: Mapping[str, Any]
    dub: Mapping[str, Any]
    chosen: Answer
    answers: tuple[Answer, ...]
    tolerance: float
    confidence: float
    method_used: str
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """What is the matter with the dub."""
        return status_of(self.chosen, self.tolerance)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able data; what is not known is None."""
        answer = self.chosen
        offset = answer.offset
        return {
            "offset_seconds": _rounded(offset, 6),
            "confidence": round(self.confidence, 3),
            "method_used": self.method_used,
            "status": self.status,
            "offset_ms": _rounded(None if offset is None else offset * 1000, 3),
            "offset_frames": {} if offset is None else in_all_rates(offset),
            "drift": self._drift(),
            "segments": [_segment(segment) for segment in answer.segments],
            "methods": [self._method(each) for each in self.answers],
            "peak": {
                "z_score": round(answer.z, 2),
                "similarity": round(answer.similarity, 4),
                "next_peak_ratio": round(answer.rival, 3),
            },
            "master": dict(self.master),
            "dub": dict(self.dub),
            "notes": list(self.notes),
            "timings_seconds": {name: round(value, 3) for name, value in self.timings.items()},
        }

    def _drift(self) -> dict[str, Any] | None:
        answer = self.chosen
        if not answer.segments:
            return None
        span = answer.segments[-1].end - answer.segments[0].start
        ppm = (answer.stretch - 1.0) * 1e6
        return {
            "ppm": round(ppm, 2),
            "percent": round(ppm / 1e4, 5),
            "total_seconds": round((answer.stretch - 1.0) * span, 6),
            "cause": cause_of(answer.stretch),
        }

    def _method(self, answer: Answer) -> dict[str, Any]:
        return {
            "method": answer.method,
            "label": answer.label,
            "status": status_of(answer, self.tolerance),
            "offset_seconds": _rounded(answer.offset, 6),
            "drift_ppm": _rounded(answer.drift_ppm, 2),
            "confidence": round(answer.confidence, 3),
            "z_score": round(answer.z, 2),
            "similarity": round(answer.similarity, 4),
            "seconds": round(answer.seconds, 3),
        }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": _rounded(segment.start, 3),
        "end": _rounded(segment.end, 3),
        "offset_seconds": _rounded(segment.offset, 6),
        "dub_start": _rounded(segment.dub_start, 3),
        "dub_end": _rounded(segment.dub_end, 3),
        "support": round(segment.support, 3),
        "measured_by": segment.by,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits) + 0.0
