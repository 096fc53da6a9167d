"""``millrace tracks scan|fix|explain|map``: the same work from the command line, without a server.

Files are dealt with in this process; a change is journalled in the data directory as the server does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.errors import InvalidRequest, StageError

if TYPE_CHECKING:
    from rich.console import Console

    from millrace.settings import Settings
    from millrace.workloads.tracks.choice import Wish
    from millrace.workloads.tracks.journal import Journal
    from millrace.workloads.tracks.repair import Outcome
    from millrace.workloads.tracks.settings import TracksSettings

app = typer.Typer(help="Set the right default audio track, in place.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="A folder, or one file.")]
Config = Annotated[
    Path | None, typer.Option(help="The settings file; default: millrace.yaml where there is one.")
]
DataDir = Annotated[Path | None, typer.Option(help="Where intended changes are journalled; default: ./data.")]
Languages = Annotated[
    str | None, typer.Option(help="Languages wanted, best first, with commas; default: as in the settings.")
]
Original = Annotated[str | None, typer.Option(help="The title's original language, where you know it.")]
Pattern = Annotated[str | None, typer.Option(help="Only files that match, such as '**/*.{mkv,mp4}'.")]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Leave out what matches; may be given several times.")
]
Recursive = Annotated[bool, typer.Option(help="Go into folders below, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]


@dataclass(frozen=True, slots=True)
class _Line:
    """What became of one file: an outcome, or why it failed."""

    path: Path
    outcome: Outcome | None
    error: StageError | None

    @property
    def word(self) -> str:
        if self.outcome is None:
            return "failed"
        return self.outcome.reason or self.outcome.status

    @property
    def message(self) -> str:
        if self.outcome is None:
            return self.error.message if self.error else ""
        return self.outcome.message


@app.command()
def scan(
    path: Folder,
    language: Languages = None,
    original: Original = None,
    pattern: Pattern = None,
    exclude: Exclude = None,
    recursive: Recursive = True,
    as_json: AsJson = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Show what would be changed, file by file. Nothing is written."""
    with _session(config, data_dir, language, original) as session:
        lines = session.run(path, pattern, exclude, recursive=recursive, dry_run=True, quiet=as_json)
        _show(lines, as_json=as_json, dry_run=True, root=path)


@app.command()
def fix(
    path: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Change the files of a folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, even a single file.")] = False,
    language: Languages = None,
    original: Original = None,
    pattern: Pattern = None,
    exclude: Exclude = None,
    recursive: Recursive = True,
    as_json: AsJson = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Set the default audio track. On a folder this is a dry run until you say --yes."""
    if yes and dry_run:
        raise typer.BadParameter("give --yes or --dry-run, not both")
    dry = dry_run or (path.is_dir() and not yes)
    with _session(config, data_dir, language, original) as session:
        lines = session.run(path, pattern, exclude, recursive=recursive, dry_run=dry, quiet=as_json)
        _show(lines, as_json=as_json, dry_run=dry, root=path)
    if dry and not dry_run and not as_json:
        typer.echo("Nothing was changed. Say --yes to change these files.")
    if any(line.outcome is None for line in lines):
        raise typer.Exit(1)


@app.command()
def explain(
    path: Annotated[Path, typer.Argument(help="One file.")],
    language: Languages = None,
    original: Original = None,
    as_json: AsJson = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Show a file's audio tracks, which one would be chosen, and why."""
    from millrace.workloads.tracks.repair import Care
    from millrace.workloads.tracks.repair import explain as look

    with _session(config, data_dir, language, original) as session:
        wishes, note = session.wishes(path.absolute())
        probe, choice = look(path, wishes, Care())
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "container": probe.format,
                    "tracks": [track.as_json() for track in probe.audio],
                    "chosen": choice.track.index if choice.track else None,
                    "skip": choice.skip,
                    "message": choice.message,
                }
            )
        )
        return
    _explain_table(path, probe, choice)
    wanted = ", ".join(f"{wish.language} ({wish.source})" for wish in wishes) or "none"
    typer.echo(f"Wanted: {wanted}")
    typer.echo(choice.message + (f" ({note})" if note else ""))


@app.command(name="map")
def map_(
    path: Annotated[str, typer.Argument(help="A path as Sonarr or Radarr writes it.")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show which path of this machine the path mappings make of one in a webhook."""
    from millrace.workloads.tracks.paths import map_path

    _, section = _settings(config, None)
    mapped = map_path(path, section.mappings)
    exists = Path(mapped.path).exists()
    if as_json:
        typer.echo(
            json.dumps({"path": path, "mapped": mapped.path, "mapping": mapped.rule, "exists": exists})
        )
    else:
        rule = f"by the mapping of {mapped.rule}" if mapped.rule else "no mapping fits; unchanged"
        there = "exists" if exists else "does not exist here"
        typer.echo(f"{path}\n→ {mapped.path}\n  {rule}; {there}")
    if not exists:
        raise typer.Exit(1)


# -- doing it ---------------------------------------------------------------------------------


class _Session:
    """The settings and the journal of one command."""

    def __init__(
        self,
        settings: Settings,
        section: TracksSettings,
        journal: Journal,
        languages: str | None,
        original: str | None,
    ) -> None:
        from millrace.server.assembly import plain
        from millrace.workloads.tracks.languages import known

        self._settings = settings
        self._section: dict[str, Any] = plain(section)
        self._journal = journal
        self._original = original
        if languages is not None:
            try:
                tags = [known(part) for part in languages.split(",") if part.strip()]
            except ValueError as error:
                raise InvalidRequest(f"--language: {error}") from None
            self._section |= {"language_priority": tags, "overrides": []}

    def wishes(self, path: Path) -> tuple[list[Wish], str]:
        """Return the languages wanted for a file."""
        from millrace.workloads.tracks.pipeline import wanted

        return wanted(path, self._context(path))

    def run(
        self,
        top: Path,
        pattern: str | None,
        exclude: Sequence[str] | None,
        *,
        recursive: bool,
        dry_run: bool,
        quiet: bool,
    ) -> list[_Line]:
        """Deal with every file at or below ``top``, with a progress bar; return what became of each."""
        from rich.progress import track

        from millrace.patterns import check_pattern
        from millrace.workloads.tracks.paths import Filters, walk

        if not top.exists():
            raise InvalidRequest(f"Path not found: {top}")
        if pattern is not None:
            check_pattern(pattern)
        filters = Filters(pattern=pattern, recursive=recursive, exclude=tuple(exclude or ()))
        files = [found.path for found in walk(top.absolute(), filters)]
        bar = track(
            files,
            description="Looking" if dry_run else "Setting tracks",
            console=_console(stderr=True),
            transient=True,
            disable=quiet,
        )
        return [self._one(path, dry_run=dry_run) for path in bar]

    def _one(self, path: Path, *, dry_run: bool) -> _Line:
        import tempfile

        from millrace.workloads.tracks.repair import Care, repair

        care = Care(
            keep_mtime=self._section["keep_mtime"],
            quiet=self._section["settle_seconds"],
            rewrite=self._section["rewrite"],
        )
        wishes, note = self.wishes(path)
        with tempfile.TemporaryDirectory(prefix="millrace-tracks-") as folder:
            try:
                outcome = repair(path, wishes, care, self._journal, lambda: Path(folder), dry_run=dry_run)
            except StageError as error:
                return _Line(path, None, error)
        if note:
            from dataclasses import replace

            outcome = replace(outcome, message=f"{outcome.message} ({note})")
        return _Line(path, outcome, None)

    def _context(self, path: Path) -> Any:
        from millrace.engine.context import StageContext, WarmModels

        if not hasattr(self, "_models"):
            self._models = WarmModels()
        return StageContext(
            job="",
            idx=0,
            name=str(path),
            stage="set_default",
            input={"original": self._original, "told_by": "--original"} if self._original else {},
            workdir=Path("unused"),
            settings=self._section,
            site=self._settings.site(),
            models=self._models,
        )


def _settings(config: Path | None, data_dir: Path | None) -> tuple[Settings, TracksSettings]:
    from millrace.cli import read_settings
    from millrace.workloads.tracks.settings import TracksSettings

    _, settings = read_settings(config, {"data_dir": data_dir})
    return settings, settings.workload("tracks", TracksSettings)


@contextmanager
def _session(
    config: Path | None, data_dir: Path | None, languages: str | None, original: str | None
) -> Iterator[_Session]:
    from millrace.workloads.tracks.journal import Journal
    from millrace.workloads.tracks.pipeline import journal_directory

    settings, section = _settings(config, data_dir)
    journal = Journal(journal_directory(settings.data_dir))
    journal.recover()
    try:
        yield _Session(settings, section, journal, languages, original)
    finally:
        journal.close()


# -- showing it -------------------------------------------------------------------------------


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=False)


def _show(lines: Sequence[_Line], *, as_json: bool, dry_run: bool, root: Path) -> None:
    from millrace.workloads.tracks.paths import display

    if as_json:
        for line in lines:
            row: dict[str, Any] = {"file": display(line.path), "status": "failed", "message": line.message}
            if line.outcome is not None:
                row |= line.outcome.as_json()
            elif line.error is not None:
                row["code"] = line.error.code
            typer.echo(json.dumps(row))
        return
    interesting = [line for line in lines if line.word != "already_correct"]
    if interesting:
        _table(interesting, root)
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.word] = counts.get(line.word, 0) + 1
    words = {"dry_run": "to change", "success": "changed", "already_correct": "already correct"}
    said = ", ".join(f"{number} {words.get(word, word.replace('_', ' '))}" for word, number in counts.items())
    typer.echo(f"{len(lines)} file{'s' if len(lines) != 1 else ''}: {said or 'nothing found'}")


def _table(lines: Sequence[_Line], root: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from millrace.workloads.tracks.paths import display

    table = Table(show_edge=False, pad_edge=False)
    for column in ("File", "Before", "After", "Why"):
        table.add_column(column, overflow="fold")
    base = root.absolute() if root.is_dir() else root.absolute().parent
    for line in lines:
        name = line.path.relative_to(base) if base in line.path.parents else line.path
        before, after = _before_after(line.outcome)
        table.add_row(Text(display(name)), before, after, Text(line.message))
    _console().print(table)


def _before_after(outcome: Outcome | None) -> tuple[str, str]:
    if outcome is None or not outcome.before:
        return "–", "–"
    tracks = outcome.before
    before = ", ".join(f"{track['index'] + 1} {track['language']}" for track in tracks if track["default"])
    if outcome.status == "skipped" or outcome.target is None:
        return before or "none", before or "none"
    chosen = tracks[outcome.target]
    return before or "none", f"{chosen['index'] + 1} {chosen['language']}"


def _explain_table(path: Path, probe: Any, choice: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from millrace.workloads.tracks.choice import purpose
    from millrace.workloads.tracks.paths import display

    typer.echo(f"{display(path)}: {probe.format}, {len(probe.audio)} audio tracks")
    if not probe.audio:
        return
    table = Table(show_edge=False, pad_edge=False)
    for column in ("", "Track", "Language", "Codec", "Channels", "Default", "Purpose", "Name"):
        table.add_column(column)
    for track in probe.audio:
        mark = "→" if choice.track is not None and choice.track.index == track.index else ""
        table.add_row(
            mark,
            str(track.index + 1),
            track.language or "und",
            track.codec,
            str(track.channels or "?"),
            "yes" if track.default else "no",
            purpose(track) or "plain",
            Text(track.name),
        )
    _console().print(table)
