"""Every error the client raises on purpose, as one tree below ``millrace.errors.MillraceError``.

    ClientError
    ├── LocalError           what was asked for cannot be sent: no such file, not a URL, …
    ├── Unreachable          no answer: refused, cut off, silent; ``sent`` says whether it may have arrived
    ├── WaitTimeout          the job had not ended when the caller's patience had
    ├── JobFailed            the job did not succeed, and the caller asked for that to be an error
    ├── DamagedDownload      what arrived is not what the server has
    └── ApiError             the server answered that it would not (any other status than the ones below)
        ├── BadRequest           400: a field is wrong; ``errors`` lists them
        ├── Unauthorized         401: a token is needed
        ├── Forbidden            403: the token is not the right one
        ├── NotFound             404: no such job, item, artifact …
        ├── Conflict             409: it contradicts what is already there
        ├── TooLarge             413: more bytes or parts than the server takes
        ├── Busy                 429, 503: not now; ``retry_after`` in seconds where the server said
        └── ServerError          other 5xx: the server's own fault; its log has ``request_id``

``message`` says what was wrong in the server's words; ``code`` is its machine-readable word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from millrace.errors import MillraceError

if TYPE_CHECKING:
    from millrace.client.rows import JobInfo


class ClientError(MillraceError):
    """Something the client could not do; see the subclasses."""

    code = "client_error"


class LocalError(ClientError):
    """What was asked for cannot be sent: there is no such file, it is no URL, …"""

    code = "bad_input"


class Unreachable(ClientError):
    """The server did not answer. ``sent``: whether the request may have reached it all the same."""

    code = "unreachable"

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class WaitTimeout(ClientError):
    """The job had not ended in the time the caller gave; it goes on. ``job`` is its last known state."""

    code = "wait_timeout"

    def __init__(self, message: str, job: JobInfo) -> None:
        super().__init__(message)
        self.job = job


class JobFailed(ClientError):
    """The job ended otherwise than succeeded. ``job`` says how."""

    code = "job_failed"

    def __init__(self, message: str, job: JobInfo) -> None:
        super().__init__(message)
        self.job = job


class DamagedDownload(ClientError):
    """The bytes that arrived are not those whose SHA-256 the server names; nothing was kept of them."""

    code = "damaged_download"


class ApiError(ClientError):
    """The server answered with an error.

    status       the HTTP status.
    errors       for a refused request: ``{"field", "reason"}`` each, where the server lists them.
    request_id   finds the request in the server's log.
    retry_after  seconds after which another try makes sense; None where the server did not say.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, details=details)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def errors(self) -> list[dict[str, str]]:
        """The fields that were wrong, where the server lists them."""
        found = self.details.get("errors")
        return list(found) if isinstance(found, list) else []


class BadRequest(ApiError):
    """The request cannot be accepted; nothing was created."""


class Unauthorized(ApiError):
    """The server wants a token: give ``token=``, or set MILLRACE_TOKEN."""


class Forbidden(ApiError):
    """The token is not the right one."""


class NotFound(ApiError):
    """There is no such thing, or no longer."""


class Conflict(ApiError):
    """The request contradicts what is already there."""


class TooLarge(ApiError):
    """More bytes or parts than the server takes."""


class Busy(ApiError):
    """The server cannot take it now: a full queue, a drained workload, a start or an end under way."""


class ServerError(ApiError):
    """Something went wrong inside the server."""


_KINDS: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: Busy,
    503: Busy,
}


def of_answer(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return the error that an answer stands for.

    Understands problem details (RFC 9457) and the shapes of the contracts; of anything else, such as a
    proxy's page, the status says enough.
    """
    found = _object(body)
    nested = found.get("error")
    inner = nested if isinstance(nested, dict) else {}
    message = found.get("detail") or inner.get("message") or (nested if isinstance(nested, str) else None)
    code = found.get("code") or inner.get("code")
    details = found.get("details") or inner.get("details")
    kind = _KINDS.get(status, ServerError if status >= 500 else ApiError)
    return kind(
        status,
        message if isinstance(message, str) else f"the server answered {status} {_phrase(status)}".strip(),
        code=code if isinstance(code, str) else _phrase(status).lower().replace(" ", "_") or "error",
        details=details if isinstance(details, dict) else None,
        request_id=str(found.get("request_id") or headers.get("x-request-id", "")),
        retry_after=_seconds(headers.get("retry-after")),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _seconds(header: str | None) -> float | None:
    # The other form, an HTTP date, is not what Millrace sends; a proxy's is as good as none.
    return float(header) if header is not None and header.strip().isdecimal() else None
