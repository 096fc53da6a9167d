"""Measure a policy on labelled documents: precision, recall, a confusion table, and how well its confidence
is calibrated."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.errors import InvalidRequest
from millrace.workloads.documents.document import Document, Finding
from millrace.workloads.documents.policy import Policy, decide

_BINS = ((0.0, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 1.0001))


@dataclass(frozen=True, slots=True)
class Label:
    """A document with its true category: as a file, or as the evidence that an export carries."""

    name: str
    label: str
    path: Path | None = None
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy said of one labelled document."""

    name: str
    label: str
    predicted: str
    strength: float
    confidence: float
    requires_review: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Counts over all outcomes. ``confusion[label][predicted]``; calibration rows are
    ``(from, to, documents, mean confidence, share right)``."""

    total: int
    accuracy: float
    per_category: dict[str, dict[str, float]]
    confusion: dict[str, dict[str, int]]
    calibration: tuple[tuple[float, float, int, float, float], ...]
    calibration_error: float
    reviewed: float
    wrong: tuple[Outcome, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["wrong"] = [
            {"name": o.name, "label": o.label, "predicted": o.predicted, "confidence": o.confidence}
            for o in self.wrong
        ]
        return data


def read_labels(path: Path, categories: Sequence[str]) -> list[Label]:
    """Read a labelled set: JSON Lines as exported, a JSON list, or CSV with columns ``path``, ``label``.

    Paths are relative to the file. InvalidRequest names the first line that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _rows(text, path.suffix.lower())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InvalidRequest(f"the labels {path} cannot be read: {error}") from error
    labels: list[Label] = []
    for number, row in enumerate(rows, 1):
        label = row.get("label") if isinstance(row, Mapping) else None
        if label not in categories:
            raise InvalidRequest(f"{path}, entry {number}: label {label!r} is not one of {list(categories)}")
        named = row.get("path")
        evidence = row.get("evidence")
        if not named and not evidence:
            raise InvalidRequest(f"{path}, entry {number}: it has neither path nor evidence")
        file = (path.parent / str(named)) if named else None
        labels.append(Label(str(row.get("filename") or named or number), str(label), file, evidence))
    return labels


def _rows(text: str, suffix: str) -> list[Any]:
    if suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def outcome(label: Label, policy: Policy, read: Callable[[Path], tuple[Document, list[Finding]]]) -> Outcome:
    """Decide on one labelled document; ``read`` extracts and detects where there is no evidence stored."""
    if label.evidence is not None:
        document = Document.from_json(label.evidence["document"])
        findings = [Finding.from_json(entry) for entry in label.evidence["findings"]]
    else:
        assert label.path is not None
        document, findings = read(label.path)
    decision = decide(document, findings, policy)
    return Outcome(
        label.name,
        label.label,
        decision.category,
        decision.strength,
        decision.confidence,
        decision.requires_review,
    )


def report(outcomes: Sequence[Outcome], categories: Sequence[str]) -> Report:
    """Count outcomes."""
    table = Counter((o.label, o.predicted) for o in outcomes)
    confusion = {a: {b: table[a, b] for b in categories} for a in categories}
    per_category = {}
    for name in categories:
        right = table[name, name]
        predicted = sum(table[other, name] for other in categories)
        labelled = sum(table[name, other] for other in categories)
        precision = right / predicted if predicted else 0.0
        recall = right / labelled if labelled else 0.0
        per_category[name] = {
            "documents": float(labelled),
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * precision * recall / (precision + recall), 4) if precision + recall else 0.0,
        }
    rows = []
    error = 0.0
    for low, high in _BINS:
        inside = [o for o in outcomes if low <= o.confidence < high]
        if inside:
            mean = sum(o.confidence for o in inside) / len(inside)
            share = sum(o.label == o.predicted for o in inside) / len(inside)
            error += abs(mean - share) * len(inside) / len(outcomes)
            rows.append((low, min(1.0, high), len(inside), round(mean, 3), round(share, 3)))
    right = sum(o.label == o.predicted for o in outcomes)
    return Report(
        len(outcomes), round(right / len(outcomes), 4) if outcomes else 0.0, per_category, confusion,
        tuple(rows),
        round(error, 4), round(sum(o.requires_review for o in outcomes) / max(1, len(outcomes)), 4),
        tuple(o for o in outcomes if o.label != o.predicted),
    )  # fmt: skip


def calibrate(outcomes: Iterable[Outcome], least: int = 10) -> list[tuple[float, float]]:
    """Return new calibration points (strength → share right) by isotonic regression.

    Pool-adjacent-violators (Ayer et al. 1955) over the outcomes sorted by strength, with Laplace's
    rule of succession in each pool, and at least ``least`` outcomes in a point. Empty where there are
    fewer than two such pools.
    """
    ordered = sorted(outcomes, key=lambda o: o.strength)
    pools: list[list[float]] = []  # sum of strengths, right, count
    for chunk_start in range(0, len(ordered), least):
        chunk = ordered[chunk_start : chunk_start + least]
        pools.append(
            [sum(o.strength for o in chunk), float(sum(o.label == o.predicted for o in chunk)), len(chunk)]
        )
        while len(pools) > 1 and pools[-2][1] / pools[-2][2] >= pools[-1][1] / pools[-1][2]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    points = [(round(s / n, 4), round((right + 1) / (n + 2), 4)) for s, right, n in pools]
    rising = [
        p for i, p in enumerate(points) if i == 0 or (p[0] > points[i - 1][0] and p[1] >= points[i - 1][1])
    ]
    return rising if len(rising) >= 2 else []
