"""How the dashboard shows documents: the form, and pages with findings marked and a form for rulings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.model import Artifact, Item, Job
from millrace.workloads import Face, FormField

if TYPE_CHECKING:
    from millrace.server.services import Services


async def _item(services: Services, job: Job, item: Item, artifacts: Sequence[Artifact]) -> Mapping[str, Any]:
    """Return the document's classification, and the categories that a person may rule for."""
    from millrace.workloads.documents.desk import RULINGS
    from millrace.workloads.documents.policy import load
    from millrace.workloads.documents.settings import DocumentSettings

    section = services.settings.workload("documents", DocumentSettings)
    policy = await asyncio.to_thread(load, str(section.policy) if section.policy else None)
    classification = next(
        (r for r in item.results.values() if isinstance(r, Mapping) and "final_category" in r), {}
    )
    # A document that is classified again keeps its id, which is the first item's.
    doc_id = job.meta.get("doc_id") or item.uid
    rulings = await services.engine.records(RULINGS, doc_id, 1) if doc_id else []
    return {
        "doc_id": doc_id,
        "ruling": rulings[-1].data if rulings else None,
        "classification": classification,
        "categories": policy.categories,
        "read": any(a.name == "pages.json" for a in artifacts) or bool(job.meta.get("doc_id")),
    }


def _summary(item: Item) -> str:
    for result in reversed(list(item.results.values())):
        if isinstance(result, Mapping) and result.get("final_category"):
            return f"{result['final_category']}{' · to be reviewed' if result.get('requires_review') else ''}"
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
