"""``/watches``: folders whose new files become jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from millrace.engine.watches import Watch
from millrace.notify import masked
from millrace.server import examples
from millrace.server.replies import json_reply, rfc3339
from millrace.server.services import Services
from millrace.server.watch_specs import check_watch, spec_of
from millrace.settings import WatchSettings

WatchId = Annotated[str, Path(max_length=128)]


class NewWatch(WatchSettings):
    """A folder to be watched: as in the settings, and whether it is on at once."""

    enabled: bool = True


class WatchSwitch(BaseModel):
    """Whether a watched folder is on."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool


def watch_row(watch: Watch, services: Services) -> dict[str, Any]:
    """Return a watched folder as the API writes it."""
    spec = watch.spec
    return {
        "id": watch.id,
        "name": spec.name,
        "path": spec.path,
        "kind": spec.kind,
        "pattern": list(spec.patterns),
        "preset": spec.preset,
        "options": dict(spec.options),
        "settle_seconds": spec.settle,
        "interval_seconds": spec.interval,
        "existing": spec.existing,
        "per": spec.per,
        "batch_size": spec.batch_size,
        "priority": spec.priority,
        "notify": [masked(one) for one in spec.notify],
        "source": watch.source,
        "enabled": watch.enabled,
        "looked_at": rfc3339(watch.looked_at),
        "looking_since": rfc3339(services.watches.looking_since(watch.id)),
        "files": watch.files,
        "pending": watch.pending,
        "last_job": watch.last_job,
        "last_error": watch.last_error,
        "created_at": rfc3339(watch.created_at),
    }


def router(services: Services) -> APIRouter:
    """Return the routes below ``/watches``."""
    api = APIRouter(prefix="/watches", tags=["watches"])
    watches = services.watches

    @api.get("", summary="All watched folders", **examples.WATCHES)
    async def list_watches() -> Response:
        """List the watched folders, and what the last look at each found."""
        return json_reply({"watches": [watch_row(found, services) for found in await watches.list()]})

    @api.post("", status_code=201, summary="Watch a folder", **examples.ADD_WATCH)
    async def add(body: NewWatch) -> Response:
        """Have new files below a folder become jobs once they are complete.

        What the jobs will be made of is checked now.
        """
        spec = spec_of(body)
        await asyncio.to_thread(check_watch, services, spec)
        added = await watches.add(spec, enabled=body.enabled)
        return json_reply(watch_row(added, services), 201, {"Location": f"/watches/{added.id}"})

    @api.get("/{watch_id}", summary="One watched folder, what settles and what it made", **examples.WATCH)
    async def watch(watch_id: WatchId, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> Response:
        """Say all about a watched folder: files that are not complete yet, and the latest jobs."""
        found = await watches.get(watch_id)
        settling = [
            {"path": path, "bytes": one.size, "since": rfc3339(one.since)}
            for path, one in watches.settling(watch_id, limit)
        ]
        made = await watches.jobs(watch_id, limit)
        jobs = [{"job": one.job, "files": one.files, "at": rfc3339(one.at)} for one in made]
        return json_reply({**watch_row(found, services), "settling": settling, "jobs": jobs})

    @api.patch("/{watch_id}", summary="Switch a watched folder on or off", **examples.SWITCH_WATCH)
    async def switch(watch_id: WatchId, body: WatchSwitch) -> Response:
        """Switch it; what appears while it is off is taken when it is on again."""
        return json_reply(watch_row(await watches.enable(watch_id, body.enabled), services))

    @api.delete("/{watch_id}", summary="Watch a folder no more", **examples.DELETE_WATCH)
    async def delete(watch_id: WatchId) -> Response:
        """Forget it and what it knows of its files; the jobs it made stay."""
        await watches.delete(watch_id)
        return json_reply({"message": "Watch deleted", "id": watch_id})

    return api
