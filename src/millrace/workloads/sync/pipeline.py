"""The stage of sync: decode both files, align them, draw the answer, and repair the dub where wanted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from millrace import sources
from millrace.engine.context import StageContext
from millrace.workloads.sync import methods, plot
from millrace.workloads.sync.analysis import Pair, analyse
from millrace.workloads.sync.decoding import prepared
from millrace.workloads.sync.recording import Recording, RecordingCache, Source, extract
from millrace.workloads.sync.repair import CODECS, plan, repair
from millrace.workloads.sync.report import PLOT
from millrace.workloads.sync.result import Analysis

_DECODED = 0.7
_ALIGNED = 0.9
_SHARED = 4 * 3600.0
"""Seconds up to which a recording is analysed by several threads."""

Report = Callable[[float, str], None]


def analyse_pair(ctx: StageContext) -> Mapping[str, Any]:
    """Compare the master and the dub of an item; the result is ``Analysis.as_dict``, plus ``repair``.

    BadInput: ``bad_audio``, ``too_short``, ``silent``, ``model_unavailable``, or that an input is missing.
    """
    given = ctx.input
    tolerance = float(ctx.settings.get("tolerance_ms", 20.0)) / 1000
    ctx.progress(0.0, "decode")
    master = source_of(_local(ctx, "master"), given, "master")
    dub = source_of(_local(ctx, "dub"), given, "dub")
    places = methods.ModelPlaces.of(ctx.settings, ctx.site.get("models_dir", "models"))
    cache = RecordingCache(_cache_folder(ctx), int(ctx.settings.get("cache_bytes", 0)))
    with prepared(
        cache, master, dub, slots=ctx.slots, progress=lambda f: ctx.progress(f * _DECODED, "decode")
    ) as (first, second):
        analysis = compare(
            Pair(first, second),
            given.get("methods") or methods.DEFAULT_METHODS,
            given.get("ai_model"),
            places,
            ctx,
            tolerance,
            lambda fraction, phase: ctx.progress(_DECODED + (_ALIGNED - _DECODED) * fraction, phase),
            ctx.slots,
        )
        plot.draw(analysis, ctx.artifact(PLOT))
        result = analysis.as_dict()
        if given.get("repair"):
            result["repair"] = _repaired(ctx, analysis, first, dub, tolerance)
    ctx.progress(1.0, "done")
    return result


def compare(
    pair: Pair,
    names: Any,
    ai_model: str | None,
    places: methods.ModelPlaces,
    models: Any,
    tolerance: float,
    progress: Report = lambda fraction, phase: None,
    slots: int = 1,
) -> Analysis:
    """Analyse a pair with the named methods; ``models.model(key, load, close)`` keeps models loaded.

    ``slots`` says how many threads may work on it; each takes memory, so of very long ones only one does.
    """
    with ExitStack() as held:
        if slots > 1 and max(pair.master.seconds, pair.dub.seconds) < _SHARED:
            pair = replace(pair, pool=held.enter_context(ThreadPoolExecutor(slots)))
        return analyse(pair, methods.build(names, ai_model, pair, places, models), tolerance, progress)


def source_of(path: Path, given: Mapping[str, Any], side: str) -> Source:
    """Return which sound of a file an item's ``choices`` mean."""
    choices = given.get("choices") or {}
    stream = choices.get(f"{side}_stream")
    return Source(
        path,
        stream=stream if isinstance(stream, int) else None,
        channel=choices.get(f"{side}_channel"),
        mix=stream == "mix",
    )


def _local(ctx: StageContext, side: str) -> Path:
    """Return the file of one side; both may have come under the same name, so each is kept apart."""
    path = sources.localise(ctx, ctx.input[side])
    if path.is_relative_to(ctx.workdir):
        apart = ctx.workdir / side
        apart.mkdir(exist_ok=True)
        moved = apart / path.name
        shutil.move(path, moved)
        return moved
    return path


def _cache_folder(ctx: StageContext) -> Path:
    """Return where decoded recordings are shared: in the data directory, else the work directory."""
    home = ctx.site.get("data_dir")
    return Path(home) / "cache" / "sync" if home else ctx.workdir / "cache"


def _repaired(
    ctx: StageContext, analysis: Analysis, master: Recording, dub: Source, tolerance: float
) -> dict[str, Any]:
    if analysis.status == "no_match":
        return {"done": False, "reason": "the dub matches no part of the master"}
    if analysis.status == "in_sync":
        return {"done": False, "reason": "the dub is in sync already"}
    ending = dub.path.suffix.lower()
    name = "repaired" + (ending if ending in CODECS else ".mkv")
    checked = repair_and_check(
        analysis,
        master,
        dub,
        ctx.artifact(name),
        ctx.workdir,
        tolerance,
        lambda fraction: ctx.progress(_ALIGNED + (1 - _ALIGNED) * fraction * 0.9, "repair"),
    )
    return {"done": True, "file": name, "verified": checked}


def repair_and_check(
    analysis: Analysis,
    master: Recording,
    dub: Source,
    out: Path,
    workdir: Path,
    tolerance: float,
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Any]:
    """Write the corrected dub and compare it with the master again; return what that said."""
    todo = plan(analysis.chosen.segments, float(analysis.dub["seconds"]))
    repair(dub.path, out, todo, progress)
    folder = workdir / "repaired"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mended = extract(Source(out, dub.stream, dub.channel, dub.mix), folder)
    again = compare(
        Pair(master, mended), ("mfcc",), None, methods.ModelPlaces(Path(), Path()), None, tolerance
    )
    shutil.rmtree(folder, ignore_errors=True)
    answer = again.chosen
    return {
        "status": again.status,
        "offset_seconds": None if answer.offset is None else round(answer.offset, 6) + 0.0,
        "drift_ppm": None if answer.drift_ppm is None else round(answer.drift_ppm, 2) + 0.0,
        "confidence": round(again.confidence, 3),
    }
