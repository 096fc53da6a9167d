"""How the dashboard shows images: the form, and a picture with its metadata before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.model import Artifact, Item, Job
from millrace.workloads import Face

if TYPE_CHECKING:
    from millrace.server.services import Services

_WORDS = (("title", "Title"), ("description", "Description"), ("keywords", "Keywords"))


async def _item(services: Services, job: Job, item: Item, artifacts: Sequence[Artifact]) -> Mapping[str, Any]:
    """Return the picture's words before and after, and what the analysis saw in it."""
    analysed = item.results.get("analyse") or {}
    before, after = analysed.get("existing") or {}, analysed.get("tags") or {}
    processed = next((a.name for a in artifacts if a.stage == "write"), None)
    notes = [n for stage in ("analyse", "write") for n in (item.results.get(stage) or {}).get("notes", ())]
    return {
        "words": [(label, before.get(name) or "", after.get(name) or "") for name, label in _WORDS],
        "analysed": analysed,
        "facts": list(_facts(analysed.get("analysis") or {})),
        "tagger": analysed.get("tagger") or {},
        "processed": processed,
        "original": item.input.get("kind") in ("upload", "path")
        or any(a.name == ".source" for a in artifacts),
        "notes": notes,
    }


def _facts(seen: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return what was measured as lines for people; what is not known is left out."""
    found: list[tuple[str, str]] = []
    if "width" in seen:
        found.append(
            ("Size", f"{seen['width']} × {seen['height']} {seen.get('format', '')}, {seen.get('shape', '')}")
        )
    if seen.get("taken_at"):
        found.append(("Taken", str(seen["taken_at"]).replace("T", " ")))
    camera = seen.get("camera") or {}
    if camera:
        found.append(("Camera", " ".join(str(part) for part in camera.values() if part)))
    place = seen.get("place") or {}
    if place:
        parts = [str(place[key]) for key in ("city", "region", "country") if place.get(key)]
        found.append(("Place", ", ".join(parts)))
    position = seen.get("position") or {}
    if position:
        found.append(("Position", f"{position['latitude']:.5f}, {position['longitude']:.5f}"))
    colours = seen.get("colours") or {}
    if colours:
        found.append(("Colours", ", ".join(f"{name} {share:.0%}" for name, share in colours.items())))
    if seen.get("text"):
        found.append(("Text in it", str(seen["text"])))
    return found


def _summary(item: Item) -> str:
    tags = (item.results.get("analyse") or {}).get("tags") or {}
    return str(tags.get("title") or "")


FACE = Face(
    title="Images",
    about="Pictures are looked at, titled, described and tagged, and the words written into their files.",
    accept="image/jpeg,image/png",
    folder=Path(__file__).parent / "dashboard",
    item=_item,
    summary=_summary,
    advice={
        "unsupported_format": "Convert the picture to JPEG or PNG and submit it again.",
        "image_too_large": "Submit a smaller picture, or raise images.max_image_bytes.",
        "too_many_pixels": "Submit a smaller picture, or raise images.max_pixels.",
        "broken_image": "The file is damaged or cut off: replace it and submit it again.",
    },
)
