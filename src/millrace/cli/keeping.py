"""What a server keeps beside jobs: ``schedules``, ``webhooks``, ``presets``, ``workloads``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli import completion, screen
from millrace.cli.connection import Json, Server, Token, check_kind, connected, hand_on
from millrace.cli.options import Options, OptionsFile, Preset, read_options

if TYPE_CHECKING:
    from millrace.client import Delivery, Schedule, Workload

PANEL = "By the clock, and who is told"

ScheduleId = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="Its id.", autocompletion=completion.schedules)
]
DeliveryId = Annotated[
    str, typer.Argument(metavar="DELIVERY", help="Its id.", autocompletion=completion.deliveries)
]
KindName = Annotated[str, typer.Argument(metavar="KIND", help="A workload.", autocompletion=completion.kinds)]
PresetName = Annotated[
    str, typer.Argument(metavar="NAME", help="The preset's.", autocompletion=completion.presets)
]


def add_to(app: typer.Typer) -> None:
    """Add the groups of commands."""
    for name, group in (
        ("schedules", schedules),
        ("webhooks", webhooks),
        ("presets", presets),
        ("workloads", workloads),
    ):
        app.add_typer(group, name=name, rich_help_panel=PANEL)


# -- schedules ---------------------------------------------------------------------------------

schedules = typer.Typer(help="Jobs by the clock: list, add, show, on, off, delete.")


@schedules.callback(invoke_without_command=True)
def list_schedules(
    context: typer.Context, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """List the jobs by the clock; or add, show, switch or delete one."""
    if context.invoked_subcommand is not None:
        hand_on(context, server, token, as_json)
        return
    with connected(server, token) as client:
        found = client.schedules.list()
    if as_json:
        screen.write_json([each.raw for each in found])
        return
    headings = ("SCHEDULE", "WHEN", "ZONE", "KIND", "ON", "NEXT", "LAST JOB", "NAME")
    rows = (_schedule_row(each) for each in found)
    if found or not screen.at_terminal():
        screen.table(headings, rows)
    else:
        typer.echo("no schedules; millrace schedules add --help says how to make one")


def _schedule_row(each: Schedule) -> list[str]:
    due = screen.moment(each.next_at) if each.enabled else ""
    last = each.last_error or each.last_job or ""
    return [
        each.id,
        each.cron,
        each.zone,
        each.job["kind"],
        "yes" if each.enabled else "no",
        due,
        last,
        each.name,
    ]


@schedules.command("add")
def add_schedule(
    cron: Annotated[str, typer.Argument(help="Five fields as in crontab(5), or @daily and the like.")],
    kind: KindName,
    options: Options = None,
    options_file: OptionsFile = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="A file on the server, as an item; several times."),
    ] = None,
    preset: Preset = None,
    zone: Annotated[str, typer.Option(help="The time zone that it is told in.")] = "UTC",
    name: Annotated[str, typer.Option(help="For people.")] = "",
    missed: Annotated[
        str, typer.Option(help="Times that passed while no server ran: skip, make up once, or all.")
    ] = "once",
    overlap: Annotated[bool, typer.Option("--overlap", help="Even while the job before goes on.")] = False,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Add a job by the clock.

    For example: millrace schedules add '30 3 * * *' tracks --option path=/srv/media --zone Europe/Berlin
    """
    from millrace.client import JobFields

    given = read_options(options, options_file)
    items = [{"input": {"kind": "path", "path": each}} for each in path or ()]
    fields: JobFields = {"preset": preset} if preset else {}
    with connected(server, token) as client:
        check_kind(client, kind)
        made = client.schedules.add(
            cron,
            kind,
            options=given,
            items=items,
            zone=zone,
            name=name,
            missed=missed,
            overlap=overlap,
            **fields,
        )
    _tell_schedule(made, as_json=as_json)


@schedules.command("show")
def show_schedule(
    schedule: ScheduleId, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Show a schedule: when it is due, and what it has done."""
    with connected(server, token) as client:
        found = client.schedules.get(schedule)
        ticks = client.schedules.ticks(schedule, limit=10)
    if as_json:
        screen.write_json({**found.raw, "ticks": ticks})
        return
    _tell_schedule(found, as_json=False)
    for due in found.raw["upcoming"]:
        typer.echo(f"due   {due}")
    for tick in ticks:
        typer.echo(f"was   {tick['at']}  {tick['job'] or tick['error']}")


@schedules.command("on")
def enable_schedule(
    schedule: ScheduleId, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Switch a schedule on."""
    with connected(server, token) as client:
        _tell_schedule(client.schedules.enable(schedule), as_json=as_json)


@schedules.command("off")
def disable_schedule(
    schedule: ScheduleId, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Switch a schedule off; what it would have run meanwhile is not made up."""
    with connected(server, token) as client:
        _tell_schedule(client.schedules.enable(schedule, False), as_json=as_json)


@schedules.command("delete")
def delete_schedule(
    schedule: ScheduleId, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Delete a schedule; the jobs it made stay."""
    with connected(server, token) as client:
        client.schedules.delete(schedule)
    if as_json:
        screen.write_json({"deleted": schedule})
    else:
        typer.echo(f"{schedule} is deleted")


def _tell_schedule(found: Schedule, *, as_json: bool) -> None:
    if as_json:
        screen.write_json(found.raw)
        return
    due = f"next at {screen.moment(found.next_at)}" if found.enabled else "off"
    named = f" ({found.name})" if found.name else ""
    typer.echo(f"{found.id}{named}: {found.job['kind']} at {found.cron!r} in {found.zone}; {due}")


# -- webhooks ----------------------------------------------------------------------------------

webhooks = typer.Typer(help="Webhooks that were sent, are being tried, or were given up: list, show, resend.")


@webhooks.callback(invoke_without_command=True)
def list_webhooks(
    context: typer.Context,
    job: Annotated[str | None, typer.Option(help="Of one job only.", autocompletion=completion.jobs)] = None,
    state: Annotated[str | None, typer.Option(help="pending, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List the webhooks that were sent, are being tried, or were given up; or show or resend one."""
    if context.invoked_subcommand is not None:
        hand_on(context, server, token, as_json)
        return
    with connected(server, token) as client:
        found = list(client.deliveries.list(job=job, state=state, limit=limit))
    if as_json:
        screen.write_json([each.raw for each in found])
        return
    headings = ("DELIVERY", "JOB", "STATE", "TRIES", "STATUS", "TO", "WHY")
    if found or not screen.at_terminal():
        screen.table(headings, (_webhook_row(each) for each in found))
    else:
        typer.echo("no webhooks")


def _webhook_row(each: Delivery) -> list[str]:
    status = str(each.status or "")
    return [each.id, each.job, each.state, str(each.attempts), status, each.url, each.error or ""]


@webhooks.command("show")
def show_webhook(
    delivery: DeliveryId, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Show a webhook: to whom, how often it was tried, what was answered, and its body."""
    with connected(server, token) as client:
        found = client.deliveries.get(delivery)
    if as_json:
        screen.write_json(found.raw)
        return
    shown = {name: value for name, value in found.raw.items() if name != "body" and value is not None}
    screen.pairs((name, str(value)) for name, value in shown.items())
    typer.echo()
    screen.write_json(found.raw["body"])


@webhooks.command("resend")
def resend_webhook(
    delivery: DeliveryId, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Send a webhook once more, with all its tries before it."""
    with connected(server, token) as client:
        found = client.deliveries.resend(delivery)
    if as_json:
        screen.write_json(found.raw)
    else:
        typer.echo(f"{found.id} is sent again to {found.url}")


# -- presets -----------------------------------------------------------------------------------

presets = typer.Typer(help="Options of a kind, saved under a name: list, show, save, delete.")


@presets.callback(invoke_without_command=True)
def list_presets(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Option(help="Of one workload only.", autocompletion=completion.kinds)
    ] = None,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List the saved options; or show, save or delete some. millrace submit takes them by --preset."""
    if context.invoked_subcommand is not None:
        hand_on(context, server, token, as_json)
        return
    with connected(server, token) as client:
        found = client.presets.list(kind)
    if as_json:
        screen.write_json([each.raw for each in found])
    elif found or not screen.at_terminal():
        rows = ((each.kind, each.name, _short(each.options)) for each in found)
        screen.table(("KIND", "NAME", "OPTIONS"), rows)
    else:
        typer.echo("no presets; millrace presets save --help says how to make one")


def _short(options: object) -> str:
    import json

    return json.dumps(options, ensure_ascii=False)


@presets.command("show")
def show_preset(
    kind: KindName, name: PresetName, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Show saved options, as --options takes them."""
    with connected(server, token) as client:
        found = client.presets.get(kind, name)
    screen.write_json(found.raw if as_json else found.options)


@presets.command("save")
def save_preset(
    kind: KindName,
    name: PresetName,
    options: Options = None,
    options_file: OptionsFile = None,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Save options under a name, in place of those that had it."""
    given = read_options(options, options_file)
    with connected(server, token) as client:
        check_kind(client, kind)
        found = client.presets.save(kind, name, given)
    if as_json:
        screen.write_json(found.raw)
    else:
        typer.echo(f"{found.kind} {found.name}: {_short(found.options)}")


@presets.command("delete")
def delete_preset(
    kind: KindName, name: PresetName, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Delete saved options; jobs that were made with them stay as they are."""
    with connected(server, token) as client:
        client.presets.delete(kind, name)
    if as_json:
        screen.write_json({"deleted": [kind, name]})
    else:
        typer.echo(f"the preset {name} of {kind} is deleted")


# -- workloads ---------------------------------------------------------------------------------

workloads = typer.Typer(help="The kinds of jobs a server takes: list, pause, drain, resume.")


@workloads.callback(invoke_without_command=True)
def list_workloads(
    context: typer.Context, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """List the kinds of jobs, and how each is; or pause, drain or resume one."""
    if context.invoked_subcommand is not None:
        hand_on(context, server, token, as_json)
        return
    with connected(server, token) as client:
        found = client.workloads()
    if as_json:
        screen.write_json([each.raw for each in found])
        return
    rows = ([e.kind, e.mode, str(e.running), str(e.queued), " → ".join(e.stages)] for e in found)
    screen.table(("KIND", "MODE", "RUNNING", "WAITING", "STAGES"), rows, right=("RUNNING", "WAITING"))


@workloads.command("pause")
def pause_workload(kind: KindName, as_json: Json = False, server: Server = None, token: Token = None) -> None:
    """Let nothing more of a kind start; what runs goes on."""
    with connected(server, token) as client:
        check_kind(client, kind)
        _tell_workload(client.pause(kind), as_json=as_json)


@workloads.command("drain")
def drain_workload(kind: KindName, as_json: Json = False, server: Server = None, token: Token = None) -> None:
    """Let a kind take no new jobs, and finish those it has."""
    with connected(server, token) as client:
        check_kind(client, kind)
        _tell_workload(client.drain(kind), as_json=as_json)


@workloads.command("resume")
def resume_workload(
    kind: KindName, as_json: Json = False, server: Server = None, token: Token = None
) -> None:
    """Let a kind work again."""
    with connected(server, token) as client:
        check_kind(client, kind)
        _tell_workload(client.resume(kind), as_json=as_json)


def _tell_workload(found: Workload, *, as_json: bool) -> None:
    if as_json:
        screen.write_json(found.raw)
    else:
        typer.echo(f"{found.kind} is {found.mode}; {found.running} items run, {found.queued} wait")
