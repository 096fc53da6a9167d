"""What Millrace says about a picture: title, description and keywords, within fixed limits.

Knows nothing of files or of how the words were found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

TITLE_LIMIT = 500
DESCRIPTION_LIMIT = 2000
KEYWORD_LIMIT = 100
KEYWORDS_LIMIT = 50

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Tags:
    """Title, description and keywords of one picture.

    ``translations`` maps a language tag (BCP 47, ``de``) to the title and description in it; the
    plain fields are the default language. Empty strings mean "nothing to say".
    """

    title: str = ""
    description: str = ""
    keywords: tuple[str, ...] = ()
    translations: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping; ``from_json`` reads it."""
        out: dict[str, Any] = {
            "title": self.title,
            "description": self.description,
            "keywords": list(self.keywords),
        }
        if self.translations:
            out["translations"] = {
                lang: {"title": title, "description": description}
                for lang, (title, description) in self.translations.items()
            }
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tags:
        """Read what ``to_json`` wrote."""
        return cls(
            data.get("title", ""),
            data.get("description", ""),
            tuple(data.get("keywords", ())),
            {lang: (t["title"], t["description"]) for lang, t in data.get("translations", {}).items()},
        )

    def limited(self) -> Tags:
        """Return the tags cleaned and cut to the limits: 500, 2000, 50 keywords of 100 characters."""
        return Tags(
            clean(self.title, TITLE_LIMIT),
            clean(self.description, DESCRIPTION_LIMIT, lines=True),
            unique_keywords(self.keywords),
            {
                lang: (clean(title, TITLE_LIMIT), clean(description, DESCRIPTION_LIMIT, lines=True))
                for lang, (title, description) in self.translations.items()
            },
        )


def clean(text: str, limit: int, *, lines: bool = False) -> str:
    """Return ``text`` composed (NFC), without control characters, cut to ``limit`` characters.

    Cut at a word where one ends in the last fifth, with an ellipsis. ``lines`` keeps line breaks.
    """
    text = _FORBIDDEN.sub("", unicodedata.normalize("NFC", text))
    if lines:
        text = "\n".join(_SPACE.sub(" ", line).strip() for line in text.splitlines()).strip()
    else:
        text = _SPACE.sub(" ", text).strip()
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    space = cut.rfind(" ")
    if space > limit * 4 // 5:
        cut = cut[:space]
    return cut.rstrip(" ,;:.-") + "…"


def unique_keywords(words: Iterable[str]) -> tuple[str, ...]:
    """Return the keywords cleaned, without repetitions (case-insensitive), at most 50 of 100 characters.

    Semicolons and commas inside one become spaces: EXIF joins keywords with semicolons.
    """
    seen: dict[str, str] = {}
    for word in words:
        text = clean(re.sub(r"[;,]", " ", word), KEYWORD_LIMIT)
        if text and text.casefold() not in seen:
            seen[text.casefold()] = text
    return tuple(list(seen.values())[:KEYWORDS_LIMIT])


def cut_utf8(text: str, limit: int) -> bytes:
    """Return ``text`` as UTF-8 of at most ``limit`` bytes, cut on a character border."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data
    return data[:limit].decode("utf-8", "ignore").encode()
