"""How far an answer is to be trusted: figures that do not grow with the length of the recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.workloads.sync.features import Array
from millrace.workloads.sync.result import Segment

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


def confidence(segments: Sequence[Segment], similarity: float) -> float:
    """Return 0-1 from two figures that do not grow with the length: how many agree, and how alike it sounds.

    All excerpts agreeing on a clean copy give 1; noise as loud as the sound, or another language over
    the same bed, about 0.9.
    """
    span = sum(s.end - s.start for s in segments)
    support = sum(s.support * (s.end - s.start) for s in segments) / span if span > 0 else 0.0
    alike = 1.0 - np.exp(-similarity / 0.1)
    return float(np.clip(support**0.5 * alike, 0.0, 0.999))
