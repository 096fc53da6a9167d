"""How the dashboard shows sync: the form, and a pair with its figures, its plot and an A/B player."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.model import Artifact, Item, Job
from millrace.workloads import Face, FormField

if TYPE_CHECKING:
    from millrace.server.services import Services

_STAGE = "analyse"


async def _item(services: Services, job: Job, item: Item, artifacts: Sequence[Artifact]) -> Mapping[str, Any]:
    """Return the pair's figures, and what the player needs to lay the dub over its master."""
    names = {artifact.name for artifact in artifacts}
    result = item.results.get(_STAGE) or {}
    sides = {side: item.input.get(side) or {} for side in ("master", "dub")}
    choices = item.input.get("choices") or {}
    return {
        "result": result,
        "plot": "plot.png" in names,
        "sides": {side: str(item.input.get(f"{side}_file") or sides[side].get("name", "")) for side in sides},
        "playable": bool(result) and all(given.get("kind") in ("upload", "path") for given in sides.values()),
        "streams": {
            side: found if isinstance(found := choices.get(f"{side}_stream"), int) else None for side in sides
        },
        "repair": result.get("repair") or {},
    }


def _summary(item: Item) -> str:
    result = item.results.get(_STAGE) or {}
    if not result:
        return ""
    words = str(result.get("status", "")).replace("_", " ")
    offset = result.get("offset_seconds")
    return (
        words
        if offset is None
        else f"{offset:+.3f} s · {words} · confidence {result.get('confidence', 0):.2f}"
    )


FACE = Face(
    title="Sync",
    about="A dub is compared with its master: offset, drift and cuts, and a repaired copy.",
    inputs="pairs",
    accept="audio/*,video/*",
    fields=(
        FormField(
            "methods",
            "Methods",
            "several",
            choices=(
                ("auto", "choose by itself"),
                ("mfcc", "MFCC"),
                ("onset", "onsets"),
                ("spectral", "spectral"),
                ("correlation", "correlation"),
                ("ai", "AI model"),
            ),
            default=("auto",),
        ),
        FormField(
            "ai_model",
            "AI model",
            "choice",
            choices=(
                ("", "the usual"),
                ("spectral", "spectral"),
                ("wav2vec2", "wav2vec2"),
                ("yamnet", "YAMNet"),
            ),
        ),
        FormField("repair", "Make a repaired copy of the dub", "flag", default=False),
    ),
    folder=Path(__file__).parent / "dashboard",
    item=_item,
    summary=_summary,
    advice={
        "bad_audio": "Replace the file with one that has audio which can be decoded.",
        "too_short": "Give longer recordings: there is too little in common to measure.",
        "silent": "One of the two is silent: choose another stream or channel.",
        "no_match": "They may not belong together: check that both are of one film, then try other methods.",
    },
)
