"""How the dashboard shows transcripts: the form, and a recording with its cues and stems."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from millrace.engine.model import Artifact, Item, Job
from millrace.workloads import Face, FormField

if TYPE_CHECKING:
    from millrace.server.services import Services

_MOST_BYTES = 32 * 2**20


async def _item(services: Services, job: Job, item: Item, artifacts: Sequence[Artifact]) -> Mapping[str, Any]:
    """Return the recording's cues, its stems, and which of its audio streams was chosen."""
    found = {artifact.name: artifact for artifact in artifacts}
    spoken = found.get("output.json")
    cues: list[Any] = []
    if spoken is not None and spoken.bytes <= _MOST_BYTES:
        raw = await asyncio.to_thread(lambda: b"".join(services.blobs.chunks(spoken.key)))
        cues = orjson.loads(raw).get("cues", [])
    seconds = (item.results.get("asr") or item.results.get("demucs") or {}).get("seconds")
    return {
        "cues": cues,
        "recognised": spoken is not None,
        "has_stems": {"vocals.mp3", "no_vocals.mp3"} <= found.keys(),
        "seconds": seconds or (item.results.get("validate") or {}).get("declared_seconds") or 0,
        "stream": job.options.get("audioStream"),
        "playable": item.input.get("kind") in ("upload", "path") or "source" in found,
    }


def _summary(item: Item) -> str:
    asr, stems = item.results.get("asr"), item.results.get("demucs")
    parts = []
    if asr:
        parts.append(f"{asr['cues']} cues" if asr.get("cues") else "no speech")
    if stems:
        parts.append("stems")
    seconds = (asr or stems or {}).get("seconds")
    if seconds:
        parts.append(f"{int(seconds // 60)}:{int(seconds % 60):02} long")
    return " · ".join(parts)


FACE = Face(
    title="Transcripts",
    about="Recordings become subtitles, and their voice is separated from the rest.",
    accept="audio/*,video/*",
    fields=(
        FormField(
            "tasks.asr", "Recognise speech", "flag", default=True, help="subtitles as SRT, WebVTT and JSON"
        ),
        FormField("tasks.demucs", "Separate the voice", "flag", default=True, help="two MP3 stems"),
        FormField("audioStream", "Audio stream", "number", help="of several, counted from 0"),
        FormField("vadMaxSingleSegmentMs", "Longest segment, ms", "number"),
        FormField("vadMaxEndSilenceMs", "Silence that ends one, ms", "number"),
    ),
    folder=Path(__file__).parent / "dashboard",
    item=_item,
    summary=_summary,
    advice={
        "bad_audio": "Replace the file with one whose audio can be decoded; ffprobe shows what is in it.",
        "engine_error": "The recogniser or its model is not usable here: see System, then retry.",
    },
)
