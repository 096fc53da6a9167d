"""Where readers put their pages: numbers them, keeps the limits, and opens embedded files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from millrace.errors import BadInput
from millrace.workloads.documents.document import Page, Source, Span
from millrace.workloads.documents.extract.archive import Container
from millrace.workloads.documents.extract.metadata import noted
from millrace.workloads.documents.extract.ocr import Ocr
from millrace.workloads.documents.language import language
from millrace.workloads.documents.legibility import legibility, letters
from millrace.workloads.documents.limits import Limits

_LITTLE_TEXT = 200


class Nested(Protocol):
    """Reads a file found inside another; given by ``extract`` so that readers need not know it."""

    def __call__(self, path: Path, name: str, out: Collector) -> None:
        """Read the file into ``out``, at its present ``part`` and ``depth``."""


@dataclass(slots=True)
class Collector:
    """Pages so far. ``part`` and ``depth`` say which file is being read now (empty, 0: the document)."""

    name: str
    limits: Limits
    ocr: Ocr | None
    workdir: Path
    nested: Nested
    progress: Callable[[float], None] = lambda fraction: None
    pages: list[Page] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    part: str = ""
    depth: int = 0
    own_pages: int = 0
    about: list[str] = field(default_factory=list)
    _characters: int = 0
    _ocr_pages: int = 0

    def add(
        self,
        text: str,
        *,
        section: str = "",
        index: int | None = None,
        layer: int = 0,
        spans: tuple[Span, ...] = (),
        source: Source = "text",
        images: int = 0,
        size: tuple[float, float] | None = None,
        trust: float | None = None,
    ) -> None:
        """Add a page; ``trust`` (0–1) is what the OCR engine thinks of its own reading.

        BadInput ``too_large`` where the document has more pages or text than the limits allow.
        """
        self.expect(1)
        self._characters += len(text)
        if self._characters > self.limits.max_characters:
            raise BadInput(
                f"{self.name} holds more than {self.limits.max_characters} characters of text; split it",
                code="too_large",
            )
        readable = legibility(text)
        if readable is not None and trust is not None:
            readable = round(min(readable, trust), 3)
        if not text.strip() and source in ("text", "ocr", "mixed"):
            source = "blank"
        self.pages.append(
            Page(
                number=len(self.pages) + 1,
                text=text,
                part=" / ".join(filter(None, (self.part, section))),
                index=index,
                layer=layer,
                spans=spans,
                source=source,
                images=images,
                width=round(size[0], 2) if size else None,
                height=round(size[1], 2) if size else None,
                legibility=0.0 if source == "unread" and readable is None else readable,
                language=language(text),
            )
        )
        if self.depth == 0:
            self.own_pages += 1

    def expect(self, pages: int) -> None:
        """Refuse early when that many more pages would exceed the limit."""
        if len(self.pages) + pages > self.limits.max_pages:
            raise BadInput(
                f"{self.name} has more than {self.limits.max_pages} pages; split it", code="too_large"
            )

    def note(self, fields: Iterable[tuple[str, str]]) -> None:
        """Keep what the file being read says of itself, below its name if it is embedded."""
        lines = noted(fields)
        self._characters += sum(map(len, lines))
        if lines and self.part:
            self.about.append(f"[{self.part}]")
        self.about += lines

    def may_ocr(self) -> bool:
        """Take one page from the OCR budget; False, with one warning, when there is none."""
        if self.ocr is None:
            self.warn("Pages without a text layer were not read: no OCR engine is installed.")
            return False
        if self._ocr_pages >= self.limits.max_ocr_pages:
            self.warn(f"Only the first {self.limits.max_ocr_pages} scanned pages were read by OCR.")
            return False
        self._ocr_pages += 1
        return True

    def warn(self, sentence: str) -> None:
        """Note something a person must know, once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def pictures(self, parts: Container, folder: str, count: int, text: str) -> None:
        """Read the pictures of an Office file where they are all there is, as in a scan pasted into it."""
        if not count:
            return
        if letters(text) >= _LITTLE_TEXT:
            self.warn("Pictures inside the document were counted but not read.")
            return
        for part in sorted(parts.names):
            if part.startswith(folder) and part.lower().endswith((".png", ".jpg", ".jpeg")):
                self.embed(part.rsplit("/", 1)[-1], parts.read(part))

    def embed(self, name: str, data: bytes) -> None:
        """Read an embedded file as further pages; what cannot be read becomes a warning."""
        shown = Path(name.replace("\\", "/")).name or "unnamed"
        self.embedded.append(shown)
        if self.depth >= self.limits.max_depth:
            self.warn(f"The embedded file {shown} was not opened: it is nested too deep.")
            return
        if len(self.embedded) > self.limits.max_embedded:
            self.warn(f"Only the first {self.limits.max_embedded} embedded files were opened.")
            return
        path = self.workdir / f"embedded-{len(self.embedded)}"
        path.write_bytes(data)
        outer = self.part
        self.part, self.depth = " / ".join(filter(None, (outer, f"attachment: {shown}"))), self.depth + 1
        try:
            self.nested(path, shown, self)
        except BadInput as error:
            if error.code == "too_large":
                raise
            self.warn(f"The embedded file {shown} was not read: {error.message}.")
        finally:
            self.part, self.depth = outer, self.depth - 1
            path.unlink(missing_ok=True)
