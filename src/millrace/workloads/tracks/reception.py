"""The webhook half of the tracks contract: ``/webhook/sonarr``, ``/webhook/radarr``, and trying it out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import APIRouter, Header, HTTPException, Query, Request
from starlette.responses import Response

from millrace.engine.model import NewItem, NewJob, Priority
from millrace.errors import InvalidRequest
from millrace.server.idempotency import body_digest, idempotency
from millrace.server.replies import json_reply
from millrace.sources import allowed_path
from millrace.workloads.tracks import webhooks
from millrace.workloads.tracks.paths import display, from_json, map_path, to_json
from millrace.workloads.tracks.pipeline import titles_directory
from millrace.workloads.tracks.settings import TracksSettings
from millrace.workloads.tracks.titles import Titles

if TYPE_CHECKING:
    from collections.abc import Callable

    from millrace.server.services import Services


@dataclass(frozen=True, slots=True)
class _Doorman:
    """Checks the signature of a webhook and reads its body."""

    secret: str | None

    async def read(self, request: Request, signature: str | None) -> Any:
        body = await request.body()
        if self.secret is not None:
            wrong = webhooks.verify(self.secret, body, signature)
            if wrong is not None:
                raise HTTPException(
                    401, f"{wrong}; it must be HMAC-SHA256 of the body, in hexadecimal digits"
                )
        try:
            return orjson.loads(body) if body else {}
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"body: not valid JSON: {error}") from None


Signature = Annotated[str | None, Header(alias="X-Webhook-Signature")]


def add_webhooks(
    api: APIRouter, services: Services, settings: TracksSettings, new_id: Callable[[], str]
) -> None:
    """Add the routes below ``/webhook``. ``new_id`` makes a job's id."""
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    doorman = _Doorman(secret)

    async def take(sender: webhooks.Sender, request: Request, signature: str | None) -> Response:
        event = webhooks.parse(sender, await doorman.read(request, signature))
        if event.is_test:
            return json_reply({"status": "ok", "event": event.name, "message": "Webhook test received"})
        if not event.is_import:
            message = f"Nothing to do for the event {event.name}"
            return json_reply({"status": "ignored", "event": event.name, "message": message})
        key = idempotency(request, await body_digest(request))
        new = _webhook_job(event, services, settings, new_id(), key)
        await asyncio.to_thread(_remember, event, new, services, settings)
        job, _ = await services.engine.submit(new)
        files = [item.name for item in await services.engine.items(job.id, limit=len(event.files))]
        reply = {
            "status": "accepted",
            "event": event.name,
            "job_id": job.id,
            "batch_id": job.id,
            "files": files,
            "message": f"{len(files)} file{'s' if len(files) != 1 else ''} queued",
        }
        return json_reply(reply, 202, {"Location": f"/batch/{job.id}"})

    @api.post("/webhook/sonarr", status_code=202, summary="Take an event of Sonarr v4")
    async def sonarr(request: Request, signature: Signature = None) -> Response:
        """Deal with the files of an import or upgrade; other events are acknowledged and left alone."""
        return await take("sonarr", request, signature)

    @api.post("/webhook/radarr", status_code=202, summary="Take an event of Radarr")
    async def radarr(request: Request, signature: Signature = None) -> Response:
        """Deal with the file of an import or upgrade; other events are acknowledged and left alone."""
        return await take("radarr", request, signature)

    @api.post("/webhook/test", summary="Try the connection out")
    async def test(request: Request, signature: Signature = None) -> Response:
        """Answer 200 when a webhook could come in like this; the signature is checked, nothing is done.

        With a field ``path`` in the body the answer also says what path mappings make of it.
        """
        body = await doorman.read(request, signature)
        reply: dict[str, Any] = {
            "status": "ok",
            "message": "Webhook endpoint is working",
            "signature": "verified" if secret is not None else "not required",
        }
        if isinstance(body, dict) and isinstance(body.get("path"), str):
            reply["mapping"] = mapping_row(body["path"], settings, services.settings.media_roots)
        return json_reply(reply)

    @api.get("/webhook/map", summary="Try a path mapping out")
    async def mapped(path: Annotated[str, Query(min_length=1, max_length=4096)]) -> Response:
        """Say which path here a path in a webhook means, by which mapping, and whether it is there."""
        return json_reply(mapping_row(path, settings, services.settings.media_roots))


def mapping_row(path: str, settings: TracksSettings, roots: Sequence[Path]) -> dict[str, Any]:
    """Return what the path mappings make of a path. Whether it exists is only said inside the media roots."""
    mapped = map_path(path, settings.mappings)
    try:
        inside, problem = allowed_path(mapped.path, roots), None
    except InvalidRequest as error:
        inside, problem = None, error.message
    return {
        "path": path,
        "mapped": mapped.path,
        "mapping": mapped.rule,
        "allowed": inside is not None,
        "exists": inside.exists() if inside is not None else None,
        "problem": problem,
    }


def _webhook_job(
    event: webhooks.Event,
    services: Services,
    settings: TracksSettings,
    job_id: str,
    key: tuple[str, str] | None,
) -> NewJob:
    """Return the job for an event: it holds no scope, so a running scan of the same folder is no conflict."""
    items = [_webhook_item(path, event, services, settings) for path in event.files]
    first = items[0].name
    return NewJob(
        id=job_id,
        kind="tracks",
        items=items,
        options={"recursive": False, "dry_run": False},
        meta={"path": first, "event": event.name, "sender": event.sender, "title": event.title},
        label=f"{event.sender}: {event.title or first}",
        priority=Priority.WEBHOOK,
        idempotency=key,
    )


def _remember(event: webhooks.Event, new: NewJob, services: Services, settings: TracksSettings) -> None:
    """Keep the original language for later scans: of the title's folder, or of each file outside it."""
    if event.original is None:
        return
    titles = Titles(titles_directory(services.settings.data_dir))
    folder = Path(map_path(event.folder, settings.mappings).path) if event.folder else None
    for item in new.items:
        path = from_json(item.input)
        titles.remember(folder if folder is not None and folder in path.parents else path, event.original)


def _webhook_item(path: str, event: webhooks.Event, services: Services, settings: TracksSettings) -> NewItem:
    mapped = map_path(path, settings.mappings)
    try:
        local = allowed_path(mapped.path, services.settings.media_roots)
    except InvalidRequest as error:
        by = f"mapped by {mapped.rule}" if mapped.rule else "no path mapping fits it"
        raise InvalidRequest(f"{path} ({by}): {error.message}") from None
    extra: dict[str, Any] = {"medium": "tv" if event.sender == "sonarr" else "movie"}
    if event.original:
        extra["original"] = event.original
    if event.ids:
        extra["ids"] = dict(event.ids)
    where = to_json(local)
    return NewItem(name=display(local), input={**where, **extra}, key=where["path"])
