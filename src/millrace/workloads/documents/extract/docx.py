"""Read DOCX from its XML: body, tables, text boxes, headers, footers, comments and notes.

Headers and footers, where CONFIDENTIAL tends to stand, come first and last on page 1; comments,
footnotes and endnotes on the page that refers to them. Pages are those that the writing program
recorded (``w:lastRenderedPageBreak``) or that were forced; without either it is one page.
Source: ECMA-376 part 1, §17.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.errors import BadInput
from millrace.workloads.documents.extract.archive import Container, attribute, container, local_name
from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.metadata import of_office

_NOTES = {"commentReference": "comments", "footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_ITEMS = {"comments": "comment", "footnotes": "footnote", "endnotes": "endnote"}
_SKIPPED = frozenset({"Fallback", "instrText", "delInstrText", "pPr", "rPr", "sectPr", "tblPr"})
_PICTURES = frozenset({"blip", "imagedata"})


class _Flow:
    """Text of a story, cut into pages, with the notes that each page refers to."""

    def __init__(self) -> None:
        self.pages: list[list[str]] = [[]]
        self.notes: list[list[tuple[str, str]]] = [[]]
        self.images = [0]

    def put(self, text: str) -> None:
        self.pages[-1].append(text)

    def turn(self) -> None:
        self.pages.append([])
        self.notes.append([])
        self.images.append(0)

    def text(self, number: int = 0) -> str:
        return "".join(self.pages[number]).strip("\n")


def read(path: Path, name: str, out: Collector) -> None:
    """Read a DOCX, then the files embedded in it, into ``out``."""
    with container(path, name, out.limits) as parts:
        out.note(of_office(parts))
        main = _main_part(parts, name)
        relations = parts.relations(main)
        flow = _story(parts, main)
        notes = _notes(parts, relations)
        tops, bottoms = _margins(parts, relations, "header"), _margins(parts, relations, "footer")
        last = len(flow.pages) - 1
        for number in range(len(flow.pages)):
            pieces = [*(tops if number == 0 else ()), flow.text(number)]
            for kind, key in dict.fromkeys(flow.notes[number]):
                pieces.append(notes.pop((kind, key), ""))
            pieces += [*(bottoms if number == 0 else ())]
            if number == last:
                pieces += notes.values()
            text = "\n".join(filter(None, pieces))
            if text or flow.images[number] or number < last or not last:
                out.add(text, images=flow.images[number])
            out.progress((number + 1) / (last + 1))
        out.pictures(parts, "word/media/", sum(flow.images), "".join(map(flow.text, range(last + 1))))
        for part in sorted(parts.names):
            if part.startswith("word/embeddings/") and not part.endswith("/"):
                out.embed(part.rsplit("/", 1)[-1], parts.read(part))


def _main_part(parts: Container, name: str) -> str:
    for kind, target in parts.relations("/").values():
        if kind == "officeDocument" and target in parts.names:
            return target
    if "word/document.xml" in parts.names:
        return "word/document.xml"
    raise BadInput(f"{name} is a broken DOCX: it has no main document part", code="broken_file")


def _story(parts: Container, part: str) -> _Flow:
    flow = _Flow()
    _walk(parts.xml(part), flow)
    return flow


def _walk(root: Any, flow: _Flow) -> None:
    """Walk in document order without recursion: documents may nest deeper than Python's stack."""
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        element, leaving = stack.pop()
        tag = local_name(element)
        if leaving:
            if tag == "p":
                flow.put("\n")
            elif tag == "tc":
                flow.put("\t")
            continue
        if tag in _SKIPPED or not tag:
            if tag == "pPr" and any(local_name(child) == "pageBreakBefore" for child in element):
                _turn_unless_empty(flow)
            continue
        _leaf(tag, element, flow)
        if tag == "txbxContent":
            flow.put("\n")
        if tag in ("p", "tc"):
            stack.append((element, True))
        stack.extend((child, False) for child in reversed(element))


def _leaf(tag: str, element: Any, flow: _Flow) -> None:
    if tag in ("t", "delText"):
        flow.put(element.text or "")
    elif tag == "tab":
        flow.put("\t")
    elif tag in ("noBreakHyphen", "softHyphen"):
        flow.put("-")
    elif tag == "br" and attribute(element, "type") == "page":
        flow.turn()
    elif tag in ("br", "cr"):
        flow.put("\n")
    elif tag == "lastRenderedPageBreak":
        _turn_unless_empty(flow)
    elif tag in _NOTES:
        flow.notes[-1].append((_NOTES[tag], attribute(element, "id") or ""))
    elif tag in _PICTURES:
        flow.images[-1] += 1


def _turn_unless_empty(flow: _Flow) -> None:
    if "".join(flow.pages[-1]).strip():
        flow.turn()


def _notes(parts: Container, relations: dict[str, tuple[str, str]]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for kind, target in relations.values():
        if kind not in _ITEMS or target not in parts.names:
            continue
        for item in parts.xml(target):
            if local_name(item) != _ITEMS[kind]:
                continue
            flow = _Flow()
            _walk(item, flow)
            text = "\n".join(filter(None, (flow.text(n) for n in range(len(flow.pages)))))
            author = attribute(item, "author") if kind == "comments" else None
            if text:
                found[kind, attribute(item, "id") or ""] = f"[Comment by {author}] {text}" if author else text
    return found


def _margins(parts: Container, relations: dict[str, tuple[str, str]], wanted: str) -> list[str]:
    texts: list[str] = []
    for kind, target in relations.values():
        if kind == wanted and target in parts.names:
            flow = _story(parts, target)
            texts.append("\n".join(filter(None, (flow.text(n) for n in range(len(flow.pages))))))
    return list(dict.fromkeys(filter(None, texts)))
