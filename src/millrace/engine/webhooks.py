"""Webhooks out: what programs are told when a job ends, signed as https://www.standardwebhooks.com says.

The network is handed in; this module knows no HTTP client.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import orjson
from standardwebhooks import Webhook

from millrace.engine.deliveries import Delivery, DeliveryWrites, Message, Reply
from millrace.engine.model import Job, Notification
from millrace.engine.workload import Retry, Workload
from millrace.errors import SettingsError

WEBHOOK = "webhook"
"""The name of this channel."""

Post = Callable[[str, bytes, Mapping[str, str]], Reply]
"""Posts a body with headers to a URL; BadInput where that is not allowed, Transient where it failed."""


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """How often and when a webhook is tried, and the secret it is signed with (None: unsigned)."""

    retry: Retry = field(
        default_factory=lambda: Retry(attempts=8, delay=5.0, factor=3.0, max_delay=6 * 3600.0)
    )
    secret: str | None = None

    def __post_init__(self) -> None:
        if self.secret is not None:
            signing_key(self.secret)


def signing_key(secret: str) -> bytes:
    """Return the key a secret stands for: base64 after ``whsec_``, else the text itself."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==", validate=False)
    except binascii.Error:
        key = b""
    if not key:
        raise SettingsError("the webhook secret begins with whsec_ but what follows is not base64")
    return key


def signed_headers(delivery: Delivery, secret: str | None, now: float) -> dict[str, str]:
    """Return the headers of one attempt, as Standard Webhooks 1.0 define them."""
    at = datetime.fromtimestamp(int(now), UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now)),
    }
    if secret is not None:
        headers["webhook-signature"] = Webhook(signing_key(secret)).sign(delivery.id, at, delivery.body)
    return headers


def default_notifications(job: Job) -> list[Notification]:
    """Return what a job's callbacks (``{"url": …}``) are told at its end, in the canonical words."""

    def at(seconds: float | None) -> str | None:
        if seconds is None:
            return None
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    counts = job.counts
    data = {
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "label": job.label,
        "counts": {
            "total": counts.total,
            "succeeded": counts.succeeded,
            "skipped": counts.skipped,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
        },
        "error": job.error,
        "created_at": at(job.created_at),
        "started_at": at(job.started_at),
        "finished_at": at(job.finished_at),
    }
    body = {"type": "job.finished", "timestamp": at(job.finished_at), "data": data}
    return [Notification(str(callback["url"]), "job.finished", body) for callback in job.callbacks]


class Webhooks:
    """The channel of webhooks; see ``deliveries.Channel``. The id of a delivery is its ``webhook-id``."""

    name = WEBHOOK
    prefix = "msg_"

    def __init__(
        self,
        workloads: Mapping[str, Workload],
        post: Post,
        policy: WebhookPolicy | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workloads = workloads
        self._post = post
        self._policy = policy or WebhookPolicy()
        self._clock = clock
        self.retry = self._policy.retry

    def messages(self, tx: DeliveryWrites, job: Job) -> Sequence[Message]:
        """Return what a job's workload wants told, in its own words or the canonical ones."""
        notify = self._workloads[job.kind].notifications or default_notifications
        return [Message(n.url, n.event, orjson.dumps(dict(n.body)).decode()) for n in notify(job)]

    def send(self, delivery: Delivery) -> Reply:
        """Post it, signed anew."""
        headers = signed_headers(delivery, self._policy.secret, self._clock())
        return self._post(delivery.to, delivery.body.encode(), headers)

    def lane(self, delivery: Delivery) -> str:
        """Return the host it goes to."""
        return urlsplit(delivery.to).netloc
