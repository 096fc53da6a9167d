"""How far the text of a page can be trusted to be what a reader sees: 0–1, from the text alone."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W\d_]+")
_ODD = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd\ufffe\ue000-\uf8ff]")
_VOWEL = re.compile(r"[aeiouyàâäáãåæèéêëìíîïòóôöõøœùúûüýÿ]", re.IGNORECASE)
_SAMPLE = 1500


def legibility(text: str) -> float | None:
    """Return 0–1, or None for a page without text.

    The share of characters that are readable at all (control characters, replacement characters
    and private-use glyphs, as broken font encodings give them, are not), times the share of Latin
    words that could be words: with a vowel, and not mixing cases or glyphs as damaged OCR does.
    """
    sample = text[:_SAMPLE]
    dense = len("".join(sample.split()))
    if not dense:
        return None
    readable = 1 - len(_ODD.findall(sample)) / dense
    words = [word for word in _WORD.findall(sample) if len(word) > 3 and word.isascii()]
    plausible = 1.0
    if len(words) >= 8:
        good = sum(1 for word in words if _VOWEL.search(word) or word.isupper())
        plausible = good / len(words)
    return round(max(0.0, readable) * plausible, 3)


def garbled(text: str) -> bool:
    """Say whether a text layer is worth less than OCR of the page: mostly unmapped glyphs."""
    value = legibility(text)
    return value is not None and value < 0.6


def letters(text: str) -> int:
    """Count letters and digits."""
    return sum(unicodedata.category(char)[0] in "LN" for char in text)
