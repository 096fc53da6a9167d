"""The dashboard's sessions: a cookie that proves that a browser once gave the bearer token.

The cookie holds no token: only until when it is good, signed with a key made of the token. A new token
ends all sessions. The server keeps nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import time

COOKIE = "millrace_session"
LASTS = 30 * 86400
"""Seconds for which a browser stays signed in."""

_LABEL = b"millrace dashboard session"


def sign_in(token: bytes, now: float | None = None) -> str:
    """Return the cookie's value for a browser that has just given the token."""
    until = str(int((time.time() if now is None else now) + LASTS))
    return f"{until}.{_signature(token, until)}"


def signed_in(token: bytes, cookie: str, now: float | None = None) -> bool:
    """Whether a cookie was made for this token and has not run out."""
    until, _, signature = cookie.partition(".")
    if not (until.isascii() and until.isdigit() and len(until) < 16):
        return False
    # The comparison takes the same time whatever was sent.
    genuine = hmac.compare_digest(signature.encode(), _signature(token, until).encode())
    return genuine and int(until) > (time.time() if now is None else now)


def _signature(token: bytes, until: str) -> str:
    key = hmac.digest(token, _LABEL, hashlib.sha256)
    return hmac.new(key, until.encode(), hashlib.sha256).hexdigest()
