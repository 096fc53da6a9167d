"""Presets: options of a kind, saved under a name, so that they need not be written each time.

A job that names one takes its options as they are at that moment; the job keeps what it took. What
options a kind knows is not known here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from millrace.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from millrace.engine.engine import Engine
    from millrace.engine.round import Round

_NAME = re.compile(r"\w(?:[\w .+-]{0,62}[\w.+-])?")
_MAX_BYTES = 65536
_MAX_OF_A_KIND = 500


@dataclass(frozen=True, slots=True)
class Preset:
    """Options as saved; the name is unique within the kind."""

    kind: str
    name: str
    options: dict[str, Any]
    created_at: float
    updated_at: float


class PresetWrites(Protocol):
    """What a transaction must offer for presets."""

    def put_preset(self, kind: str, name: str, options: str, now: float) -> bool:
        """Save options (JSON text) under a name; whether the name was not there before."""
        ...

    def count_presets(self, kind: str, but: str) -> int:
        """Return how many a kind has, not counting the one of that name."""
        ...

    def delete_preset(self, kind: str, name: str) -> bool:
        """Delete a preset; False if there is none."""
        ...


class PresetReads(Protocol):
    """What a store must offer for presets."""

    def presets(self, kind: str | None) -> list[Preset]:
        """Read all presets, or those of a kind, by kind and name."""
        ...

    def preset(self, kind: str, name: str) -> Preset | None:
        """Read one preset."""
        ...


def merged(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preset's options with the given ones over them, objects merged key by key. Pure.

    >>> merged({"tasks": {"asr": True, "demucs": True}, "vad": 1}, {"tasks": {"demucs": False}})
    {'tasks': {'asr': True, 'demucs': False}, 'vad': 1}
    """
    result = dict(preset)
    for key, value in given.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        # A reference ({"kind": "path", …}) is one value: half of one and half of another is neither.
        whole = both and "kind" in value
        result[key] = merged(below, value) if both and not whole else value  # type: ignore[arg-type]
    return result


class Presets:
    """Saves and finds presets."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        engine.commands["presets.put"] = self._put
        engine.commands["presets.delete"] = self._delete

    async def put(self, kind: str, name: str, options: Mapping[str, Any]) -> tuple[Preset, bool]:
        """Save options under a name, over those that were there; and whether the name is new.

        InvalidRequest for a name or options that cannot be kept.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                "name: must be 1 to 64 letters, digits, blanks or any of _ . + -, "
                "with no blank at its ends and no mark in front"
            )
        text = orjson.dumps(dict(options)).decode()
        if len(text) > _MAX_BYTES:
            raise InvalidRequest(f"options: longer than {_MAX_BYTES} bytes")

        new: bool = await self._engine.command("presets.put", kind=kind, preset=name, text=text)
        return await self.get(kind, name), new

    def _put(self, round_: Round, kind: str, preset: str, text: str) -> bool:
        if round_.tx.count_presets(kind, preset) >= _MAX_OF_A_KIND:
            raise InvalidRequest(f"there are {_MAX_OF_A_KIND} presets of {kind} already: delete some")
        return round_.tx.put_preset(kind, preset, text, round_.now)

    async def delete(self, kind: str, name: str) -> None:
        """Delete a preset; jobs that took it keep what they took. NotFound if there is none."""
        await self._engine.command("presets.delete", kind=kind, preset=name)

    def _delete(self, round_: Round, kind: str, preset: str) -> None:
        if not round_.tx.delete_preset(kind, preset):
            raise NotFound(f"no preset {preset!r} of {kind}")

    async def list(self, kind: str | None = None) -> Sequence[Preset]:
        """Return all presets, or those of a kind."""
        return await asyncio.to_thread(self._store.presets, kind)

    async def get(self, kind: str, name: str) -> Preset:
        """Return a preset; NotFound if there is none."""
        found = await asyncio.to_thread(self._store.preset, kind, name)
        if found is None:
            raise NotFound(f"no preset {name!r} of {kind}")
        return found

    def apply(self, kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a preset's options with the given ones over them. Blocks.

        InvalidRequest, naming those there are, when there is no such preset.
        """
        found = self._store.preset(kind, name)
        if found is None:
            names = ", ".join(repr(preset.name) for preset in self._store.presets(kind))
            raise InvalidRequest(
                f"preset: there is no preset {name[:64]!r} of {kind}; there are: {names or 'none'}"
            )
        return merged(found.options, given)
