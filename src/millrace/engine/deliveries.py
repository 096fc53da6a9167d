"""Webhooks out: what is to be told when a job ends is written down with that end, then sent until it arrives.

A notification becomes a row in the transaction that ends the job, so none is lost by a crash; one that
was under way then is sent again under the same ``webhook-id``, by which a receiver knows it. Signed as
https://www.standardwebhooks.com says. The network is handed in; this module knows no HTTP client.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

import orjson
from standardwebhooks import Webhook

from millrace.engine.lifecycle import backoff
from millrace.engine.model import Job, Notification
from millrace.engine.timer import Timer
from millrace.engine.workload import Retry
from millrace.errors import (
    Conflict,
    MillraceError,
    NotFound,
    SettingsError,
    StageError,
    Transient,
    Unavailable,
)

if TYPE_CHECKING:
    from millrace.engine.engine import Engine
    from millrace.engine.round import Round
    from millrace.engine.store import JobRow

log = logging.getLogger(__name__)

DeliveryState = Literal["pending", "delivered", "failed"]
_AT_ONCE = 8
_AT_ONCE_PER_HOST = 2
_KEPT_ANSWER = 1000
_GONE = 410


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook as stored.

    id         also its ``webhook-id``: the same for every attempt.
    body       the JSON text that is sent.
    attempts   made so far, since it was created or resent.
    next_at    when the next attempt is due; None once it ended.
    status     of the last answer, ``response`` the beginning of its body, ``error`` why it did not arrive.
    """

    seq: int
    id: str
    job: str
    kind: str
    url: str
    event: str
    body: str
    state: DeliveryState
    attempts: int
    next_at: float | None
    created_at: float
    updated_at: float
    finished_at: float | None
    status: int | None
    error: str | None
    response: str | None


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries to list, newest first; ``before`` continues behind that ``seq``."""

    job: str | None = None
    state: DeliveryState | None = None
    limit: int = 50
    before: int | None = None


class DeliveryWrites(Protocol):
    """What a transaction must offer for deliveries."""

    def insert_delivery(
        self, id: str, job: str, kind: str, url: str, event: str, body: str, now: float
    ) -> None:
        """Write down a notification, due at once."""
        ...

    def save_delivery(self, delivery: Delivery) -> None:
        """Write what changed by an attempt; nothing when the delivery is gone."""
        ...

    def load_delivery(self, id: str) -> Delivery | None:
        """Read one delivery for writing."""
        ...

    def delete_deliveries(self, before: float, limit: int) -> int:
        """Delete deliveries that ended before that time; return how many."""
        ...

    def notification_source(self, job: JobRow) -> Job:
        """Return a job as it is within this transaction."""
        ...


class DeliveryReads(Protocol):
    """What a store must offer for deliveries."""

    def deliveries(self, query: DeliveryQuery) -> list[Delivery]:
        """Read a page of deliveries, newest first."""
        ...

    def delivery(self, id: str) -> Delivery | None:
        """Read one delivery."""
        ...

    def due_deliveries(self, now: float, limit: int) -> list[Delivery]:
        """Read pending deliveries that are due, the longest due first."""
        ...

    def next_delivery(self, after: float) -> float | None:
        """Return when the first pending delivery that is not due yet will be."""
        ...


class Reply(Protocol):
    """What a receiver answered."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, their names in small letters."""
        ...

    @property
    def body(self) -> bytes:
        """The beginning of the body."""
        ...


Post = Callable[[str, bytes, Mapping[str, str]], Reply]
"""Posts a body with headers to a URL; BadInput where that is not allowed, Transient where it failed."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How often and when a delivery is tried, and the secret it is signed with (None: unsigned)."""

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


def after_attempt(
    delivery: Delivery,
    result: Reply | MillraceError,
    retry: Retry,
    now: float,
    jitter: Callable[[], float] = random.random,
) -> Delivery:
    """Return a delivery after an attempt that got this answer or failed so. Pure.

    Any 2xx is an arrival. 410 and a forbidden address end it at once; all else is tried again until
    the attempts are used up, not before the receiver's ``Retry-After``.
    """
    attempts = delivery.attempts + 1
    tried = replace(delivery, attempts=attempts, updated_at=now, status=None, error=None, response=None)
    again, wait = True, 0.0
    if isinstance(result, MillraceError):
        tried = replace(tried, error=_storable(result.message))
        again = not (isinstance(result, StageError) and result.code == "fetch_refused")
    else:
        text = result.body[:_KEPT_ANSWER].decode("utf-8", "replace")
        tried = replace(tried, status=result.status, response=_storable(text))
        if 200 <= result.status < 300:
            return replace(tried, state="delivered", next_at=None, finished_at=now)
        tried = replace(tried, error=f"the receiver answered with status code {result.status}")
        again = result.status != _GONE
        asked = result.headers.get("retry-after", "")
        wait = min(float(asked), retry.max_delay) if asked.isdigit() else 0.0
    if not again or attempts >= retry.attempts:
        return replace(tried, state="failed", next_at=None, finished_at=now)
    return replace(tried, next_at=now + max(wait, backoff(retry, attempts, jitter)))


def _storable(text: str) -> str:
    """Return text without NUL characters, which PostgreSQL cannot keep."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


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


class Deliveries:
    """Writes notifications down when jobs end, and sends them on threads of its own."""

    def __init__(
        self,
        engine: Engine,
        post: Post,
        policy: DeliveryPolicy | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._post = post
        self._policy = policy or DeliveryPolicy()
        self._clock = clock
        self._under_way: dict[str, str] = {}
        self._lock = threading.Lock()
        self._timer = Timer("deliveries", self._step)
        engine.loop.outcomes.finished.append(self._on_finished)

    def start(self) -> None:
        """Begin to send."""
        self._timer.start()

    def stop(self) -> None:
        """Send nothing more. What is under way is not waited for: it is sent again at the next start."""
        self._timer.stop()

    async def list(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """Return a page of deliveries, newest first."""
        return await asyncio.to_thread(self._store.deliveries, query)

    async def get(self, id: str) -> Delivery:
        """Return a delivery; NotFound if there is none."""
        delivery = await asyncio.to_thread(self._store.delivery, id)
        if delivery is None:
            raise NotFound(f"no delivery {id!r}")
        return delivery

    async def resend(self, id: str) -> Delivery:
        """Send a delivery once more, with all its attempts before it. Conflict while it is pending."""

        def again(round_: Round) -> Delivery:
            delivery = round_.tx.load_delivery(id)
            if delivery is None:
                raise NotFound(f"no delivery {id!r}")
            if delivery.state == "pending":
                raise Conflict(f"the delivery {id} is still being tried (attempt {delivery.attempts})")
            fresh = replace(
                delivery,
                state="pending",
                attempts=0,
                next_at=round_.now,
                finished_at=None,
                updated_at=round_.now,
            )
            round_.tx.save_delivery(fresh)
            round_.afterwards.append(self._timer.wake)
            return fresh

        return await asyncio.wrap_future(self._engine.loop.request(again))

    def _on_finished(self, round_: Round, row: JobRow) -> None:
        notify = self._engine.workloads[row.kind].notifications or default_notifications
        job = round_.tx.notification_source(row)
        try:
            told = [(n.url, n.event, orjson.dumps(dict(n.body)).decode()) for n in notify(job)]
        except Exception:
            # A workload that cannot put its news into words must not keep its jobs from ending.
            log.exception("nobody is told of the end of job %s", row.id)
            return
        for url, event, body in told:
            id = f"msg_{uuid.uuid4().hex}"
            round_.tx.insert_delivery(id, row.id, row.kind, url, event, body, round_.now)
            round_.afterwards.append(self._timer.wake)

    def _step(self) -> float | None:
        now = self._clock()
        with self._lock:
            under_way = dict(self._under_way)
        # One receiver that hangs must not hold up the others.
        hosts = list(under_way.values())
        for delivery in self._store.due_deliveries(now, 200):
            host = urlsplit(delivery.url).netloc
            full = len(hosts) >= _AT_ONCE or hosts.count(host) >= _AT_ONCE_PER_HOST
            if delivery.id in under_way or full:
                continue
            hosts.append(host)
            with self._lock:
                self._under_way[delivery.id] = host
            threading.Thread(target=self._send, args=(delivery,), name="delivery", daemon=True).start()
        next_at = self._store.next_delivery(now)
        return None if next_at is None else next_at - now

    def _send(self, delivery: Delivery) -> None:
        try:
            after = after_attempt(delivery, self._attempt(delivery), self._policy.retry, self._clock())
            if after.state == "failed":
                log.warning("webhook %s of job %s failed: %s", delivery.id, delivery.job, after.error)
            self._engine.loop.request(lambda round_: round_.tx.save_delivery(after)).result()
        except Unavailable as error:
            # Stopping, or no database: it is sent again, under the same id.
            log.info("webhook %s: the attempt could not be kept: %s", delivery.id, error.message)
            time.sleep(1.0)
        finally:
            with self._lock:
                self._under_way.pop(delivery.id, None)
            self._timer.wake()

    def _attempt(self, delivery: Delivery) -> Reply | MillraceError:
        try:
            headers = signed_headers(delivery, self._policy.secret, self._clock())
            return self._post(delivery.url, delivery.body.encode(), headers)
        except MillraceError as error:
            return error
        except Exception as error:
            log.exception("webhook %s could not be sent", delivery.id)
            return Transient(f"it could not be sent: {type(error).__name__}: {error}")
