"""The stages of a tracks job: ``scan`` finds the files of a folder, ``set_default`` deals with one.

Both run in worker processes. A file takes a few milliseconds, so the engine hands out chunks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from millrace.engine.context import Skip, StageContext
from millrace.engine.model import NewItem
from millrace.errors import BadInput, Transient
from millrace.workloads.tracks.choice import Wish, wishes_for
from millrace.workloads.tracks.files import check_inside
from millrace.workloads.tracks.journal import Journal
from millrace.workloads.tracks.paths import Filters, Found, display, from_json, to_json, walk
from millrace.workloads.tracks.repair import Care, repair
from millrace.workloads.tracks.settings import rules_for
from millrace.workloads.tracks.titles import Titles

_BATCH = 500
STAGE = "set_default"


def filters_of(options: Mapping[str, Any]) -> Filters:
    """Return the filters that a job's options ask for."""
    given = options.get("filters") or {}
    age = given.get("max_age_days")
    return Filters(
        pattern=options.get("pattern"),
        recursive=bool(options.get("recursive", True)),
        min_bytes=float(given.get("min_size_mb") or 0) * 1024 * 1024,
        max_age=None if age is None else float(age) * 86400.0,
        exclude=tuple(given.get("exclude_patterns") or ()),
    )


def new_item(found: Found) -> NewItem:
    """Return the item for a file of the library. Its key is the path, so no file comes twice."""
    where = to_json(found.path)
    return NewItem(name=where["path"], input=where, key=where.get("path_bytes", where["path"]))


def journal_directory(data_dir: Path | str) -> Path:
    """Return where intended patches are kept."""
    return Path(data_dir) / "tracks" / "journal"


def cache_directory(data_dir: Path | str) -> Path:
    """Return where TMDB's answers are kept."""
    return Path(data_dir) / "tracks" / "tmdb"


def titles_directory(data_dir: Path | str) -> Path:
    """Return where the original languages that webhooks told are kept."""
    return Path(data_dir) / "tracks" / "titles"


def scan(ctx: StageContext) -> dict[str, Any]:
    """Find the files of the job's folder and add them as items, some hundreds at a time."""
    top = from_json(ctx.options)
    roots = _roots(ctx)
    if not top.exists():
        raise BadInput(f"Path not found: {display(top)}", code="not_found")
    check_inside(top.resolve(), roots, top)
    batch: list[NewItem] = []
    count = 0
    for found in walk(top, filters_of(ctx.options), roots):
        batch.append(new_item(found))
        count += 1
        if len(batch) >= _BATCH:
            ctx.add_items(batch)
            batch = []
    if batch:
        ctx.add_items(batch)
    return {"files": count}


def set_default(ctx: StageContext) -> dict[str, Any] | Skip:
    """Make the right audio track of one file the default, and say in ``message`` what was done and why."""
    started = time.perf_counter()
    path = from_json(ctx.input)
    wishes, note = wanted(path, ctx)
    outcome = repair(
        path,
        wishes,
        Care(
            roots=_roots(ctx),
            keep_mtime=bool(ctx.settings.get("keep_mtime", True)),
            quiet=float(ctx.settings.get("settle_seconds", 2.0)),
            rewrite=bool(ctx.settings.get("rewrite", True)),
        ),
        _journal(ctx),
        lambda: ctx.workdir,
        dry_run=bool(ctx.options.get("dry_run", False)),
        progress=ctx.progress,
    )
    result = outcome.as_json()
    if note:
        result["message"] += f" ({note})"
    result["duration_ms"] = max(1, round((time.perf_counter() - started) * 1000))
    return Skip(outcome.reason or "skipped", result) if outcome.status == "skipped" else result


def wanted(path: Path, ctx: StageContext) -> tuple[list[Wish], str]:
    """Return the languages wanted for a file, best first, and a note where TMDB could not be asked."""
    rules = rules_for(path, ctx.settings)
    original, source, note = ctx.input.get("original"), ctx.input.get("told_by", "webhook"), ""
    if not original and rules.prefer_original:
        original = Titles(titles_directory(ctx.site["data_dir"])).original_language(path)
    tmdb = ctx.settings.get("tmdb") or {}
    if not original and rules.prefer_original and tmdb.get("api_key"):
        source = "TMDB"
        try:
            original = _look_up(path, ctx, tmdb)
        except Transient as error:
            note = f"without the original language: {error.message}"
    wishes = wishes_for(original, source, rules.language_priority, prefer_original=rules.prefer_original)
    return wishes, note


def _look_up(path: Path, ctx: StageContext, settings: Mapping[str, Any]) -> str | None:
    from dataclasses import replace

    from millrace.fetch import FetchPolicy
    from millrace.workloads.tracks.tmdb import Tmdb, title_of

    directory = cache_directory(ctx.site["data_dir"])
    tmdb: Tmdb = ctx.model(
        "tracks-tmdb", lambda: Tmdb(settings, FetchPolicy.of(ctx.site.get("fetch", {})), directory)
    )
    title = title_of(path)
    ids = ctx.input.get("ids") or {}
    if ids:
        title = replace(title, medium=ctx.input.get("medium", title.medium), **ids)
    return tmdb.original_language(title)


def _journal(ctx: StageContext) -> Journal:
    directory = journal_directory(ctx.site["data_dir"])
    return ctx.model("tracks-journal", lambda: Journal(directory), Journal.close)


def _roots(ctx: StageContext) -> tuple[Path, ...]:
    return _resolved(tuple(ctx.site.get("media_roots", ())))


@lru_cache(maxsize=8)
def _resolved(roots: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(Path(root).resolve() for root in roots)
