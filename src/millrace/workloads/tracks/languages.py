"""Compares languages by meaning, however they are written, through the tables of ``langcodes``.

``ja`` is ``jpn``, ``fre`` is ``fra`` is ``fr``, and ``pt-BR`` is Portuguese. ISO 639-1, -2 (both forms)
and -3, BCP 47 and Matroska's old codes are all read.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import langcodes

_NOT_A_LANGUAGE = frozenset({"und", "mul", "mis", "zxx", "root"})
_MUTUALLY_MEANT = (
    1  # langcodes.tag_distance of Norwegian and Bokmål, and of other pairs that are one language
)


class Match(IntEnum):
    """How well a track's language fits the one wanted; higher is better, 0 is not at all."""

    NONE = 0
    OTHER_REGION = 1
    SAME_LANGUAGE = 2
    EXACT = 3


@lru_cache(maxsize=4096)
def normalise(written: str) -> str | None:
    """Return a language as a canonical BCP 47 tag, or None when nothing (known) is said.

    ``und``, ``mul``, ``mis``, ``zxx`` and private codes (``qaa``…) say nothing.
    """
    text = written.strip().replace("_", "-")
    if not text or len(text) > 64:
        return None
    try:
        language = langcodes.Language.get(text, normalize=True)
    except ValueError:
        return None
    base = language.language
    if (
        base is None
        or base.startswith("x-")
        or base in _NOT_A_LANGUAGE
        or "qaa" <= base <= "qtz"
        or not language.is_valid()
    ):
        return None
    return language.prefer_macrolanguage().to_tag()


@lru_cache(maxsize=16384)
def match(wanted: str, written: str) -> Match:
    """Return how well a track's language fits the wanted one. Scripts are not heard: they are ignored.

    A region only ranks: where ``pt-BR`` is wanted, ``pt-BR`` comes before ``por`` before ``pt-PT``.
    """
    left, right = normalise(wanted), normalise(written)
    if left is None or right is None:
        return Match.NONE
    one, other = langcodes.Language.get(left), langcodes.Language.get(right)
    if not _same_base(one.language or "", other.language or ""):
        return Match.NONE
    if (one.language, one.territory) == (other.language, other.territory):
        return Match.EXACT
    if one.territory and other.territory and one.territory != other.territory:
        return Match.OTHER_REGION
    return Match.SAME_LANGUAGE


def _same_base(one: str, other: str) -> bool:
    if one == other:
        return True
    if "no" in (one, other) and {one, other} <= {"no", "nb", "nn"}:
        return True
    return langcodes.tag_distance(one, other) <= _MUTUALLY_MEANT


def known(written: str) -> str:
    """Return the canonical tag of a language in a setting; ValueError when it is none."""
    tag = normalise(written)
    if tag is None:
        raise ValueError(f"{written!r} is not a language code: write one such as 'ja', 'jpn' or 'pt-BR'")
    return tag
