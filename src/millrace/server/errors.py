"""One mapping from errors to HTTP, and one place that writes error bodies.

Each path prefix belongs to the contract that claims it (``Plugin.errors``), which renders the body
in its own shape; everything else gets problem details (RFC 9457).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import Response

from millrace import errors
from millrace.server.replies import json_reply
from millrace.workloads import Plugin

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[errors.MillraceError], int], ...] = (
    (errors.InvalidRequest, 400),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.QueueFull, 503),
    (errors.Unavailable, 503),
    (errors.BadInput, 400),
    (errors.Transient, 503),
)

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "timeout",
    409: "conflict",
    412: "precondition_failed",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "unprocessable",
    429: "too_many_requests",
    503: "unavailable",
}


def status_of(error: errors.MillraceError) -> int:
    """Return the HTTP status of an error; 500 for what no request can be blamed for."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def code_of(status: int) -> str:
    """Return the machine-readable word for a status that came without one."""
    return _CODES.get(status, "internal_error" if status >= 500 else "bad_request")


def request_id(request: Request) -> str:
    """Return the id that this request's answer and log lines carry."""
    found: str = request.scope.get("state", {}).get("request_id", "")
    return found


class ErrorBodies:
    """Writes an error in the shape of whichever contract owns the path."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        prefixes = [(prefix.rstrip("/"), plugin) for plugin in plugins for prefix in plugin.errors]
        self._prefixes = sorted(prefixes, key=lambda entry: -len(entry[0]))

    def owner(self, path: str) -> Plugin | None:
        """Return the plugin with the longest prefix of ``path``, on whole segments."""
        for prefix, plugin in self._prefixes:
            if plugin.render_error is not None and (path == prefix or path.startswith(prefix + "/")):
                return plugin
        return None

    def reply(
        self,
        request: Request,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Answer with an error body."""
        code = code or code_of(status)
        owner = self.owner(request.url.path)
        if owner is not None and owner.render_error is not None:
            body = owner.render_error(status, code, message, dict(details or {}))
            return json_reply(body, status, headers)
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": message,
            "code": code,
            **({"details": dict(details)} if details else {}),
            "request_id": request_id(request),
        }
        return json_reply(problem, status, headers, media_type="application/problem+json")

    def of_error(self, request: Request, error: errors.MillraceError) -> Response:
        """Answer an error of ours."""
        status = status_of(error)
        if status == 500:
            log.error("%s: %s", type(error).__name__, error.message)
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, errors.QueueFull) else None
        return self.reply(
            request, status, error.message, code=error.code, details=error.details, headers=headers
        )

    def of_crash(self, request: Request) -> Response:
        """Answer 500: what happened is in the log under the request's id, and nowhere else."""
        found = request_id(request)
        return self.reply(
            request,
            500,
            f"something went wrong inside the server; its log tells more under request id {found}",
            code="internal_error",
            details={"request_id": found},
        )

    def install(self, app: FastAPI) -> None:
        """Let the app answer every error through here."""

        async def ours(request: Request, error: Exception) -> Response:
            assert isinstance(error, errors.MillraceError)
            return self.of_error(request, error)

        async def validation(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestValidationError)
            message, found = explain(error.errors())
            return self.reply(request, 400, message, details={"errors": found})

        async def http(request: Request, error: Exception) -> Response:
            assert isinstance(error, (HTTPException, StarletteHTTPException))
            return self.reply(request, error.status_code, _say(request, error), headers=error.headers)

        app.add_exception_handler(errors.MillraceError, ours)
        app.add_exception_handler(RequestValidationError, validation)
        app.add_exception_handler(StarletteHTTPException, http)


def _say(request: Request, error: StarletteHTTPException) -> str:
    default = HTTPStatus(error.status_code).phrase
    if error.detail != default:
        return str(error.detail)
    if error.status_code == 404:
        return f"nothing is served at {request.url.path}"
    if error.status_code == 405:
        return f"{request.method} is not allowed at {request.url.path}"
    return default


def explain(found: Sequence[Any]) -> tuple[str, list[dict[str, str]]]:
    """Turn Pydantic's errors into one sentence and a list of ``{field, reason}``.

    >>> explain([{"type": "missing", "loc": ("body", "items", 0, "kind"), "msg": "Field required"}])[0]
    'items.0.kind: field required'
    """
    entries = []
    for error in found:
        place = error["loc"]
        if error["type"] == "json_invalid":
            reason = error.get("ctx", {}).get("error", "malformed")
            entries.append({"field": "body", "reason": f"not valid JSON: {reason} at position {place[-1]}"})
            continue
        if len(place) > 1 and place[0] in ("body", "query", "path", "header", "cookie"):
            place = place[1:]
        reason = str(error["msg"]).removeprefix("Value error, ")
        entries.append(
            {"field": ".".join(str(part) for part in place), "reason": reason[:1].lower() + reason[1:]}
        )
    shown = "; ".join(f"{entry['field']}: {entry['reason']}" for entry in entries[:5])
    more = f" (and {len(entries) - 5} more)" if len(entries) > 5 else ""
    return shown + more, entries[:100]
