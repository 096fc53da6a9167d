"""A job's options as the command line takes them: ``--option name=value``, ``--options FILE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.cli import completion

_PANEL = "The job"

Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-O",
        metavar="NAME=VALUE",
        help="An option of the kind: JSON where it is some, else text; tasks.demucs=false sets one inside "
        "another; several times.",
        rich_help_panel=_PANEL,
    ),
]
OptionsFile = Annotated[
    Path | None,
    typer.Option(
        "--options",
        metavar="FILE",
        help="Options as JSON or YAML; - reads them from stdin. Those of --option win.",
        rich_help_panel=_PANEL,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Saved options; those given here win over them.",
        autocompletion=completion.presets,
        rich_help_panel=_PANEL,
    ),
]


def read_options(given: list[str] | None, file: Path | None) -> dict[str, Any]:
    """Return the options that were given, each over those in the file. LocalError when they are none."""
    from millrace.client import LocalError

    found: dict[str, Any] = _read_file(file) if file is not None else {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not all(name.split(".")):
            raise LocalError(f"--option {text!r}: write NAME=VALUE")
        place = found
        *outer, last = name.split(".")
        for part in outer:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise LocalError(f"--option {text!r}: {part} is {inner!r}, which has nothing inside")
            place = inner
        place[last] = parse(value)
    return found


def parse(value: str) -> Any:
    """Return what a value means: JSON where it is some, else the text itself.

    >>> [parse(text) for text in ("true", "3", '["a"]', "mfcc", "")]
    [True, 3, ['a'], 'mfcc', '']
    """
    try:
        return json.loads(value)
    except ValueError:
        return value


def _read_file(file: Path) -> dict[str, Any]:
    import yaml

    from millrace.client import LocalError

    try:
        # Every JSON document is a YAML document, too.
        found = yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"--options {file}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise LocalError(f"--options {file}: neither JSON nor YAML: {error}") from None
    if not isinstance(found, dict):
        raise LocalError(f'--options {file}: must hold an object, such as {{"dry_run": true}}')
    return found
