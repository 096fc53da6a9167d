"""Measuring a policy: the tables are right, and the confidence can be calibrated anew."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import InvalidRequest
from millrace.workloads.documents.detectors import detect
from millrace.workloads.documents.evaluate import Label, Outcome, calibrate, outcome, read_labels, report
from millrace.workloads.documents.policy import load
from tests.unit.documents.samples import document

CATEGORIES = ("Public", "Confidential", "Highly Sensitive", "Unsafe")


def said(label: str, predicted: str, confidence: float = 0.9) -> Outcome:
    return Outcome("x", label, predicted, confidence, confidence, False)


def test_precision_recall_and_confusion() -> None:
    made = report(
        [
            said("Public", "Public"),
            said("Public", "Confidential"),
            said("Confidential", "Confidential"),
            said("Unsafe", "Public", 0.65),
        ],
        CATEGORIES,
    )
    assert made.accuracy == 0.5
    assert made.per_category["Public"] == {"documents": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert made.per_category["Confidential"]["precision"] == 0.5
    assert made.per_category["Confidential"]["recall"] == 1.0
    assert made.per_category["Unsafe"]["recall"] == 0.0
    assert made.confusion["Public"] == {"Public": 1, "Confidential": 1, "Highly Sensitive": 0, "Unsafe": 0}
    assert [row[2] for row in made.calibration] == [1, 3]
    assert len(made.wrong) == 2


def test_evidence_alone_is_enough_to_try_a_policy() -> None:
    made = document("SSN: 531-21-7351")
    findings = detect(made.pages[0])
    evidence = {"document": made.to_json(), "findings": [f.to_json() for f in findings]}
    label = Label("a", "Highly Sensitive", evidence=json.loads(json.dumps(evidence)))
    assert outcome(label, load(), lambda path: (made, [])).predicted == "Highly Sensitive"


@given(st.lists(st.tuples(st.floats(0.3, 0.99), st.booleans()), min_size=40, max_size=200))
def test_calibration_points_rise(some: list[tuple[float, bool]]) -> None:
    points = calibrate(Outcome("x", "a", "a" if right else "b", s, s, False) for s, right in some)
    assert points == sorted(points)
    assert all(b[1] >= a[1] for a, b in itertools.pairwise(points))
    assert all(0 < share < 1 for _, share in points)


def test_labels_from_json_lines_json_and_csv(tmp_path: Path) -> None:
    rows = [
        {"path": "a.txt", "label": "Public"},
        {"filename": "b", "label": "Unsafe", "evidence": {"document": {}}},
    ]
    lines, whole, table = (tmp_path / name for name in ("a.jsonl", "a.json", "a.csv"))
    lines.write_text("\n".join(map(json.dumps, rows)))
    whole.write_text(json.dumps(rows))
    table.write_text("path,label\na.txt,Public\n")
    assert read_labels(lines, CATEGORIES) == read_labels(whole, CATEGORIES)
    assert read_labels(table, CATEGORIES) == [Label("a.txt", "Public", tmp_path / "a.txt")]


@pytest.mark.parametrize(
    ("text", "said_"),
    [('{"label": "Secret", "path": "a"}', "Secret"), ('{"label": "Public"}', "neither"), ("{", "read")],
)
def test_wrong_labels_are_refused(tmp_path: Path, text: str, said_: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=said_):
        read_labels(path, CATEGORIES)
