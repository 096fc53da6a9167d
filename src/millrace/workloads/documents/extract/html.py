"""Read HTML: the visible text in one page, block by block, with titles, alternative texts and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.text import decode

_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "head",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "ol",
        "option",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "title",
        "tr",
        "ul",
        "br",
    ]
)
_DROPPED = frozenset(("script", "style", "noscript", "template", "svg", "#comment", "-comment", "_comment"))


def read(path: Path, name: str, out: Collector) -> None:
    """Read an HTML file as one page into ``out``."""
    text, images = text_of(decode(path.read_bytes(), name, markup=True))
    out.add(text, images=images)


def text_of(markup: str) -> tuple[str, int]:
    """Return the text of some HTML, and how many pictures it shows."""
    tree = LexborHTMLParser(markup)
    if tree.root is None:
        return "", 0
    pieces: list[str] = []
    images = 0
    stack: list[tuple[Any, bool]] = [(tree.root, False)]
    while stack:
        node, leaving = stack.pop()
        tag = node.tag or ""
        if leaving:
            pieces.append("\n")
            continue
        if tag in _DROPPED:
            continue
        if tag == "-text":
            pieces.append(" ".join(_edges(node.text_content or "")))
            continue
        pieces.append("\t" if tag in ("td", "th") else "\n" if tag in _BLOCKS else "")
        images += tag == "img"
        pieces.append(_said(tag, node.attributes))
        if tag in _BLOCKS:
            stack.append((node, True))
        stack.extend((child, False) for child in reversed(list(node.iter(include_text=True))))
    lines = (_squeeze(line) for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line.strip()), images


def _said(tag: str, attributes: Any) -> str:
    """Return the text that an element carries in its attributes."""
    if tag == "img":
        return f" {attributes.get('alt') or ''} "
    if tag in ("input", "textarea") and attributes.get("type") not in ("submit", "button"):
        return f" {attributes.get('value') or ''} "
    if tag == "meta" and (attributes.get("name") or "").lower() in ("description", "keywords"):
        return f"\n{attributes.get('content') or ''}\n"
    return ""


def _edges(text: str) -> list[str]:
    """Collapse white space, keeping one blank at either end where there was one."""
    words = text.split()
    if not words:
        return ["", ""] if text else []
    if text[:1].isspace():
        words.insert(0, "")
    if text[-1:].isspace():
        words.append("")
    return words


def _squeeze(line: str) -> str:
    return "\t".join(" ".join(cell.split()) for cell in line.split("\t")).strip("\t")
