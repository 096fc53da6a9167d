"""Read XLSX: a page for each sheet, hidden ones too, with its header, footer and comments.

Cells come from calamine; the zip container is unpacked once before within limits, because calamine
opens it on its own.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import python_calamine

from millrace.errors import BadInput
from millrace.workloads.documents.extract.archive import Container, container, local_name
from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.metadata import of_office

_MAX_CELLS = 5_000_000


def read(path: Path, name: str, out: Collector) -> None:
    """Read an XLSX, then the files embedded in it, into ``out``."""
    with container(path, name, out.limits) as parts:
        out.note(of_office(parts))
        parts.check_all()
        extras = _extras(parts)
        try:
            with path.open("rb") as file:
                book = python_calamine.load_workbook(file)
                names = book.sheet_names
                out.expect(len(names))
                for number, sheet in enumerate(names):
                    text = _sheet(book.get_sheet_by_name(sheet), name)
                    more, images = extras.get(sheet, ("", 0))
                    body = "\n".join(filter(None, (f"{sheet}", text, more)))
                    out.add(body if text or more else "", section=f"sheet: {sheet}", images=images)
                    out.progress((number + 1) / len(names))
        except (python_calamine.CalamineError, OSError, ValueError) as error:
            if "password" in str(error).lower():
                raise BadInput(f"{name} is protected by a password", code="password_protected") from error
            raise BadInput(f"{name} is a broken XLSX: {error}", code="broken_file") from error
        for part in sorted(parts.names):
            if part.startswith("xl/embeddings/") and not part.endswith("/"):
                out.embed(part.rsplit("/", 1)[-1], parts.read(part))


def _sheet(sheet: Any, name: str) -> str:
    if sheet.total_height * sheet.total_width > _MAX_CELLS:
        raise BadInput(
            f"{name} holds a sheet of {sheet.total_height} × {sheet.total_width} cells, "
            f"more than {_MAX_CELLS}",
            code="too_large",
        )
    lines = []
    for row in sheet.iter_rows():
        cells = [_cell(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            lines.append("\t".join(cells))
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()
    return str(value)


def _extras(parts: Container) -> dict[str, tuple[str, int]]:
    """Return sheet name → (header, footer and comments; how many drawings)."""
    book = "xl/workbook.xml"
    if book not in parts.names:
        return {}
    relations = parts.relations(book)
    found: dict[str, tuple[str, int]] = {}
    for element in parts.xml(book).iter():
        if local_name(element) != "sheet":
            continue
        key = next((v for k, v in element.attrib.items() if k.startswith("{") and k.endswith("}id")), "")
        part = relations.get(key, ("", ""))[1]
        if part not in parts.names:
            continue
        texts = _header_footer(parts, part)
        images = 0
        for kind, target in parts.relations(part).values():
            if target not in parts.names:
                continue
            if kind in ("comments", "threadedComment"):
                texts += _comments(parts.xml(target))
            elif kind == "drawing":
                drawing = parts.xml(target)
                images += sum(local_name(node) == "blip" for node in drawing.iter())
                texts += [node.text for node in drawing.iter() if local_name(node) == "t" and node.text]
        found[element.get("name", "")] = ("\n".join(dict.fromkeys(texts)), images)
    return found


def _header_footer(parts: Container, part: str) -> list[str]:
    data = parts.read(part)
    if b"headerFooter" not in data:
        return []
    texts = []
    for element in parts.xml(part).iter():
        if local_name(element) in (
            "oddHeader",
            "oddFooter",
            "evenHeader",
            "evenFooter",
            "firstHeader",
            "firstFooter",
        ):
            texts.append(_plain_header(element.text or ""))
    return [text for text in texts if text]


def _plain_header(code: str) -> str:
    """Drop the formatting codes of a header (``&C`` and the like, ECMA-376 §18.3.1.39)."""
    out, index = [], 0
    while index < len(code):
        if code[index] != "&" or index + 1 == len(code):
            out.append(code[index])
            index += 1
            continue
        follow = code[index + 1]
        if follow == '"':
            index = code.find('"', index + 2) + 1 or len(code)
        elif follow == "&":
            out.append("&")
            index += 2
        elif follow.isdigit():
            index += 1
            while index < len(code) and code[index].isdigit():
                index += 1
        else:
            out.append(" " if follow in "LCR" else "")
            index += 2
    return " ".join("".join(out).split())


def _comments(root: Any) -> list[str]:
    texts = []
    for element in root.iter():
        if local_name(element) in ("comment", "threadedComment"):
            text = "".join(t.text or "" for t in element.iter() if local_name(t) in ("t", "text"))
            if text:
                texts.append(text)
    return texts
