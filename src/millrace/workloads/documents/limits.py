"""How much of a document is read before it is refused: bombs end here, in bytes, pages and ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one document, its embedded files included.

    max_pages         pages, slides or sheets; beyond: refused.
    max_characters    characters of text in all; beyond: refused.
    max_unpacked      bytes that a zip container may unpack to.
    max_ratio         how many times larger than packed one part of it above 1 MB may be.
    max_entries       parts in a zip container.
    max_pixels        pixels of a picture, or of a page that is rendered.
    max_ocr_pages     pages read by OCR; further ones are counted as unread and need a review.
    max_depth         how deep embedded files are opened (0: not at all).
    max_embedded      embedded files opened in all.
    """

    max_pages: int = 5000
    max_characters: int = 50_000_000
    max_unpacked: int = 512 * 1024 * 1024
    max_ratio: float = 200.0
    max_entries: int = 10_000
    max_pixels: int = 50_000_000
    max_ocr_pages: int = 200
    max_depth: int = 2
    max_embedded: int = 50

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Limits:
        """Return the limits named in the workload's settings, defaults for the others."""
        return cls(**{name: settings[name] for name in cls.__dataclass_fields__ if name in settings})
