"""How the dashboard shows documents: the form, and pages with findings marked and a form for rulings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from millrace.engine.model import Artifact, Item, Job
from millrace.workloads import Face, FormField

if TYPE_CHECKING:
    from millrace.server.services import Services

_MOST_BYTES = 16 * 2**20


async def _item(services: Services, job: Job, item: Item, artifacts: Sequence[Artifact]) -> Mapping[str, Any]:
    """Return the document's classification, and the categories that a person may rule for."""
    import asyncio

    from millrace.workloads.documents.policy import load
    from millrace.workloads.documents.settings import DocumentSettings

    section = services.settings.workload("documents", DocumentSettings)
    policy = await asyncio.to_thread(load, str(section.policy) if section.policy else None)
    stored = next((a for a in artifacts if a.name == "classification.json"), None)
    classification: dict[str, Any] = {}
    if stored is not None and stored.bytes <= _MOST_BYTES:
        raw = await asyncio.to_thread(lambda: b"".join(services.blobs.chunks(stored.key)))
        classification = orjson.loads(raw)
    # A document that is classified again keeps its id, which is the first item's.
    doc_id = job.meta.get("doc_id") or item.uid
    return {
        "doc_id": doc_id,
        "classification": classification,
        "categories": policy.categories,
        "read": any(a.name == "pages.json" for a in artifacts) or bool(job.meta.get("doc_id")),
    }


def _summary(item: Item) -> str:
    for result in reversed(list(item.results.values())):
        if isinstance(result, Mapping) and result.get("category"):
            return f"{result['category']}{' · to be reviewed' if result.get('requires_review') else ''}"
    return ""


FACE = Face(
    title="Documents",
    about="Documents are read, searched for evidence, and classified by how sensitive they are.",
    accept=".pdf,.docx,.xlsx,.pptx,.txt,.md,.html,.eml,.png,.jpg,.jpeg,.tif,.tiff,.zip,application/pdf,image/*,text/*",
    fields=(
        FormField("highlight", "Make a copy with findings marked", "flag", default=True),
        FormField("redact", "Make a redacted copy", "flag", default=True),
    ),
    folder=Path(__file__).parent / "dashboard",
    item=_item,
    summary=_summary,
    advice={
        "broken_file": "The file is damaged: open it in its own program, save it anew and submit it again.",
        "ocr_unavailable": "Install an OCR engine (System says which), then retry.",
    },
)
