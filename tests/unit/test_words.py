"""Status words of several contracts over one set of states."""

from __future__ import annotations

import pytest

from millrace.engine.model import State
from millrace.engine.store import Selection
from millrace.engine.workload import Workload
from millrace.errors import InvalidRequest
from millrace.server.words import Words
from millrace.workloads import Plugin


def plugin(kind: str, **words: str) -> Plugin:
    return Plugin(kind=kind, build=lambda settings: Workload(kind, ()), words=words)


WORDS = Words(
    [
        plugin("transcripts", cancelled="canceled"),
        plugin("documents", queued="pending", running="processing", succeeded="completed"),
        plugin("sync", held="uploaded", queued="processing", running="processing", succeeded="completed"),
    ]
)


def select(word: str) -> set[tuple[str | None, str, bool | None]]:
    return {(found.kind, found.state.value, found.held) for found in WORDS.select([word])}


def test_a_word_means_in_each_contract_what_it_means_there() -> None:
    assert select("processing") == {
        ("transcripts", "running", None),
        ("documents", "running", None),
        ("sync", "queued", False),
        ("sync", "running", None),
    }


def test_a_word_that_a_contract_does_not_have_keeps_its_meaning() -> None:
    assert select("completed") == {(kind, "succeeded", None) for kind in ("transcripts", "documents", "sync")}
    assert select("uploaded") == {
        ("sync", "queued", True),
        ("transcripts", "queued", True),
        ("documents", "queued", True),
    }
    assert select("canceled") == select("cancelled")


def test_canonical_words_always_work() -> None:
    for state in State:
        assert {found[1] for found in select(state.value)} == {state.value}


def test_words_are_joined_and_case_does_not_matter() -> None:
    assert set(WORDS.select([" Failed ", "CANCELLED"])) == {
        *WORDS.select(["failed"]),
        *WORDS.select(["cancelled"]),
    }
    assert WORDS.select([]) == ()


def test_without_workloads_the_states_remain() -> None:
    assert Words([]).select(["completed"]) == (Selection(None, State.SUCCEEDED, None),)


def test_an_unknown_word_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match="'sleepy' is no status; there are: canceled, cancelled"):
        WORDS.select(["sleepy"])
