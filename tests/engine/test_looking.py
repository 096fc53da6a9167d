"""What a look at a folder amounts to, as pure functions."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.engine.looking import KnownFile, Listing, Look, SeenFile, Settling, batches, look, within


def seen(size=1, mtime=1, ctime=0.0) -> SeenFile:
    return SeenFile(size, mtime, ctime)


def listing(**files) -> Listing:
    return Listing(dict(files))


def never(known, file):
    return False


def test_a_file_settles_while_it_does_not_change():
    first = look(listing(a=seen(1)), {}, {}, 10, 100.0, never)
    assert (list(first.pending), first.ready) == (["a"], [])
    grown = look(listing(a=seen(2)), {}, first.pending, 10, 109.0, never)
    assert grown.ready == []
    still = look(listing(a=seen(2)), {}, grown.pending, 10, 118.9, never)
    assert still.ready == []
    assert look(listing(a=seen(2)), {}, still.pending, 10, 119.0, never).ready == ["a"]


def test_a_new_time_of_change_counts_as_a_change():
    first = look(listing(a=seen(1, 1)), {}, {}, 10, 100.0, never)
    assert look(listing(a=seen(1, 2)), {}, first.pending, 10, 120.0, never).ready == []


def test_what_is_known_is_no_news_until_it_changes():
    known = {"a": KnownFile(1, 1, "j", 0)}
    assert look(listing(a=seen(1, 1)), known, {}, 0, 100.0, never).pending == {}
    assert look(listing(a=seen(1, 2)), known, {}, 0, 100.0, never).ready == ["a"]
    assert look(listing(a=seen(2, 1)), known, {}, 0, 100.0, never).ready == ["a"]


def test_what_its_own_job_wrote_is_adopted_and_while_it_writes_nothing_is_judged():
    known = {"a": KnownFile(1, 1, "j", 0)}
    changed = listing(a=seen(1, 2))
    assert look(changed, known, {}, 0, 100.0, lambda *_: True).adopted == {"a": seen(1, 2)}
    at_it = look(changed, known, {}, 0, 100.0, lambda *_: None)
    assert (at_it.pending, at_it.adopted, at_it.gone) == ({}, {}, [])


def test_a_file_that_vanishes_while_it_settles_is_forgotten():
    first = look(listing(a=seen()), {}, {}, 10, 100.0, never)
    assert look(listing(b=seen()), {}, first.pending, 10, 120.0, never).pending.keys() == {"b"}


def test_files_go_and_come_back():
    known = {"a": KnownFile(1, 1), "b": KnownFile(1, 1)}
    assert look(listing(b=seen()), known, {}, 0, 0.0, never).gone == ["a"]
    known["a"] = KnownFile(1, 1, gone=True)
    back = look(listing(a=seen(), b=seen()), known, {}, 0, 0.0, never)
    assert (back.back, back.ready, back.gone) == (["a"], [], [])


def test_nothing_is_gone_when_less_could_be_seen():
    known = {"a": KnownFile(1, 1)}
    assert look(Listing({}), known, {}, 0, 0.0, never, same_disk=False).gone == []
    assert look(Listing({"b": seen()}, unreadable=["x"]), known, {}, 0, 0.0, never).gone == []
    assert look(Listing({}), known, {}, 0, 0.0, never).gone == ["a"]


def found(ready: int, settling: int) -> Look:
    names = [f"r{n:03}" for n in range(ready)]
    rest = [f"s{n:03}" for n in range(settling)]
    return Look(pending={name: Settling(1, 1, 0.0) for name in names + rest}, ready=names)


def test_one_job_a_file_or_batches_that_wait_for_the_rest():
    assert batches(found(3, 1), None) == [["r000"], ["r001"], ["r002"]]
    assert batches(found(3, 0), 2) == [["r000", "r001"], ["r002"]]
    assert batches(found(3, 1), 2) == [["r000", "r001"]]
    assert batches(found(1, 1), 2) == []
    assert batches(found(0, 0), 2) == []


@given(st.integers(0, 50), st.integers(0, 5), st.integers(1, 12))
def test_no_batch_is_too_large_and_none_loses_a_file(ready, settling, size):
    made = batches(found(ready, settling), size)
    assert all(0 < len(batch) <= size for batch in made)
    taken = [name for batch in made for name in batch]
    assert taken == found(ready, settling).ready[: len(taken)]
    assert settling or len(taken) == ready


FILES = st.dictionaries(
    st.sampled_from("abcd"), st.builds(SeenFile, st.integers(1, 2), st.integers(1, 2), st.just(0.0))
)


@settings(max_examples=200, deadline=None)
@given(st.lists(FILES, max_size=12), st.integers(0, 3))
def test_each_state_that_settled_is_taken_exactly_once_in_a_row(looks, settle):
    """Whatever comes and goes: what is taken was unchanged for the time, and is not taken again unchanged."""
    known: dict[str, KnownFile] = {}
    pending: dict[str, Settling] = {}
    history: list[dict[str, SeenFile]] = []
    for now, files in enumerate(looks):
        history.append(files)
        result = look(Listing(files), known, pending, settle, float(now), never)
        pending = dict(result.pending)
        for path in result.ready:
            file = files[path]
            assert all(past.get(path) == file for past in history[now - settle :])
            assert path not in known or not known[path].same(file)
            known[path] = KnownFile(file.size, file.mtime)
            del pending[path]


def test_a_change_is_a_jobs_own_when_it_was_made_while_the_item_ran():
    assert within(105.0, 100.0, 110.0)
    assert within(99.99, 100.0, 110.0)
    assert not within(99.0, 100.0, 110.0)
    assert not within(111.0, 100.0, 110.0)
    assert not within(105.0, None, 110.0)
