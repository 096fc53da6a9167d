"""Read a document of any supported format into pages of text, within limits.

Readers know their format and put pages into a ``Collector``; none of them knows detectors or jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from millrace.errors import BadInput
from millrace.workloads.documents.document import METADATA, METADATA_PART, Document, Page
from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.ocr import Ocr
from millrace.workloads.documents.extract.sniff import FORMATS, format_of_name, refusal, sniff
from millrace.workloads.documents.limits import Limits

__all__ = ["FORMATS", "extract", "format_of_name", "refusal"]

_READERS = {
    "pdf": "pdf", "docx": "docx", "xlsx": "xlsx", "pptx": "pptx", "html": "html", "txt": "text",
    "eml": "mail", "png": "image", "jpeg": "image",
}  # fmt: skip


def extract(
    path: Path,
    name: str,
    workdir: Path,
    *,
    limits: Limits | None = None,
    ocr: Ocr | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Document:
    """Return the document's pages.

    ``name`` is what people call the file, ``workdir`` a directory for embedded files while they are
    read, ``progress`` is called with 0–1. Raises BadInput with code ``empty``,
    ``unsupported_type``, ``broken_file``, ``password_protected`` or ``too_large``.
    """
    kind = sniff(path, name)
    out = Collector(name, limits or Limits(), ocr, workdir, _read, progress)
    _read(path, name, out)
    pages = tuple(out.pages)
    readable = [(page.legibility, len(page.text)) for page in pages if page.legibility is not None]
    weight = sum(size or 1 for _, size in readable)
    tongues = Counter[str]()
    for page in pages:
        if page.language:
            tongues[page.language] += len(page.text)
    return Document(
        format=kind,
        pages=pages,
        page_count=out.own_pages,
        image_count=sum(page.images for page in pages),
        legibility=round(sum(value * (size or 1) for value, size in readable) / weight, 3)
        if weight
        else None,
        language=tongues.most_common(1)[0][0] if tongues else None,
        embedded=tuple(out.embedded),
        warnings=tuple(out.warnings),
        metadata=Page(METADATA, "\n".join(out.about), METADATA_PART) if out.about else None,
    )


def _read(path: Path, name: str, out: Collector) -> None:
    kind = sniff(path, name)
    reader = import_module(f"{__name__}.{_READERS[kind]}")
    try:
        reader.read(path, name, out)
    except MemoryError as error:
        raise BadInput(f"{name} needs more memory than a document may take", code="too_large") from error
    except RecursionError as error:
        raise BadInput(f"{name} is broken: it is nested too deep to read", code="broken_file") from error
