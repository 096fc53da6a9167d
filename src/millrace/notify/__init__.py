"""Tells people, by e-mail, chat and the like, through Apprise (the extra ``notify``).

Apprise runs in a process of its own for each message: its many libraries stay out of the server, one
that hangs is killed, and what an address of a caller makes it reach is watched there (``child``).
Addresses hold secrets: they travel on the child's standard input, and no message of ours repeats one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote

import orjson
from pydantic import SecretStr

from millrace.errors import BadInput, MillraceError, Transient, Unavailable

HINT = "pip install 'millrace[notify]'"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}(?=://)", re.IGNORECASE)
_CHECK_SECONDS = 60.0
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def available() -> bool:
    """Whether the extra is installed."""
    return find_spec("apprise") is not None


def masked(address: str) -> str:
    """Return an address as it may be shown: its scheme; a name is returned as it is.

    >>> masked("mailto://user:password@example.org"), masked("family")
    ('mailto://…', 'family')
    """
    found = _SCHEME.match(address)
    if found is not None:
        return f"{found[0].lower()}://…"
    return "…" if "://" in address else address


def check(addresses: Sequence[str]) -> list[str | None]:
    """Return for each address why it cannot be used, or None. Nothing is connected to. Blocks a second.

    Unavailable when the extra is not installed.
    """
    if not addresses:
        return []
    found = _ask({"check": list(addresses)}, trusted=False, timeout=_CHECK_SECONDS)
    reasons: list[str | None] = found["reasons"]
    return reasons


def check_targets(targets: Mapping[str, SecretStr]) -> list[tuple[str, str]]:
    """Return name and reason of each target of the settings that cannot be used."""
    try:
        reasons = check([address.get_secret_value() for address in targets.values()])
    except MillraceError as error:
        return [(name, error.message) for name in targets]
    return [(name, reason) for name, reason in zip(targets, reasons, strict=True) if reason is not None]


def send(
    url: str, title: str, body: str, tone: str, *, trusted: bool, allow_private: bool, timeout: float
) -> None:
    """Send a message to an address. Blocks for at most ``timeout`` seconds.

    trusted        the address is the operator's own: it may lead anywhere but to the metadata service of a
                   cloud. What a caller gave may reach public addresses only (unless ``allow_private``), run
                   no program and open no file.

    BadInput (``notify_refused``) where it can never be sent, Transient (``notify_failed``) where it was not
    taken, (``notify_timeout``) in time.
    """
    request = {
        "send": {"url": url, "title": title, "body": body, "tone": tone},
        "trusted": trusted,
        "allow_private": allow_private,
    }
    try:
        answer = _ask(request, trusted=trusted, timeout=timeout)
    except Unavailable as error:
        raise BadInput(error.message, code="notify_refused") from error
    if answer["refused"] is not None:
        raise BadInput(without_secrets(answer["refused"], url), code="notify_refused")
    if answer["failed"] is not None:
        raise Transient(without_secrets(answer["failed"], url), code="notify_failed")


def without_secrets(text: str, url: str) -> str:
    """Return text with every part of an address that may be secret blotted out. Pure."""
    rest = url.partition("://")[2]
    parts = {part for whole in (rest, unquote(rest)) for part in re.split(r"[/?&=:@#,+ ]+", whole)}
    # The host of a mail server is worth knowing; where services put a token in its place, it has no dot.
    host = re.split(r"[:/?]", rest.partition("/")[0].rpartition("@")[2])[0]
    # Short parts (yes, 587, to) would blot out words; no password worth the name is shorter.
    for part in sorted(parts - ({host} if "." in host else set()), key=len, reverse=True):
        if len(part) >= 5:
            text = text.replace(part, "…")
    return text


def _ask(request: Mapping[str, Any], *, trusted: bool, timeout: float) -> dict[str, Any]:
    if not available():
        raise Unavailable(f"notifications need Apprise: {HINT}")
    # -P: nothing is imported from the working directory.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "millrace.notify.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(trusted),
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Timer(timeout, process.kill)
    late.start()
    try:
        # Its end of the pipe stays open until it has answered: the child goes when the server does.
        process.stdin.write(orjson.dumps(dict(request)) + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = b""
    finally:
        overdue = not late.is_alive()
        late.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        _close(process)
    if not line:
        if overdue:
            raise Transient(f"the service did not answer within {timeout:g} s", code="notify_timeout")
        raise Transient("the process that sends notifications ended without an answer", code="notify_failed")
    answer: dict[str, Any] = orjson.loads(line)
    if "crashed" in answer:
        raise Transient(f"Apprise failed: {answer['crashed'].partition(':')[0]}", code="notify_failed")
    return answer


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        return


def _environment(trusted: bool) -> dict[str, str]:
    """Return what the child may know of ours: a proxy or a home only for the operator's own addresses."""
    names = {*_KEPT, *_CERTIFICATES}
    if trusted:
        names |= {*_PROXIES, *(name.lower() for name in _PROXIES), "HOME"}
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {"HOME": "/nonexistent", **kept}
