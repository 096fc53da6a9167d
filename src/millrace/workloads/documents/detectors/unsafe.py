"""Unsafe content, and whether a passage does harm or talks about it.

An instruction, a threat or an intent is told from discussion by the grammar of the passage (the frames in
``unsafe_rules``) and by what stands around it (reports, law, prevention, help, fiction). The rules read
English best; what they find is evidence for a person, who has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from millrace.workloads.documents.detectors.passage import Passage
from millrace.workloads.documents.detectors.unsafe_rules import HARMS, Frame, Harm
from millrace.workloads.documents.detectors.unsafe_words import ADVICE, DOES, REPORT
from millrace.workloads.documents.document import Finding

_AROUND = 240
_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?= |$)")
_QUOTES = frozenset("\"'“‘«„")
_MAX_SENTENCE = 500


def detect(passage: Passage) -> Iterator[Finding]:
    """Yield what is unsafe, and what talks about it (stance ``discussion``)."""
    for harm in HARMS:
        windows = passage.windows(harm.hints, _AROUND, _AROUND)
        if not windows:
            continue
        literals = tuple(passage.standing(harm.hints))
        acted = False
        for low, high in windows:
            for start, end, frame in _acts(passage.lower, low, high, harm, literals):
                acted = True
                yield _judge(passage, harm, frame, start, end)
        if not acted:
            yield from _topics(passage, harm, windows)


def _acts(
    text: str, low: int, high: int, harm: Harm, literals: tuple[str, ...]
) -> Iterator[tuple[int, int, Frame]]:
    """Yield the stretches of a window that act a harm out, none twice; ``literals`` are hints of the page."""
    flat = " ".join(text[low:high].split())
    sentences = _sentences(flat)
    hinted = [any(literal in flat[start:end] for literal in literals) for start, end in sentences]
    done = -1
    for number, (start, end) in enumerate(sentences):
        after = number + 1 < len(sentences) and hinted[number + 1]
        if start < done or not (hinted[number] or after):
            continue
        for frame in harm.frames:
            if frame.sentences == 1 and not hinted[number]:
                continue
            last = sentences[min(number + frame.sentences, len(sentences)) - 1][1]
            span = _span(frame, flat, start, end, last)
            if span is not None:
                done = max(end, span[1])
                places = _places(text, low, high)
                yield places[span[0]], places[span[1] - 1] + 1, frame
                break


def _span(frame: Frame, flat: str, start: int, end: int, last: int) -> tuple[int, int] | None:
    """Return from where to where a frame stands; one over two sentences may begin in the first only."""
    first = frame.needs[0].search(flat, start, last)
    if first is None:
        return None
    spans = [first.span()]
    for need in frame.needs[1:]:
        match = need.search(flat, start, last)
        if match is None:
            return None
        spans.append(match.span())
    if frame.unless is not None and frame.unless.search(flat, start, last):
        return None
    low, high = min(s for s, _ in spans), max(e for _, e in spans)
    return (low, high) if low < end else None


def _places(text: str, low: int, high: int) -> list[int]:
    """Return where each character of a stretch stands once its white space was made single blanks."""
    places: list[int] = []
    for word in _WORD.finditer(text, low, high):
        if places:
            places.append(word.start() - 1)
        places.extend(range(word.start(), word.end()))
    return places


def _sentences(flat: str) -> list[tuple[int, int]]:
    """Return where sentences stand; one too long to be one (a table, a list) is cut at blanks."""
    found: list[tuple[int, int]] = []
    start = 0
    for end in (*(match.end() for match in _SENTENCE_END.finditer(flat)), len(flat)):
        while end - start > _MAX_SENTENCE:
            cut = flat.rfind(" ", start + _MAX_SENTENCE // 2, start + _MAX_SENTENCE)
            cut = cut if cut > start else start + _MAX_SENTENCE
            found.append((start, cut))
            start = cut
        if end > start:
            found.append((start, end))
        start = end
    return found


def _judge(passage: Passage, harm: Harm, frame: Frame, start: int, end: int) -> Finding:
    """Weigh what stands around an act: talk about it makes it discussion, steps make it surer."""
    talk = _talk(passage, harm, start, end)
    does = {match[0] for match in DOES.finditer(_around(passage, start, end))}
    quoted = _is_quoted(passage.folded, start)
    discussed = len(talk) + quoted >= 2 + len(does)
    weight = frame.weight - 0.12 * len(talk) + 0.05 * len(does) - 0.1 * quoted
    return passage.finding(
        f"unsafe.{harm.type.lower()}", harm.type, "unsafe", start, end,
        context=", ".join(sorted(talk if discussed else does)) or None,
        stance="discussion" if discussed else harm.stance,
        weight=min(0.99, max(0.2, weight)) if not discussed else 0.3,
    )  # fmt: skip


def _is_quoted(text: str, start: int) -> bool:
    """Say whether a quotation opens within a few words before a place and has not closed."""
    before = text[max(0, start - 60) : start + 1]
    opened = [
        place
        for place, char in enumerate(before)
        if char in _QUOTES and (not place or not before[place - 1].isalnum())
    ]
    return bool(opened) and not any(char in '"”»' for char in before[opened[-1] + 1 :])


def _topics(passage: Passage, harm: Harm, windows: list[tuple[int, int]]) -> Iterator[Finding]:
    """Yield the first mention of a topic that nothing on the page acts out.

    One that nothing around explains as report or advice weighs more: a person should look at it.
    """
    match = next(passage.matches(harm.topic, windows), None)
    if match:
        talk = _talk(passage, harm, *match.span())
        yield passage.finding(f"unsafe.{harm.type.lower()}", harm.type, "unsafe", *match.span(),
                              context=", ".join(sorted(talk)) or None,
                              stance="discussion", weight=0.15 if talk else 0.25)  # fmt: skip


def _around(passage: Passage, start: int, end: int) -> str:
    return " ".join(passage.lower[max(0, start - _AROUND) : end + _AROUND].split())


def _talk(passage: Passage, harm: Harm, start: int, end: int) -> set[str]:
    """Return the words around that speak for a report or, where the kind allows it, for advice."""
    around = _around(passage, start, end)
    talk = {match[0] for match in REPORT.finditer(around)}
    return talk if harm.quoting else talk | {match[0] for match in ADVICE.finditer(around)}
