"""A contract for tests: an upload endpoint, and every kind of error."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel

from millrace.engine.model import NewItem, NewJob
from millrace.errors import Conflict, InvalidRequest, NotFound, QueueFull, TooLarge, Unavailable
from millrace.server.idempotency import idempotency
from millrace.server.replies import json_reply

ERRORS = {
    "invalid": InvalidRequest("field: is wrong", details={"field": "field"}),
    "missing": NotFound("no such thing"),
    "conflict": Conflict("already there"),
    "large": TooLarge("too much of it"),
    "full": QueueFull("come back later", retry_after=7),
    "down": Unavailable("not now"),
    "http": HTTPException(418, "a teapot"),
    "crash": RuntimeError("the secret is 42"),
}


class Body(BaseModel):
    name: str
    size: int


def make(services: Any, settings: Any) -> APIRouter:
    api = APIRouter(prefix="/probe", tags=["probe"])

    @api.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/errors/{name}")
    async def errors(name: str) -> None:
        raise ERRORS[name]

    @api.post("/bodies")
    async def bodies(body: Body) -> dict[str, Any]:
        return {"name": body.name, "size": body.size}

    @api.post("/uploads", status_code=202)
    async def uploads(request: Request, mark: bool = False) -> Any:
        async with services.uploads.receive(
            request,
            files={"audio"},
            max_files=3,
            max_file_bytes=100_000,
            oversize="mark" if mark else "refuse",
        ) as form:
            if form.get("refuse"):
                raise InvalidRequest("refuse: as you wish")
            items = [NewItem(name=upload.name, input=upload.ref()) for upload in form.files if upload.key]
            job, created = await services.engine.submit(
                NewJob(
                    id=form.get("id") or "probe-1",
                    kind="probe",
                    items=items,
                    owns=form.owns,
                    idempotency=idempotency(request, form.digest),
                )
            )
            if created:
                form.keep()
        return json_reply(
            {
                "job_id": job.id,
                "created": created,
                "fields": form.fields,
                "files": [
                    {
                        "name": upload.name,
                        "key": upload.key,
                        "size": upload.size,
                        "sha256": upload.sha256,
                        "media_type": upload.media_type,
                        "oversize": upload.oversize,
                    }
                    for upload in form.files
                ],
            },
            202,
        )

    return api
