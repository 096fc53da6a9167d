"""How far the text of a page can be trusted to be what a reader sees: 0–1, from the text alone."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"[^\W\d_]{4,}")
_NO_VOWEL = re.compile(r"(?<![^\W\d_])[^\W\d_aeiouyAEIOUY]{4,}(?![^\W\d_])")
_ODD = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd\ufffe\ue000-\uf8ff]")
_SAMPLE = 1500


def legibility(text: str) -> float | None:
    """Return 0–1, or None for a page without text.

    The share of characters that are readable at all (control characters, replacement characters
    and private-use glyphs, as broken font encodings give them, are not), times the share of Latin
    words that could be words: with a vowel, as damaged OCR and shifted encodings seldom have.
    """
    return _of_sample(text[:_SAMPLE])


@lru_cache(maxsize=16)
def _of_sample(sample: str) -> float | None:
    dense = len("".join(sample.split()))
    if not dense:
        return None
    readable = 1 - len(_ODD.findall(sample)) / dense
    odd = sum(word.isascii() and not word.isupper() for word in _NO_VOWEL.findall(sample))
    plausible = 1.0
    if odd:
        words = sum(map(str.isascii, _WORD.findall(sample)))
        plausible = 1 - odd / words if words >= 8 else 1.0
    return round(max(0.0, readable) * plausible, 3)


def garbled(text: str) -> bool:
    """Say whether a text layer is worth less than OCR of the page: mostly unmapped glyphs."""
    value = legibility(text)
    return value is not None and value < 0.6


def letters(text: str) -> int:
    """Count letters and digits."""
    return sum(unicodedata.category(char)[0] in "LN" for char in text)
