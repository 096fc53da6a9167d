"""Decide from findings and a policy how sensitive a document is, and say why.

Pure: the same evidence and policy always give the same decision. The format of a policy is described
at the top of ``policy.yaml``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from millrace.errors import SettingsError
from millrace.workloads.documents.document import METADATA, Document, Finding

DEFAULT = Path(__file__).with_name("policy.yaml")
_VERDICTS = ("valid", "not_invalid", "any")
_BY_PLACE = frozenset(("mark", "legal", "unsafe", "health", "payroll"))


@dataclass(frozen=True, slots=True)
class Condition:
    """What findings must be like, and how many distinct ones there must be."""

    types: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    rules: frozenset[str] = frozenset()
    stance: frozenset[str] = frozenset()
    verdict: str = "not_invalid"
    context: bool | None = None
    min_weight: float = 0.0
    min_count: int = 1

    def matches(self, finding: Finding) -> bool:
        """Say whether one finding counts."""
        if self.types and finding.type not in self.types:
            return False
        if self.groups and finding.group not in self.groups:
            return False
        if self.rules and finding.rule not in self.rules:
            return False
        if self.stance and finding.stance not in self.stance:
            return False
        if self.verdict == "valid" and finding.verdict.valid is not True:
            return False
        if self.verdict == "not_invalid" and finding.verdict.valid is False:
            return False
        if self.context is not None and (finding.context is not None) != self.context:
            return False
        return finding.weight >= self.min_weight


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions that together speak for a category; ``category`` is empty for review rules."""

    id: str
    when: tuple[Condition, ...]
    because: str
    category: str = ""
    strength: float = 0.5
    tag: str | None = None
    review: bool = False
    same_page: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as read and checked."""

    version: str
    categories: tuple[str, ...]
    default: Rule
    rules: tuple[Rule, ...]
    reviews: tuple[Rule, ...]
    review_below: float
    legibility_below: float
    max_citations: int
    calibration: tuple[tuple[float, float], ...]

    def confidence(self, strength: float) -> float:
        """Map a combined strength to the calibrated confidence, piecewise linear."""
        points = self.calibration
        if strength <= points[0][0]:
            return points[0][1]
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if strength <= x1:
                return y0 + (y1 - y0) * (strength - x0) / (x1 - x0)
        return points[-1][1]


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that holds, with the findings that made it so, strongest first."""

    rule: Rule
    findings: tuple[Finding, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a document is. ``strength`` is the confidence before calibration."""

    category: str
    confidence: float
    strength: float
    tags: tuple[str, ...]
    fired: tuple[Fired, ...]
    citations: tuple[Finding, ...]
    explanation: str
    requires_review: bool
    review_reasons: tuple[str, ...]
    policy_version: str
    safe: bool = True
    unsafe_types: tuple[str, ...] = field(default=())


@cache
def load(path: str | None = None) -> Policy:
    """Read and check a policy file (default: the one that ships); SettingsError names what is wrong."""
    where = Path(path) if path else DEFAULT
    try:
        data = yaml.safe_load(where.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"the policy {where} cannot be read: {error}") from error
    try:
        return parse(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"the policy {where} is wrong: {error!r}") from error


def parse(data: Mapping[str, Any]) -> Policy:
    """Turn a policy's YAML into a ``Policy``; ValueError, KeyError or TypeError say what is wrong."""
    categories = tuple(data["categories"])
    known = {"version", "categories", "default", "rules", "review", "review_below", "legibility_below",
             "max_citations", "calibration"}  # fmt: skip
    if unknown := set(data) - known:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    rules = tuple(_rule(rule) for rule in data["rules"])
    default = data["default"]
    base = Rule("default", (), default["because"], default["category"], float(default["strength"]))
    for rule in (base, *rules):
        if rule.category not in categories:
            raise ValueError(
                f"rule {rule.id!r} has category {rule.category!r}, not one of {list(categories)}"
            )
    ids = [rule.id for rule in rules]
    if len(set(ids)) < len(ids):
        raise ValueError("two rules have the same id")
    points = tuple((float(x), float(y)) for x, y in data["calibration"])
    if len(points) < 2 or any(b[0] <= a[0] or b[1] < a[1] for a, b in itertools.pairwise(points)):
        raise ValueError("calibration needs at least two points that rise")
    return Policy(
        str(data["version"]), categories, base, rules,
        tuple(_rule({**rule, "category": ""}) for rule in data.get("review", ())),
        float(data.get("review_below", 0.7)), float(data.get("legibility_below", 0.6)),
        int(data.get("max_citations", 8)), points,
    )  # fmt: skip


def _rule(data: Mapping[str, Any]) -> Rule:
    data = dict(data)
    conditions = tuple(_condition(entry, data["id"]) for entry in data.pop("when"))
    if not conditions:
        raise ValueError(f"rule {data['id']!r} has no conditions")
    strength = float(data.pop("strength", 0.5))
    if not 0 < strength < 1:
        raise ValueError(f"rule {data['id']!r} has strength {strength}; it must lie between 0 and 1")
    return Rule(when=conditions, strength=strength, **data)


def _condition(data: Mapping[str, Any], rule: str) -> Condition:
    data = dict(data)
    for name in ("types", "groups", "rules", "stance"):
        data[name] = frozenset(data.get(name, ()))
    if not (data["types"] or data["groups"] or data["rules"]):
        raise ValueError(f"a condition of rule {rule!r} names no types, groups or rules")
    if data.get("verdict", "any") not in _VERDICTS:
        raise ValueError(
            f"a condition of rule {rule!r} has verdict {data['verdict']!r}, not one of {_VERDICTS}"
        )
    return Condition(**data)


def decide(document: Document, findings: Sequence[Finding], policy: Policy) -> Decision:
    """Return the decision on a document.

    The combined strength of a category is one minus the product of what each of its rules leaves open;
    a rule with *n* times the findings it needs leaves ``(1 - strength) / n`` open.
    """
    fired = tuple(f for rule in policy.rules if (f := _fire(rule, findings)) is not None)
    asked = tuple(f for rule in policy.reviews if (f := _fire(rule, findings)) is not None)
    rank = {name: place for place, name in enumerate(policy.categories)}
    category = max((f.rule.category for f in fired), key=rank.__getitem__, default=policy.default.category)
    if rank[category] < rank[policy.default.category]:
        category = policy.default.category
    deciding = tuple(f for f in fired if f.rule.category == category)
    strength = _strength(deciding, policy) if deciding else _default_strength(document, findings, policy)
    confidence = round(policy.confidence(strength), 3)
    reasons = _review_reasons(document, deciding, asked, confidence, policy)
    tags = tuple(dict.fromkeys(f.rule.tag for f in (*fired, *asked) if f.rule.tag))
    citations = _citations(deciding, policy.max_citations)
    unsafe = tuple(
        dict.fromkeys(f.type for f in findings if f.group == "unsafe" and f.stance != "discussion")
    )
    return Decision(
        category, confidence, round(strength, 4), tags, fired, citations,
        explain(document, category, deciding, [f for f in fired if f not in deciding], asked, policy),
        bool(reasons), reasons,
        policy.version, category != "Unsafe", unsafe,
    )  # fmt: skip


def _fire(rule: Rule, findings: Iterable[Finding]) -> Fired | None:
    matched = [[f for f in findings if condition.matches(f)] for condition in rule.when]
    if rule.same_page:
        pages = set.intersection(
            *({p for p in {f.page for f in found}
               if _distinct(f for f in found if f.page == p) >= c.min_count}
              for found, c in zip(matched, rule.when, strict=True))
        )  # fmt: skip
        if not pages:
            return None
        matched = [[f for f in found if f.page in pages] for found in matched]
    counts = [_distinct(found) for found in matched]
    if any(count < condition.min_count for count, condition in zip(counts, rule.when, strict=True)):
        return None
    told = dict.fromkeys(
        f for found in matched for f in sorted(found, key=lambda f: (-f.weight, f.page, f.start))
    )
    return Fired(rule, tuple(told), min(c // k.min_count for c, k in zip(counts, rule.when, strict=True)))


def _distinct(findings: Iterable[Finding]) -> int:
    return len({
        (f.type, f.page, f.start) if f.group in _BY_PLACE else (f.type, f.value_key) for f in findings
    })  # fmt: skip


def _strength(fired: Sequence[Fired], policy: Policy) -> float:
    open_ = math.prod((1 - f.rule.strength) / max(1, f.count) for f in fired[:6])
    return min(0.995, 1 - open_)


def _default_strength(document: Document, findings: Sequence[Finding], policy: Policy) -> float:
    """Nothing fired: surer the less suspicious evidence there is and the more was really read."""
    suspicion = math.prod(
        1 - 0.5 * f.weight for f in findings[:20] if f.stance != "negated" and f.type != "MARK_PUBLIC"
    )
    unread = document.unread / max(1, len(document.pages))
    bonus = 0.05 if any(f.type == "MARK_PUBLIC" for f in findings) else 0.0
    readable = 1.0 if document.legibility is None else 0.5 + 0.5 * document.legibility
    return min(
        0.99, policy.default.strength * (0.7 + 0.3 * suspicion) * (1 - 0.6 * unread) * readable + bonus
    )


def _review_reasons(
    document: Document, deciding: Sequence[Fired], asked: Sequence[Fired], confidence: float, policy: Policy
) -> tuple[str, ...]:
    reasons = [f"{f.rule.because}." for f in asked]
    if deciding and all(f.rule.review for f in deciding):
        reasons.append("The evidence for the category is of a kind that a person must confirm.")
    if confidence < policy.review_below:
        reasons.append(f"The confidence of {confidence:.2f} is below {policy.review_below:.2f}.")
    if document.unread:
        reasons.append(f"{document.unread} of {len(document.pages)} pages could not be read.")
    dim = [p.number for p in document.pages if p.legibility is not None and p.source != "unread"
           and p.legibility < policy.legibility_below]  # fmt: skip
    if dim:
        reasons.append(f"Page{'s' if len(dim) > 1 else ''} {_listed(dim)} can hardly be read.")
    if not any(p.text.strip() for p in document.pages):
        reasons.append("No text was found.")
    reasons += [
        warning for warning in document.warnings if "was not" in warning or "Only the first" in warning
    ]
    return tuple(dict.fromkeys(reasons))


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{shown} …" if len(numbers) > 8 else shown


def _where(pages: Sequence[int]) -> str:
    numbers = [page for page in pages if page != METADATA]
    told = [f"page{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"] if numbers else []
    return " and ".join([*told, *(["metadata"] if METADATA in pages else [])])


def _citations(deciding: Sequence[Fired], limit: int) -> tuple[Finding, ...]:
    """Take the strongest passages, one after the other from each rule that decided."""
    queues = [list(f.findings) for f in deciding]
    chosen: dict[Finding, None] = {}
    while queues and len(chosen) < limit:
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.setdefault(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return tuple(chosen)


def explain(
    document: Document,
    category: str,
    deciding: Sequence[Fired],
    others: Sequence[Fired],
    asked: Sequence[Fired],
    policy: Policy,
) -> str:
    """Return sentences that name each reason, its pages and a passage."""
    if not deciding:
        sentences = [f"{category}: {policy.default.because}"]
    else:
        sentences = [f"{category}:"]
        for fired in deciding[:4]:
            pages = sorted({f.page for f in fired.findings})
            best = fired.findings[0]
            where = _where(pages)
            sentences.append(f"{fired.rule.because} ({where}: “{best.snippet}”; rule {fired.rule.id}).")
    if others:
        names = ", ".join(dict.fromkeys(f.rule.id for f in others[:6]))
        sentences.append(f"Also found, but not decisive: {names}.")
    if asked:
        sentences.append(" ".join(f"{f.rule.because} ({_where([f.findings[0].page])})." for f in asked[:3]))
    if document.unread:
        sentences.append(f"{document.unread} of {len(document.pages)} pages could not be read.")
    return " ".join(sentences)
