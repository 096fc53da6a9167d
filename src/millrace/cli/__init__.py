"""The command line: everything a server can do, by the Python client, and what needs none.

What a command needs is imported when it runs, so that ``--help`` answers at once: the workloads' own commands
stand in the help by a line of their own until one of them is called.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from millrace import __version__
from millrace.cli import ends, jobs, keeping, local, submit
from millrace.cli.connection import Server, Token, hand_on
from millrace.cli.local import read_settings
from millrace.errors import MillraceError

__all__ = ["app", "main", "read_settings"]

_PANEL = "On this machine, without a server"

SHIPPED = {
    "documents": "Classify documents, and measure the policy that does it.",
    "images": "Pictures: analyse and tag them.",
    "sync": "millrace sync MASTER DUB: by how much a dub is off its master, if it drifts, where it was cut.",
    "tracks": "Set the right default audio track, in place.",
    "transcripts": "",
}
"""What the help says of the workloads that ship; empty for one without commands of its own."""


class _Lazy(TyperGroup):
    """Loads a workload when one of its commands is called, and not to say that it has some."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._waiting: set[str] = set()
        for entry in sorted(entry_points(group="millrace.workloads"), key=lambda e: e.name):
            about = SHIPPED.get(entry.name, f"Commands of the workload {entry.name}.")
            if about and entry.name not in self.commands:
                stand_in = TyperGroup(name=entry.name, help=about, rich_help_panel=_PANEL)
                self.commands[entry.name] = stand_in
                self._waiting.add(entry.name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the workload whose command is called."""
        if args and args[0] in self._waiting:
            self._load(args[0])
        return super().resolve_command(ctx, args)

    def _load(self, kind: str) -> None:
        from millrace.plugins import discover

        plugin = discover().get(kind)
        if plugin is None or plugin.commands is None:
            del self.commands[kind]
        else:
            self.commands[kind] = typer.main.get_group(plugin.commands())
        self._waiting.discard(kind)


def _codes() -> str:
    lines = [f"  {code:>3}  {meaning}" for code, meaning in ends.MEANINGS.items()]
    return "\n".join(["[bold]Exit codes[/]", *lines])


# One paragraph a line: the help breaks lines where the terminal ends.
_HELP = (
    "A self-hosted batch server for media and documents, and everything to use one.\n\n"
    "[bold]millrace serve[/] runs a server. The commands under [italic]Jobs[/] speak to one: the one at "
    "[cyan]--server[/] or MILLRACE_URL (else http://127.0.0.1:8000), with the token of [cyan]--token[/] or "
    "MILLRACE_TOKEN. Each command says more with [cyan]--help[/]; with [cyan]--json[/] it answers for "
    "machines.\n\n"
    "  [dim]millrace serve --media-root /srv/media[/]\n"
    "  [dim]millrace submit transcripts talk.mp3 --watch --output subtitles[/]\n"
    "  [dim]millrace jobs --status running[/]"
)

app = typer.Typer(
    name="millrace",
    cls=_Lazy,
    help=_HELP,
    epilog=_codes(),
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"millrace {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Let the server that is named before a command hold for it."""
    hand_on(context, server, token, as_json=False)


local.add_to(app)
submit.add_to(app)
jobs.add_to(app)
keeping.add_to(app)


def main() -> None:
    """Run the command line. What goes wrong is said in one sentence on stderr; ``ends`` has the codes."""
    try:
        app()
    except MillraceError as error:
        typer.echo(f"millrace: {error.message}", err=True)
        sys.exit(ends.code_of(error))
