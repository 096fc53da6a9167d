"""Real PDFs of many writers, and sentences whose personal data others have labelled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from millrace.errors import BadInput
from millrace.workloads.documents.detectors import detect
from millrace.workloads.documents.document import Page
from millrace.workloads.documents.extract import extract
from millrace.workloads.documents.pipeline import find
from millrace.workloads.documents.policy import decide, load
from tests.unit.documents.samples import CORPUS

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not beside the project")
PDFS = sorted(CORPUS.glob("*.pdf")) if CORPUS.is_dir() else []
CHECKED = {"CREDIT_CARD", "US_SSN", "EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS"}


@pytest.mark.parametrize("path", [p for p in PDFS if "password" not in p.name], ids=lambda path: path.stem)
def test_no_public_pdf_is_above_confidential(path: Path, tmp_path: Path) -> None:
    document = extract(path, path.name, tmp_path)
    decision = decide(document, find(document, path), load())
    assert decision.category in ("Public", "Confidential"), decision.explanation


def test_a_password_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        extract(CORPUS / "libreoffice-writer-password.pdf", "p.pdf", tmp_path)
    assert caught.value.code == "password_protected"


def test_attachments_and_arabic(tmp_path: Path) -> None:
    assert extract(CORPUS / "with-attachment.pdf", "a.pdf", tmp_path).embedded == ("image.png",)
    assert extract(CORPUS / "habibi.pdf", "h.pdf", tmp_path).language == "ar"


def test_labelled_sentences_recall_and_precision() -> None:
    right, missed, false = Counter[str](), Counter[str](), Counter[str]()
    for entry in json.loads((CORPUS / "pii-generated-small.json").read_text()):
        found = [f for f in detect(Page(1, entry["full_text"])) if f.type in CHECKED]
        hit = set()
        for span in entry["spans"]:
            kind, start, end = span["entity_type"], span["start_position"], span["end_position"]
            if kind not in CHECKED:
                continue
            matches = [f for f in found if f.type == kind and f.start < end and start < f.end]
            (right if matches else missed)[kind] += 1
            hit.update(matches)
        for finding in found:
            if finding not in hit:
                false[finding.type] += 1
    for kind in CHECKED:
        assert right[kind] / (right[kind] + missed[kind]) >= 0.95, (kind, missed)
        assert right[kind] / (right[kind] + false[kind]) >= 0.95, (kind, false)
