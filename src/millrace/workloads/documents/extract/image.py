"""Read PNG and JPEG by OCR. The size is checked from the header, before a pixel is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from millrace.errors import BadInput
from millrace.workloads.documents.document import Span
from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.metadata import of_image

_OCR_SIDE = 3000


def read(path: Path, name: str, out: Collector) -> None:
    """Read a picture as one page into ``out``; boxes are in its pixels, upright."""
    image = open_image(path, name, out.limits.max_pixels)
    out.note(of_image(path))
    size = (float(image.width), float(image.height))
    index = 0 if out.depth == 0 else None
    if not out.may_ocr():
        out.add("", index=index, source="unread", images=1, size=size)
        return
    assert out.ocr is not None
    scale = min(1.0, _OCR_SIDE / max(image.size))
    if scale < 1:
        shrunk = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    else:
        shrunk = image
    text, spans, trust = "", [], 0.0
    for line in out.ocr.read(shrunk):
        if text:
            text += "\n"
        for start, end, box in line.places(len(text)):
            a, b, c, d = (round(x / scale, 2) for x in box)
            spans.append(Span(start, end, (a, b, c, d)))
        text += line.text
        trust += line.confidence * len(line.text)
    out.add(text, index=index, spans=tuple(spans), source="ocr", images=1, size=size,
            trust=trust / max(1, len(text)) if text else None)  # fmt: skip


def open_image(path: Path, name: str, max_pixels: int) -> Any:
    """Return an upright RGB picture; BadInput ``too_large`` or ``broken_file``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=("PNG", "JPEG"))
            if image.width * image.height > max_pixels:
                raise BadInput(
                    f"{name} has {image.width} × {image.height} pixels, more than {max_pixels}",
                    code="too_large",
                )
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"{name} is too large a picture: {error}", code="too_large") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{name} is a broken picture: {error}", code="broken_file") from error
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "P", "PA"):
        flat = Image.new("RGB", upright.size, "white")
        rgba = upright.convert("RGBA")
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat
    if upright.mode.startswith("I"):
        return upright.point(lambda value: value / 256).convert("L").convert("RGB")
    return upright.convert("RGB")
