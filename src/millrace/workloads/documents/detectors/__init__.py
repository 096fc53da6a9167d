"""Detectors turn a page into findings: evidence with its place, its validator's result and a weight.

They know nothing of categories: what evidence means is the policy's business (``policy.yaml``).
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import replace

from millrace.workloads.documents.detectors import identifiers, legal, marks, personal, secrets, unsafe
from millrace.workloads.documents.detectors.passage import Passage, mask, snippet
from millrace.workloads.documents.document import Finding, Page

__all__ = ["detect", "masked_text"]

_DETECTORS = (
    identifiers.detect,
    personal.detect,
    secrets.detect,
    marks.detect,
    legal.detect,
    unsafe.detect,
)
_SECRET_GROUPS = frozenset(("personal", "secret"))
_KEEP = {"CREDIT_CARD": 4, "IBAN": 4, "US_SSN": 4, "PHONE_NUMBER": 2}
_MAX_FINDINGS = 2000
_LEAST_REPEATED = 5


def detect(page: Page) -> list[Finding]:
    """Return the findings of a page in order of their place, at most 2,000.

    Where several rules claim the same characters as one person's value, the best supported stays.
    """
    passage = Passage.of(page)
    if not passage.lower.strip():
        return []
    found = [finding for detector in _DETECTORS for finding in detector(passage)]
    kept = _without_overlaps(found)[:_MAX_FINDINGS]
    masked = masked_text(page.text, kept)
    return [replace(f, snippet=snippet(masked, f.start, f.end)) for f in kept]


def masked_text(text: str, findings: list[Finding]) -> str:
    """Return a page's text with every personal or secret value masked, character for character.

    A value is masked wherever it stands on the page, also where no rule found it.
    """
    masks: dict[tuple[int, int], int] = {}
    seen: set[str] = set()
    for finding in findings:
        if finding.group not in _SECRET_GROUPS:
            continue
        keep = _KEEP.get(finding.type, 0)
        masks[finding.start, finding.end] = keep
        value = text[finding.start : finding.end]
        at = text.find(value) if len(value) >= _LEAST_REPEATED and value not in seen else -1
        seen.add(value)
        while at >= 0:
            masks.setdefault((at, at + len(value)), keep)
            at = text.find(value, at + len(value))
    pieces, done = [], 0
    for (start, end), keep in sorted(masks.items()):
        if end > done:
            start = max(done, start)
            pieces += [text[done:start], mask(text[start:end], keep)]
            done = end
    return "".join([*pieces, text[done:]])


def _without_overlaps(found: list[Finding]) -> list[Finding]:
    """Keep the best of overlapping values; marks, legal and unsafe passages may overlap anything."""
    values = [f for f in found if f.group in _SECRET_GROUPS]
    others = {(f.rule, f.start, f.end): f for f in found if f.group not in _SECRET_GROUPS}
    values.sort(key=lambda f: (-(f.verdict.valid is True), -f.weight, -(f.end - f.start), f.start, f.rule))
    kept: list[Finding] = []
    taken: list[tuple[int, int]] = []
    for finding in values:
        place = bisect(taken, (finding.start, finding.end))
        free_before = not place or taken[place - 1][1] <= finding.start
        if free_before and (place == len(taken) or finding.end <= taken[place][0]):
            kept.append(finding)
            taken.insert(place, (finding.start, finding.end))
    return sorted([*kept, *others.values()], key=lambda f: (f.start, f.end, f.rule))
