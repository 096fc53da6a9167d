"""Which server a command speaks to, and which job it means. Uses the Python client for all of it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli import completion

if TYPE_CHECKING:
    from millrace.client import ClientError, Job, Millrace

_PANEL = "Server"

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="MILLRACE_URL",
        metavar="URL",
        help="Where the server is; default: http://127.0.0.1:8000.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="MILLRACE_TOKEN",
        help="Its bearer token. Others on this machine can see options: the variable is safer.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's id, the beginning of one, or [bold]last[/].",
        autocompletion=completion.jobs,
    ),
]


def hand_on(context: typer.Context, server: str | None, token: str | None, as_json: bool) -> None:
    """Let a group's options hold for the command below it, unless that has its own."""
    # Variables, since they are what an option is read from next to the command line itself.
    os.environ |= {
        name: value for name, value in (("MILLRACE_URL", server), ("MILLRACE_TOKEN", token)) if value
    }
    name = context.invoked_subcommand
    if name is not None and as_json:
        context.default_map = {name: {"as_json": True}}


@contextmanager
def connected(server: str | None, token: str | None) -> Iterator[Millrace]:
    """Connect to the server that was named, or is by default. Says on stderr when it has to try again."""
    from millrace.client import Millrace, Retrying

    def notice(error: ClientError, seconds: float) -> None:
        if seconds >= 1:
            typer.echo(f"millrace: {error.message}; trying again in {seconds:.0f} s", err=True)

    with Millrace(server, token, retrying=Retrying(tries=4, notice=notice)) as client:
        yield client


def find_job(client: Millrace, given: str) -> Job:
    """Return the job that an id, the beginning of one, or ``last`` means. NotFound says what there is."""
    from millrace.client import NotFound

    if given == "last":
        newest = next(client.jobs(limit=1), None)
        if newest is None:
            raise _no_job("there is no job yet: millrace submit makes one")
        return client.job(newest.id)
    try:
        return client.job(given)
    except NotFound:
        found = [info.id for info in client.jobs(text=given, limit=100) if info.id.startswith(given)]
    if len(found) == 1:
        return client.job(found[0])
    if found:
        raise _no_job(f"{given} begins the ids of {len(found)} jobs, such as {found[0]} and {found[1]}")
    raise _no_job(f"there is no job {given}, or it has expired; millrace jobs lists those there are")


def _no_job(message: str) -> ClientError:
    from millrace.client import NotFound

    return NotFound(404, message, code="not_found")


def check_kind(client: Millrace, given: str) -> None:
    """Raise LocalError, with the nearest, when the server has no workload of this name."""
    from millrace.client import LocalError

    kinds = [workload.kind for workload in client.workloads()]
    if given not in kinds:
        near = difflib.get_close_matches(given, kinds, n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise LocalError(f"there is no kind {given!r}{meant} There are: {', '.join(kinds)}")
