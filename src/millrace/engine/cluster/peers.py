"""The servers on one database: who is in charge, what the others ask of it, and what all hear from it.

One server, the one that holds the database's lock, runs the scheduler. The others answer reads from the
database, hand writes to it as commands, and pass its events on to their watchers. Notifications bring all of
this at once; behind each stands a look every second. Knows no job and no SQL.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from millrace import errors
from millrace.engine import wire
from millrace.engine.cluster import ANSWERS, EVENTS, LIVE
from millrace.engine.events import Feed
from millrace.engine.model import Event
from millrace.errors import MillraceError, QueueFull, Unavailable

log = logging.getLogger(__name__)

PATIENCE = 4.0
"""Seconds after which a server that nothing was heard of counts as gone."""

_BEAT_SECONDS = 1.0
_LONGEST_ANSWER = 30.0


class Wire(Protocol):
    """How servers reach each other; see ``sql.peers.PostgresPeers``. Raises OSError when it cannot."""

    def alive(self, name: str, leading: bool, status: str, patience: float) -> list[tuple[str, bool, str]]:
        """Say that this server lives; return (name, leading, status) of the others that do."""
        ...

    def gone(self, name: str) -> None:
        """Say that this server has ended."""
        ...

    def ask(self, id: str, name: str, body: str) -> None:
        """Write a command down for the server in charge."""
        ...

    def answer(self, id: str) -> tuple[str | None, str | None] | None:
        """Take what became of a command; None while it waits."""
        ...

    def withdraw(self, id: str) -> bool:
        """Take a command back; False when it was executed."""
        ...

    def news(self, timeout: float) -> list[tuple[str, str]]:
        """Wait for notifications."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class Peers:
    """This server among the others.

    Args:
        name: of this server alone.
        connect: a function that opens a way to the others; each thread has one of its own.
        leading: whether this server is in charge just now.
        status: what it tells of itself when it is, as JSON.
        feed: its watchers.

    leader       the status the one in charge last told, None while none is heard of.
    others       whether there is any other server.
    silent_since when the last one in charge was last heard of (monotonic).
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Wire],
        leading: Callable[[], bool],
        status: Callable[[], Mapping[str, Any]],
        feed: Feed,
    ) -> None:
        self.name = name
        self._wire = connect
        self._leading = leading
        self._status = status
        self._feed = feed
        self.leader: Mapping[str, Any] | None = None
        self.others = True
        self.silent_since = time.monotonic()
        self._stopping = threading.Event()
        self._answered = threading.Condition()
        self._threads = [
            threading.Thread(target=self._beat, name="alive", daemon=True),
            threading.Thread(target=self._hear, name="peers", daemon=True),
        ]

    def start(self) -> None:
        """Begin to tell and to hear."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Say that this server has ended."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(10.0)

    def ask(self, name: str, arguments: Mapping[str, Any], patience: float = _LONGEST_ANSWER) -> Any:
        """Have the one in charge do something, and return its answer. Blocks.

        Raises what was raised there; Unavailable when nobody answers, and nothing will be done then.
        """
        id, body = uuid.uuid4().hex, wire.dumps(dict(arguments)).decode()
        deadline = time.monotonic() + patience
        link = self._wire()
        asked = False
        try:
            while True:
                try:
                    if not asked:
                        link.ask(id, name, body)
                        asked = True
                    found = link.answer(id)
                    if found is None and time.monotonic() >= deadline:
                        if link.withdraw(id):
                            raise Unavailable("no server is in charge of the database; try again in a moment")
                        continue
                except OSError as error:
                    asked = False  # perhaps; asking again changes nothing
                    if time.monotonic() >= deadline:
                        raise Unavailable(f"the database does not answer: {error}") from error
                    self._stopping.wait(0.2)
                    continue
                if found is not None:
                    answer, error_text = found
                    if error_text is not None:
                        raise error_of(error_text)
                    return orjson.loads(answer) if answer is not None else None
                with self._answered:
                    self._answered.wait(0.1)
        finally:
            link.close()

    def _beat(self) -> None:
        link = self._wire()
        while not self._stopping.is_set():
            leading = self._leading()
            try:
                status = wire.dumps(self._status() if leading else {}).decode()
                others = link.alive(self.name, leading, status, PATIENCE)
            except OSError as error:
                log.debug("nothing is heard of other servers: %s", error)
                self.leader = None
            else:
                self.others = bool(others)
                told = [text for _, leads, text in others if leads]
                self.leader = orjson.loads(told[0]) if told else None
                if leading or told:
                    self.silent_since = time.monotonic()
            self._stopping.wait(_BEAT_SECONDS)
        try:
            link.gone(self.name)
        except OSError as error:
            log.debug("the others do not know that this server has ended: %s", error)
        link.close()

    def _hear(self) -> None:
        link = self._wire()
        looked = 0.0
        while not self._stopping.is_set():
            try:
                for channel, payload in link.news(0.25):
                    self._take(channel, payload)
            except OSError as error:
                log.debug("no news from other servers: %s", error)
                self._stopping.wait(0.5)
            if time.monotonic() - looked >= _BEAT_SECONDS:
                looked = time.monotonic()
                if not self._leading():
                    self._feed.nudge(None)
        link.close()

    def _take(self, channel: str, payload: str) -> None:
        if channel == ANSWERS:
            with self._answered:
                self._answered.notify_all()
        elif self._leading():
            return
        elif channel == EVENTS:
            self._feed.nudge(payload.split(",") if payload else None)
        elif channel == LIVE:
            rows = orjson.loads(payload)
            self._feed.publish([Event(job, 0, at, "item.progress", idx, data) for job, idx, at, data in rows])


def error_text(error: BaseException) -> str:
    """Write an error down for another server."""
    if not isinstance(error, MillraceError):
        error = Unavailable(f"the server in charge failed: {type(error).__name__}: {error}")
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error.message,
        "code": error.code,
        "details": error.details,
    }
    if isinstance(error, QueueFull):
        found["retry_after"] = error.retry_after
    return wire.dumps(found).decode()


def error_of(text: str) -> MillraceError:
    """Make the error again that ``error_text`` wrote down."""
    found = orjson.loads(text)
    kind = getattr(errors, found["type"], Unavailable)
    if kind is QueueFull:
        return QueueFull(found["message"], retry_after=found["retry_after"])
    error: MillraceError = kind(found["message"], code=found["code"], details=found["details"])
    return error
