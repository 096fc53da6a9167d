"""Who may ask: the bearer token (RFC 6750), and no other site's pages on a browser's behalf."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from millrace.server.errors import ErrorBodies

log = logging.getLogger(__name__)

HEALTH = frozenset({"/health", "/livez", "/readyz"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Auth:
    """ASGI middleware: 401 without a token, 403 with a wrong one; health is always open.

    A WebSocket, an EventSource (``Accept: text/event-stream``) and the documentation's pages, which
    cannot set headers, may pass the token as ``?access_token=`` instead. The comparison takes the
    same time whatever the token.

    Without a token a browser on the same machine could be abused by any page it shows, so requests
    that change something are then refused when another site sent them (as Go's
    ``http.CrossOriginProtection``: ``Sec-Fetch-Site``, else ``Origin`` against ``Host``).
    """

    def __init__(
        self, app: ASGIApp, bodies: ErrorBodies, token: str | None, open_paths: Collection[str]
    ) -> None:
        self._app = app
        self._bodies = bodies
        self._token = token.encode() if token is not None else None
        self._open = HEALTH | frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer why not."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(HTTPConnection(scope))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, message = refusal
        headers = {"WWW-Authenticate": 'Bearer realm="millrace"'} if status == 401 else {}
        # A WebSocket is refused with a plain HTTP answer instead of the handshake.
        as_http = {**scope, "method": scope.get("method", "GET"), "type": "http"}
        reply = self._bodies.reply(Request(as_http), status, message, headers=headers)
        await reply(scope, receive, send)

    def _refusal(self, connection: HTTPConnection) -> tuple[int, str] | None:
        if self._token is None:
            if _from_another_site(connection):
                return (
                    403,
                    "another site's page sent this request; with a bearer token it would be taken",
                )
            return None
        given = _token_of(connection)
        if given is None:
            return 401, "this server needs a token: send the header Authorization: Bearer <token>"
        if not hmac.compare_digest(given.encode(), self._token):
            return 403, "the bearer token is not the right one"
        return None


def _token_of(connection: HTTPConnection) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if not _cannot_set_headers(connection):
        return None
    values = parse_qs(connection.scope.get("query_string", b"").decode("latin-1")).get("access_token")
    return values[0] if values else None


def _cannot_set_headers(connection: HTTPConnection) -> bool:
    scope = connection.scope
    if scope["type"] == "websocket":
        return True
    if scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    return (
        "text/event-stream" in connection.headers.get("accept", "")
        or path.endswith("/events")
        or path == "/openapi.json"
        or path == "/docs"
        or path.startswith("/docs/")
    )


def _from_another_site(connection: HTTPConnection) -> bool:
    if connection.scope["type"] != "http" or connection.scope["method"] in _SAFE:
        return False
    site = connection.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = connection.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host", "")
