"""The status words of every contract over the one canonical model.

Each plugin contributes its words; ``?status=`` understands all of them, and means by each what the
contract means that uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from millrace.engine.model import Job, State
from millrace.engine.store import Selection
from millrace.errors import InvalidRequest
from millrace.workloads import Plugin

_MEANINGS: dict[str, Selection] = {
    **{state.value: Selection(state=state) for state in State},
    "pending": Selection(state=State.QUEUED),
    "uploaded": Selection(state=State.QUEUED, held=True),
    "processing": Selection(state=State.RUNNING),
    "completed": Selection(state=State.SUCCEEDED),
    "success": Selection(state=State.SUCCEEDED),
    "canceled": Selection(state=State.CANCELLED),
    "error": Selection(state=State.FAILED),
}


class Words:
    """Translates between canonical states and the words of each contract."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._words: dict[str, Mapping[str, str]] = {plugin.kind: plugin.words for plugin in plugins}

    def of(self, job: Job) -> str:
        """Return a job's status in the words of its own contract."""
        words = self._words.get(job.kind, {})
        if job.held and job.state is State.QUEUED and "held" in words:
            return words["held"]
        return words.get(job.state.value, job.state.value)

    def known(self) -> list[str]:
        """Return every word that ``?status=`` accepts, in order of the alphabet."""
        theirs = {word for words in self._words.values() for word in words.values()}
        return sorted(theirs | {state.value for state in State} | set(_MEANINGS))

    def select(self, given: Iterable[str]) -> tuple[Selection, ...]:
        """Return which jobs the words stand for; InvalidRequest for one that no contract has."""
        found: dict[Selection, None] = {}
        for word in given:
            for selection in self._of_word(word.strip().lower()):
                found[selection] = None
        return tuple(found)

    def _of_word(self, word: str) -> list[Selection]:
        if word not in self.known():
            raise InvalidRequest(f"status: {word[:40]!r} is no status; there are: {', '.join(self.known())}")
        selections = []
        for kind, words in self._words.items():
            own = [Selection(kind, State(state), None) for state, w in _spoken(words).items() if w == word]
            own = [_unless_held(words, selection) for selection in own]
            if words.get("held") == word:
                own.append(Selection(kind, State.QUEUED, True))
            if not own and word in _MEANINGS and word not in _spoken(words).values():
                meaning = _MEANINGS[word]
                own = [Selection(kind, meaning.state, meaning.held)]
            selections += own
        if not selections and word in _MEANINGS:
            selections.append(_MEANINGS[word])
        return selections


def _spoken(words: Mapping[str, str]) -> dict[str, str]:
    """Return a contract's word for every canonical state; its own name where it has no other."""
    return {state.value: words.get(state.value, state.value) for state in State}


def _unless_held(words: Mapping[str, str], selection: Selection) -> Selection:
    if selection.state is State.QUEUED and "held" in words:
        return Selection(selection.kind, State.QUEUED, False)
    return selection
