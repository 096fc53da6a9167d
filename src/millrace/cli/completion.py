"""What the shell completes: kinds, job ids and the like, asked of the server; quickly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from millrace.client import Millrace

_SECONDS = 1.0
_JOBS = 50


def _offered(
    context: typer.Context, offer: Callable[[Millrace], Iterator[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """Return what a server offers; nothing, and not a word, when it does not answer at once."""
    from millrace.client import ClientError, Millrace, Retrying

    given = context.params
    server, token = given.get("server"), given.get("token")
    try:
        with Millrace(server, token, timeout=_SECONDS, retrying=Retrying(tries=1)) as client:
            return list(offer(client))
    except (ClientError, OSError, KeyError):
        return []


def kinds(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete a workload; where no server answers, one of those that are installed."""
    found = _offered(
        context, lambda client: ((each.kind, ", ".join(each.stages)) for each in client.workloads())
    )
    if not found:
        from importlib.metadata import entry_points

        found = [(name, "") for name in sorted({e.name for e in entry_points(group="millrace.workloads")})]
    return [each for each in found if each[0].startswith(incomplete)]


def jobs(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the id of one of the latest jobs."""
    found = _offered(
        context,
        lambda client: (
            (job.id, f"{job.kind} {job.status} {job.label}".strip()) for job in client.jobs(limit=_JOBS)
        ),
    )
    return [each for each in [("last", "the newest"), *found] if each[0].startswith(incomplete) and found]


def schedules(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the id of a schedule."""
    found = _offered(
        context,
        lambda client: ((each.id, f"{each.cron} {each.name}".strip()) for each in client.schedules.list()),
    )
    return [each for each in found if each[0].startswith(incomplete)]


def deliveries(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the id of one of the latest webhooks."""
    found = _offered(
        context,
        lambda client: (
            (each.id, f"{each.state} {each.url}") for each in client.deliveries.list(limit=_JOBS)
        ),
    )
    return [each for each in found if each[0].startswith(incomplete)]


def presets(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of a preset of the kind that was named before."""
    kind = context.params.get("kind")
    found = _offered(context, lambda client: ((each.name, each.kind) for each in client.presets.list(kind)))
    return [each for each in found if each[0].startswith(incomplete)]
