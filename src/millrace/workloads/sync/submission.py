"""From checked pairs to a job, whichever way they came. Pure: knows no HTTP."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from millrace import fetch, sources
from millrace.engine.model import NewItem, NewJob, Priority
from millrace.errors import InvalidRequest
from millrace.workloads.sync import KIND
from millrace.workloads.sync.methods import ModelPlaces
from millrace.workloads.sync.pairs import CHOICES, Pair, check
from millrace.workloads.sync.settings import SyncSettings

if TYPE_CHECKING:
    from millrace.settings import Settings

DEFAULTS = frozenset(("methods", "ai_model", "repair", *CHOICES))
"""What a job of ``POST /jobs`` may say for all its items, in ``options``."""

FIELDS = DEFAULTS | {"master", "dub", "master_file", "dub_file", "description", "tags"}
"""What the input of such an item may say."""


@dataclass(frozen=True, slots=True)
class Site:
    """What pairs are checked against: the server's media roots, fetch rules and models."""

    settings: Settings
    places: ModelPlaces

    @classmethod
    def of(cls, settings: Settings, section: SyncSettings) -> Site:
        """Return the site that a server's settings, and those of sync in them, describe."""
        return cls(settings, ModelPlaces.of(section.model_dump(), settings.models_dir))

    def reference(self, given: str) -> dict[str, Any]:
        """Return the input reference of a path or URL; InvalidRequest where it is not allowed."""
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", given):
            return sources.url_reference(given, fetch.FetchPolicy.of(self.settings.fetch.model_dump()))
        return sources.path_reference(given, self.settings.media_roots)


def new_job(
    pairs: Sequence[Pair],
    *,
    held: bool,
    label: str,
    priority: int,
    webhooks: Sequence[str] = (),
    key: tuple[str, str] | None = None,
    owns: Sequence[str] = (),
) -> NewJob:
    """Return the batch of these pairs."""
    return NewJob(
        id=_new_id(),
        kind=KIND,
        items=[_item(pair) for pair in pairs],
        label=label,
        priority=Priority(priority),
        held=held,
        meta={"webhooks": list(webhooks)},
        idempotency=key,
        owns=tuple(owns),
    )


def prepare(new: NewJob, settings: Settings) -> NewJob:
    """Check a job that came by ``POST /jobs`` as an upload would be, and give it what a batch has.

    The input of each item holds ``master`` and ``dub``, references to files, or ``master_file`` and
    ``dub_file``, paths or URLs, and the other columns of a CSV; ``options`` are defaults for all.
    """
    section = settings.workload(KIND, SyncSettings)
    site = Site.of(settings, section)
    if not 1 <= len(new.items) <= section.max_items:
        raise InvalidRequest(f"items: there must be 1 to {section.max_items}, not {len(new.items)}")
    _only(new.options, DEFAULTS, "options")
    items = [_prepared(item, number, new.options, site) for number, item in enumerate(new.items)]
    return replace(new, id=_new_id(), items=items, options={}, meta={"webhooks": []})


def check_options(options: Mapping[str, Any]) -> None:
    """Check what a job may say for all its items; whether a model is there is found out with the job."""
    _only(options, DEFAULTS, "options")
    sides = {side: {"name": side} for side in ("master", "dub")}
    check({**options, **sides}, lambda field: f"options.{field}", lambda path: {}, lambda model: None)


def _prepared(item: NewItem, number: int, options: Mapping[str, Any], site: Site) -> NewItem:
    where = f"items.{number}.input"
    given = {**options, **_sides(item.input, where)}
    made = _item(check(given, lambda field: f"{where}.{field}", site.reference, site.places.missing))
    return replace(item, input=made.input, name=made.name if item.name in ("", str(number)) else item.name)


def _sides(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return an item's input if it is one; else say what one looks like."""
    if "kind" in given:
        raise InvalidRequest(
            f"{where}: is one file, and a pair is needed: "
            '{"master": {"kind": "path", "path": …}, "dub": {"kind": "path", "path": …}}'
        )
    _only(given, FIELDS, where)
    for side in ("master", "dub"):
        file = given.get(side)
        if file is not None and not (
            isinstance(file, dict) and file.get("kind") in ("path", "url", "upload")
        ):
            raise InvalidRequest(f"{where}.{side}: must name a file: an upload, a path or a URL")
    return given


def _only(given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise InvalidRequest(f"{where}.{key}: not a known field; there are: {', '.join(sorted(known))}")


def _new_id() -> str:
    return f"batch_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"


def _item(pair: Pair) -> NewItem:
    name = f"{pair.dub_file.rpartition('/')[2]} against {pair.master_file.rpartition('/')[2]}"
    return NewItem(name=name, input=pair.as_input())
