"""``/deliveries``: webhooks that were sent, are being tried, or were given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from millrace.engine.deliveries import Delivery, DeliveryQuery, DeliveryState
from millrace.engine.webhooks import WEBHOOK
from millrace.server import examples
from millrace.server.replies import json_reply, rfc3339
from millrace.server.services import Services

DeliveryId = Annotated[str, Path(max_length=64)]


Job = Annotated[str | None, Query(max_length=128, description="of one job only")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Before = Annotated[int | None, Query(ge=1, lt=2**62, description="`next_before` of the page before")]


def fate(delivery: Delivery) -> dict[str, Any]:
    """Return what has become of a delivery, of whatever channel."""
    return {
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_at": rfc3339(delivery.next_at),
        "error": delivery.error,
        "created_at": rfc3339(delivery.created_at),
        "updated_at": rfc3339(delivery.updated_at),
        "finished_at": rfc3339(delivery.finished_at),
    }


async def page_of(
    services: Services,
    channel: str,
    job: str | None,
    state: DeliveryState | None,
    limit: int,
    before: int | None,
) -> tuple[Sequence[Delivery], int | None]:
    """Return a page of a channel's deliveries, newest first, and where the next one begins."""
    query = DeliveryQuery(channel=channel, job=job, state=state, limit=limit + 1, before=before)
    found = await services.deliveries.list(query)
    return found[:limit], found[limit - 1].seq if len(found) > limit else None


def delivery_row(delivery: Delivery) -> dict[str, Any]:
    """Return a webhook as the API writes it, without its body."""
    return {
        "id": delivery.id,
        "job": delivery.job,
        "kind": delivery.kind,
        "url": delivery.to,
        "event": delivery.event,
        "status": delivery.status,
        "response": delivery.response,
        **fate(delivery),
    }


def router(services: Services) -> APIRouter:
    """Return the routes below ``/deliveries``."""
    api = APIRouter(prefix="/deliveries", tags=["deliveries"])
    deliveries = services.deliveries

    @api.get("", summary="Webhooks, newest first", **examples.DELIVERIES)
    async def list_deliveries(
        job: Job = None, state: DeliveryState | None = None, limit: Limit = 50, before: Before = None
    ) -> Response:
        """List what was told to whom, what they answered, and when the next attempt is due."""
        found, more = await page_of(services, WEBHOOK, job, state, limit, before)
        return json_reply({"deliveries": [delivery_row(d) for d in found], "next_before": more})

    @api.get("/{delivery_id}", summary="One webhook, with its body", **examples.DELIVERY)
    async def delivery(delivery_id: DeliveryId) -> Response:
        """Say all about a webhook."""
        found = await deliveries.get(delivery_id, WEBHOOK)
        return json_reply({**delivery_row(found), "body": orjson.loads(found.body)})

    @api.post("/{delivery_id}/resend", status_code=202, summary="Send a webhook once more", **examples.RESEND)
    async def resend(delivery_id: DeliveryId) -> Response:
        """Send it again under the same ``webhook-id``, with all its attempts before it."""
        return json_reply(delivery_row(await deliveries.resend(delivery_id, WEBHOOK)), 202)

    return api
