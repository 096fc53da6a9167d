"""Read PPTX from its XML: a page for each slide, with its tables, notes and comments.

Source: ECMA-376 part 1, §19 and §21.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.errors import BadInput
from millrace.workloads.documents.extract.archive import Container, attribute, container, local_name
from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.metadata import of_office


def read(path: Path, name: str, out: Collector) -> None:
    """Read a PPTX, then the files embedded in it, into ``out``."""
    with container(path, name, out.limits) as parts:
        out.note(of_office(parts))
        main = next(
            (target for kind, target in parts.relations("/").values() if kind == "officeDocument"),
            "ppt/presentation.xml",
        )
        if main not in parts.names:
            raise BadInput(f"{name} is a broken PPTX: it has no presentation part", code="broken_file")
        slides = _slides(parts, main)
        out.expect(len(slides))
        pictures = 0
        said = ""
        for number, slide in enumerate(slides):
            root = parts.xml(slide)
            images = sum(local_name(element) == "blip" for element in root.iter())
            pictures += images
            pieces = [_text(root)]
            said += pieces[0]
            for kind, target in parts.relations(slide).values():
                if target in parts.names and kind == "notesSlide":
                    pieces.append(_text(parts.xml(target)))
                elif target in parts.names and kind == "comments":
                    pieces.append(_comments(parts.xml(target)))
            out.add("\n".join(filter(None, pieces)), images=images)
            out.progress((number + 1) / len(slides))
        if not slides:
            out.add("")
        out.pictures(parts, "ppt/media/", pictures, said)
        for part in sorted(parts.names):
            if part.startswith("ppt/embeddings/") and not part.endswith("/"):
                out.embed(part.rsplit("/", 1)[-1], parts.read(part))


def _slides(parts: Container, main: str) -> list[str]:
    relations = parts.relations(main)
    order = [_relation_id(element) for element in parts.xml(main).iter() if local_name(element) == "sldId"]
    targets = [relations[key][1] for key in order if key in relations]
    return [target for target in targets if target in parts.names]


def _relation_id(element: Any) -> str:
    """Return the relationship id of a ``p:sldId``, which has a plain ``id`` too."""
    for key, value in element.attrib.items():
        if key.startswith("{") and key.endswith("}id"):
            return str(value)
    return ""


def _text(root: Any) -> str:
    """Return the paragraphs of a slide; cells of a table row are parted by tabs."""
    lines: list[str] = []
    for element in root.iter():
        tag = local_name(element)
        if tag == "p" and not _inside_row(element):
            lines.append(_paragraph(element))
        elif tag == "tr":
            cells = [child for child in element if local_name(child) == "tc"]
            lines.append("\t".join(" ".join(_paragraph(p) for p in cell.iter() if local_name(p) == "p")
                                   for cell in cells))  # fmt: skip
    return "\n".join(line for line in lines if line.strip())


def _inside_row(element: Any) -> bool:
    parent = element.getparent()
    while parent is not None:
        if local_name(parent) == "tr":
            return True
        parent = parent.getparent()
    return False


def _paragraph(element: Any) -> str:
    pieces = []
    for child in element.iter():
        tag = local_name(child)
        if tag == "t":
            pieces.append(child.text or "")
        elif tag == "br":
            pieces.append("\n")
    return "".join(pieces)


def _comments(root: Any) -> str:
    texts = []
    for element in root.iter():
        if local_name(element) == "text" and element.text:
            texts.append(element.text)
        elif local_name(element) == "cm" and attribute(element, "text"):
            texts.append(attribute(element, "text") or "")
    return "\n".join(texts) or _text(root)
