"""How the dashboard writes times, sizes and advice."""

from __future__ import annotations

import doctest
import subprocess
from pathlib import Path
from shutil import which

import pytest

from millrace.plugins import discover
from millrace.server.dashboard import advice, words

STATIC = Path(words.__file__).parent / "static"


def test_its_examples_hold() -> None:
    assert doctest.testmod(words).failed == 0


@pytest.mark.skipif(which("node") is None, reason="needs node")
def test_the_pages_script_writes_them_in_the_same_way() -> None:
    """What the server writes first, the page's own clock goes on writing."""
    seconds = [0.03, 0.5, 4.2, 9.97, 12, 59.4, 60, 75, 3599, 3600, 3720, 86399, 86400, 90000, 200000]
    program = (
        f'import {{ span, size }} from "{(STATIC / "time.js").as_uri()}";'
        f"console.log({seconds}.map(span).join(','), [0, 999, 1500, 48000000].map(size).join(','))"
    )
    run = subprocess.run(
        ["node", "--input-type=module", "--eval", program], capture_output=True, text=True, check=True
    )
    expected = ",".join(words.span(each) for each in seconds)
    sizes = ",".join(words.size(each) for each in (0, 999, 1500, 48_000_000))
    assert run.stdout.strip() == f"{expected} {sizes}"


def test_every_failure_comes_with_something_to_do() -> None:
    assert advice.advice(None) == ""
    assert "retry" in advice.advice({"code": "input_missing", "message": "there is no file"}).lower()
    assert advice.advice({"code": "never seen", "message": "x"})
    own = {"input_missing": "ours"}
    assert advice.advice({"code": "input_missing"}, own) == "ours"


@pytest.mark.parametrize("kind", ["documents", "images", "sync", "tracks", "transcripts"])
def test_every_workload_has_a_face(kind: str) -> None:
    make = discover()[kind].face
    assert make is not None
    face = make()
    assert face.title
    assert face.about.endswith(".")
    assert face.folder is not None
    assert (face.folder / "item.html").is_file()
    assert all(text.endswith(".") for text in face.advice.values())
    assert len({field.name for field in face.fields}) == len(face.fields)
