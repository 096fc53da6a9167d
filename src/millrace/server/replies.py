"""How answers are written: JSON through orjson, and times as RFC 3339 in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Literal, overload

import orjson
from starlette.responses import Response


@overload
def rfc3339(seconds: float) -> str: ...
@overload
def rfc3339(seconds: None) -> None: ...
@overload
def rfc3339(seconds: float | None) -> str | None: ...
def rfc3339(seconds: float | None) -> str | None:
    """Write epoch seconds as RFC 3339 in UTC with milliseconds and a trailing ``Z``; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_reply(
    data: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: Literal["application/json", "application/problem+json"] = "application/json",
) -> Response:
    """Answer ``data`` as JSON, past FastAPI's own serialisation: for hot or large answers."""
    body = orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, dict(headers or {}), media_type=media_type)


def http_date(seconds: float) -> str:
    """Write epoch seconds as an HTTP date (RFC 9110 §5.6.7)."""
    return formatdate(seconds, usegmt=True)
