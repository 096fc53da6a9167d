"""A job's events as they happen: as Server-Sent Events, and the same feed over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from millrace.engine.model import Event, Job
from millrace.errors import InvalidRequest
from millrace.server.replies import rfc3339
from millrace.server.services import Services

HEARTBEAT = 15.0
"""Seconds of silence after which a comment keeps proxies from closing the stream."""

_RECONNECT_MS = 2000


def event_row(event: Event) -> dict[str, Any]:
    """Return an event as clients see it; ``seq`` is 0 for live progress, which is not stored."""
    return {
        "seq": event.seq,
        "at": rfc3339(event.at),
        "type": event.type,
        "job_id": event.job,
        "item": event.idx,
        "data": event.data,
    }


def resume_point(request: Request) -> int:
    """Return the number of the last event a client has: ``Last-Event-ID``, or ``?after=``; 0 for none."""
    given = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise InvalidRequest(f"Last-Event-ID: must be the number of an event, not {given[:40]!r}")
    return int(given)


class Pulled:
    """Reads an async iterator with a time limit, without losing the event that comes after it."""

    def __init__(
        self, services: Services, events: AsyncIterator[Event], stop: asyncio.Future[None] | None = None
    ) -> None:
        self._services = services
        self._events = events
        self._stop = stop
        self._next: asyncio.Task[Event | None] | None = None

    async def get(self, timeout: float | None) -> Event | None:
        """Return the next event; None when none came in time, or the feed (see ``over``) has ended."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._pull())
        closing = asyncio.ensure_future(self._services.closing.wait())
        try:
            waited: set[asyncio.Future[Any]] = {self._next, closing}
            if self._stop is not None:
                waited.add(self._stop)
            await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        if not self._next.done():
            return None
        event = self._next.result()
        if event is not None:
            self._next = None
        return event

    @property
    def over(self) -> bool:
        """Whether there is nothing more to come: the job has finished, the client left, the server stops."""
        ended = self._next is not None and self._next.done() and self._next.result() is None
        left = self._stop is not None and self._stop.done()
        return ended or left or self._services.closing.is_set()

    async def _pull(self) -> Event | None:
        return await anext(self._events, None)

    async def close(self) -> None:
        """Stop reading."""
        if self._next is not None and not self._next.done():
            self._next.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._next
        aclose = getattr(self._events, "aclose", None)
        if aclose is not None:
            await aclose()


def encode(event: Event) -> bytes:
    """Write one event in the format of Server-Sent Events (WHATWG HTML, §9.2)."""
    ident = f"id: {event.seq}\n" if event.seq else ""
    return f"{ident}event: {event.type}\ndata: ".encode() + orjson.dumps(event_row(event)) + b"\n\n"


async def event_stream(request: Request, services: Services, job: Job) -> Response:
    """Answer with a job's events behind ``Last-Event-ID``, then those to come, until it has finished.

    A client that already has the last event of a finished job gets 204, which tells an EventSource
    not to connect again.
    """
    after = resume_point(request)
    if job.state.final and after >= job.last_event:
        return Response(status_code=204)

    async def body() -> AsyncIterator[bytes]:
        pulled = Pulled(services, services.engine.watch(job.id, after=after))
        try:
            yield f"retry: {_RECONNECT_MS}\n\n".encode()
            while not pulled.over:
                event = await pulled.get(HEARTBEAT)
                if event is not None:
                    yield encode(event)
                elif not pulled.over:
                    yield b": still here\n\n"
        finally:
            await pulled.close()

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(body(), headers=headers, media_type="text/event-stream")


async def event_socket(socket: WebSocket, services: Services, job: Job, after: int) -> None:
    """Send the same events as JSON frames; close with 1000 when the job has finished, 1001 on shutdown."""
    await socket.accept()
    gone = asyncio.ensure_future(_hang_up(socket))
    pulled = Pulled(services, services.engine.watch(job.id, after=after), gone)
    try:
        while not pulled.over:
            event = await pulled.get(None)
            if event is not None:
                await socket.send_text(orjson.dumps(event_row(event)).decode())
        if socket.client_state is WebSocketState.CONNECTED and not gone.done():
            await socket.close(1001 if services.closing.is_set() else 1000)
    except WebSocketDisconnect:
        return
    finally:
        gone.cancel()
        await pulled.close()


async def _hang_up(socket: WebSocket) -> None:
    """Return when the client has closed; what it says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
