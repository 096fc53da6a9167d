"""From what was said to cues that a person can read, and the files they are written to.

A cue has at most two lines of 42 characters (16 of a script without spaces), stands between one
and seven seconds, never overlaps the next, and ends where a sentence or clause does when there is a
choice: among all ways to cut a run of speech into cues, the one with the lowest cost is taken.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from millrace.workloads.transcripts.recognisers import Recognised

SHORTEST_MS, LONGEST_MS = 1000, 7000
"""How long a cue stands."""

_NARROW, _WIDE, _LINE = 8, 21, 336
"""A line holds 336 units: 42 characters of 8, or 16 of 21 (Chinese, Japanese, Korean)."""

_PAUSE = 0.7
"""A silence of so many seconds between two words always ends a cue."""

_BREATH = 0.25
"""One of so many seconds is a good place to end one."""

_SENTENCE = ".!?…。！？"
_CLAUSE = ",;:،、，；：—–"
_CLOSING = "\"'”’»)]}』」）》】" + _SENTENCE + _CLAUSE + "・％%"
_OPENING = "“‘«([{『「（《【¿¡"
_LEADING = {
    *("a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "is", "are", "was", "were", "be"),
    *("and", "but", "or", "nor", "so", "yet", "for", "because", "if", "though", "although", "as", "than"),
    *("that", "which", "who", "whom", "whose", "when", "where", "while", "then"),
    *("to", "of", "in", "on", "at", "by", "with", "from", "into"),
}
"""Words that belong to what follows: no line or cue should end with one, both may begin with one."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: ``start`` and ``end`` in whole milliseconds, ``lines`` one or two."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was said from ``start`` to ``end``, in seconds; word times count from ``start``."""

    start: float
    end: float
    said: Recognised


@dataclass(frozen=True, slots=True)
class Piece:
    """The smallest part of a text that is not broken: a word, or a character of a script without spaces.

    ``spaced`` says whether a space stands before it; times are seconds of the recording.
    """

    text: str
    start: float
    end: float
    spaced: bool


def cues(utterances: Iterable[Utterance]) -> list[Cue]:
    """Return the cues of a whole recording, in order."""
    spoken: list[tuple[float, float, tuple[str, ...]]] = []
    for run in _runs(piece for utterance in utterances for piece in _pieces(utterance)):
        layout = _Layout(run)
        for begin, end in _groups(layout):
            spoken.append((run[begin].start, run[end - 1].end, layout.lines(begin, end)))
    return _timed(spoken)


def is_wide(char: str) -> bool:
    """Whether a character takes the room of two, as those of Chinese, Japanese and Korean do."""
    return unicodedata.east_asian_width(char) in ("W", "F")


def units(text: str) -> int:
    """Return the room a text takes, of the 336 units of a line; combining marks take none."""
    return sum(0 if unicodedata.combining(c) else _WIDE if is_wide(c) else _NARROW for c in text)


def _pieces(utterance: Utterance) -> list[Piece]:
    """Cut the text of an utterance into pieces and give each the time of its letters."""
    texts = _split(_clean(utterance.said.text))
    timeline = _timeline(utterance)
    letters = [max(1, sum(c.isalnum() for c in text)) for text, _ in texts]
    scale = len(timeline) / max(1, sum(letters))
    pieces, before = [], 0
    for (text, spaced), count in zip(texts, letters, strict=True):
        first = min(len(timeline) - 1, int(before * scale))
        last = min(len(timeline) - 1, max(first, round((before + count) * scale) - 1))
        pieces.append(Piece(text, timeline[first][0], timeline[last][1], spaced))
        before += count
    return pieces


def _timeline(utterance: Utterance) -> list[tuple[float, float]]:
    """Return begin and end of each letter: those of its word shared out, else of the whole utterance."""
    words = [(w.text, utterance.start + w.start, utterance.start + w.end) for w in utterance.said.words]
    if not words:
        words = [(utterance.said.text, utterance.start, utterance.end)]
    times: list[tuple[float, float]] = []
    latest = utterance.start
    for text, start, end in words:
        count = max(1, sum(c.isalnum() for c in text))
        start = max(latest, start)
        latest = end = max(start, end)
        step = (end - start) / count
        times += [(start + n * step, start + (n + 1) * step) for n in range(count)]
    return times


def _clean(text: str) -> str:
    """Drop what would break a subtitle file: controls, line ends, the arrow between times."""
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return text.replace("-->", "→").replace("\ufeff", "")


def _split(text: str) -> list[tuple[str, bool]]:
    """Return the unbreakable parts of a text, each with whether a space stands before it."""
    parts: list[tuple[str, bool]] = []
    for word in text.split():
        begun = ""
        spaced = True
        for char in word:
            if begun and _breaks(begun[-1], char):
                parts.append((begun, spaced))
                begun, spaced = "", False
            if units(begun + char) > _LINE:
                parts.append((begun, spaced))
                begun, spaced = "", False
            begun += char
        if not any(c.isalnum() for c in begun) and parts and begun[0] in _CLOSING and len(begun) <= 3:
            last, was = parts[-1]
            if units(last + " " + begun) <= _LINE:
                parts[-1] = (f"{last} {begun}" if spaced else last + begun, was)
                continue
        parts.append((begun, spaced))
    return parts


def _breaks(before: str, after: str) -> bool:
    """Whether a line may break between two characters of one word: about those of scripts without spaces."""
    if before in _OPENING or after in _CLOSING or unicodedata.combining(after):
        return False
    return _unspaced(before) or _unspaced(after)


def _unspaced(char: str) -> bool:
    return is_wide(char) and not "ᄀ" <= char <= "ᇿ" and not "가" <= char <= "힣"


def _runs(pieces: Iterable[Piece]) -> Iterable[list[Piece]]:
    """Yield pieces that follow one another without a long pause."""
    run: list[Piece] = []
    for piece in pieces:
        if run and piece.start - run[-1].end >= _PAUSE:
            yield run
            run = []
        if run and piece.spaced and _unspaced(run[-1].text[-1]) and _unspaced(piece.text[0]):
            piece = replace(piece, spaced=False)
        run.append(piece)
    if run:
        yield run


class _Layout:
    """A run of pieces with what the search for the best cues asks again and again."""

    def __init__(self, run: Sequence[Piece]) -> None:
        self.run = run
        self.breaks = [_break_cost(before, after) for before, after in pairwise(run)]
        self._until = [0]
        for piece in run:
            self._until.append(self._until[-1] + piece.spaced * _NARROW + units(piece.text))

    def room(self, begin: int, end: int) -> int:
        """Return the units that pieces ``begin`` to ``end`` (not included) take in one line."""
        return self._until[end] - self._until[begin] - self.run[begin].spaced * _NARROW

    def seconds(self, begin: int, end: int) -> float:
        """Return how long the pieces are spoken."""
        return self.run[end - 1].end - self.run[begin].start

    def line_break(self, begin: int, end: int) -> int | None:
        """Return before which piece the second line begins (``end``: none does); None if two do not do."""
        if self.room(begin, end) <= _LINE:
            return end
        choices = []
        for n in range(begin + 1, end):
            upper, lower = self.room(begin, n), self.room(n, end)
            if max(upper, lower) <= _LINE:
                choices.append((self.breaks[n - 1] + 2.0 * abs(upper - lower) / _LINE, n))
        return min(choices)[1] if choices else None

    def lines(self, begin: int, end: int) -> tuple[str, ...]:
        """Return the text of a cue that fits."""
        middle = self.line_break(begin, end)
        assert middle is not None
        parts = (self.run[begin:middle], self.run[middle:end])
        return tuple(
            "".join((" " if piece.spaced and n else "") + piece.text for n, piece in enumerate(part))
            for part in parts
            if part
        )

    def cost(self, begin: int, end: int) -> float:
        """Return how bad it is to show the pieces as one cue."""
        last = end == len(self.run)
        until = self.run[-1].end + _PAUSE if last else self.run[end].start
        shown = until - self.run[begin].start
        cost = 1.5
        if shown * 1000 < SHORTEST_MS:
            cost += 20.0 * (1.0 - shown)
        cost += max(0.0, self.room(begin, end) / _NARROW / max(shown, 0.1) - 20.0) * 0.1
        return cost if last else cost + self.breaks[end - 1]


def _groups(layout: _Layout) -> list[tuple[int, int]]:
    """Cut a run into cues at the lowest cost (dynamic programming over the ends of cues)."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(layout.run) + 1):
        choices = []
        for begin in range(end - 1, -1, -1):
            if begin < end - 1:
                too_long = layout.seconds(begin, end) * 1000 > LONGEST_MS
                if too_long or layout.line_break(begin, end) is None:
                    break
            choices.append((best[begin][0] + layout.cost(begin, end), begin))
        best.append(min(choices))
    cuts, at = [len(layout.run)], len(layout.run)
    while at:
        at = best[at][1]
        cuts.append(at)
    return list(pairwise(reversed(cuts)))


def _break_cost(before: Piece, after: Piece) -> float:
    """Return how bad it is to break between two pieces: 0 after a sentence, most inside a phrase."""
    ending = before.text.rstrip("\"'”’»)]}』」）》】 ")
    if ending[-1:] and ending[-1] in _SENTENCE:
        return 0.0
    if ending[-1:] and ending[-1] in _CLAUSE:
        return 0.8
    cost = 3.0 if after.start - before.end < _BREATH else 1.2
    if before.text.lower() in _LEADING:
        cost += 2.0
    elif after.text.lower() in _LEADING:
        cost -= 0.8
    return cost


def _timed(spoken: Sequence[tuple[float, float, tuple[str, ...]]]) -> list[Cue]:
    """Give each cue its time: as spoken, but one to seven seconds, and never before the last has gone.

    One that is too short lasts into the silence after it, then begins in the silence before it; where
    there is none (nobody speaks so fast), what follows is shown a little later.
    """
    timed: list[Cue] = []
    shown_until = 0
    for n, (begin, end, lines) in enumerate(spoken):
        start = max(shown_until, round(begin * 1000))
        stop = min(max(start, round(end * 1000)), start + LONGEST_MS)
        following = round(spoken[n + 1][0] * 1000) if n + 1 < len(spoken) else None
        if stop - start < SHORTEST_MS:
            stop = (
                start + SHORTEST_MS if following is None else min(start + SHORTEST_MS, max(stop, following))
            )
        if stop - start < SHORTEST_MS:
            start = max(shown_until, stop - SHORTEST_MS)
        stop = max(stop, start + SHORTEST_MS)
        timed.append(Cue(start, stop, lines))
        shown_until = stop
    return timed


def srt(found: Sequence[Cue]) -> str:
    """Return the cues as SubRip: numbered from 1, times ``HH:MM:SS,mmm``."""
    return "\n".join(
        f"{n}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{chr(10).join(cue.lines)}\n"
        for n, cue in enumerate(found, 1)
    )


def vtt(found: Sequence[Cue]) -> str:
    """Return the cues as WebVTT (W3C), its three special characters escaped."""
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escape(chr(10).join(cue.lines))}\n"
        for cue in found
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def transcript(utterances: Sequence[Utterance], found: Sequence[Cue], duration: float) -> dict[str, Any]:
    """Return everything as data: segments with word times (seconds), and the cues."""
    languages = Counter(u.said.language for u in utterances if u.said.language)
    return {
        "language": languages.most_common(1)[0][0] if languages else None,
        "duration": round(duration, 3),
        "text": " ".join(u.said.text for u in utterances if u.said.text),
        "segments": [
            {
                "start": round(u.start, 3),
                "end": round(u.end, 3),
                "text": u.said.text,
                "language": u.said.language,
                "words": [
                    {"word": w.text, "start": round(u.start + w.start, 3), "end": round(u.start + w.end, 3)}
                    for w in u.said.words
                ],
            }
            for u in utterances
        ],
        "cues": [{"start": c.start / 1000, "end": c.end / 1000, "lines": list(c.lines)} for c in found],
    }


def transcript_json(utterances: Sequence[Utterance], found: Sequence[Cue], duration: float) -> str:
    """Return ``transcript`` as a JSON text."""
    return json.dumps(transcript(utterances, found, duration), ensure_ascii=False, indent=1) + "\n"


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
