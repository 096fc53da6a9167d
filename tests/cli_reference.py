"""Writes the reference of docs/cli.md from the code of the commands: ``python -m tests.cli_reference``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from millrace.cli import app, ends
from millrace.plugins import discover

GUIDE = Path(__file__).parents[1] / "docs" / "cli.md"
BEGIN, END = "<!-- written by tests/cli_reference.py -->\n", "<!-- end -->\n"


def render() -> str:
    """Return the reference: the exit codes, then every command with its arguments and options."""
    lines = ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in ends.MEANINGS.items()]
    lines += ["", "## Every command", ""]
    root = typer.main.get_group(app)
    for name, command in root.commands.items():
        plugin = discover().get(name)
        if plugin is not None and plugin.commands is not None:
            command = typer.main.get_group(plugin.commands())
        lines += _command(f"millrace {name}", command)
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"### `{name}`"
    yield ""
    for paragraph in _plain(command.help or "").split("\n\n"):
        lines = paragraph.strip().splitlines()
        if lines and lines[0].startswith("millrace "):
            yield from (f"    {line}" for line in lines)
        else:
            yield " ".join(lines)
        yield ""
    rows = [_row(each) for each in command.params if not getattr(each, "hidden", False)]
    rows = [row for row in rows if "`--help`" not in row and "completion" not in row]
    if rows:
        yield from ("| | |", "|---|---|", *rows, "")
    for below, inner in getattr(command, "commands", {}).items():
        yield from _command(f"{name} {below}", inner)


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        shown = f"`{(parameter.metavar or parameter.name.upper())}`"
        if parameter.nargs == -1 or parameter.multiple:
            shown += " …"
    else:
        names = [*parameter.opts, *parameter.secondary_opts]
        value = "" if parameter.is_flag else " " + (parameter.metavar or _value(parameter))
        shown = ", ".join(f"`{name}{value}`" for name in sorted(names, key=len, reverse=True))
    about = _plain(parameter.help or "").replace("|", "\\|")
    if parameter.envvar:
        about += f" Else `{parameter.envvar}`."
    return f"| {shown} | {about} |"


def _value(parameter: Any) -> str:
    annotation = str(parameter.type_descriptor.annotation)
    words = {"int": "N", "float": "N", "Path": "PATH"}
    return next((shown for word, shown in words.items() if word in annotation), "TEXT")


def _plain(text: str) -> str:
    return re.sub(r"\[/?(?:bold|dim|italic|cyan)?\]", "", text)


def main() -> None:
    """Write the reference into the guide, in place of what it has."""
    text = GUIDE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    GUIDE.write_text(before + BEGIN + "\n" + render() + "\n" + END + after)


if __name__ == "__main__":
    main()
