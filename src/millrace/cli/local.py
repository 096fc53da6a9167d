"""What concerns this machine's own server and settings: ``serve``, ``doctor``, ``models``, ``demo``.

Imports are kept inside the commands, so that the server starts, and ``--help`` answers, at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace import __version__
from millrace.cli import ends, screen
from millrace.cli.connection import Json
from millrace.errors import SettingsError

if TYPE_CHECKING:
    from millrace.models import Model
    from millrace.settings import Settings
    from millrace.workloads import Plugin

PANEL = "Run a server"

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="The settings file; default: millrace.yaml where there is one."),
]
DataDir = Annotated[Path | None, typer.Option(help="Database, blobs and temporary files; default: ./data.")]
MediaRoots = Annotated[
    list[Path] | None,
    typer.Option(
        "--media-root", metavar="DIR", help="Read local paths below it; may be given several times."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands, in the order of the help."""
    app.command(rich_help_panel=PANEL)(serve)
    app.command(rich_help_panel=PANEL)(worker)
    app.command(rich_help_panel=PANEL)(doctor)
    app.add_typer(models_app, name="models", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(demo)


def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8000; 0: any free one.")] = None,
    data_dir: DataDir = None,
    media_root: MediaRoots = None,
    config: ConfigFile = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "media_roots": tuple(media_root or ()),
        "log.level": log_level,
        "log.format": log_format,
    }
    plugins, settings = read_settings(config, flags)
    from millrace.server.assembly import open_services
    from millrace.server.logs import configure

    configure(settings.log.level, settings.log.format)
    services = open_services(settings, plugins)
    try:
        _serve(services, plugins)
    finally:
        services.engine.stop()


def _serve(services: Any, plugins: Mapping[str, Plugin]) -> None:
    import logging

    from millrace.server.run import bind, run, url_of
    from millrace.settings import is_loopback

    settings: Settings = services.settings
    listener = bind(settings.host, settings.port)
    if not settings.require_auth and not is_loopback(settings.host):
        logging.getLogger("millrace").warning(
            "anybody who reaches %s can use this server: set REQUIRE_AUTH=true and BEARER_TOKEN",
            settings.host,
        )
    # For people and for scripts that gave port 0: one line on stdout, the rest goes to stderr.
    typer.echo(f"millrace {__version__} on {url_of(listener)}")
    sys.stdout.flush()
    run(services, plugins, listener)


def worker(
    queues: Annotated[
        list[str] | None,
        typer.Option(
            "--queues",
            metavar="NAMES",
            help="Take from these queues only, by name or pattern (image_upload,gpu.*); default: all.",
        ),
    ] = None,
    slots: Annotated[
        str | None,
        typer.Option(
            metavar="SLOTS", help="How much runs here at once: cpu=2,gpu=1; default: as in settings."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What this machine is called; default: its host name.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run nothing: say whether the worker that runs here is alive.")
    ] = False,
    data_dir: DataDir = None,
    media_root: MediaRoots = None,
    config: ConfigFile = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Run stages for a cluster (executor: celery) until SIGTERM: what runs is finished, or given back.

    With --check it ends with 0 when the worker that runs on this machine, with the same data directory (and
    name, if one is given), is alive and the database has just heard of it; with 1 when not, with 5 when the
    database does not answer. Why is said in one sentence.
    """
    flags = {
        "data_dir": data_dir,
        "media_roots": tuple(media_root or ()),
        "log.level": log_level,
        "log.format": log_format,
        # The machine has no server whose address could be open to anybody.
        "require_auth": False,
        **worker_slots(slots),
    }
    plugins, settings = read_settings(config, flags)
    if check:
        _check_worker(settings, name)
        return
    from millrace.server.logs import configure

    configure(settings.log.level, settings.log.format)
    from millrace.worker import run

    wanted = [part.strip() for text in queues or () for part in text.split(",") if part.strip()]
    run(settings, plugins, wanted, name, only_named=slots is not None)


def _check_worker(settings: Settings, name: str | None) -> None:
    from millrace import nodes

    try:
        ages = nodes.check(settings, name)
    except nodes.CannotTell as error:
        typer.echo(f"millrace: {error.message}", err=True)
        raise typer.Exit(ends.UNREACHABLE) from error
    for node, age in ages.items():
        typer.echo(f"{node} is alive: the database heard of it {age:.1f} s ago")


def worker_slots(text: str | None) -> dict[str, str]:
    """Return ``cpu=2,gpu=1`` as settings; SettingsError where it is none."""
    found: dict[str, str] = {}
    for part in (text or "").split(",") if text is not None else ():
        resource, equals, number = part.strip().partition("=")
        if resource not in ("cpu", "gpu", "io") or not equals or not number.isdigit():
            raise SettingsError(f"--slots: write it like cpu=2,gpu=1 (of cpu, gpu and io), not {text!r}")
        found[f"slots.{resource}"] = number
    return found


def read_settings(config: Path | None, flags: Mapping[str, Any]) -> tuple[dict[str, Plugin], Settings]:
    """Find the workloads and read the settings, theirs included. SettingsError when something is wrong."""
    from millrace.plugins import discover
    from millrace.settings_sources import load_settings

    plugins = discover()
    sections = {kind: plugin.settings for kind, plugin in plugins.items()}
    return plugins, load_settings(config, flags=flags, sections=sections)


def doctor(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    media_root: MediaRoots = None,
    as_json: Json = False,
) -> None:
    """Say what is configured, whether it would work, and what more could be there.

    Ends with 1 when the server could not work so, with 2 when a setting is wrong.
    """
    from millrace import doctor as examination

    flags = {"data_dir": data_dir, "media_roots": tuple(media_root or ())}
    plugins, settings = read_settings(config, flags)
    findings = examination.examine(settings, plugins)
    if as_json:
        screen.write_json(examination.as_json(findings))
    else:
        typer.echo(examination.as_text(findings))
    if not examination.healthy(findings):
        raise typer.Exit(ends.FAILED)


models_app = typer.Typer(help="The weights of models: list those that are there, or pull one.")


@models_app.callback(invoke_without_command=True)
def list_models(context: typer.Context, config: ConfigFile = None, as_json: Json = False) -> None:
    """List the models below models/; or pull one there."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    from millrace import models

    _, settings = read_settings(config, {})
    found = models.list_models(settings.models_dir)
    if as_json:
        screen.write_json([_model_row(model) for model in found])
        return
    if not found:
        typer.echo(f"no model below {settings.models_dir}; the embedded engines need none")
    for model in found:
        typer.echo(f"{model.name}\t{model.format or '?'}\t{models.told(model.bytes)}\t{model.path}")


@models_app.command()
def pull(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The directory below models/ it becomes.")],
    source: Annotated[str, typer.Argument(help="A URL, or an archive, file or directory on this machine.")],
    sha256: Annotated[str | None, typer.Option(help="Of the file; needed for a URL.", metavar="HEX")] = None,
    as_json: Json = False,
) -> None:
    """Bring a model here. Nothing else in Millrace ever downloads one."""
    from millrace import models
    from millrace.fetch import FetchPolicy

    _, settings = read_settings(context.obj, {})
    policy = FetchPolicy.of({**settings.fetch.model_dump(), "max_bytes": 1 << 40, "deadline": 24 * 3600.0})
    model = models.pull(settings.models_dir, source, name, sha256=sha256, policy=policy)
    if as_json:
        screen.write_json(_model_row(model))
        return
    typer.echo(f"{model.name}: {model.format or 'unknown format'}, {models.told(model.bytes)}, {model.path}")


def _model_row(model: Model) -> dict[str, Any]:
    return {"name": model.name, "format": model.format, "bytes": model.bytes, "path": str(model.path)}


def demo(
    kinds: Annotated[list[str] | None, typer.Argument(help="Which workloads; default: all.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="An empty or new directory for all of it; default: a temporary one.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the server running, to look around, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a batch of each workload through a server of its own, and show what comes out.

    Ends with 0 when all of it succeeded, with 1 when not.
    """
    import tempfile

    from millrace.plugins import discover

    plugins = {kind: plugin for kind, plugin in discover().items() if plugin.demo is not None}
    unknown = [kind for kind in kinds or () if kind not in plugins]
    if unknown or not plugins:
        known = ", ".join(plugins) or "none"
        raise SettingsError(f"no demonstration of {', '.join(unknown) or 'anything'}; there are: {known}")
    folder = (output or Path(tempfile.mkdtemp(prefix="millrace-demo-"))).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(f"{folder} is not empty; name another directory with --output")
    chosen = {kind: plugin for kind, plugin in plugins.items() if not kinds or kind in kinds}
    with _ends_on_sigterm():
        _demonstrate(chosen, folder, keep=keep, as_json=as_json)


def _demonstrate(plugins: Mapping[str, Plugin], folder: Path, *, keep: bool, as_json: bool) -> None:
    from rich.console import Console

    from millrace.cli.following import show
    from millrace.client import Job
    from millrace.demo import run_demo, serve

    # JSON has stdout for itself, and goes without the show.
    console = Console(stderr=as_json)

    def quiet(job: Job) -> None:
        job.wait()

    with serve(folder) as stage:
        try:
            finished = run_demo(stage, plugins, console, quiet if as_json else show)
        except KeyboardInterrupt:
            typer.echo("\nThe demonstration was stopped, and its server with it.", err=True)
            raise typer.Exit(ends.INTERRUPTED) from None
        well = all(each.info.well for each in finished)
        if as_json:
            screen.write_json(
                {"url": stage.url, "well": well, "workloads": [each.as_json() for each in finished]}
            )
        if keep:
            told = f"\nThe server goes on; its dashboard is at {stage.url}/  Ctrl-C ends it."
            typer.echo(told, err=as_json)
            sys.stdout.flush()
            with suppress(KeyboardInterrupt):
                stage.process.wait()
    if not well:
        raise typer.Exit(ends.FAILED)


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it takes the server it started with it."""
    import signal

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
