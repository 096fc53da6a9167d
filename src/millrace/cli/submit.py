"""``millrace submit``: files, folders, URLs and paths of the server become jobs, followed if wanted."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli import completion, ends, screen
from millrace.cli.connection import Json, Server, Token, check_kind, connected
from millrace.cli.jobs import PANEL, THEN, Only, Output, Timeout, save
from millrace.cli.options import Options, OptionsFile, Preset, parse, read_options

if TYPE_CHECKING:
    from millrace.client import Job, JobFields, Millrace, Pair, Source

_JOB = "The job"

_AUDIO = "mp3 m4a aac flac wav ogg oga opus wma aiff aif ac3 eac3 dts mka"
_VIDEO = "mp4 m4v mkv mov webm avi mpg mpeg ts m2ts wmv flv mxf"
_DOCUMENTS = "pdf docx xlsx pptx html htm txt eml png jpg jpeg"
SUFFIXES: Mapping[str, frozenset[str]] = {
    "transcripts": frozenset(f".{word}" for word in f"{_AUDIO} {_VIDEO}".split()),
    "images": frozenset({".jpg", ".jpeg", ".png"}),
    "documents": frozenset(f".{word}" for word in _DOCUMENTS.split()),
}
"""Which files of a folder are meant, where no --pattern says so. Of other kinds: all of them."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(submit)


def submit(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="Such as transcripts.", autocompletion=completion.kinds)
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Files, which are uploaded; folders, for the files in them; URLs, which the server "
            "fetches. For tracks: paths of the server. For sync: MASTER DUB.",
            show_default=False,
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option("--path", "-p", metavar="PATH", help="A file on the server; several times."),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="For sync: a pair a line, by columns master_file and dub_file."
        ),
    ] = None,
    on_server: Annotated[
        bool, typer.Option("--on-server", help="The paths in the CSV are of the server, not of this machine.")
    ] = False,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Which files of a folder, such as '*.mp3'; default: by kind."
        ),
    ] = None,
    options: Options = None,
    options_file: OptionsFile = None,
    preset: Preset = None,
    label: Annotated[str | None, typer.Option(help="Shown in lists.", rich_help_panel=_JOB)] = None,
    priority: Annotated[
        str | None, typer.Option(help="low, normal, high or webhook.", rich_help_panel=_JOB)
    ] = None,
    parallelism: Annotated[
        int | None, typer.Option(min=1, help="How many items run at once, at most.", rich_help_panel=_JOB)
    ] = None,
    held: Annotated[bool, typer.Option("--held", help="Do not start it.", rich_help_panel=_JOB)] = False,
    split: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Make jobs of at most N items each.", rich_help_panel=_JOB),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="With the same again no second job is made.", rich_help_panel=_JOB),
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET",
            help="Tell when it has ended: a target of the server's settings, or, where those allow it, an "
            "Apprise URL; several times.",
            rich_help_panel=THEN,
        ),
    ] = None,
    callback: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Call this webhook when it has ended.", rich_help_panel=THEN),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it until it has ended.", rich_help_panel=THEN)
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait in silence until it has ended.", rich_help_panel=THEN)
    ] = False,
    timeout: Timeout = None,
    output: Output = None,
    only: Only = None,
    as_json: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:  # fmt: skip
    """Submit a job, and print its id.

    With --watch, --wait or --output the exit code says how it ended: 0 when all succeeded, 1 when not.
    Ctrl-C leaves it running.

    [dim]millrace submit transcripts interviews/ --watch --output subtitles --only '*.srt'[/]

    [dim]millrace submit tracks /srv/media/tv --option dry_run=true --watch[/]

    [dim]millrace submit sync master.mov dub.wav --wait --json[/]

    [dim]millrace submit documents --path /srv/media/contracts/a.pdf --option redact=true[/]
    """
    given = read_options(options, options_file)
    items: Sequence[Any]
    if kind == "sync":
        items = _pairs(sources or [], path or [], csv_file, on_server=on_server)
    elif csv_file is not None:
        raise typer.BadParameter("only sync takes a CSV", param_hint="--csv")
    elif kind == "tracks":
        given, items = _of_tracks([*(sources or ()), *(path or ())], given)
    else:
        items = list(_sources(kind, sources or [], pattern or [], path or []))
    common: JobFields = {
        "preset": preset, "priority": _number(priority), "parallelism": parallelism,
        "held": held, "callbacks": callback or [], "notify": notify or [],
    }  # fmt: skip
    with connected(server, token) as client:
        check_kind(client, kind)
        jobs = [
            _send(
                client,
                kind,
                part,
                given,
                {**common, "label": label or _label(part), "idempotency_key": _key(key, number)},
                quiet=as_json,
            )
            for number, part in enumerate(_parts(items, split))
        ]
        _afterwards(jobs, watch=watch, wait=wait or output is not None, timeout=timeout, as_json=as_json,
                    output=output, only=only)  # fmt: skip


def _afterwards(
    jobs: Sequence[Job], *, watch: bool, wait: bool, timeout: float | None, as_json: bool,
    output: Path | None, only: list[str] | None,
) -> None:  # fmt: skip
    """Follow the jobs as wanted, save what they made, and end with how they ended."""
    from millrace.cli import following

    worst = ends.DONE
    for job in jobs:
        if watch:
            info = following.follow(job, as_json=as_json, timeout=timeout)
        elif wait:
            info = following.wait(job, timeout=timeout)
            if as_json:
                screen.write_json(info.raw)
            else:
                following.summary(job, info)
        else:
            _tell(job, as_json=as_json)
            continue
        if output is not None:
            folder = output / job.id if len(jobs) > 1 else output
            save(job, folder, only, quiet=as_json)
        worst = max(worst, following.code(info))
    raise typer.Exit(worst)


def _tell(job: Job, *, as_json: bool) -> None:
    if as_json:
        screen.write_json(job.info.raw)
    else:
        typer.echo(job.id)
        screen.hint(f"follow it: millrace watch {job.id}")


def _send(
    client: Millrace,
    kind: str,
    items: Sequence[Any],
    options: Mapping[str, Any],
    common: JobFields,
    *,
    quiet: bool,
) -> Job:
    """Submit a job, showing at a terminal how much of its files is sent."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    bars = Progress(
        TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        console=Console(stderr=True), transient=True, disable=quiet or not screen.at_terminal(),
    )  # fmt: skip
    with bars:
        task = bars.add_task("sending", visible=False)

        def told(sent: int, total: int) -> None:
            bars.update(task, total=total, completed=sent, visible=True)

        try:
            common["progress"] = told
            return client.submit(kind, items, options=options, **common)
        except KeyboardInterrupt:
            bars.stop()
            typer.echo("\nNothing was submitted, unless it was just taken: millrace jobs shows it.", err=True)
            raise typer.Exit(ends.INTERRUPTED) from None


def _parts(items: Sequence[Any], size: int | None) -> list[Sequence[Any]]:
    if size is None or len(items) <= size:
        return [items]
    return [items[start : start + size] for start in range(0, len(items), size)]


def _label(items: Sequence[Any]) -> str | None:
    """Return what lists show of a job without a label: what it is made of; None where the server knows."""
    from millrace.client import Pair, ServerPath

    if not items:
        return None
    first = items[0].dub if isinstance(items[0], Pair) else items[0]
    named = str(first.path if isinstance(first, ServerPath) else first)
    name = Path(named.split("?")[0]).name or named
    return name if len(items) == 1 else f"{name} and {len(items) - 1} more"


def _key(key: str | None, number: int) -> str | None:
    return f"{key}-{number}" if key is not None and number else key


def _number(priority: str | None) -> str | int | None:
    return int(priority) if priority is not None and priority.isdecimal() else priority


# -- what the arguments mean -------------------------------------------------------------------


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _sources(
    kind: str, given: Sequence[str], patterns: Sequence[str], paths: Sequence[str]
) -> Iterator[Source]:
    """Yield what the arguments name: files one by one, those of folders in the order of their names."""
    from millrace.client import ServerPath

    for text in given:
        if _is_url(text) or not Path(text).is_dir():
            yield text
        else:
            yield from _files(kind, Path(text), patterns)
    yield from (ServerPath(each) for each in paths)


def _files(kind: str, folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the files in and below a folder that are meant, no hidden ones. LocalError without any."""
    from millrace.client import LocalError

    def wanted(path: Path) -> bool:
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            return False
        if patterns:
            return any(path.match(pattern) for pattern in patterns)
        return kind not in SUFFIXES or path.suffix.lower() in SUFFIXES[kind]

    found = sorted(path for path in folder.rglob("*") if wanted(path))
    if not found:
        what = " or ".join(patterns) or f"that {kind} would take; --pattern names others"
        raise LocalError(f"{folder} has no file {what}")
    return found


def _of_tracks(paths: Sequence[str], options: dict[str, Any]) -> tuple[dict[str, Any], Sequence[Any]]:
    """Return the options and items of a tracks job: one path is scanned, several are taken as they are."""
    from millrace.client import LocalError, ServerPath

    for each in paths:
        if _is_url(each):
            raise LocalError(f"{each}: tracks are set in place, in files of the server")
    if len(paths) > 1:
        return options, [ServerPath(each) for each in paths]
    return {**options, **({"path": str(Path(paths[0]).absolute())} if paths else {})}, []


def _pairs(given: Sequence[str], paths: Sequence[str], file: Path | None, *, on_server: bool) -> list[Pair]:
    from millrace.client import LocalError, Pair, ServerPath

    sources: list[Source] = [*given, *(ServerPath(each) for each in paths)]
    if file is not None:
        if sources:
            raise LocalError("give MASTER and DUB, or --csv FILE, not both")
        return list(_read_csv(file, on_server=on_server))
    if len(sources) != 2:
        raise LocalError(f"sync needs MASTER and DUB, or --csv FILE; {len(sources)} were given")
    return [Pair(sources[0], sources[1])]


def _read_csv(file: Path, *, on_server: bool) -> Iterator[Pair]:
    """Yield the pairs of a CSV; paths of this machine count from its folder. LocalError names the line."""
    from millrace.client import LocalError, Pair, ServerPath

    known = {field.name for field in fields(Pair)} - {"master", "dub"}

    def source(text: str) -> Source:
        if _is_url(text):
            return text
        return ServerPath(text) if on_server else file.parent / text

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"--csv {file}: cannot be read: {error}") from None
    head = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count), skipinitialspace=True)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    for needed in ("master_file", "dub_file"):
        if needed not in reader.fieldnames:
            raise LocalError(f"--csv {file}: its first line must name the column {needed}")
    found = 0
    for row in reader:
        values = {name: value.strip() for name, value in row.items() if isinstance(name, str) and value}
        if not values.get("master_file") or not values.get("dub_file"):
            raise LocalError(f"--csv {file}: line {reader.line_num}: a master_file and a dub_file are needed")
        found += 1
        chosen = {name: _cell(name, value) for name, value in values.items() if name in known and value}
        yield Pair(source(values["master_file"]), source(values["dub_file"]), **chosen)
    if not found:
        raise LocalError(f"--csv {file}: there is no line below its first")


def _cell(name: str, value: str) -> Any:
    if name in ("methods", "tags"):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    if name == "repair":
        return value.lower() in ("yes", "true", "1", "on")
    return parse(value) if name.endswith(("_stream", "_channel")) else value
