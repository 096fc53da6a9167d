"""The server's pure parts: names, ranges, validation messages, references in inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import InvalidRequest
from millrace.server.artifacts import content_disposition, parse_range
from millrace.server.errors import explain
from millrace.server.replies import rfc3339
from millrace.server.submission import Inputs
from millrace.server.uploads import clean_name
from millrace.settings import Settings


@given(st.text(max_size=600))
def test_a_clean_name_is_one_component_that_can_be_shown(raw: str) -> None:
    name = clean_name(raw)
    assert name
    assert name not in (".", "..")
    assert "/" not in name
    assert "\\" not in name
    assert len(name.encode()) <= 255
    assert not any(ord(char) < 32 or ord(char) == 127 for char in name)


@given(st.text(min_size=1, max_size=200))
def test_a_content_disposition_is_one_line_of_ascii(name: str) -> None:
    header = content_disposition(clean_name(name))
    assert header.isascii()
    assert header.isprintable()
    assert header.startswith('attachment; filename="')


@given(st.integers(0, 10_000), st.integers(0, 20_000), st.integers(0, 20_000))
def test_a_range_lies_within_the_content(size: int, first: int, last: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            part = parse_range(header, size)
        except ValueError:
            continue
        if part is not None:
            start, end = part
            assert 0 <= start < end <= size


@given(st.text(max_size=40))
def test_no_range_header_breaks_it(header: str) -> None:
    try:
        part = parse_range(header, 100)
    except ValueError:
        return
    assert part is None or 0 <= part[0] < part[1] <= 100


def test_many_errors_are_said_in_one_sentence() -> None:
    found = [
        {"type": "missing", "loc": ("body", "items", n, "kind"), "msg": "Field required"} for n in range(7)
    ]
    sentence, entries = explain(found)
    assert sentence.startswith("items.0.kind: field required; items.1.kind: field required; ")
    assert sentence.endswith("(and 2 more)")
    assert entries[6] == {"field": "items.6.kind", "reason": "field required"}


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"
    assert rfc3339(None) is None


def test_references_are_found_at_any_depth(tmp_path: Path) -> None:
    inputs = Inputs(Settings(data_dir=tmp_path, media_roots=(tmp_path,)))
    path = {"kind": "path", "path": f"{tmp_path}/x/../a.mp3"}
    resolved = inputs.resolve({"master": path, "dubs": [path, {"note": 1}]}, "input")
    whole = {"kind": "path", "path": f"{tmp_path}/a.mp3"}
    assert resolved == {"master": whole, "dubs": [whole, {"note": 1}]}


def test_a_stored_file_can_never_be_named_directly(tmp_path: Path) -> None:
    inputs = Inputs(Settings(data_dir=tmp_path))
    for reference in (
        {"kind": "upload", "key": "jobs/another/0/secret.txt"},
        {"kind": "upload", "key": "x", "index": 0},
        {"kind": "upload", "index": True},
        {"kind": "upload", "index": -1},
    ):
        with pytest.raises(InvalidRequest, match="must be the number of one of the 0 files sent"):
            inputs.resolve({"file": reference}, "input")


def test_bottomless_inputs_are_refused(tmp_path: Path) -> None:
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"deeper": deep}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        Inputs(Settings(data_dir=tmp_path)).resolve(deep, "input")
