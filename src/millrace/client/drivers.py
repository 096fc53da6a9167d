"""Carry out what flows ask for: one driver blocks, the other awaits. Decide nothing.

The two differ in ``await`` alone, and hold nothing else: what the client does is in the flows.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from millrace import __version__
from millrace.client.errors import LocalError, Unreachable
from millrace.client.flow import (
    Answer,
    Call,
    Command,
    Emit,
    Feed,
    Flow,
    Open,
    Receive,
    Send,
    Shut,
    Sleep,
    Work,
)
from millrace.client.forms import Form

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """Which server, and how it is spoken to.

    url       its address, with a path where it is served below one.
    token     its bearer token; None when it wants none.
    timeout   seconds to wait for a connection, or for a sign of life of an answer.
    """

    url: str
    token: str | None
    timeout: float

    @classmethod
    def of(cls, url: str, token: str | None, timeout: float) -> Site:
        """Check an address; one without a scheme is taken for http. LocalError when it is none."""
        given = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(given)
            _ = parts.port
        except ValueError as error:
            raise LocalError(f"{url!r} is not the address of a server: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LocalError(f"{url!r} is not the address of a server; write http://host:port")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise LocalError("the token must be printable ASCII")
        return cls(given.split("?")[0].split("#")[0].rstrip("/"), token or None, timeout)

    def arguments(self) -> dict[str, Any]:
        """Return what both clients of httpx2 are made with."""
        headers = {"user-agent": f"millrace/{__version__}", "accept": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        # A proxy is for reaching others; one that is set for the web cannot reach this machine's loopback.
        return {"headers": headers, "timeout": self.timeout, "trust_env": not _loopback(self.url)}

    def request(self, call: Call, content: Any) -> dict[str, Any]:
        """Return what a request of httpx2 is built with."""
        headers = dict(call.headers)
        if isinstance(call.body, Form):
            headers |= {"content-type": call.body.content_type, "content-length": str(call.body.length)}
        return {
            "method": call.method,
            "url": self.url + call.path,
            "params": list(call.params) or None,
            "headers": headers,
            "content": content,
            "timeout": call.silence or self.timeout,
        }

    def unreachable(self, error: httpx2.TransportError) -> Unreachable:
        """Say in a sentence why there was no answer."""
        import httpx2

        never_sent = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))
        if isinstance(error, httpx2.ConnectError):
            why = f"no server answers at {self.url} ({error}); is it running, and is the address right?"
        elif isinstance(error, httpx2.ConnectTimeout):
            why = f"{self.url} could not be reached within {self.timeout:g} s"
        elif isinstance(error, httpx2.TimeoutException):
            why = f"{self.url} said nothing for {self.timeout:g} s"
        else:
            why = f"the connection to {self.url} was cut off ({error or type(error).__name__})"
        return Unreachable(why, sent=not never_sent)


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answer(response: httpx2.Response, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body)


class Blocking:
    """Runs flows on the thread of whoever calls."""

    def __init__(self, site: Site) -> None:
        import httpx2

        self.site = site
        self._http = httpx2.Client(**site.arguments())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(self, flow: Flow[T]) -> T:
        """Carry a flow out; return what it returns."""
        pumped = self._pump(flow)
        try:
            while True:
                next(pumped)
        except StopIteration as stop:
            return cast(T, stop.value)
        finally:
            pumped.close()

    def iterate(self, feed: Feed[T]) -> Generator[T, None, None]:
        """Carry a feed out; yield what it emits."""
        yield from self._pump(feed)

    def _pump(self, flow: Generator[Command | Emit[Any], Any, Any]) -> Generator[Any, None, Any]:
        state = _BlockingState(self.site, self._http)
        reply: Any = None
        error: Exception | None = None
        try:
            while True:
                try:
                    step = flow.throw(error) if error is not None else flow.send(reply)
                except StopIteration as stop:
                    return stop.value
                reply, error = None, None
                if isinstance(step, Emit):
                    yield step.value
                    continue
                try:
                    reply = state.do(step)
                except Exception as found:  # noqa: BLE001 - the flow decides what it means
                    error = found
        finally:
            state.shut()
            flow.close()


class _BlockingState:
    """The answer that one flow has open."""

    def __init__(self, site: Site, http: httpx2.Client) -> None:
        self._site = site
        self._http = http
        self._response: httpx2.Response | None = None
        self._blocks: Iterator[bytes] = iter(())

    def do(self, command: Command) -> Any:
        import httpx2

        try:
            match command:
                case Send(call):
                    response = self._http.send(self._request(call))
                    return _answer(response, response.content)
                case Open(call):
                    self.shut()
                    self._response = self._http.send(self._request(call), stream=True)
                    self._blocks = self._response.iter_raw()
                    return _answer(self._response, b"")
                case Receive():
                    return next(self._blocks, None)
                case Shut():
                    return self.shut()
                case Sleep(seconds):
                    return time.sleep(seconds)
                case Work(run):
                    return run()
        except httpx2.TransportError as error:
            raise self._site.unreachable(error) from error

    def _request(self, call: Call) -> httpx2.Request:
        content = call.body.blocks() if isinstance(call.body, Form) else call.body
        return self._http.build_request(**self._site.request(call, content))

    def shut(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._blocks = None, iter(())


class Asynchronous:
    """Runs flows on asyncio; what blocks goes to a thread."""

    def __init__(self, site: Site) -> None:
        import httpx2

        self.site = site
        self._http = httpx2.AsyncClient(**site.arguments())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """Carry a flow out; return what it returns."""
        ended: list[T] = []
        async for _ in self._pump(flow, ended.append):
            raise AssertionError("a flow emits nothing")
        return ended[0]

    async def iterate(self, feed: Feed[T]) -> AsyncGenerator[T, None]:
        """Carry a feed out; yield what it emits. To break off early, close it: ``contextlib.aclosing``."""
        pumped = self._pump(feed, lambda _: None)
        try:
            async for value in pumped:
                yield value
        finally:
            await pumped.aclose()

    async def _pump(
        self, flow: Generator[Command | Emit[Any], Any, Any], end: Callable[[Any], None]
    ) -> AsyncGenerator[Any, None]:
        state = _AsyncState(self.site, self._http)
        reply: Any = None
        error: Exception | None = None
        try:
            while True:
                try:
                    step = flow.throw(error) if error is not None else flow.send(reply)
                except StopIteration as stop:
                    end(stop.value)
                    return
                reply, error = None, None
                if isinstance(step, Emit):
                    yield step.value
                    continue
                try:
                    reply = await state.do(step)
                except Exception as found:  # noqa: BLE001 - the flow decides what it means
                    error = found
        finally:
            flow.close()
            await state.shut()


class _AsyncState:
    """The answer that one flow has open."""

    def __init__(self, site: Site, http: httpx2.AsyncClient) -> None:
        self._site = site
        self._http = http
        self._response: httpx2.Response | None = None
        self._blocks: AsyncIterator[bytes] = _nothing()

    async def do(self, command: Command) -> Any:
        import httpx2

        try:
            match command:
                case Send(call):
                    response = await self._http.send(self._request(call))
                    return _answer(response, response.content)
                case Open(call):
                    await self.shut()
                    self._response = await self._http.send(self._request(call), stream=True)
                    self._blocks = self._response.aiter_raw()
                    return _answer(self._response, b"")
                case Receive():
                    return await anext(self._blocks, None)
                case Shut():
                    return await self.shut()
                case Sleep(seconds):
                    return await asyncio.sleep(seconds)
                case Work(run):
                    return await asyncio.to_thread(run)
        except httpx2.TransportError as error:
            raise self._site.unreachable(error) from error

    def _request(self, call: Call) -> httpx2.Request:
        content = _in_threads(call.body.blocks()) if isinstance(call.body, Form) else call.body
        return self._http.build_request(**self._site.request(call, content))

    async def shut(self) -> None:
        if self._response is not None:
            await self._response.aclose()
        self._response, self._blocks = None, _nothing()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _in_threads(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    def following() -> bytes | None:
        return next(blocks, None)

    while (block := await asyncio.to_thread(following)) is not None:
        yield block
