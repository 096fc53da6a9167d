"""A page's text as detectors see it: folded one character to one, so that offsets stay those of the page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from millrace.workloads.documents.document import METADATA, Finding, Page, Verdict

_FOLD_CODES = {
    **{0xFF01 + i: 0x21 + i for i in range(94)},  # full-width forms
    **{0x0660 + i: 0x30 + i for i in range(10)},  # Arabic-Indic digits
    **{0x06F0 + i: 0x30 + i for i in range(10)},  # Persian digits
    **{0x0966 + i: 0x30 + i for i in range(10)},  # Devanagari digits
    **dict.fromkeys([0xA0, 0x3000, 0x202F, 0x205F, *range(0x2000, 0x200B)], 0x20),
    **dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63], 0x2D),
    **dict.fromkeys([0x2018, 0x2019, 0x02BC], 0x27),
    **dict.fromkeys([0x201C, 0x201D, 0x201E], 0x22),
}
_FOLD = {chr(char): chr(plain) for char, plain in _FOLD_CODES.items()}
_FOLDED = re.compile(f"[{re.escape(''.join(_FOLD))}]")
_AROUND = 60
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d+")
_PLAIN_WORD = re.compile(r"[a-z0-9]+")
_SHORT, _LONG = 2, 4
_Window = tuple[int, int]


class Hints:
    """Lower-case strings of which at least one stands in every match of some slow pattern.

    Each begins with a blank or where a word begins, and is looked for there: a blank before or after
    one stands for the word's border.
    """

    __slots__ = ("_foreign", "_plain")

    def __init__(self, *literals: str) -> None:
        stripped = tuple(dict.fromkeys(literal.strip() for literal in literals))
        self._plain = tuple(
            (_lead(max(_PLAIN_WORD.findall(literal), key=len, default="")), literal)
            for literal in stripped if literal.isascii()
        )  # fmt: skip
        self._foreign = tuple(literal for literal in stripped if not literal.isascii())

    def standing_in(self, text: str, leads: frozenset[str]) -> Iterator[str]:
        """Yield the strings that stand in a lower-case text whose words have these leads."""
        for lead, literal in self._plain:
            if lead in leads and literal in text:
                yield literal
        if self._foreign and not text.isascii():
            for literal in self._foreign:
                if literal in text:
                    yield literal


def _lead(word: str) -> str:
    """Return the part of a word that pages are indexed by: four letters, of shorter ones two."""
    return word[:_LONG] if len(word) >= _LONG else word[:_SHORT] if len(word) >= _SHORT else ""


@dataclass(slots=True)
class Passage:
    """One page: ``text`` as extracted, ``folded`` with plain digits, dashes and blanks, ``lower``."""

    page: int
    text: str
    folded: str
    lower: str
    has_digits: bool
    _leads: frozenset[str] | None = None
    _longest: int = 0
    _numbers: tuple[_Window, ...] | None = None

    @classmethod
    def of(cls, page: Page) -> Passage:
        """Fold a page's text."""
        folded = page.text
        if not folded.isascii():
            folded = _FOLDED.sub(lambda match: _FOLD[match[0]], folded)
        lower = folded.lower()
        if len(lower) != len(folded):
            lower = "".join(low if len(low := char.lower()) == 1 else char for char in folded)
        return cls(page.number, page.text, folded, lower, _DIGIT.search(folded) is not None)

    def has(self, hints: Hints) -> bool:
        """Say whether any of the strings stands on the page: spares slow patterns most pages."""
        return next(self.standing(hints), None) is not None

    def standing(self, hints: Hints) -> Iterator[str]:
        """Yield those of the strings that stand on the page."""
        return hints.standing_in(self.lower, self._leads or self._read_words())

    def _read_words(self) -> frozenset[str]:
        words = set(_PLAIN_WORD.findall(self.lower))
        self._longest = max(map(len, words), default=0)
        self._leads = frozenset(["", *[word[:_SHORT] for word in words], *[word[:_LONG] for word in words]])
        return self._leads

    @property
    def is_metadata(self) -> bool:
        """Whether it is what a file says of itself, in lines of a name and tab-separated values."""
        return self.page == METADATA

    @property
    def longest(self) -> int:
        """The length of the longest word of plain letters and digits."""
        if self._leads is None:
            self._read_words()
        return self._longest

    @property
    def numbers(self) -> tuple[_Window, ...]:
        """The runs of digits on the page, found once for all that look for numbers."""
        if self._numbers is None:
            self._numbers = tuple(match.span() for match in _NUMBER.finditer(self.folded))
        return self._numbers

    def long_numbers(self, digits: int, gaps: frozenset[str]) -> list[int]:
        """Return where the runs of digits start that, joined over at most three ``gaps``, have so many digits."""
        starts: list[int] = []
        group: list[int] = []
        count, last = 0, -1
        for start, end in (*self.numbers, (1 << 60, 1 << 60)):
            if start - last > 3 or not gaps.issuperset(self.folded[max(0, last) : start]):
                if count >= digits:
                    starts += group
                group, count = [], 0
            group.append(start)
            count += end - start
            last = end
        return starts

    def windows(self, hints: Hints, before: int, after: int) -> list[_Window]:
        """Return the stretches around the strings, joined where they touch; the ends at word borders.

        Slow patterns are run on these alone. ``before`` and ``after`` bound what a match may hold
        beside the string.
        """
        lower, size = self.lower, len(self.lower)
        places = []
        for literal in self.standing(hints):
            at = lower.find(literal)
            while at >= 0:
                if not at or not (lower[at - 1].isascii() and lower[at - 1].isalnum()):
                    places.append((max(0, at - before), min(size, at + len(literal) + after)))
                at = lower.find(literal, at + 1)
        places.sort()
        joined: list[_Window] = []
        for start, end in places:
            while end < size and lower[end].isalnum():
                end += 1
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return joined

    def matches(self, pattern: re.Pattern[str], windows: list[_Window]) -> Iterator[re.Match[str]]:
        """Yield the matches of a pattern on the lower-case text within some windows."""
        for start, end in windows:
            yield from pattern.finditer(self.lower, start, end)

    def near(
        self,
        words: re.Pattern[str],
        start: int,
        end: int,
        before: int = 80,
        after: int = 40,
        *,
        unbroken: bool = False,
    ) -> str | None:
        """Return the context word closest before a stretch of text, else the first after it, or None.

        ``unbroken`` wants it before, with no other number between.
        """
        last = None
        for match in words.finditer(self.lower, max(0, start - before), start):
            last = match
        if unbroken and last is not None and _DIGIT.search(self.lower, last.end(), start):
            return None
        if last is None and not unbroken:
            last = words.search(self.lower, end, min(len(self.lower), end + after))
        return " ".join(last[0].split()) if last else None

    def finding(
        self,
        rule: str,
        type_: str,
        group: str,
        start: int,
        end: int,
        *,
        verdict: Verdict | None = None,
        context: str | None = None,
        stance: str = "plain",
        weight: float = 0.5,
    ) -> Finding:
        """Return a finding on this page; its snippet is set once all of the page's findings are known."""
        value = re.sub(r"[\W_]+", "", self.folded[start:end]).lower()
        return Finding(
            rule=rule,
            type=type_,
            group=group,
            page=self.page,
            start=start,
            end=end,
            snippet="",
            verdict=verdict or Verdict("none", None),
            context=context,
            stance=stance,
            weight=round(weight, 3),
            value_key=hashlib.blake2s(value.encode(), digest_size=6).hexdigest(),
        )


def mask(value: str, keep: int) -> str:
    """Replace letters and digits by a bullet, but for the last ``keep`` of them."""
    total = sum(map(str.isalnum, value))
    out, seen = [], 0
    for char in value:
        if char.isalnum():
            seen += 1
            out.append(char if seen > total - keep else "•")
        else:
            out.append(char)
    return "".join(out)


def snippet(masked: str, start: int, end: int, around: int = _AROUND) -> str:
    """Cut a passage for people out of a page whose values are masked already, at word borders."""
    left, right = max(0, start - around), min(len(masked), end + around)
    if left and not masked[left - 1].isspace():
        cut = re.compile(r"\s").search(masked, left, start)
        left = cut.end() if cut else left
    if right < len(masked) and not masked[right].isspace():
        right = next((i for i in range(right, end, -1) if masked[i - 1].isspace()), right)
    body = " ".join(masked[left:right].split())
    return f"{'… ' if left else ''}{body}{' …' if right < len(masked) else ''}"
