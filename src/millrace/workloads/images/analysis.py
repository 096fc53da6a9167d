"""Everything that can be told of a picture without a model: file, pixels, place, text, words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from PIL import Image

from millrace.workloads.images import captions, ocr, pixels, places
from millrace.workloads.images.inspection import Inspection, inspect
from millrace.workloads.images.ocr import Line
from millrace.workloads.images.pixels import Look
from millrace.workloads.images.places import Place
from millrace.workloads.images.tags import Tags, unique_keywords

When = Literal["auto", "always", "never"]
NEAR = 6


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a picture, and the words made of it.

    ``copy`` is a small upright RGB one; ``sha256`` that of the file, by which equal ones are found.
    """

    facts: Inspection
    look: Look
    place: Place | None
    lines: tuple[Line, ...]
    tags: Tags
    copy: Image.Image
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able account of it; unknown things are left out."""
        facts = self.facts
        width, height = facts.upright
        camera = {key: value for key, value in asdict(facts.camera).items() if value not in ("", None)}
        position = None
        if facts.latitude is not None and facts.longitude is not None:
            position = {"latitude": facts.latitude, "longitude": facts.longitude, "altitude": facts.altitude}
            position = {key: value for key, value in position.items() if value is not None}
        out: dict[str, Any] = {
            "format": facts.format,
            "width": width,
            "height": height,
            "orientation": facts.orientation,
            "shape": captions.shape(facts),
            "bits": facts.bits,
            "colour_model": facts.colour,
            "alpha": facts.alpha,
            "progressive": facts.progressive,
            "animated": facts.animated,
            "camera": camera or None,
            "software": facts.software or None,
            "taken_at": facts.taken.isoformat() + facts.offset if facts.taken is not None else None,
            "position": position,
            "place": asdict(self.place) if self.place is not None else None,
            "colours": self.look.colours,
            "monochrome": self.look.monochrome,
            "sharpness": self.look.sharpness,
            "exposure": {
                "median": self.look.brightness,
                "p2": self.look.dark,
                "p98": self.look.bright,
                "clipped": self.look.clipped,
            },
            "fingerprint": self.look.fingerprint,
            "text": [line.text for line in self.lines] or None,
        }
        return {key: value for key, value in out.items() if value is not None}


def analyse(
    data: bytes,
    name: str,
    *,
    max_pixels: int,
    read_text: When = "auto",
    reader: Callable[[], Callable[..., Any]] = ocr.load,
) -> Analysis:
    """Analyse one JPEG or PNG. BadInput (see ``inspection.inspect``, ``pixels.decode``) when it is none.

    ``reader`` gives the text reader, only called when text is to be read.
    """
    facts = inspect(data, max_pixels)
    copy = pixels.decode(data, facts)
    look = pixels.look(copy)
    place = None
    if facts.latitude is not None and facts.longitude is not None:
        place = places.nearest(facts.latitude, facts.longitude)
    lines: tuple[Line, ...] = ()
    if read_text == "always" or (read_text == "auto" and ocr.available() and pixels.may_hold_text(copy)):
        larger = (
            pixels.decode(data, facts, ocr.SIDE) if max(facts.width, facts.height) > pixels.SIDE else copy
        )
        lines = tuple(ocr.read(reader(), larger))
    words = captions.compose(name, facts, look, place, lines)
    return Analysis(facts, look, place, lines, words, copy, hashlib.sha256(data).hexdigest())


def kept(existing: Tags, made: Tags) -> Tags:
    """Return tags that respect what people wrote into the file: it stays, and keywords are joined."""
    return Tags(
        existing.title or made.title,
        existing.description or made.description,
        unique_keywords((*existing.keywords, *made.keywords)),
        made.translations if not existing.title and not existing.description else {},
    )


def duplicates(fingerprints: Sequence[str | None], digests: Sequence[str | None]) -> list[int | None]:
    """Return for each picture of a batch the index of an earlier one that shows the same, or None.

    Either their bytes are equal, or their fingerprints differ in at most six of 64 bits.
    """
    out: list[int | None] = []
    for index, (mark, digest) in enumerate(zip(fingerprints, digests, strict=True)):
        found = None
        for earlier in range(index):
            if out[earlier] is not None:
                continue
            other = fingerprints[earlier]
            if (digest is not None and digest == digests[earlier]) or (
                mark is not None and other is not None and pixels.distance(mark, other) <= NEAR
            ):
                found = earlier
                break
        out.append(found)
    return out
