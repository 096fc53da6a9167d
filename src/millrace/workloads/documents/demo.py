"""The demonstration of documents: five small ones of different kinds and sensitivity, one of them a scan."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from millrace.workloads import DemoJob, DemoStand

_BROCHURE = (
    "The Old Mill\n\nOpen every day from ten to six. Guided tours on Sundays.\nWrite to info@oldmill.example."
)
_APPLICATION = (
    "EMPLOYMENT APPLICATION\n\nName: Maria Gomez\nDate of birth: 12/27/1986\nSSN: 531-21-7351\n"
    "Phone: (212) 736-5000\nAddress: 742 Evergreen Terrace, Springfield, OR 97477"
)
_MEMO = "INTERNAL USE ONLY\n\nProduct roadmap and pricing strategy for next year. Not yet announced."
_THREAT = "You have been warned. I know where you live, and I will kill you and your family."
_SCAN = "STRICTLY CONFIDENTIAL\n\nBoard of the Old Mill\nMinutes of the meeting"


def demo(stand: DemoStand) -> DemoJob:
    """Upload a batch as a client of the contract would, redacted copies wanted."""
    paths = list(_samples(stand.media))
    answer = stand.client.post(
        "/batch/upload",
        files=[("files", (path.name, path.read_bytes())) for path in paths],
        data={"redact": "true"},
    )
    answer.raise_for_status()
    job = str(answer.json()["job_id"])
    return DemoJob(
        job=job,
        title="Documents are read and judged: POST /batch/upload",
        tell=lambda: list(_results(stand, job)),
    )


def _results(stand: DemoStand, job: str) -> Iterator[str]:
    for row in stand.client.get(f"/status/{job}").raise_for_status().json()["documents"]:
        view = stand.client.get(f"/documents/{row['doc_id']}").raise_for_status().json()
        result = view["classification"]
        if result is None:
            yield f"{row['filename']}: {row['error']}"
        else:
            yield f"{row['filename']}: {result['final_category']} ({result['confidence']:.2f})"
            yield f"    {result['explanation']}"


def _samples(folder: Path) -> Iterator[Path]:
    yield _pdf(folder / "application.pdf", _APPLICATION)
    yield _pdf(folder / "brochure.pdf", _BROCHURE)
    yield _scan(folder / "minutes (scan).png", _SCAN)
    memo = folder / "memo.txt"
    memo.write_text(_MEMO, encoding="utf-8")
    yield memo
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "x@nowhere.example",
        "y@oldmill.example",
        "Last warning",
    )
    message.set_content(_THREAT)
    mail = folder / "mail.eml"
    mail.write_bytes(message.as_bytes())
    yield mail


def _pdf(path: Path, text: str) -> Path:
    from millrace.workloads.documents.document import Document, Page
    from millrace.workloads.documents.highlight import highlight

    highlight(path, Document("txt", (Page(1, text),), 1, 0), [], path)
    return path


def _scan(path: Path, text: str) -> Path:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (1000, 500), "white")
    ImageDraw.Draw(image).multiline_text((60, 60), text, "black", ImageFont.load_default(36), spacing=18)
    image.save(path)
    return path
