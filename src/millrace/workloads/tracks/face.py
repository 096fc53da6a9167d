"""How the dashboard shows tracks: the form, a file's tracks before and after, and the path-mapping tester."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.model import Artifact, Item, Job
from millrace.workloads import Face, FormField

if TYPE_CHECKING:
    from millrace.server.services import Services

_STAGE = "set_default"


async def _item(services: Services, job: Job, item: Item, artifacts: Sequence[Artifact]) -> Mapping[str, Any]:
    """Return the file's audio tracks with which was the default, and which is (or would be) now."""
    result = item.results.get(_STAGE) or {}
    target = result.get("target")
    changed = result.get("status") == "success" and target is not None
    tracks = [
        {**track, "was": track["default"], "now": track["index"] == target if changed else track["default"]}
        for track in result.get("tracks", ())
    ]
    return {
        "tracks": tracks,
        "result": result,
        "changed": changed and any(track["was"] != track["now"] for track in tracks),
        "dry_run": bool(job.options.get("dry_run")),
    }


def _summary(item: Item) -> str:
    return str((item.results.get(_STAGE) or {}).get("message", ""))


FACE = Face(
    title="Tracks",
    about="The right default audio track is set in film files, in place.",
    inputs="folder",
    fields=(
        FormField("recursive", "With the folders inside", "flag", default=True),
        FormField("dry_run", "Only say what would be done", "flag", default=False),
        FormField("pattern", "File names", help="such as *.mkv or *.{mkv,mp4}"),
        FormField("filters.min_size_mb", "At least, MB", "number"),
        FormField("filters.max_age_days", "Not older than, days", "number"),
        FormField("filters.exclude_patterns", "Leave out", "words", help="patterns, with commas between"),
    ),
    folder=Path(__file__).parent / "dashboard",
    item=_item,
    summary=_summary,
    advice={
        "no_room": "Install mkvtoolnix, or allow the file to be rewritten (tracks.rewrite), then retry.",
        "damaged": "The file's header is damaged: play it, remux it or replace it, then retry.",
        "changed": "Somebody changed the file meanwhile. Retry once nobody writes to it.",
        "tmdb_unreachable": "TMDB did not answer. Retry later, or leave tracks.tmdb.api_key unset.",
        "hard_links": "Rewriting would part its hard links: install mkvtoolnix, then retry.",
    },
)
