"""Puts facts about a picture into words: a title, a description and keywords. Pure.

Only what is known is said: what was measured, what the file tells, and what can be read in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from millrace.workloads.images.inspection import Inspection
from millrace.workloads.images.ocr import Line
from millrace.workloads.images.pixels import Look
from millrace.workloads.images.places import Place
from millrace.workloads.images.tags import Tags

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# Names that cameras, phones, messengers and scripts make up by themselves.
_MADE_UP = {
    "img", "image", "images", "dsc", "dscn", "dscf", "dscx", "pxl", "p", "pict", "pic", "picture", "photo",
    "mvimg", "imgp", "cimg", "gopr", "dji", "wp", "wa", "sam", "kic", "hpim", "mov", "vid", "scan",
    "scanned", "screenshot", "screen", "shot", "whatsapp", "whats", "app", "signal", "fb", "received",
    "snapchat", "file", "upload", "untitled", "unnamed", "download", "temp", "tmp", "copy", "edited",
    "final", "jpg", "jpeg", "png", "input", "blob", "unknown", "default", "thumbnail", "thumb", "test",
    "at", "the", "and", "of", "in", "on", "a", "an", "to", "with", "for",
}  # fmt: skip

_CAMERAS = {"img", "dsc", "dscn", "dscf", "pxl", "imgp", "cimg", "gopr", "dji", "mvimg", "p", "scan", "sam"}


def graphic(facts: Inspection, look: Look) -> bool:
    """Whether it looks drawn (a diagram, a screenshot, a logo) rather than photographed."""
    if facts.camera.make or facts.camera.model or facts.taken is not None:
        return False
    # A blurred photograph is as smooth as a drawing, but a drawing has hard edges, or nothing at all.
    drawn = look.flat > (0.8 if facts.format == "PNG" else 0.88) and (look.edges > 0.001 or look.flat > 0.999)
    return drawn or facts.colour == "palette"


def shape(facts: Inspection) -> str:
    """Return ``portrait, landscape, square`` or ``panorama`` by the upright size."""
    width, height = facts.upright
    ratio = width / height
    if ratio >= 2.2:
        return "panorama"
    if 0.95 <= ratio <= 1.05:
        return "square"
    return "landscape" if ratio > 1 else "portrait"


def words_of_name(name: str) -> list[str]:
    """Return the words of a file name, CamelCase taken apart, the ending left out."""
    stem = name.rpartition(".")[0] or name
    stem = re.sub(r"(?<=[a-zà-ÿ])(?=[A-Z])", " ", stem)
    return [word for word in re.split(r"[\W_]+", stem) if word]


def telling(words: Sequence[str]) -> bool:
    """Whether the words of a file name were chosen by a person rather than made up by a machine."""
    real = [w for w in words if w.isalpha() and len(w) >= 3 and w.lower() not in _MADE_UP]
    real = [w for w in real if re.search(r"[aeiouyà-ÿ]", w.lower()) or not w.isascii()]
    camera = bool(words) and words[0].lower() in _CAMERAS and len(words) > 1 and words[1].isdigit()
    codes = [w for w in words if re.search(r"\d", w) and re.search(r"[a-zA-Z]", w) and len(w) >= 6]
    return bool(real) and not codes and not camera and sum(map(len, real)) >= 4


def compose(name: str, facts: Inspection, look: Look, place: Place | None, lines: Sequence[Line]) -> Tags:
    """Return title, description and keywords made of what is known about a picture."""
    return Tags(
        _title(name, facts, look, place, lines),
        _description(facts, look, place, lines),
        tuple(_keywords(name, facts, look, place, lines)),
    ).limited()


def _noun(facts: Inspection, look: Look) -> str:
    if graphic(facts, look):
        return "graphic"
    return "photograph" if facts.camera.model or facts.taken is not None else "picture"


def _day(facts: Inspection) -> str:
    taken = facts.taken
    return f"{taken.day} {_MONTHS[taken.month - 1]} {taken.year}" if taken is not None else ""


def _camera(facts: Inspection) -> str:
    make, model = facts.camera.make, facts.camera.model
    if not model:
        return make
    brand = make.split()[0] if make else ""
    if brand and brand.lower() not in model.lower():
        return f"{brand.title() if brand.isupper() and len(brand) > 3 else brand} {model}"
    return model


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _title(name: str, facts: Inspection, look: Look, place: Place | None, lines: Sequence[Line]) -> str:
    words = words_of_name(name)
    if telling(words):
        text = " ".join(words)
        return text[:1].upper() + text[1:]
    headline = _headline(lines)
    if headline is not None:
        return headline.text
    noun = _noun(facts, look).capitalize()
    day = _day(facts)
    if place is not None:
        where = ", ".join(part for part in (place.city, place.country) if part)
        return f"{noun} taken near {where}" + (f", {day}" if day else "")
    if day:
        return f"{noun} taken on {day}"
    camera = _camera(facts)
    if camera:
        return f"{noun} taken with a {camera}"
    tones = "black and white" if look.monochrome else _listed(list(look.colours)[:2])
    return f"{shape(facts).capitalize()} {noun.lower()} in {tones}"


def _headline(lines: Sequence[Line]) -> Line | None:
    """Return the first of the largest lines, if it is large enough to be what the picture is about."""
    wordy = [line for line in lines if sum(c.isalpha() for c in line.text) >= 4 and line.height >= 0.03]
    tallest = max((line.height for line in wordy), default=0.0)
    return next((line for line in wordy if line.height >= 0.75 * tallest), None)


def _description(facts: Inspection, look: Look, place: Place | None, lines: Sequence[Line]) -> str:
    noun = _noun(facts, look)
    width, height = facts.upright
    first = f"{noun.capitalize()} of {width} × {height} pixels"
    if facts.animated:
        first = f"Animated {noun} of {width} × {height} pixels"
    day, camera = _day(facts), _camera(facts)
    taken = []
    if day and facts.taken is not None:
        taken.append(f"on {day} at {facts.taken:%H:%M}")
    if place is not None:
        taken.append(f"near {place.words()}")
    if camera:
        taken.append(f"with a {camera}")
    sentences = [first + (" taken " + " ".join(taken) if taken else "") + "."]
    settings = _settings(facts)
    if settings:
        sentences.append(f"Camera settings: {settings}.")
    if look.monochrome:
        sentences.append("It has no colours but black, white and grey.")
    else:
        sentences.append(f"Dominant colours: {_listed(list(look.colours))}.")
    quality = _quality(facts, look)
    if quality:
        sentences.append(f"It is {_listed(quality)}.")
    if lines:
        text = " / ".join(line.text for line in lines)
        sentences.append(f"Text in the picture: “{text[:900]}{'…' if len(text) > 900 else ''}”")
    return " ".join(sentences)


def _settings(facts: Inspection) -> str:
    camera = facts.camera
    parts = []
    if camera.exposure:
        slow = camera.exposure >= 0.3
        parts.append(f"{camera.exposure:g} s" if slow else f"1/{round(1 / camera.exposure)} s")
    if camera.aperture:
        parts.append(f"f/{camera.aperture:g}")
    if camera.iso:
        parts.append(f"ISO {camera.iso}")
    if camera.focal:
        parts.append(f"{camera.focal:g} mm")
    if camera.flash:
        parts.append("flash fired")
    return ", ".join(parts)


def _quality(facts: Inspection, look: Look) -> list[str]:
    """Return what can be said of light and focus; graphics are not judged by a photograph's rules."""
    if graphic(facts, look):
        return []
    out = []
    if look.bright < 0.35:
        out.append("very dark")
    elif look.brightness < 0.2:
        out.append("dark")
    elif look.dark > 0.55 or look.clipped > 0.3:
        out.append("overexposed")
    elif look.brightness > 0.8:
        out.append("bright")
    if look.bright - look.dark < 0.3:
        out.append("low in contrast")
    if look.sharpness is not None and max(facts.upright) >= 400:
        if look.sharpness < 25:
            out.append("blurred")
        elif look.sharpness > 150:
            out.append("sharp")
    return out


def _keywords(
    name: str, facts: Inspection, look: Look, place: Place | None, lines: Sequence[Line]
) -> list[str]:
    words = words_of_name(name)
    out = []
    if telling(words):
        out += [w.lower() for w in words if w.isalpha() and len(w) >= 3 and w.lower() not in _MADE_UP]
    if place is not None:
        out += [place.city, place.region, place.country]
    if facts.taken is not None:
        out += [str(facts.taken.year), _MONTHS[facts.taken.month - 1]]
    out.append(_noun(facts, look))
    out.append(shape(facts))
    if look.monochrome:
        out.append("black and white")
    else:
        out += [name for name, share in look.colours.items() if share >= 0.1]
    camera = _camera(facts)
    if camera:
        out.append(camera)
    if facts.animated:
        out.append("animated")
    if facts.alpha:
        out.append("transparency")
    out += [q for q in _quality(facts, look) if q in ("dark", "very dark", "blurred", "overexposed")]
    if lines:
        out.append("text")
        found = [w for line in lines for w in re.findall(r"[^\W\d_]{4,}", line.text)]
        out += list(dict.fromkeys(w.lower() for w in found if w.lower() not in _MADE_UP))[:12]
    return [word for word in out if word]
