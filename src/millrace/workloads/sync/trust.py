"""How far an answer is to be trusted: figures that do not grow with the length of the recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millrace.workloads.sync.features import Array
from millrace.workloads.sync.result import Segment

WEIGHTS = (-7.7, 7.3, 9.1)
"""Of a constant, the support and the root of the similarity in the logit of an answer being right: fitted
by ``benchmarks/sync_confidence.py`` to pairs that were made worse until the answers were wrong."""

_RATE = 25.0
"""Frames in a second at which features are compared: what is kept of recordings of any length."""


def agreement(master: Array, dub: Array, rate: float, segments: Sequence[Segment]) -> float:
    """Return the correlation of the features along the segments, 0-1.

    ``master`` and ``dub`` are ``(bands, frames)`` at ``rate`` frames a second.
    """
    pool = max(1, round(rate / _RATE))
    both = own = other = 0.0
    for segment in segments:
        at = np.arange(int(segment.start * rate), int(segment.end * rate))
        there = np.rint((segment.delay + segment.stretch * at / rate) * rate).astype(int)
        inside = (at < master.shape[1]) & (there >= 0) & (there < dub.shape[1])
        at, there = at[inside], there[inside]
        count = len(at) // pool * pool
        if count == 0:
            continue
        straight = segment.stretch == 1.0 and bool(inside.all())
        for mine, theirs in zip(master, dub, strict=True):
            one = mine[at[0] : at[0] + count]
            two = theirs[there[0] : there[0] + count] if straight else theirs[there[:count]]
            if pool > 1:
                one, two = (part.reshape(-1, pool).mean(axis=1) for part in (one, two))
            both += float(one @ two)
            own += float(one @ one)
            other += float(two @ two)
    return max(0.0, both / (own * other) ** 0.5) if own > 0 and other > 0 else 0.0


def evidence(support: NDArray[np.float64], similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a probability is drawn from, ``(answers, 3)``: one, support and similarity."""
    return np.stack([np.ones_like(support), support, np.sqrt(similarity)], axis=1)


def probability(support: NDArray[np.float64], similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how likely answers of this support and similarity are right to 20 ms, 0-1."""
    logit: NDArray[np.float64] = evidence(support, similarity) @ np.array(WEIGHTS)
    return 1.0 / (1.0 + np.exp(-logit))


def confidence(segments: Sequence[Segment], similarity: float) -> float:
    """Return how likely an answer is right, 0-1; see ``WEIGHTS``."""
    span = sum(segment.end - segment.start for segment in segments)
    support = sum(s.support * (s.end - s.start) for s in segments) / span if span > 0 else 0.0
    return min(0.999, float(probability(np.array([support]), np.array([similarity]))[0]))
