"""The command line: ``millrace serve``, ``doctor``, ``models``, and each workload's own commands.

Imports are kept inside the commands, so that the server starts, and ``--help`` answers, at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace import __version__
from millrace.errors import MillraceError, SettingsError

if TYPE_CHECKING:
    from millrace.settings import Settings
    from millrace.workloads import Plugin

app = typer.Typer(
    name="millrace",
    help="A self-hosted batch server for media and documents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_FAILED = 1
EXIT_BAD_SETTING = 2

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


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"millrace {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A self-hosted batch server for media and documents."""


@app.command()
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


def read_settings(config: Path | None, flags: Mapping[str, Any]) -> tuple[dict[str, Plugin], Settings]:
    """Find the workloads and read the settings, theirs included. SettingsError when something is wrong."""
    from millrace.plugins import discover
    from millrace.settings_sources import load_settings

    plugins = discover()
    sections = {kind: plugin.settings for kind, plugin in plugins.items()}
    return plugins, load_settings(config, flags=flags, sections=sections)


def _mount_workloads(arguments: list[str]) -> None:
    """Add the workloads' commands, unless one of ours is wanted: finding workloads takes a while."""
    ours = {command.callback.__name__ for command in app.registered_commands if command.callback}
    if arguments and arguments[0] in ours:
        return
    from millrace.plugins import discover

    for kind, plugin in discover().items():
        if plugin.commands is not None:
            app.add_typer(plugin.commands(), name=kind)


def main() -> None:
    """Run the command line. What goes wrong is said in one sentence, with exit code 1, or 2 for a setting."""
    try:
        _mount_workloads(sys.argv[1:])
        app()
    except MillraceError as error:
        typer.echo(f"millrace: {error.message}", err=True)
        sys.exit(EXIT_BAD_SETTING if isinstance(error, SettingsError) else EXIT_FAILED)


if __name__ == "__main__":
    main()
