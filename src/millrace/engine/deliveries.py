"""Telling others: what a job's end is to be told by is written down with it, then sent until it arrives.

A message becomes a row in the transaction that ends the job, so none is lost by a crash; one that was
under way then is sent again under the same id. What is told, and how it is sent, is each channel's own
(``webhooks``, ``notifications``); this module knows no network.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from millrace.engine.lifecycle import backoff
from millrace.engine.model import Job
from millrace.engine.timer import Timer
from millrace.engine.workload import Retry
from millrace.errors import (
    Conflict,
    MillraceError,
    NotFound,
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
_AT_ONCE_PER_LANE = 2
_KEPT_ANSWER = 1000
_GONE = 410
REFUSED = frozenset({"fetch_refused", "notify_refused"})
"""Codes of errors that no further attempt can mend."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as stored.

    id         the same for every attempt.
    channel    the name of the channel that sends it.
    to         whom it is for, in that channel's words: a URL, the name of a target.
    body       what is sent, as JSON text.
    attempts   made so far, since it was created or resent.
    next_at    when the next attempt is due; None once it ended.
    status     of the last answer, ``response`` the beginning of its body, ``error`` why it did not arrive.
    """

    seq: int
    id: str
    job: str
    kind: str
    channel: str
    to: str
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
class Message:
    """Something to be told: to whom, the event's name, and what is sent, as JSON text."""

    to: str
    event: str
    body: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that failed, and why."""

    idx: int
    name: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries to list, newest first; ``before`` continues behind that ``seq``."""

    channel: str | None = None
    job: str | None = None
    state: DeliveryState | None = None
    limit: int = 50
    before: int | None = None


class DeliveryWrites(Protocol):
    """What a transaction must offer for deliveries."""

    def insert_delivery(
        self, id: str, job: str, kind: str, channel: str, to: str, event: str, body: str, now: float
    ) -> None:
        """Write down a message, due at once."""
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

    def first_failures(self, job: Job, limit: int) -> list[Failure]:
        """Return the first items of a job that failed, within this transaction."""
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


class Channel(Protocol):
    """One way of telling others.

    name     kept with each delivery.
    prefix   of its deliveries' ids.
    retry    how often and when one is tried.
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def prefix(self) -> str:
        """What its ids begin with."""
        ...

    @property
    def retry(self) -> Retry:
        """How often and when a delivery is tried."""
        ...

    def messages(self, tx: DeliveryWrites, job: Job) -> Sequence[Message]:
        """Return what is to be told of a job that has ended, within the transaction that ends it."""
        ...

    def send(self, delivery: Delivery) -> Reply | None:
        """Make one attempt. Blocks. None: it arrived, and nothing was answered that could be kept.

        MillraceError where it did not arrive, with a code of ``REFUSED`` where it never will.
        """
        ...

    def lane(self, delivery: Delivery) -> str:
        """Return what it shares with those that would hang as it hangs: a host, a target."""
        ...


def after_attempt(
    delivery: Delivery,
    result: Reply | MillraceError | None,
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
        again = not (isinstance(result, StageError) and result.code in REFUSED)
    elif result is None:
        return replace(tried, state="delivered", next_at=None, finished_at=now)
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


class Deliveries:
    """Writes messages down when jobs end, and sends them on threads of its own."""

    def __init__(
        self, engine: Engine, channels: Iterable[Channel], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._channels = {channel.name: channel for channel in channels}
        self._clock = clock
        self._under_way: dict[str, str] = {}
        self._lock = threading.Lock()
        self._timer = Timer("deliveries", self._step)
        engine.loop.outcomes.finished.append(self._on_finished)
        engine.commands["deliveries.resend"] = self._resend
        engine.commands["deliveries.tell"] = self._tell

    def start(self) -> None:
        """Begin to send."""
        self._timer.start()

    def stop(self) -> None:
        """Send nothing more. What is under way is not waited for: it is sent again at the next start."""
        self._timer.stop()

    async def list(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """Return a page of deliveries, newest first."""
        return await asyncio.to_thread(self._store.deliveries, query)

    async def get(self, id: str, channel: str) -> Delivery:
        """Return a delivery of that channel; NotFound if there is none."""
        delivery = await asyncio.to_thread(self._store.delivery, id)
        if delivery is None or delivery.channel != channel:
            raise NotFound(f"nothing was sent under the id {id!r}")
        return delivery

    async def resend(self, id: str, channel: str) -> Delivery:
        """Send a delivery once more, with all its attempts before it. Conflict while it is pending.

        Return it as it is before the first of them.
        """
        return Delivery(**await self._engine.command("deliveries.resend", id=id, channel=channel))

    def _resend(self, round_: Round, id: str, channel: str) -> dict[str, Any]:
        delivery = round_.tx.load_delivery(id)
        if delivery is None or delivery.channel != channel:
            raise NotFound(f"nothing was sent under the id {id!r}")
        if delivery.state == "pending":
            raise Conflict(f"the delivery {id} is still being tried (attempt {delivery.attempts})")
        now = round_.now
        again = replace(delivery, state="pending", attempts=0, next_at=now, finished_at=None, updated_at=now)
        round_.tx.save_delivery(again)
        round_.afterwards.append(self._timer.wake)
        return asdict(again)

    async def tell(self, channel: str, message: Message) -> Delivery:
        """Send something that no job's end was the cause of; return it as it is before its first attempt."""
        return Delivery(**await self._engine.command("deliveries.tell", channel=channel, message=message))

    def _tell(self, round_: Round, channel: str, message: Message | Mapping[str, Any]) -> dict[str, Any]:
        given = message if isinstance(message, Message) else Message(**message)
        written = round_.tx.load_delivery(self._write(round_, self._channels[channel], given))
        assert written is not None
        return asdict(written)

    def _on_finished(self, round_: Round, row: JobRow) -> None:
        job = round_.tx.notification_source(row)
        for channel in self._channels.values():
            try:
                told = channel.messages(round_.tx, job)
            except Exception:
                # What cannot be put into words must not keep jobs from ending.
                log.exception("nobody is told of the end of job %s by %s", row.id, channel.name)
                continue
            for message in told:
                self._write(round_, channel, message, job)

    def _write(self, round_: Round, channel: Channel, message: Message, job: Job | None = None) -> str:
        id = f"{channel.prefix}{uuid.uuid4().hex}"
        of = ("", "") if job is None else (job.id, job.kind)
        round_.tx.insert_delivery(id, *of, channel.name, message.to, message.event, message.body, round_.now)
        round_.afterwards.append(self._timer.wake)
        return id

    def _step(self) -> float | None:
        now = self._clock()
        with self._lock:
            under_way = dict(self._under_way)
        # One receiver that hangs must not hold up the others.
        lanes = list(under_way.values())
        for delivery in self._store.due_deliveries(now, 200):
            lane = self._channels[delivery.channel].lane(delivery)
            full = len(lanes) >= _AT_ONCE or lanes.count(lane) >= _AT_ONCE_PER_LANE
            if delivery.id in under_way or full:
                continue
            lanes.append(lane)
            with self._lock:
                self._under_way[delivery.id] = lane
            threading.Thread(target=self._send, args=(delivery,), name="delivery", daemon=True).start()
        next_at = self._store.next_delivery(now)
        return None if next_at is None else next_at - now

    def _send(self, delivery: Delivery) -> None:
        channel = self._channels[delivery.channel]
        try:
            after = after_attempt(delivery, _attempt(channel, delivery), channel.retry, self._clock())
            if after.state == "failed":
                log.warning("%s %s of job %s failed: %s", channel.name, after.id, after.job, after.error)
            self._engine.loop.request(lambda round_: round_.tx.save_delivery(after)).result()
        except Unavailable as error:
            # Stopping, or no database: it is sent again, under the same id.
            log.info("%s %s: the attempt could not be kept: %s", channel.name, delivery.id, error.message)
            time.sleep(1.0)
        finally:
            with self._lock:
                self._under_way.pop(delivery.id, None)
            self._timer.wake()


def _attempt(channel: Channel, delivery: Delivery) -> Reply | MillraceError | None:
    try:
        return channel.send(delivery)
    except MillraceError as error:
        return error
    except Exception as error:
        log.exception("%s %s could not be sent", channel.name, delivery.id)
        return Transient(f"it could not be sent: {type(error).__name__}: {error}")
