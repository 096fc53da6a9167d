"""Around every request: its id, its log line, its metrics, its size limit, and the answer to a crash."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection
from contextvars import ContextVar
from typing import TYPE_CHECKING
from uuid import uuid4

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millrace.errors import TooLarge
from millrace.server.errors import ErrorBodies

if TYPE_CHECKING:
    from millrace.server.metrics import Metrics

log = logging.getLogger(__name__)

current_request: ContextVar[str] = ContextVar("current_request", default="")
"""The id of the request being answered, for log lines; empty outside of one."""

_OFTEN = ("/health", "/livez", "/readyz", "/metrics", "/ui/part/", "/ui/static/")
"""Paths that are asked again and again, by monitors and by pages that keep themselves up to date."""

_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")


class RequestContext:
    """ASGI middleware, the outermost: gives the request its id and sees its end.

    ``x-request-id`` is echoed when it is sane (at most 128 harmless characters), else made anew.
    """

    def __init__(self, app: ASGIApp, bodies: ErrorBodies, metrics: Metrics) -> None:
        self._app = app
        self._bodies = bodies
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, whatever happens inside."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        found = given if _SANE.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = found
        marker = current_request.set(found)
        seen = _Seen(send, found)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, seen)
        except ClientDisconnect:
            log.info("the client went away before its request was read")
        except Exception:
            log.exception("%s %s crashed", scope.get("method", "WS"), scope["path"])
            if scope["type"] == "http" and not seen.status:
                await self._bodies.of_crash(Request(scope))(scope, receive, seen)
            elif scope["type"] == "http":
                raise
        finally:
            self._end(scope, seen.status, time.perf_counter() - started)
            current_request.reset(marker)

    def _end(self, scope: Scope, status: int, seconds: float) -> None:
        if scope["type"] == "websocket":
            return
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        self._metrics.request(scope["method"], route, status, seconds)
        # The query is left out: it may hold a token.
        level = logging.DEBUG if scope["path"].startswith(_OFTEN) else logging.INFO
        log.log(
            level,
            "%s %s %d %.1f ms",
            scope["method"],
            scope["path"],
            status,
            seconds * 1000,
            extra={"http_status": status, "duration_ms": round(seconds * 1000, 1)},
        )


class _Seen:
    """A ``send`` that adds the request id and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._id
        await self._send(message)


class BodyLimit:
    """ASGI middleware: a body that is not multipart, and so is read into memory, has a limit.

    Multipart bodies are limited where they are read (``uploads``), and so are those of ``streams``,
    the paths whose contract reads them piece by piece.
    """

    def __init__(self, app: ASGIApp, bodies: ErrorBodies, limit: int, streams: Collection[str] = ()) -> None:
        self._app = app
        self._bodies = bodies
        self._limit = limit
        self._streams = frozenset(streams)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what says it is too large, and stop reading what turns out to be."""
        if scope["type"] != "http" or scope["path"] in self._streams:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if headers.get("content-type", "").lower().startswith("multipart/form-data"):
            await self._app(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        message = f"the body is larger than {self._limit} bytes (limits.body_bytes)"
        if length.isdigit() and int(length) > self._limit:
            await self._bodies.of_error(Request(scope), TooLarge(message))(scope, receive, send)
            return
        read = 0

        async def limited() -> Message:
            nonlocal read
            event = await receive()
            if event["type"] == "http.request":
                read += len(event.get("body", b""))
                if read > self._limit:
                    # FastAPI lets only its own exception out of the reading of a body.
                    raise HTTPException(413, message)
            return event

        await self._app(scope, limited, send)
