"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): the same key and body, the same job."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from millrace.errors import InvalidRequest

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_KEY = 255


def idempotency(request: Request, digest: str) -> tuple[str, str] | None:
    """Return ``NewJob.idempotency`` of a request: its key and the hash of its body, or None without a key.

    The key holds for one path: two endpoints may see the same key. ``digest`` is the hash of the
    body: ``Form.digest``, or ``body_digest``. The query counts as part of the body. InvalidRequest
    for a key that is empty, longer than 255 characters or not printable ASCII.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
        raise InvalidRequest(f"Idempotency-Key: must be 1 to {_MAX_KEY} printable ASCII characters")
    query = request.scope.get("query_string", b"")
    body = hashlib.sha256(digest.encode() + b"?" + query).hexdigest()
    return f"{request.method} {request.url.path} {key}", body


async def body_digest(request: Request) -> str:
    """Return the SHA-256 of a body that is (or can be) held in memory, for ``idempotency``."""
    return hashlib.sha256(await request.body()).hexdigest()
