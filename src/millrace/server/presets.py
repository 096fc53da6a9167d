"""``/presets``: options of a kind, saved under a name for forms, the command line, clients and schedules."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from millrace.engine.presets import Preset
from millrace.server import examples
from millrace.server.replies import json_reply, rfc3339
from millrace.server.services import Services
from millrace.server.submission import check_options

Kind = Annotated[str, Path(max_length=64)]
Name = Annotated[str, Path(max_length=64)]


class PresetOptions(BaseModel):
    """What a preset holds: options as ``POST /jobs`` takes them."""

    model_config = ConfigDict(extra="forbid")

    options: Annotated[dict[str, Any], Field(description="`options` of `POST /jobs`, or some of them")]


def preset_row(preset: Preset) -> dict[str, Any]:
    """Return a preset as the API writes it."""
    return {
        "kind": preset.kind,
        "name": preset.name,
        "options": preset.options,
        "created_at": rfc3339(preset.created_at),
        "updated_at": rfc3339(preset.updated_at),
    }


def router(services: Services) -> APIRouter:
    """Return the routes below ``/presets``."""
    api = APIRouter(prefix="/presets", tags=["presets"])
    presets = services.presets

    @api.get("", summary="All presets, or those of a kind", **examples.PRESETS)
    async def list_presets(kind: str | None = None) -> Response:
        """List the presets by kind and name."""
        if kind is not None:
            services.engine.workload(kind)
        return json_reply({"presets": [preset_row(found) for found in await presets.list(kind)]})

    @api.get("/{kind}/{name}", summary="One preset", **examples.PRESET)
    async def preset(kind: Kind, name: Name) -> Response:
        """Return the options saved under this name."""
        return json_reply(preset_row(await presets.get(kind, name)))

    @api.put("/{kind}/{name}", summary="Save a preset", **examples.SAVE_PRESET)
    async def save(kind: Kind, name: Name, body: PresetOptions) -> Response:
        """Save options under a name, over those that were there.

        They are checked as those of a job would be, as far as that can be done without its items.
        """
        await asyncio.to_thread(check_options, services, kind, body.options)
        saved, new = await presets.put(kind, name, body.options)
        return json_reply(preset_row(saved), 201 if new else 200)

    @api.delete("/{kind}/{name}", summary="Delete a preset", **examples.DELETE_PRESET)
    async def delete(kind: Kind, name: Name) -> Response:
        """Delete it; jobs that took its options keep them. A schedule that names it tells so at its tick."""
        await presets.delete(kind, name)
        return json_reply({"message": "Preset deleted", "kind": kind, "name": name})

    return api
