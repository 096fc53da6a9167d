"""What the stages pass on: pages with their text, findings with their places, and the decision.

Offsets count characters (Unicode code points) of the text of one page as it was extracted; boxes are
``(left, top, right, bottom)`` from the top-left corner of the page as it is displayed, in points
(1/72 inch) for PDF and in pixels for pictures. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

METADATA, METADATA_PART = 0, "metadata"
"""The number and part of the page that stands for what a file says of itself."""
Box = tuple[float, float, float, float]
Source = Literal["text", "ocr", "mixed", "blank", "unread"]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a page's text, ``start <= offset < end``, whose place is known without the PDF."""

    start: int
    end: int
    box: Box


@dataclass(frozen=True, slots=True)
class Page:
    """One page, slide, sheet or message.

    number       0 for metadata; else from 1 over the whole document, its embedded files included.
    part         empty for the document itself; else what it is (``attachment: a.pdf``, ``sheet: Pay``).
    index        which page of its own file (from 0) in which it can be rendered; None: cannot.
    text         the text in reading order.
    layer        how many leading characters of ``text`` stand in the PDF's own text layer.
    spans        places of the text after the layer (OCR words, form fields, comments).
    source       where the text is from; ``unread``: there is something to read that was not read.
    images       how many pictures stand on the page.
    legibility   0–1: how much of the text can be trusted to be what the page shows; None: no text.
    language     ISO 639-1 code, or None where there is too little text to tell.
    """

    number: int
    text: str
    part: str = ""
    index: int | None = None
    layer: int = 0
    spans: tuple[Span, ...] = ()
    source: Source = "text"
    images: int = 0
    width: float | None = None
    height: float | None = None
    legibility: float | None = None
    language: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the page as JSON-able data."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["spans"] = [[s.start, s.end, *s.box] for s in self.spans]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Page:
        """Return the page that ``to_json`` wrote."""
        spans = tuple(Span(int(s[0]), int(s[1]), (s[2], s[3], s[4], s[5])) for s in data["spans"])
        return cls(**{**data, "spans": spans})


@dataclass(frozen=True, slots=True)
class Document:
    """What extraction found.

    ``warnings`` are sentences for people (what was not read, and why); ``metadata`` is what the file, and
    those embedded in it, say of themselves, as a page with the number 0; None where that is nothing.
    """

    format: str
    pages: tuple[Page, ...]
    page_count: int
    image_count: int
    legibility: float | None = None
    language: str | None = None
    embedded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metadata: Page | None = None

    @property
    def searched(self) -> tuple[Page, ...]:
        """The pages, and the metadata as one more: all in which findings may stand."""
        return self.pages if self.metadata is None else (*self.pages, self.metadata)

    @property
    def unread(self) -> int:
        """How many pages hold something that was not read."""
        return sum(page.source == "unread" for page in self.pages)

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON-able data."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["pages"] = [page.to_json() for page in self.pages]
        data["metadata"] = self.metadata.to_json() if self.metadata is not None else None
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Document:
        """Return the document that ``to_json`` wrote."""
        return cls(
            **{
                **data,
                "pages": tuple(Page.from_json(page) for page in data["pages"]),
                "embedded": tuple(data["embedded"]),
                "warnings": tuple(data["warnings"]),
                "metadata": Page.from_json(data["metadata"]) if data.get("metadata") else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a validator said: ``valid`` is None where the kind of value has nothing to check."""

    name: str
    valid: bool | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence.

    rule       which rule found it (``personal.credit_card``), as ``policy.yaml`` names it.
    type       what was found, in the field's words (``CREDIT_CARD``).
    group      ``personal, health, payroll, secret, mark, legal, unsafe``.
    start,end  offsets in the page's text.
    snippet    the passage for people, with the value itself masked.
    verdict    the validator's result.
    context    the word nearby that speaks for the meaning, or None.
    stance     ``plain``; ``negated`` for a mark that is denied; for unsafe text ``instruction``,
               ``threat``, ``intent`` or ``discussion``.
    weight     0–1: how strongly one such finding speaks for its type being really there.
    value_key  a short digest of the value, so that repetitions can be counted without keeping it.
    """

    rule: str
    type: str
    group: str
    page: int
    start: int
    end: int
    snippet: str
    verdict: Verdict
    context: str | None = None
    stance: str = "plain"
    weight: float = 0.5
    value_key: str = ""
    boxes: tuple[Box, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON-able data."""
        data = asdict(self)
        data["boxes"] = [[round(x, 2) for x in box] for box in self.boxes]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """Return the finding that ``to_json`` wrote."""
        boxes = tuple((b[0], b[1], b[2], b[3]) for b in data.get("boxes", ()))
        return cls(**{**data, "verdict": Verdict(**data["verdict"]), "boxes": boxes})
