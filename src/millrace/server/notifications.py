"""``/notifications``: what people were told when jobs ended, is being tried, or was given up."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from millrace.engine.deliveries import Delivery, DeliveryState
from millrace.engine.notifications import NOTIFY
from millrace.notify import masked
from millrace.server import examples
from millrace.server.deliveries import Before, Job, Limit, fate, page_of
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.submission import check_notify

NotificationId = Annotated[str, Path(max_length=64)]


class Test(BaseModel):
    """Whom to send a test to."""

    model_config = ConfigDict(extra="forbid")

    target: Annotated[str, Field(max_length=2048, description="a name in `notify.targets`")]


def notification_row(delivery: Delivery) -> dict[str, Any]:
    """Return a notification as the API writes it: of an address only its scheme."""
    message = orjson.loads(delivery.body)
    return {
        "id": delivery.id,
        "job": delivery.job or None,
        "kind": delivery.kind or None,
        "target": masked(delivery.to),
        "event": delivery.event,
        "title": message["title"],
        **fate(delivery),
    }


def router(services: Services) -> APIRouter:
    """Return the routes below ``/notifications``."""
    api = APIRouter(prefix="/notifications", tags=["notifications"])
    deliveries = services.deliveries

    @api.get("", summary="Notifications, newest first", **examples.NOTIFICATIONS)
    async def list_notifications(
        job: Job = None, state: DeliveryState | None = None, limit: Limit = 50, before: Before = None
    ) -> Response:
        """List who was told what, and when the next attempt is due; ``targets`` are the names there are."""
        found, more = await page_of(services, NOTIFY, job, state, limit, before)
        rows = [notification_row(delivery) for delivery in found]
        targets = list(services.settings.notify.targets)
        return json_reply({"notifications": rows, "next_before": more, "targets": targets})

    @api.get("/{notification_id}", summary="One notification, with its text", **examples.NOTIFICATION)
    async def notification(notification_id: NotificationId) -> Response:
        """Say all about a notification."""
        found = await deliveries.get(notification_id, NOTIFY)
        return json_reply({**notification_row(found), "body": orjson.loads(found.body)["body"]})

    @api.post("/test", status_code=202, summary="Send a test", **examples.TEST_NOTIFICATION)
    async def test(body: Test) -> Response:
        """Send a short text to a target; ask for it by its id to see whether it arrived."""
        if body.target not in services.settings.notify.targets:
            await asyncio.to_thread(check_notify, [body.target], services.settings, "target")
        told = await deliveries.tell(NOTIFY, services.notifications.test_message(body.target))
        return json_reply(notification_row(told), 202, {"Location": f"/notifications/{told.id}"})

    @api.post(
        "/{notification_id}/resend",
        status_code=202,
        summary="Send a notification once more",
        **examples.RENOTIFY,
    )
    async def resend(notification_id: NotificationId) -> Response:
        """Send the same text to the same target, with all its attempts before it."""
        return json_reply(notification_row(await deliveries.resend(notification_id, NOTIFY)), 202)

    return api
