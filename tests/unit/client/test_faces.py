"""The two faces: the same methods with the same arguments, exports as promised, nothing of the server."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import millrace.client
from millrace.client import AsyncMillrace, ClientError, LocalError, Millrace, errors, faces

FACES = [
    (faces.Millrace, faces.AsyncMillrace),
    (faces.Job, faces.AsyncJob),
    (faces.Artifacts, faces.AsyncArtifacts),
    (faces.Schedules, faces.AsyncSchedules),
    (faces.Deliveries, faces.AsyncDeliveries),
    (faces.Presets, faces.AsyncPresets),
]


def public(face: type) -> dict[str, Any]:
    return {name: value for name, value in vars(face).items() if not name.startswith("_")}


@pytest.mark.parametrize(("blocks", "awaits"), FACES)
def test_both_faces_have_the_same_methods_with_the_same_arguments(blocks: type, awaits: type) -> None:
    one, other = public(blocks), public(awaits)
    assert one.keys() == other.keys()
    for name in one:
        if name != "close" and callable(one[name]):
            assert inspect.signature(one[name]).parameters == inspect.signature(other[name]).parameters, name
            assert one[name].__doc__ == other[name].__doc__
            assert one[name].__doc__, name


@pytest.mark.parametrize(("blocks", "awaits"), FACES)
def test_every_flow_has_a_method_on_both_faces(blocks: type, awaits: type) -> None:
    flows = blocks.__orig_bases__[0].__args__[0]  # type: ignore[attr-defined]
    flows = getattr(flows, "__origin__", flows)
    named = {name for name, value in vars(flows).items() if inspect.isfunction(value) and name[0] != "_"}
    # What makes a face iterable is there as __iter__.
    assert named - {"each"} <= public(blocks).keys()


def raised() -> list[type[ClientError]]:
    found = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [value for value in found if issubclass(value, ClientError)]


def test_what_is_exported_is_there_and_sorted() -> None:
    names = millrace.client.__all__
    assert names == sorted(names)
    assert all(hasattr(millrace.client, name) for name in names)
    raised = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, ClientError)
    }
    assert raised <= set(names)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    open_branches: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"(?:    )([ │├└─]*)([A-Z]\w+)", line)
        if found is None:
            continue
        depth = len(found[1])
        while open_branches and open_branches[-1][0] >= depth:
            open_branches.pop()
        if open_branches:
            drawn[found[2]] = open_branches[-1][1]
        open_branches.append((depth, found[2]))
    assert drawn == {
        error.__name__: error.__base__.__name__ for error in raised() if error is not ClientError
    }


def test_the_client_needs_nothing_of_the_server() -> None:
    folder = Path(millrace.client.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("millrace"):
                assert node.module in ("millrace", "millrace.errors") or "client" in node.module, path  # type: ignore[operator]
    program = (
        "import sys\nfrom millrace.client import AsyncMillrace, Millrace\n"
        "Millrace('http://localhost')\nAsyncMillrace('http://localhost')\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {
        "fastapi",
        "starlette",
        "pydantic",
        "sqlalchemy",
        "orjson",
        "numpy",
        "typer",
        "rich",
        "yaml",
        "av",
    }
    assert set(run.stdout.split()) & heavy == set()


def test_types_are_exported_and_precise(tmp_path: Path) -> None:
    program = tmp_path / "uses.py"
    program.write_text(
        "from millrace.client import AsyncMillrace, Millrace\n"
        "def one(m: Millrace) -> None:\n"
        "    reveal_type(m.transcripts('a.mp3', asr=True, priority='high'))\n"
        "    reveal_type(next(iter(m.job('x').watch())))\n"
        "    reveal_type(m.job('x').artifacts.list())\n"
        "    m.transcripts('a.mp3', nosuch=1)\n"
        "async def two(m: AsyncMillrace) -> None:\n"
        "    reveal_type(await m.transcripts('a.mp3'))\n"
        "    async for event in (await m.job('x')).watch(): reveal_type(event)\n"
        "    reveal_type(await (await m.job('x')).artifacts.save('out'))\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert re.findall(r'Revealed type is "(.*)"', run.stdout) == [
        "millrace.client.faces.Job",
        "millrace.client.rows.Event",
        "list[millrace.client.rows.Artifact]",
        "millrace.client.faces.AsyncJob",
        "millrace.client.rows.Event",
        "list[pathlib.Path]",
    ], run.stdout
    assert re.findall(r"error: (.*)", run.stdout) == ['Unexpected keyword argument "nosuch"  [call-arg]']
    assert (Path(millrace.__file__).parent / "py.typed").exists()


def test_where_the_server_is_comes_from_the_environment_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MILLRACE_URL", "MILLRACE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Millrace() as client:
        assert client.url == "http://127.0.0.1:8000"
    monkeypatch.setitem(os.environ, "MILLRACE_URL", "mill.example:9000/")
    monkeypatch.setitem(os.environ, "MILLRACE_TOKEN", "t0ken")
    with Millrace() as client:
        assert client.url == "http://mill.example:9000"
        assert client.driver.site.token == "t0ken"
    with Millrace("https://other.example/mill/", "mine") as client:
        assert client.url == "https://other.example/mill"
        assert client.driver.site.token == "mine"


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:port", "http://[::1"])
@pytest.mark.parametrize("face", [Millrace, AsyncMillrace])
def test_an_address_that_is_none_is_refused_with_what_to_write(url: str, face: Any) -> None:
    with pytest.raises(LocalError, match="is not the address of a server"):
        face(url)


def test_a_token_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(LocalError, match="the token must be printable ASCII"):
        Millrace("http://x", "geheim\n")
