"""Engines that look at a picture and say what it shows, and how their answers are joined to the analysis.

A tagger may be wrong or down: its answer is checked against the limits, and without one the words of
the analysis stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from millrace.errors import MillraceError
from millrace.workloads.images.tags import Tags, unique_keywords

if TYPE_CHECKING:
    from millrace.workloads.images.analysis import Analysis
    from millrace.workloads.images.settings import ImagesSettings


class TaggerFailed(MillraceError):
    """The tagger gave no answer that can be used; the message says why."""

    code = "tagger_failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tagger said. ``account`` tells what it took (model, tokens, cost), JSON-able."""

    tags: Tags
    account: dict[str, Any] = field(default_factory=dict)


class Tagger(Protocol):
    """The port."""

    def tag(self, picture: Analysis) -> Answer:
        """Say what the picture shows. Raises TaggerFailed."""
        ...


def open_tagger(settings: ImagesSettings, data_dir: Path) -> Tagger:
    """Open the tagger that the settings name; ``data_dir`` keeps the account of what was spent.

    Raises TaggerFailed when it cannot be loaded.
    """
    if settings.tagger == "vision":
        from millrace.workloads.images.taggers.spending import Spending
        from millrace.workloads.images.taggers.vision import VisionTagger

        return VisionTagger(settings.vision, Spending(data_dir / "images-spending.json", settings.vision))
    from millrace.workloads.images.taggers.clip import ClipTagger

    return ClipTagger.open(settings.clip)


def merged(made: Tags, answer: Tags) -> Tags:
    """Return the tagger's words where it gave any, its keywords before those of the analysis."""
    return Tags(
        answer.title or made.title,
        f"{answer.description} {made.description}".strip() if answer.description else made.description,
        unique_keywords((*answer.keywords, *made.keywords)),
        answer.translations,
    ).limited()
