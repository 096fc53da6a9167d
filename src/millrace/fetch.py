"""The only way out to the network: public addresses alone, checked again at each redirect, bounded.

The name is resolved once, every address it has must be public, and the connection goes to one of the
addresses that were checked, so a name server cannot answer differently the second time (rebinding).
Proxies and ``.netrc`` of the environment are not used, nothing is decompressed, and both the bytes and
the total time are bounded. Knows nothing of jobs; synchronous, for worker processes.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore2 as httpcore
import idna

from millrace.addresses import Address, refusal
from millrace.errors import BadInput, Transient

Resolver = Callable[[str, int], list[str]]
AGENT = "millrace"
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be asked, and how much of it is taken.

    allow_private  whether addresses that are not public may be reached (never those of cloud metadata).
    ports          the ports that may be asked; empty: any.
    max_bytes      the largest answer taken.
    deadline       seconds for everything, redirects included.
    redirects      how many are followed.
    """

    allow_private: bool = False
    ports: tuple[int, ...] = (80, 443, 8080, 8443)
    max_bytes: int = 8 * 1024**3
    deadline: float = 600.0
    redirects: int = 3

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> FetchPolicy:
        """Return the policy written in a ``fetch`` section of the settings."""
        known = {name: settings[name] for name in (f.name for f in fields(cls)) if name in settings}
        return cls(**{**known, "ports": tuple(known.get("ports", cls().ports))})


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: where it lies, its bytes, the URL it came from in the end, and what it said of itself."""

    path: Path
    bytes: int
    url: str
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer kept in memory. ``body`` is cut at the bytes asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL taken apart, with what was checked about it."""

    url: str
    scheme: str
    host: str
    port: int
    path: str


def fetch(
    url: str,
    to: Path,
    policy: FetchPolicy | None = None,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    resolver: Resolver | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Fetched:
    """Get ``url`` and write what comes to the file ``to``, following redirects.

    ``progress`` is called with the bytes so far and the total where the server names it.

    BadInput (code ``fetch_refused``) when the URL or an address is not allowed, (``fetch_failed``,
    with ``details["status"]``) when the server says no, (``fetch_too_large``) beyond the limit.
    Transient (``fetch_failed``, ``fetch_timeout``) when trying again may help. On any error nothing
    is left at ``to``.
    """
    policy = policy or FetchPolicy()
    deadline = time.monotonic() + policy.deadline
    try:
        for _ in range(policy.redirects + 1):
            target = parse(url, policy)
            with _request("GET", target, {}, b"", policy, deadline, resolver, ssl_context) as response:
                headers = _headers(response)
                if response.status in REDIRECTS and "location" in headers:
                    url = urljoin(target.url, headers["location"])
                    continue
                _refuse_status(response.status, target)
                size = _write(response, headers, to, target, policy, progress)
                media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
                return Fetched(to, size, target.url, media_type, headers)
        raise BadInput(f"{_named(url)} redirects more than {policy.redirects} times", code="fetch_refused")
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    policy: FetchPolicy | None = None,
    *,
    answer_bytes: int = 4096,
    resolver: Resolver | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Answer:
    """Post ``body`` and return the answer, whatever its status, with at most ``answer_bytes`` of its body.

    Redirects are not followed. BadInput (code ``fetch_refused``) and Transient (``fetch_failed``,
    ``fetch_timeout``) as in ``fetch``.
    """
    policy = policy or FetchPolicy()
    deadline = time.monotonic() + policy.deadline
    target = parse(url, policy)
    sent = {"content-type": "application/json", **{k.lower(): v for k, v in (headers or {}).items()}}
    with _request("POST", target, sent, body, policy, deadline, resolver, ssl_context) as response:
        kept = bytearray()
        for chunk in response.iter_stream():
            kept += chunk[: answer_bytes - len(kept)]
            if len(kept) >= answer_bytes:
                break
        return Answer(response.status, _headers(response), bytes(kept))


def parse(url: str, policy: FetchPolicy) -> _Target:
    """Take ``url`` apart, refusing what the policy or plain caution does not allow (BadInput)."""

    def no(reason: str) -> BadInput:
        return BadInput(f"{_named(url)} cannot be fetched: {reason}", code="fetch_refused")

    if len(url) > 8192:
        raise no("the URL is longer than 8192 characters")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url) or "\\" in url:
        raise no("the URL holds a blank, a control character or a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise no("this is not a URL") from None
    if parts.scheme not in ("http", "https"):
        raise no("only http and https URLs are")
    if "@" in parts.netloc:
        raise no("the URL holds a user name or password")
    if not parts.hostname or "%" in parts.hostname:
        raise no("the URL names no host" if not parts.hostname else "the host holds a percent sign")
    port = (443 if parts.scheme == "https" else 80) if port is None else port
    if port == 0 or (policy.ports and port not in policy.ports):
        raise no(f"port {port} is not one of those allowed ({', '.join(map(str, policy.ports)) or 'not 0'})")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=-._~?")
    return _Target(url, parts.scheme, _ascii_host(parts.hostname, no), port, path)


def _ascii_host(host: str, no: Callable[[str], BadInput]) -> str:
    if ":" in host:
        return host
    try:
        return host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise no(f"the host {host!r} is not a name that can be looked up") from None


def _system_resolver(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def resolve(
    target: _Target, policy: FetchPolicy, deadline: float, resolver: Resolver | None = None
) -> list[Address]:
    """Look the host up once, within the deadline; BadInput unless every address may be reached."""
    answers: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put((resolver or _system_resolver)(target.host, target.port))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    # getaddrinfo knows no deadline, so it is waited for from outside.
    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, min(deadline - time.monotonic(), CONNECT_TIMEOUT)))
    except queue.Empty:
        raise Transient(f"looking up {target.host} took too long", code="fetch_timeout") from None
    if isinstance(answer, socket.gaierror) and answer.errno == socket.EAI_AGAIN:
        raise Transient(
            f"{target.host} could not be looked up: the name server does not answer", code="fetch_failed"
        )
    if isinstance(answer, (OSError, UnicodeError)) or not answer:
        raise BadInput(
            f"{_named(target.url)} cannot be fetched: there is no host {target.host}", code="fetch_failed"
        )
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in answer]
    for address in addresses:
        reason = refusal(address, policy.allow_private)
        if reason is not None:
            raise BadInput(
                f"{_named(target.url)} cannot be fetched: {target.host} is {address}, {reason}",
                code="fetch_refused",
            )
    return addresses


class _BoundedStream(httpcore.NetworkStream):
    """A stream on which no read or write outlasts the deadline of the whole fetch."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def _left(self, timeout: float | None, late: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise late("the deadline passed")
        return left if timeout is None else min(left, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _BoundedStream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to the addresses that were checked, whatever the name may mean by now."""

    def __init__(self, addresses: list[Address], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        problem: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise httpcore.ConnectTimeout("the deadline passed")
            try:
                stream = self._plain.connect_tcp(str(address), port, min(left, timeout or left))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
            else:
                return _BoundedStream(stream, self._deadline)
        raise problem


@contextmanager
def _request(
    method: str,
    target: _Target,
    headers: Mapping[str, str],
    body: bytes,
    policy: FetchPolicy,
    deadline: float,
    resolver: Resolver | None,
    ssl_context: ssl.SSLContext | None,
) -> Iterator[httpcore.Response]:
    addresses = resolve(target, policy, deadline, resolver)
    default = target.port == (443 if target.scheme == "https" else 80)
    name = f"[{target.host}]" if ":" in target.host else target.host
    sent = {
        "host": name if default else f"{name}:{target.port}",
        "user-agent": AGENT,
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
        **({"content-length": str(len(body))} if method == "POST" else {}),
        **headers,
    }
    pool = httpcore.ConnectionPool(
        ssl_context=ssl_context or _default_tls(),
        network_backend=_CheckedBackend(addresses, deadline),
        max_connections=1,
    )
    timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT, "pool": 1.0}
    url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
    try:
        with (
            pool,
            pool.stream(
                method,
                url,
                headers=list(sent.items()),
                content=body or None,
                extensions={"timeout": timeouts},
            ) as response,
        ):
            yield response
    except httpcore.TimeoutException as error:
        late = "" if time.monotonic() < deadline else f" within {policy.deadline:g} s"
        raise Transient(f"{target.host} did not answer in time{late}", code="fetch_timeout") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise Transient(
            f"the connection to {target.host} failed: {error or type(error).__name__}", code="fetch_failed"
        ) from error


@lru_cache(maxsize=1)
def _default_tls() -> ssl.SSLContext:
    """Return the system's trust; reading its certificates takes tens of milliseconds, so once is enough."""
    return ssl.create_default_context()


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}


def _refuse_status(status: int, target: _Target) -> None:
    if status == 200:
        return
    kind = Transient if status in RETRYABLE else BadInput
    raise kind(
        f"{_named(target.url)} answered with status code {status}",
        code="fetch_failed",
        details={"status": status},
    )


def _write(
    response: httpcore.Response,
    headers: Mapping[str, str],
    to: Path,
    target: _Target,
    policy: FetchPolicy,
    progress: Callable[[int, int | None], None] | None,
) -> int:
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise BadInput(
            f"{_named(target.url)} was sent as {encoding}, which was not asked for", code="fetch_refused"
        )
    declared = headers.get("content-length", "")
    total = int(declared) if declared.isdigit() else None
    too_large = BadInput(
        f"{_named(target.url)} is larger than the {policy.max_bytes} bytes allowed", code="fetch_too_large"
    )
    if total is not None and total > policy.max_bytes:
        raise too_large
    size = 0
    with to.open("wb") as file:
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > policy.max_bytes:
                raise too_large
            file.write(chunk)
            if progress is not None:
                progress(size, total)
    return size


def _named(url: str) -> str:
    """Return the URL as messages show it: without user names, queries or anything long."""
    text = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    text = f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}" if slashes else text
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= 200 else shown[:199] + "…"
