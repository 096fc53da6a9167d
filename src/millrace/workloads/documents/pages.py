"""A document's pages for people: each as a picture, with its findings and their boxes in its coordinates.

Pages of PDF and picture files are shown as they are; text without pages of its own, and embedded files, as
sheets in a fixed-width font (``layout``).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace import sources
from millrace.blobs import Blobs
from millrace.engine.model import Artifact
from millrace.errors import NotFound, StageError
from millrace.workloads.documents import layout
from millrace.workloads.documents.document import METADATA, Document, Page
from millrace.workloads.documents.renderer import Renderer
from millrace.workloads.documents.settings import DocumentSettings

_DRAWN = ("pdf", "png", "jpeg")


class Gallery:
    """Finds what a page is drawn from, and has it drawn."""

    def __init__(
        self, blobs: Blobs, roots: Sequence[Path], scratch: Path, settings: DocumentSettings
    ) -> None:
        self._blobs = blobs
        self._roots = roots
        self._scratch = scratch
        self._font = str(settings.font) if settings.font else None
        self._renderer = Renderer(settings.memory)

    async def png(
        self,
        document: Document,
        number: int,
        width: int,
        reference: Mapping[str, Any],
        artifacts: Sequence[Artifact],
    ) -> bytes:
        """Return a page as PNG; ``reference`` names the document's file.

        NotFound where there is no such page, or what it would be drawn from is gone.
        """
        page = next((p for p in document.searched if p.number == number), None)
        if page is None:
            raise NotFound(f"the document has no page {number}; it has {len(document.pages)}")
        if not drawn(document, page):
            return await self._renderer.png(
                {"form": "text", "width": width, "font": self._font, "page": page.to_json()}
            )
        with tempfile.TemporaryDirectory(prefix="page-", dir=self._scratch) as folder:
            form, path = await asyncio.to_thread(self._file, document, reference, artifacts, Path(folder))
            wanted = {"form": form, "width": width, "path": str(path), "index": page.index or 0}
            return await self._renderer.png(wanted)

    def _file(
        self, document: Document, reference: Mapping[str, Any], artifacts: Sequence[Artifact], folder: Path
    ) -> tuple[str, Path]:
        """Return how to draw and from what: the document's file, or its marked copy."""
        form = "pdf" if document.format == "pdf" else "picture"
        try:
            if reference.get("kind") == "upload":
                return form, self._blobs.local_path(str(reference["key"]), folder / "document")
            if reference.get("kind") == "path":
                return form, sources.regular_file(str(reference["path"]), self._roots)
        except (NotFound, StageError):
            pass  # the file is gone: its marked copy still shows it
        marked = next((a.key for a in artifacts if a.name == "highlighted.pdf"), None)
        if marked is None:
            raise NotFound("the document's file is no longer there, and no marked copy of it was made")
        return "pdf", self._blobs.local_path(marked, folder / "document")


def drawn(document: Document, page: Page) -> bool:
    """Say whether a page is drawn from the document's file, rather than set from its text."""
    return document.format in _DRAWN and page.index is not None and not page.part


def listing(
    doc_id: str, document: Document, findings: Sequence[Mapping[str, Any]], first: int, limit: int
) -> dict[str, Any]:
    """Return pages ``first`` … ``first + limit - 1`` with their sizes, pictures and findings.

    ``boxes`` are in the page's ``width`` × ``height``, from its top left; scale them to the picture.
    """
    by_page: dict[int, list[Mapping[str, Any]]] = {}
    for place, finding in enumerate(findings):
        by_page.setdefault(finding["page"], []).append({"id": place, **finding})
    chosen = [page for page in document.pages if first <= page.number < first + limit]
    return {
        "doc_id": doc_id,
        "page_count": document.page_count,
        "total_pages": len(document.pages),
        "total_findings": len(findings),
        "first": first,
        "limit": limit,
        "metadata": _page(doc_id, document, document.metadata, by_page.get(METADATA, []))
        if document.metadata is not None
        else None,
        "pages": [_page(doc_id, document, page, by_page.get(page.number, [])) for page in chosen],
    }


def _page(
    doc_id: str, document: Document, page: Page, findings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    if drawn(document, page):
        size, boxes = (page.width or 0.0, page.height or 0.0), [f["boxes"] for f in findings]
    else:
        size, rows = layout.sheet(page)
        boxes = [
            [[round(x, 2) for x in box] for box in found]
            for found in layout.boxes(rows, [(f["start"], f["end"]) for f in findings])
        ]
    return {
        "page": page.number,
        "part": page.part or None,
        "source": page.source,
        "width": size[0],
        "height": round(size[1], 2),
        "picture": f"/documents/{doc_id}/pages/{page.number}.png",
        "findings": [{**f, "boxes": found} for f, found in zip(findings, boxes, strict=True)],
    }
