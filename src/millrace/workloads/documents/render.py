"""Turns one page of a document into a PNG, in a process of its own: ``python -m …documents.render MEMORY``.

Requests come as JSON lines on standard input, answers leave as a JSON line and the picture's bytes. The
process ends with its input, after a minute without requests, or when it needs more memory than given.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import select
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_IDLE_SECONDS = 60.0
_MAX_PIXELS = 8_000_000
_FILE_PIXELS = 1 << 31


def render(wanted: Mapping[str, Any]) -> bytes:
    """Return the PNG of a page, ``width`` pixels wide or less where that would be too many in all.

    ``wanted`` holds ``form`` (``pdf``, ``picture`` or ``text``), ``width``, and for a file its ``path``
    and the ``index`` of the page in it, for text the ``page`` as JSON and the ``font`` to set it in.
    """
    if wanted["form"] == "picture":
        from millrace.workloads.documents.extract.image import open_image

        path = Path(wanted["path"])
        image = open_image(path, path.name, _FILE_PIXELS)
        scale = _scale(image.size, int(wanted["width"]))
        return _png(image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale)))))
    import pypdfium2 as pdfium

    if wanted["form"] == "text":
        pdf, index = _set_text(wanted), 0
    else:
        pdf, index = pdfium.PdfDocument(wanted["path"]), int(wanted["index"])
    try:
        if pdf.get_formtype():
            pdf.init_forms()
        page = pdf[index]
        bitmap = page.render(scale=_scale(page.get_size(), int(wanted["width"])))
        return _png(bitmap.to_pil().convert("RGB"))
    finally:
        pdf.close()


def _set_text(wanted: Mapping[str, Any]) -> Any:
    import pypdfium2 as pdfium

    from millrace.workloads.documents import layout
    from millrace.workloads.documents.document import Page
    from millrace.workloads.documents.highlight import Typesetter

    size, rows = layout.sheet(Page.from_json(wanted["page"]))
    pdf = pdfium.PdfDocument.new()
    Typesetter(pdf, wanted.get("font")).sheet(rows, size)
    return pdf


def _scale(size: tuple[float, float], width: int) -> float:
    across, down = max(1.0, size[0]), max(1.0, size[1])
    return min((width - 0.01) / across, math.sqrt(_MAX_PIXELS / (across * down)))


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    while select.select([requests], [], [], _IDLE_SECONDS)[0]:
        line = requests.readline()
        if not line:
            return
        try:
            data, head = render(json.loads(line)), {}
        except MemoryError:
            data, head = b"", {"error": "the page needs too much memory"}
        except Exception as error:  # noqa: BLE001 - whatever a broken page does is told to the server
            data, head = b"", {"error": f"{type(error).__name__}: {error}"[:500]}
        replies.write(json.dumps({**head, "bytes": len(data)}).encode() + b"\n" + data)
        replies.flush()


def main() -> None:
    """Answer requests until the input ends. What libraries print goes to standard error."""
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
