"""What the client does, as values: requests, and generators that say step by step what is to be done.

A ``Flow[T]`` yields ``Command`` s, is sent what became of each, and returns a T; a ``Feed[T]`` also
yields ``Emit`` s, for iterators. It opens no socket, sleeps nowhere and knows no event loop: a driver
does that (``drivers.py``), a blocking or an asynchronous one. What a driver raises is thrown into the
flow, where ``try`` works as usual.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from millrace.client.errors import ApiError, of_answer
from millrace.client.forms import Form

T = TypeVar("T")
E = TypeVar("E", covariant=True)

Params: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request.

    path      below the server's address, encoded (see ``path``).
    body      bytes of ``content_type``, a form, or nothing.
    again     whether it may be sent again when its answer was lost: reads, and changes that come to the
              same when made twice.
    silence   seconds without a byte after which it counts as cut off; None: the client's timeout.
    """

    method: str
    path: str
    params: Params = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Form | None = None
    again: bool = True
    silence: float | None = None

    @classmethod
    def of_json(cls, method: str, path: str, data: Any, **rest: Any) -> Call:
        """Return a call whose body is JSON."""
        headers = {"content-type": "application/json", **rest.pop("headers", {})}
        return cls(method, path, headers=headers, body=json.dumps(data).encode(), **rest)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in small letters; ``body`` is empty while it is being streamed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def error(self) -> ApiError | None:
        """Return the error this answer stands for; None when it is none."""
        return of_answer(self.status, self.headers, self.body) if self.status >= 400 else None


@dataclass(frozen=True, slots=True)
class Send:
    """Make a request, and read all of its answer. → ``Answer``"""

    call: Call


@dataclass(frozen=True, slots=True)
class Open:
    """Make a request whose answer is read piece by piece. One at a time. → ``Answer`` without a body"""

    call: Call


@dataclass(frozen=True, slots=True)
class Receive:
    """Read the next piece of what was opened. → ``bytes``, or None at the end"""


@dataclass(frozen=True, slots=True)
class Shut:
    """Close what was opened, whether or not it was read to its end. → None"""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait. → None"""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Do something that blocks, such as writing to a disk. → what it returns"""

    run: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Emit(Generic[E]):
    """Hand a value to whoever iterates. → None"""

    value: E


Command: TypeAlias = Send | Open | Receive | Shut | Sleep | Work
Flow: TypeAlias = Generator[Command, Any, T]
Feed: TypeAlias = Generator[Command | Emit[T], Any, None]


def path(*parts: str | int) -> str:
    """Return a path of these parts, each encoded as one segment.

    >>> path("jobs", "a/b", "items", 3)
    '/jobs/a%2Fb/items/3'
    """
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


def work(run: Callable[[], T]) -> Flow[T]:
    """Do something that blocks, and return what it returns."""
    done: T = yield Work(run)
    return done


def receive() -> Flow[bytes | None]:
    """Return the next piece of what was opened; None at its end."""
    block: bytes | None = yield Receive()
    return block
