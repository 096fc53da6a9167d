"""Every colour that text, or what says something, is shown in can be read: WCAG 2.2, 1.4.3 and 1.4.11."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import millrace.server.dashboard as dashboard

STYLE = (Path(dashboard.__file__).parent / "static" / "style.css").read_text()
STATES = ("succeeded", "running", "queued", "failed", "skipped", "cancelled")

TEXT = [
    *(
        (ink, ground)
        for ink in ("ink", "quiet", "accent", "failed")
        for ground in ("ground", "surface", "raised")
    ),
    *((state, f"{state}-soft") for state in STATES),
    *((state, "surface") for state in STATES),
    ("on-accent", "accent"),
    ("accent", "running-soft"),
    ("ink", "running-soft"),
    ("quiet", "running-soft"),
    ("ground", "ink"),
]
"""Text and what it stands on: at least 4.5."""

MARKS = [
    *(("edge", ground) for ground in ("ground", "surface", "raised")),
    *((state, ground) for state in STATES for ground in ("surface", "ground")),
    *((mark, "paper") for mark in ("mark", "mark-bad", "mark-here")),
    *((state, "todo") for state in ("succeeded", "running", "failed", "skipped")),
]
"""Borders of controls, bars and dots, and what is beside them: at least 3."""


def schemes() -> dict[str, dict[str, str]]:
    """Return the colours of both schemes, and check that a chosen one is the one the system would give."""
    blocks = re.findall(r"(:root[^{]*)\{([^}]*)\}", STYLE)
    found = {
        selector.strip(): dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", body)) for selector, body in blocks
    }
    assert found[':root[data-theme="auto"]'] == found[':root[data-theme="dark"]']
    assert found[":root"].keys() == found[':root[data-theme="dark"]'].keys()
    return {"light": found[":root"], "dark": found[':root[data-theme="dark"]']}


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_is_right() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT, 4.5), (MARKS, 3.0)], ids=["text", "marks"])
def test_colours_can_be_told_apart(scheme: str, pairs: list[tuple[str, str]], least: float) -> None:
    colours = schemes()[scheme]
    weak = {
        f"{one} on {other}": round(ratio, 2)
        for one, other in pairs
        if (ratio := contrast(colours[one], colours[other])) < least
    }
    assert weak == {}


def test_no_colour_is_written_outside_the_palette() -> None:
    rules = re.sub(r":root[^{]*\{[^}]*\}", "", STYLE)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?=\s*[;,)}])", rules) == []
