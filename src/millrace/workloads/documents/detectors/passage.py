"""A page's text as detectors see it: folded one character to one, so that offsets stay those of the page."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from millrace.workloads.documents.document import Finding, Page, Verdict

_FOLD = {
    **{0xFF01 + i: 0x21 + i for i in range(94)},  # full-width forms
    **{0x0660 + i: 0x30 + i for i in range(10)},  # Arabic-Indic digits
    **{0x06F0 + i: 0x30 + i for i in range(10)},  # Persian digits
    **{0x0966 + i: 0x30 + i for i in range(10)},  # Devanagari digits
    **dict.fromkeys([0xA0, 0x3000, 0x202F, 0x205F, *range(0x2000, 0x200B)], 0x20),
    **dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63], 0x2D),
    **dict.fromkeys([0x2018, 0x2019, 0x02BC], 0x27),
    **dict.fromkeys([0x201C, 0x201D, 0x201E], 0x22),
}
_AROUND = 60
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Passage:
    """One page: ``text`` as extracted, ``folded`` with plain digits, dashes and blanks, ``lower``."""

    page: int
    text: str
    folded: str
    lower: str
    has_digits: bool

    @classmethod
    def of(cls, page: Page) -> Passage:
        """Fold a page's text."""
        folded = page.text if page.text.isascii() else page.text.translate(_FOLD)
        lower = folded.lower()
        if len(lower) != len(folded):
            lower = "".join(low if len(low := char.lower()) == 1 else char for char in folded)
        return cls(page.number, page.text, folded, lower, any(map(str.isdigit, folded)))

    def has(self, literals: tuple[str, ...]) -> bool:
        """Say whether any of some lower-case strings stands on the page: spares slow patterns most pages."""
        lower = self.lower
        for literal in literals:  # noqa: SIM110 - any() with a generator takes twice as long, and this runs often
            if literal in lower:
                return True
        return False

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
