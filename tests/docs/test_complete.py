"""No setting, command, endpoint, metric, event or artifact is undocumented, and none is made up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import click
import pytest
import typer
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.routing import BaseRoute, WebSocketRoute

from millrace.cli import app as command_line
from millrace.plugins import discover
from millrace.server.app import create_app
from tests.docs.pages import DOCS, ROOT, pages, text, whole
from tests.live import LiveServer

ENDPOINTS = DOCS / "http-api.md"
METRICS = DOCS / "metrics.md"
EVENTS = DOCS / "events.md"
CONTEXT = re.compile(r"`([^`\n]+)`")


# -- settings -------------------------------------------------------------------------------------


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a field's type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_of(part)


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every setting of a model, those of the models inside it too."""
    for field, info in model.model_fields.items():
        inner = list(models_of(info.annotation))
        if not inner:
            yield f"{prefix}{field}"
        for each in inner:
            yield from settings_of(each, f"{prefix}{field}.")


@pytest.mark.parametrize("kind", sorted(discover()))
def test_every_setting_of_a_workload_is_on_its_page(kind: str) -> None:
    page = text(DOCS / "workloads" / f"{kind}.md")
    code = set(re.findall(r"[a-z_0-9]+(?:\.[a-z_0-9]+)*", " ".join(CONTEXT.findall(page))))
    keys = set(
        re.findall(
            r"^[\s{-]*([a-z_0-9]+):|[{,] ?([a-z_0-9]+):",
            "\n".join(re.findall(r"```yaml\n(.*?)```", page, re.S)),
            re.M,
        )
    )
    there = code | {key for pair in keys for key in pair if key}
    there |= {name.rpartition(".")[2] for name in there}
    missing = {
        name for name in settings_of(discover()[kind].settings) if not {name, name.rpartition(".")[2]} & there
    }
    assert missing == set(), f"docs/workloads/{kind}.md does not name {', '.join(sorted(missing))}"


# -- commands -------------------------------------------------------------------------------------


def commands_of(command: click.Command, path: str = "millrace") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, by what a person types."""
    if hasattr(command, "commands"):
        if command.invoke_without_command:
            yield path, command
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from commands_of(inner, f"{path} {name}")
    else:
        yield path, command


@pytest.fixture(scope="module")
def commands() -> dict[str, click.Command]:
    """The command line with the workloads' commands, as ``millrace.cli`` mounts them."""
    tree = typer.main.get_group(command_line)
    for kind, plugin in discover().items():
        if plugin.commands is not None:
            tree.commands[kind] = typer.main.get_group(plugin.commands())
    return dict(commands_of(tree))


def test_every_command_is_documented(commands: dict[str, click.Command]) -> None:
    undocumented = {path for path in commands if not re.search(rf"\b{re.escape(path)}\b", whole())}
    assert undocumented == set()


def test_every_command_says_what_it_does(commands: dict[str, click.Command]) -> None:
    assert {path for path, command in commands.items() if not command.get_short_help_str()} == set()


def test_no_command_is_documented_that_is_not_there(commands: dict[str, click.Command]) -> None:
    known = {tuple(path.split()[1:]) for path in commands}
    known |= {path[:1] for path in known}
    for page in pages():
        for line in re.findall(
            r"^(?:\$ )?millrace ([a-z][a-z ]*)",
            "\n".join(re.findall(r"```bash\n(.*?)```", text(page), re.S)),
            re.M,
        ):
            words = tuple(line.split())
            assert any(words[:length] in known for length in (1, 2)), f"{page}: millrace {line}"


# -- endpoints ------------------------------------------------------------------------------------


def routes_of(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield every route, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from routes_of(included.routes)


def endpoints_of(application: FastAPI) -> Iterator[str]:
    """Yield every endpoint as ``METHOD /path``; HEAD goes with GET, a WebSocket is ``WS``."""
    for route in routes_of(application.routes):
        path = getattr(route, "path", "").replace(":path}", "}")
        if path == "/" or path.startswith(("/docs/", "/ui/")):  # pages for people, and what they load
            continue
        if isinstance(route, WebSocketRoute):
            yield f"WS {path}"
        for method in (getattr(route, "methods", None) or set()) - {"HEAD", "OPTIONS"}:
            yield f"{method} {path}"


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    from millrace.server.assembly import open_services
    from millrace.settings import Settings

    services = open_services(Settings(data_dir=tmp_path_factory.mktemp("data")), discover())
    try:
        return set(endpoints_of(create_app(services, discover())))
    finally:
        services.engine.stop()


def test_the_reference_has_every_endpoint_and_no_other(endpoints: set[str]) -> None:
    listed = set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", text(ENDPOINTS), re.M))
    assert endpoints - listed == set(), "docs/http-api.md lacks these"
    assert listed - endpoints == set(), "docs/http-api.md has what is not there"


# -- metrics and events ---------------------------------------------------------------------------


def test_every_metric_is_documented_and_no_other(session_server: LiveServer) -> None:
    session_server.client.get("/jobs").raise_for_status()
    scraped = session_server.client.get("/metrics").text
    families = {
        found for found in re.findall(r"^# TYPE (\w+) ", scraped, re.M) if not found.endswith("_created")
    }
    listed = set(re.findall(r"^\| `(millrace_\w+)`", text(METRICS), re.M))
    assert listed == families


def event_types() -> set[str]:
    """Return the types of events that the engine's code writes: its texts of that form."""
    texts = {
        node.value
        for module in (ROOT / "src" / "millrace" / "engine").glob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {found for found in texts if re.fullmatch(r"(job|item|items|stage|artifact)\.[a-z_]+", found)}


def test_every_event_is_documented_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", text(EVENTS), re.M))
    assert listed == event_types()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - set(
        re.findall(r": ([\w/-]+\.md)$", navigation, re.M)
    )
    assert missing == set()
