"""``POST /api/v1/analysis/sync``: one pair, waited for.

Inside it is a batch of one, so that whatever holds for batches (limits, leases, results that can be
asked for again) holds for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import HTTPException
from starlette.responses import Response

from millrace.engine.engine import Engine
from millrace.engine.model import Job, Priority, State
from millrace.errors import InvalidRequest
from millrace.server.idempotency import body_digest, idempotency
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.submission import decode
from millrace.workloads.sync import views
from millrace.workloads.sync.pairs import CHOICES, check
from millrace.workloads.sync.settings import SyncSettings
from millrace.workloads.sync.submission import Site, new_job

_FIELDS = frozenset(
    ("master_file", "dub_file", "methods", "ai_model", "description", "tags", "repair", "timeout_seconds",
     *CHOICES)
)  # fmt: skip
_BAD = frozenset(
    ("bad_audio", "too_short", "silent", "model_unavailable", "bad_input", "input_missing", "input_refused")
)


def add_one_pair(api: APIRouter, services: Services, settings: SyncSettings) -> None:
    """Add ``POST /analysis/sync``."""
    site = Site.of(services.settings, settings)

    async def submit(
        request: Request, values: dict[str, Any], digest: str, owns: Sequence[str] = ()
    ) -> tuple[Job, bool]:
        pair = await asyncio.to_thread(check, values, str, site.reference, site.places.missing)
        order = new_job(
            [pair],
            held=False,
            label=pair.description,
            priority=Priority.HIGH,
            key=idempotency(request, digest),
            owns=owns,
        )
        return await services.engine.submit(order)

    @api.post(
        "/analysis/sync",
        summary="Compare one master and one dub, and wait for the answer",
        openapi_extra=described_form({"master": "binary", "dub": "binary", "methods": "", "ai_model": ""}),
    )
    async def compare(request: Request) -> Response:
        """Compare a pair given as JSON (``master_file``, ``dub_file``) or uploaded (``master``, ``dub``).

        Takes the fields of a CSV row and ``timeout_seconds``. 408 when the answer takes longer than
        that, or than the server's own limit; the analysis is stopped then.
        """
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            async with services.uploads.receive(request, files={"master", "dub"}, max_files=2) as form:
                values: dict[str, Any] = dict(form.fields)
                wait = _checked(values, settings.wait)
                for side in ("master", "dub"):
                    for upload in form.uploads(side):
                        values |= {side: upload.ref(), f"{side}_file": upload.name}
                job, created = await submit(request, values, form.digest, form.owns)
                if created:
                    form.keep()
        else:
            values = decode(await request.body())
            wait = _checked(values, settings.wait)
            job, _ = await submit(request, values, await body_digest(request))
        return await _answer(services.engine, job, wait)


def _checked(values: Mapping[str, Any], most: float) -> float:
    """Return how long to wait, in seconds; InvalidRequest where a field is not known."""
    if {"master", "dub"} & values.keys():
        raise InvalidRequest(
            "master, dub: are uploaded files; name paths or URLs in master_file and dub_file"
        )
    if unknown := values.keys() - _FIELDS:
        raise InvalidRequest(f"{min(unknown)}: not a known field; there are: {', '.join(sorted(_FIELDS))}")
    return _seconds(values.get("timeout_seconds"), most)


async def _answer(engine: Engine, job: Job, wait: float) -> Response:
    """Wait for the one item of a job; stop it and answer 408 when that takes too long."""

    async def ended() -> None:
        async for _ in engine.watch(job.id):
            pass

    try:
        await asyncio.wait_for(ended(), wait)
    except TimeoutError:
        job = await engine.cancel(job.id)
        if job.state is State.CANCELLED:
            raise HTTPException(
                408, f"Analysis timeout: no answer within {wait:g} s; send long files as a batch"
            ) from None
    except asyncio.CancelledError:
        await asyncio.shield(engine.cancel(job.id))
        raise
    job = await engine.job(job.id)
    item = await engine.item(job.id, 0)
    if item.error is not None:
        raise HTTPException(_status_of(item.error["code"]), str(item.error["message"]))
    if item.state is not State.SUCCEEDED:
        raise HTTPException(409, f"the analysis was {views.ITEM_WORDS[item.state]}")
    artifacts = await engine.artifacts(job.id, 0)
    found = views.outcome(job, item, artifacts)
    return json_reply(
        {
            "success": True,
            "analysis_id": found["analysis_id"],
            "batch_id": job.id,
            **views.described(item),
            "result": found,
            "timestamp": views.timestamp(),
        }
    )


def _status_of(code: str) -> int:
    if code == "timeout":
        return 408
    if code in _BAD or code.startswith("fetch"):
        return 400
    return 500


def _seconds(value: Any, most: float) -> float:
    if value is None or value == "":
        return most
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequest(
            f"timeout_seconds: must be a positive number of seconds, not {str(value)[:40]!r}"
        )
    return min(seconds, most)


def described_form(fields: dict[str, str]) -> dict[str, Any]:
    """Return the OpenAPI description of a form; ``binary`` marks its files."""
    properties = {
        name: {"type": "string", **({"format": "binary"} if kind else {})} for name, kind in fields.items()
    }
    return {
        "requestBody": {
            "content": {"multipart/form-data": {"schema": {"type": "object", "properties": properties}}}
        }
    }
