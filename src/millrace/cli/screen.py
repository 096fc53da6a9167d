"""What is written where: tables for people at a terminal, plain lines for pipes, JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {
    "succeeded": "green",
    "skipped": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "queued": "dim",
}


def at_terminal() -> bool:
    """Whether a person sees what is written to stdout."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def console(*, stderr: bool = False) -> Console:
    """Return a console that is as wide as the terminal, and never breaks a line elsewhere."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=not at_terminal(), highlight=False)


def write_json(value: Any) -> None:
    """Write one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_json_line(value: Any) -> None:
    """Write one JSON document on a line of its own, at once."""
    typer.echo(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()


def hint(text: str) -> None:
    """Tell a person what could be done next; nobody else needs to hear it."""
    if sys.stderr.isatty():
        typer.echo(text, err=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """Write rows: as a table with headings at a terminal, elsewhere with tabs and without headings."""
    if not at_terminal():
        for row in rows:
            typer.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.table import Table
    from rich.text import Text

    made = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
    for heading in headings:
        justify: Any = "right" if heading in right else "left"
        made.add_column(heading, justify=justify, overflow="ellipsis", no_wrap=heading != headings[-1])
    for row in rows:
        made.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console().print(made)


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Write names and values, one a line, the names aligned."""
    shown = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        typer.echo(f"{name:<{width}}  {value}")


def seconds(value: float | None) -> str:
    """Write a duration for people: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 3 h``."""
    if value is None:
        return ""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def moment(value: datetime | None) -> str:
    """Write a time in this machine's zone."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else ""


def age(value: datetime | None) -> str:
    """Write how long ago something was."""
    return seconds(max(0.0, (datetime.now(UTC) - value).total_seconds())) if value else ""


def size(number: int) -> str:
    """Write a number of bytes for people."""
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def reason(error: Mapping[str, Any] | None) -> str:
    """Write an item's error in a line: its code and what it says."""
    if not error:
        return ""
    return f"{error.get('code', 'error')}: {error.get('message', '')}".strip().rstrip(":")
