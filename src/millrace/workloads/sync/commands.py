"""``millrace sync MASTER DUB`` and ``millrace sync repair``: compare and mend files without a server."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from millrace.workloads.sync import KIND
from millrace.workloads.sync.settings import SyncSettings

if TYPE_CHECKING:
    from millrace.workloads.sync.recording import Recording, Source
    from millrace.workloads.sync.result import Analysis

_EXIT_NO_MATCH = 3
_STREAM = "Audio stream counted from 0, or mix; default: the first that is not silent."
_CHANNEL = "Channel of the stream counted from 0; default: all mixed."

Master = Annotated[Path, typer.Argument(help="The master: what is right.", exists=True, dir_okay=False)]
Dub = Annotated[Path, typer.Argument(help="The dub: what is to fit it.", exists=True, dir_okay=False)]
Methods = Annotated[
    str, typer.Option(help="mfcc, onset, spectral, correlation, ai, auto; several with commas.")
]
AiModel = Annotated[str | None, typer.Option(help="For ai: spectral, wav2vec2 or yamnet.")]
MasterStream = Annotated[str | None, typer.Option(help=_STREAM)]
DubStream = Annotated[str | None, typer.Option(help=_STREAM)]
MasterChannel = Annotated[int | None, typer.Option(help=_CHANNEL, min=0)]
DubChannel = Annotated[int | None, typer.Option(help=_CHANNEL, min=0)]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="The settings file; default: millrace.yaml where there is one."),
]


class _WithDefault(TyperGroup):
    """A group whose command ``compare`` need not be named: two files are enough."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take what is no command for the arguments of ``compare``."""
        if args and self.get_command(ctx, args[0]) is None:
            args = ["compare", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let options of ``compare`` stand before the files."""
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h"):
            args = ["compare", *args]
        return super().parse_args(ctx, args)


def commands() -> typer.Typer:
    """Return the subcommands."""
    app = typer.Typer(
        cls=_WithDefault,
        help="millrace sync MASTER DUB: by how much a dub is off its master, if it drifts, where it was cut.",
        no_args_is_help=True,
    )
    app.command("compare")(compare)
    app.command("repair")(repair)
    return app


def compare(
    master: Master,
    dub: Dub,
    methods: Methods = "auto",
    ai_model: AiModel = None,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, as JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write the picture (PNG) there.")] = None,
    master_stream: MasterStream = None,
    dub_stream: DubStream = None,
    master_channel: MasterChannel = None,
    dub_channel: DubChannel = None,
    config: Config = None,
) -> None:
    """Say by how much DUB is off MASTER. Exits with 3 when they do not match."""
    order = _Order(
        master, dub, methods, ai_model, master_stream, dub_stream, master_channel, dub_channel, config
    )
    with _compared(order) as found:
        if plot is not None:
            from millrace.workloads.sync.plot import draw

            draw(found.analysis, plot)
        if as_json:
            typer.echo(json.dumps(found.analysis.as_dict(), ensure_ascii=False, indent=2))
        else:
            _print(found.analysis)
        if found.analysis.status == "no_match":
            raise typer.Exit(_EXIT_NO_MATCH)


def repair(
    master: Master,
    dub: Dub,
    out: Annotated[Path, typer.Argument(help="The corrected dub; its ending chooses the format.")],
    methods: Methods = "auto",
    ai_model: AiModel = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as JSON.")] = False,
    master_stream: MasterStream = None,
    dub_stream: DubStream = None,
    master_channel: MasterChannel = None,
    dub_channel: DubChannel = None,
    config: Config = None,
) -> None:
    """Write a DUB that fits MASTER: moved, brought to its speed, video copied; then compare again."""
    order = _Order(
        master, dub, methods, ai_model, master_stream, dub_stream, master_channel, dub_channel, config
    )
    if out.exists() and out.samefile(dub):
        raise typer.BadParameter("the corrected dub must not be the dub itself", param_hint="OUT")
    with _compared(order) as found:
        if found.analysis.status == "no_match":
            if as_json:
                typer.echo(json.dumps({"before": found.analysis.as_dict(), "after": None}, indent=2))
            else:
                _print(found.analysis)
            raise typer.Exit(_EXIT_NO_MATCH)
        from millrace.workloads.sync.pipeline import repair_and_check

        tolerance = found.analysis.tolerance
        checked = repair_and_check(found.analysis, found.master, found.source, out, found.workdir, tolerance)
        if as_json:
            typer.echo(json.dumps({"before": found.analysis.as_dict(), "after": checked}, indent=2))
            return
        _print(found.analysis)
        typer.echo(
            f"{out}: {checked['status']}, offset {(checked['offset_seconds'] or 0) * 1000:+.3f} ms, "
            f"confidence {checked['confidence']:.3f}"
        )


@dataclass(frozen=True, slots=True)
class _Order:
    master: Path
    dub: Path
    methods: str
    ai_model: str | None
    master_stream: str | None
    dub_stream: str | None
    master_channel: int | None
    dub_channel: int | None
    config: Path | None

    def values(self) -> dict[str, Any]:
        """Return it as the row of a CSV would be."""
        return {
            "master": {"name": str(self.master)},
            "dub": {"name": str(self.dub)},
            "methods": self.methods,
            "ai_model": self.ai_model or "",
            "master_stream": self.master_stream,
            "dub_stream": self.dub_stream,
            "master_channel": self.master_channel,
            "dub_channel": self.dub_channel,
        }


@dataclass(frozen=True, slots=True)
class _Found:
    analysis: Analysis
    master: Recording
    source: Source
    workdir: Path


class _Models:
    """Loads each model when it is asked for; the command ends soon anyway."""

    def model(self, key: object, load: Callable[[], Any], close: object = None) -> Any:
        """Return the model."""
        return load()


def _named(path: str) -> dict[str, Any]:
    return {"kind": "path", "path": path}


@contextmanager
def _compared(order: _Order) -> Iterator[_Found]:
    """Compare the files of an order in a temporary directory, which lives as long as the context."""
    # Small products gain nothing from BLAS threads, and both decoders want the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from millrace.cli import read_settings
    from millrace.settings import available_cores
    from millrace.workloads.sync.analysis import Pair
    from millrace.workloads.sync.decoding import prepared
    from millrace.workloads.sync.methods import ModelPlaces
    from millrace.workloads.sync.pairs import check
    from millrace.workloads.sync.pipeline import compare as analysed
    from millrace.workloads.sync.pipeline import source_of
    from millrace.workloads.sync.recording import RecordingCache

    _, settings = read_settings(order.config, {})
    section = settings.workload(KIND, SyncSettings)
    places = ModelPlaces.of(section.model_dump(), settings.models_dir)
    pair = check(order.values(), lambda field: "--" + field.replace("_", "-"), _named, places.missing)
    given = pair.as_input()
    master, dub = source_of(order.master, given, "master"), source_of(order.dub, given, "dub")
    with tempfile.TemporaryDirectory(prefix="millrace-sync-") as folder:
        cache = RecordingCache(Path(folder) / "cache", section.cache_bytes)
        slots = available_cores()
        with prepared(cache, master, dub, slots=slots, progress=_bar("decode")) as (first, second):
            found = analysed(
                Pair(first, second),
                pair.methods,
                pair.ai_model,
                places,
                _Models(),
                section.tolerance_ms / 1000,
                slots=slots,
            )
            yield _Found(found, first, dub, Path(folder))


def _bar(what: str) -> Callable[[float], None]:
    """Return a progress report for people at a terminal; silent elsewhere."""
    if not sys.stderr.isatty():
        return lambda fraction: None

    def show(fraction: float) -> None:
        end = "\r" if fraction < 1 else "\r\033[K"
        sys.stderr.write(f"{what} {fraction:4.0%}{end}")
        sys.stderr.flush()

    return show


def _print(analysis: Analysis) -> None:
    found = analysis.as_dict()
    typer.echo(f"status      {found['status']}")
    if found["offset_seconds"] is not None:
        offset = found["offset_seconds"]
        side = "late" if offset < 0 else "early" if offset > 0 else "on time"
        typer.echo(f"offset      {offset:+.6f} s   (the dub is {side})")
        for rate, shown in found["offset_frames"].items():
            typer.echo(f"            {shown['timecode']:>13}  {shown['frames']:+d} frames at {rate}")
        drift = found["drift"]
        cause = f"   {drift['cause']}" if drift["cause"] else ""
        typer.echo(f"drift       {drift['ppm']:+.2f} ppm, {drift['total_seconds']:+.4f} s in all{cause}")
    for number, segment in enumerate(found["segments"] if len(found["segments"]) > 1 else (), 1):
        typer.echo(
            f"segment {number:<3} {segment['start']:.3f} to {segment['end']:.3f} s: "
            f"{segment['offset_seconds']:+.6f} s"
        )
    typer.echo(f"confidence  {found['confidence']:.3f}   by {found['method_used']}")
    for note in found["notes"]:
        typer.echo(f"note        {note}")
