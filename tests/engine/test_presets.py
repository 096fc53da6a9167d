"""Presets: saved once, taken as they are at that moment, what is given wins."""

from __future__ import annotations

import asyncio

import pytest

from millrace.engine.presets import Presets, merged
from millrace.errors import InvalidRequest, NotFound
from tests.engine.rig import build


@pytest.fixture
def presets(tmp_path, database_url):
    engine = build(tmp_path, url=database_url)
    engine.start()
    yield Presets(engine)
    engine.stop()


def put(presets, kind, name, options):
    return asyncio.run(presets.put(kind, name, options))


def test_a_preset_is_saved_replaced_found_and_deleted(presets):
    saved, new = put(presets, "one", "night shift", {"a": 1})
    assert (saved.options, new) == ({"a": 1}, True)
    again, new = put(presets, "one", "night shift", {"b": [2]})
    assert (again.options, new) == ({"b": [2]}, False)
    assert (again.created_at, again.updated_at > saved.updated_at) == (saved.created_at, True)
    assert asyncio.run(presets.get("one", "night shift")) == again
    asyncio.run(presets.delete("one", "night shift"))
    with pytest.raises(NotFound, match="no preset 'night shift' of one"):
        asyncio.run(presets.get("one", "night shift"))
    with pytest.raises(NotFound):
        asyncio.run(presets.delete("one", "night shift"))


def test_names_belong_to_a_kind(presets):
    for kind in ("two", "one"):
        put(presets, kind, "b", {"of": kind})
    put(presets, "one", "a", {})
    listed = [(preset.kind, preset.name) for preset in asyncio.run(presets.list())]
    assert listed == [("one", "a"), ("one", "b"), ("two", "b")]
    assert [preset.options for preset in asyncio.run(presets.list("two"))] == [{"of": "two"}]


@pytest.mark.parametrize("name", ["", " a", "a ", "a/b", "a\nb", "a\0", "-a", "x" * 65, "a?b", "a#b"])
def test_a_name_must_fit_into_a_url_and_a_command_line(presets, name):
    with pytest.raises(InvalidRequest, match="name: must be 1 to 64"):
        put(presets, "one", name, {})
    assert asyncio.run(presets.list()) == []


@pytest.mark.parametrize("name", ["a", "x" * 64, "für Oma 2.0", "H.264+AAC", "_x-", "日本語"])
def test_names_people_use(presets, name):
    assert put(presets, "one", name, {"x": 1})[0].name == name


def test_options_beyond_a_measure_are_refused(presets):
    with pytest.raises(InvalidRequest, match="options: longer than"):
        put(presets, "one", "a", {"x": "y" * 70_000})


def test_options_given_win_over_those_saved(presets):
    put(presets, "one", "a", {"tasks": {"asr": True, "demucs": True}, "vad": 1})
    taken = presets.apply("one", "a", {"tasks": {"demucs": False}, "more": 2})
    assert taken == {"tasks": {"asr": True, "demucs": False}, "vad": 1, "more": 2}


def test_a_preset_that_is_not_there_is_refused_naming_those_there_are(presets):
    put(presets, "one", "a", {})
    put(presets, "two", "z", {})
    with pytest.raises(InvalidRequest, match=r"there is no preset 'b' of one; there are: 'a'$"):
        presets.apply("one", "b", {})
    with pytest.raises(InvalidRequest, match="there are: none"):
        presets.apply("flow", "b", {})


def test_a_reference_is_replaced_whole():
    saved = {"logo": {"kind": "path", "path": "/m/a.png"}, "list": [1, 2]}
    given = {"logo": {"kind": "url", "url": "http://x/"}, "list": [3]}
    assert merged(saved, given) == given
