"""Looking after jobs: list, show, watch, fetch, cancel, retry, priority, stats. By the Python client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli import completion, ends, screen
from millrace.cli.connection import JobId, Json, Server, Token, check_kind, connected, find_job

if TYPE_CHECKING:
    from millrace.client import Artifact, Job, JobInfo

PANEL = "Jobs"
THEN = "When it has ended"

Timeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Stop waiting then, with exit code 124; the job goes on.", min=0),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Save its artifacts there, a folder for each item.",
        rich_help_panel=THEN,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Only artifacts named so, such as '*.srt'; several times.",
        rich_help_panel=THEN,
    ),
]
Kind = Annotated[
    str | None, typer.Option("--kind", help="Of one workload only.", autocompletion=completion.kinds)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands, in the order of the help."""
    for command in (jobs, show, watch, fetch, cancel, retry, priority, stats):
        app.command(rich_help_panel=PANEL)(command)


def jobs(
    kind: Kind = None,
    status: Annotated[
        list[str] | None,
        typer.Option(help="In the words of any workload, such as running or completed; several times."),
    ] = None,
    search: Annotated[str | None, typer.Option(metavar="TEXT", help="Part of the id or the label.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="However many there are.")] = False,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List jobs, the newest first.

    Elsewhere than at a terminal: a line for each, with tabs between id, kind, state, percent, items done,
    failed and in all, time of creation and label.
    """
    with connected(server, token) as client:
        if kind is not None:
            check_kind(client, kind)
        found = client.jobs(kind=kind, status=status, text=search, limit=None if everything else limit)
        if as_json:
            screen.write_json([info.raw for info in found])
            return
        terminal = screen.at_terminal()
        rows = [_row(info, short=terminal) for info in found]
    headings = ("JOB", "KIND", "STATE", "%", "DONE", "FAILED", "ITEMS", "CREATED", "LABEL")
    if rows or not terminal:
        screen.table(headings, rows, right=("%", "DONE", "FAILED", "ITEMS", "CREATED"))
    else:
        typer.echo("no jobs" if not (kind or status or search) else "no such jobs")


def _row(info: JobInfo, *, short: bool) -> list[str]:
    counts = info.counts
    created = f"{screen.age(info.created_at)} ago" if short else str(info.raw["created_at"])
    numbers = (counts.succeeded + counts.skipped, counts.failed, counts.total)
    return [
        info.id,
        info.kind,
        info.state,
        f"{info.percent:.0f}",
        *map(str, numbers),
        created,
        info.label,
    ]


def show(
    job: JobId,
    items: Annotated[bool, typer.Option("--items", help="List all its items.")] = False,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="List what it has published.")] = False,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show all about a job; the failed items with the reason, first."""
    with connected(server, token) as client:
        found = find_job(client, job)
        if as_json:
            shown = dict(found.info.raw)
            shown["items"] = [item.raw for item in found.items()] if items else None
            shown["artifacts"] = [a.raw for a in found.artifacts] if artifacts else None
            screen.write_json({name: value for name, value in shown.items() if value is not None})
            return
        screen.pairs(_facts(found.info))
        if found.info.counts.failed:
            typer.echo("\nFailed")
            rows = (
                (f"{i.idx}", i.name, screen.reason(i.error)) for i in found.items(state="failed", limit=20)
            )
            screen.table(("", "ITEM", "WHY"), rows)
            if found.info.counts.failed > 20:
                typer.echo(f"and {found.info.counts.failed - 20} more: millrace show {found.id} --items")
        if items:
            typer.echo("\nItems")
            stages = found.info.stages
            screen.table(("", "ITEM", "STATE", "AT"), (_item_row(item, stages) for item in found.items()))
        if artifacts:
            typer.echo("\nArtifacts")
            listed = (_artifact_row(artifact) for artifact in found.artifacts)
            screen.table(("ITEM", "NAME", "SIZE"), listed, right=("SIZE",))
        if found.info.counts.failed:
            screen.hint(f"\ntry the failed items again: millrace retry {found.id}")


def _facts(info: JobInfo) -> list[tuple[str, str]]:
    counts = info.counts
    by_state = ", ".join(
        f"{getattr(counts, state)} {state}"
        for state in ("succeeded", "skipped", "failed", "cancelled", "running", "queued")
        if getattr(counts, state)
    )
    took = ""
    if info.started_at and info.finished_at:
        took = screen.seconds((info.finished_at - info.started_at).total_seconds())
    state = info.state + (" (held: not started)" if info.held and not info.ended else "")
    names = {0: "low", 1: "normal", 2: "high", 3: "webhook"}
    options = ", ".join(f"{name}={_plain(value)}" for name, value in info.options.items())
    return [
        ("job", info.id),
        ("kind", info.kind),
        ("label", info.label),
        ("state", state if info.status == info.state else f"{state} ({info.status})"),
        ("progress", "" if info.ended else f"{info.percent:.1f} %"),
        ("to go", screen.seconds(info.eta_seconds)),
        ("items", f"{counts.total}" + (f": {by_state}" if by_state else "")),
        ("stages", " → ".join(info.stages)),
        ("priority", names.get(info.priority, str(info.priority))),
        ("parallelism", str(info.parallelism or "")),
        ("options", options),
        ("created", screen.moment(info.created_at)),
        ("started", screen.moment(info.started_at)),
        ("finished", screen.moment(info.finished_at)),
        ("took", took),
        ("expires", screen.moment(info.expires_at)),
        ("error", screen.reason(info.error)),
    ]


def _plain(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _item_row(item: Any, stages: tuple[str, ...]) -> tuple[str, ...]:
    at = stages[item.stage] if item.state == "running" and item.stage < len(stages) else ""
    told = f"{at} {item.progress:.0%} {item.phase}".strip() if at else screen.reason(item.error)
    return str(item.idx), item.name, item.state, told


def _artifact_row(artifact: Artifact) -> tuple[str, ...]:
    return str(artifact.item), artifact.name, screen.size(artifact.bytes)


def watch(
    job: JobId,
    after: Annotated[int, typer.Option(min=0, help="Only what comes behind the event of this number.")] = 0,
    timeout: Timeout = None,
    output: Output = None,
    only: Only = None,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line, then the job.")] = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Follow a job until it has ended. Ctrl-C leaves it running.

    Ends with 0 when all of it succeeded, with 1 when it or an item failed or was cancelled.
    """
    from millrace.cli.following import code, follow

    with connected(server, token) as client:
        found = find_job(client, job)
        info = follow(found, as_json=as_json, timeout=timeout, after=after)
        if output is not None:
            save(found, output, only, quiet=as_json)
    raise typer.Exit(code(info))


def fetch(
    job: JobId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made where it is not there.")] = Path(),
    only: Only = None,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Save what a job has published so far, in a folder for each item.

    Files that are there and whole are left alone; a download that was cut off is gone on with.
    """
    with connected(server, token) as client:
        found = find_job(client, job)
        saved = save(found, folder, only, quiet=as_json)
    if as_json:
        screen.write_json([str(path) for path in saved])


def save(job: Job, folder: Path, only: list[str] | None, *, quiet: bool) -> list[Path]:
    """Save a job's artifacts below a folder, saying which unless told to be quiet; return where."""

    def told(artifact: Artifact, path: Path) -> None:
        if not quiet:
            typer.echo(f"{path}  ({screen.size(artifact.bytes)})" if screen.at_terminal() else str(path))

    try:
        saved = job.artifacts.save(folder, names=only, progress=told)
    except KeyboardInterrupt:
        typer.echo(f"\nNot all was saved. Go on with it: millrace fetch {job.id} {folder}", err=True)
        raise typer.Exit(ends.INTERRUPTED) from None
    if not saved and not quiet:
        typer.echo("nothing was published" + (" that is named so" if only else ""), err=True)
    return saved


def cancel(
    job: JobId,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete the job, its uploads and its artifacts.")
    ] = False,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Cancel a job: what runs is stopped, what waits is dropped, what was finished keeps its results."""
    with connected(server, token) as client:
        found = find_job(client, job)
        ended = found.info.ended
        info = found.cancel()
        if purge:
            found.delete()
    if as_json:
        screen.write_json(info.raw)
    elif purge:
        typer.echo(f"{info.id} is deleted")
    elif ended:
        typer.echo(f"{info.id} had ended before ({info.state}); nothing was changed")
    else:
        kept = info.counts.succeeded + info.counts.skipped
        typer.echo(f"{info.id} is cancelled; {kept} of {info.counts.total} items were done before")


def retry(
    job: JobId,
    items: Annotated[
        list[int] | None,
        typer.Argument(metavar="ITEM", help="Their numbers, cancelled ones too; default: all that failed."),
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job until it has ended.")] = False,
    timeout: Timeout = None,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Try the failed items of a job again, each at the stage that failed."""
    from millrace.cli import following

    with connected(server, token) as client:
        found = find_job(client, job)
        before = found.info.last_event
        info = found.retry(items)
        if follow:
            info = following.follow(found, as_json=as_json, timeout=timeout, after=before)
            raise typer.Exit(following.code(info))
    if as_json:
        screen.write_json(info.raw)
        return
    waiting = info.counts.queued + info.counts.running
    typer.echo(f"{info.id}: {waiting} item{'s' if waiting != 1 else ''} tried again")
    screen.hint(f"follow it: millrace watch {info.id}")


def priority(
    job: JobId,
    value: Annotated[
        str,
        typer.Argument(
            metavar="PRIORITY",
            help="low, normal, high or webhook; or 0 to 3.",
            autocompletion=lambda: ["low", "normal", "high", "webhook"],
        ),
    ],
    parallelism: Annotated[int | None, typer.Option(min=1, help="Also: how many items run at once.")] = None,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Change a job's priority, from its next item on."""
    with connected(server, token) as client:
        found = find_job(client, job)
        given = int(value) if value.isdecimal() else value
        info = found.change(priority=given, parallelism=parallelism)
    if as_json:
        screen.write_json(info.raw)
    else:
        typer.echo(f"{info.id} has priority {value}")


def stats(
    kind: Kind = None,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Count jobs and items, by workload."""
    with connected(server, token) as client:
        if kind is not None:
            check_kind(client, kind)
        found = client.stats(kind)
    if as_json:
        screen.write_json(found.raw)
        return
    headings = ("KIND", "JOBS", "RUNNING", "QUEUED", "DONE", "FAILED", "ITEMS DONE", "ITEMS FAILED", "MEAN")
    rows = []
    for name, each in found.by_kind.items():
        jobs, items = each["jobs"], each["items"]
        numbers = (
            sum(jobs.values()),
            jobs.get("running", 0),
            jobs.get("queued", 0),
            jobs.get("succeeded", 0) + jobs.get("skipped", 0),
            jobs.get("failed", 0),
            items.get("succeeded", 0) + items.get("skipped", 0),
            items.get("failed", 0),
        )
        rows.append([name, *map(str, numbers), screen.seconds(each["average_duration_seconds"])])
    screen.table(headings, rows, right=headings[1:])
