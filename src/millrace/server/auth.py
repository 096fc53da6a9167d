"""Who may ask: the bearer token (RFC 6750) or the dashboard's session, and no other site's pages."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Collection
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from millrace.server import session
from millrace.server.errors import ErrorBodies

log = logging.getLogger(__name__)

HEALTH = frozenset({"/health", "/livez", "/readyz"})
SIGN_IN = "/ui/sign-in"
"""The page that takes the token and gives a session; it and the dashboard's files are open to all."""

_OPEN_FILES = "/ui/static/"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Auth:
    """ASGI middleware: 401 without a token, 403 with a wrong one; health is always open.

    A WebSocket, an EventSource (``Accept: text/event-stream``) and the documentation's pages, which
    cannot set headers, may pass the token as ``?access_token=`` instead. The comparison takes the
    same time whatever the token.

    A browser that has signed in at the dashboard sends its session's cookie instead. Since a browser
    sends cookies by itself, what changes something, and WebSockets, must then come from a page of this
    server. The dashboard's pages send who has no session to the sign-in page.

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
        if scope["type"] not in ("http", "websocket") or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(HTTPConnection(scope))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, message = refusal
        if status == 401 and _is_page(scope):
            await RedirectResponse(f"{SIGN_IN}?next={_here(scope)}", 303)(scope, receive, send)
            return
        headers = {"WWW-Authenticate": 'Bearer realm="millrace"'} if status == 401 else {}
        # A WebSocket is refused with a plain HTTP answer instead of the handshake.
        as_http = {**scope, "method": scope.get("method", "GET"), "type": "http"}
        reply = self._bodies.reply(Request(as_http), status, message, headers=headers)
        await reply(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open or path == SIGN_IN or path.startswith(_OPEN_FILES)

    def _refusal(self, connection: HTTPConnection) -> tuple[int, str] | None:
        if self._token is None:
            if _from_another_site(connection):
                return (
                    403,
                    "another site's page sent this request; with a bearer token it would be taken",
                )
            return None
        given = _token_of(connection)
        if given is None and self._has_session(connection):
            if _from_another_site(connection, sockets=True, proof=True):
                return 403, "with the dashboard's session only this server's own pages may change something"
            return None
        if given is None:
            return 401, "this server needs a token: send the header Authorization: Bearer <token>"
        if not hmac.compare_digest(given.encode(), self._token):
            return 403, "the bearer token is not the right one"
        return None

    def _has_session(self, connection: HTTPConnection) -> bool:
        cookie = connection.cookies.get(session.COOKIE)
        return cookie is not None and self._token is not None and session.signed_in(self._token, cookie)


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


def from_another_site(connection: HTTPConnection) -> bool:
    """Whether another site's page asks for a change; requests that no browser sends are not from one."""
    return _from_another_site(connection)


def _from_another_site(connection: HTTPConnection, *, sockets: bool = False, proof: bool = False) -> bool:
    """Whether a request that may change something comes from another site's page.

    ``sockets``: WebSockets count as such requests. ``proof``: a request that does not say where it comes
    from is taken for another site's.
    """
    if connection.scope["type"] == "http":
        if connection.scope["method"] in _SAFE:
            return False
    elif not sockets:
        return False
    site = connection.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = connection.headers.get("origin")
    if origin is None:
        return proof
    return urlsplit(origin).netloc != connection.headers.get("host", "")


def _is_page(scope: Scope) -> bool:
    """Whether a browser asks for a page of the dashboard, rather than a script for data."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    accepts = HTTPConnection(scope).headers.get("accept", "")
    return "text/html" in accepts and (path == "/" or path.startswith("/ui/"))


def _here(scope: Scope) -> str:
    query = scope.get("query_string", b"").decode("latin-1")
    return quote(scope["path"] + (f"?{query}" if query else ""), safe="")
