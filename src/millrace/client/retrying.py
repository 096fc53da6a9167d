"""When a request is sent again, and after how long. As flows: nothing here sleeps or reads a clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from millrace.client.errors import ApiError, Busy, ClientError, ServerError, Unreachable
from millrace.client.flow import Answer, Call, Flow, Open, Receive, Send, Shut, Sleep


@dataclass(frozen=True, slots=True)
class Retrying:
    """How patient the client is.

    tries      how often a request is sent at most.
    patience   seconds for which an event stream, or a wait, outlasts a server that does not answer.
    delay      seconds before the second try; each wait after it is twice as long, up to ``longest``, and
               each is shortened at random, so that many clients do not come back at once.
    notice     told before each wait: what went wrong, and the seconds until the next try.
    """

    tries: int = 5
    patience: float = 120.0
    delay: float = 0.25
    longest: float = 10.0
    notice: Callable[[ClientError, float], None] | None = None

    def full(self, failed: int) -> float:
        """Return the seconds to wait after so many failures before they are shortened at random."""
        return min(self.longest, self.delay * 2.0 ** min(failed - 1, 30))

    def wait(self, failed: int, error: ClientError | None = None) -> float:
        """Return the seconds to wait after so many tries have failed in a row (from 1 up).

        A ``Retry-After`` of the server is never undercut.
        """
        full = self.full(failed)
        asked = error.retry_after if isinstance(error, ApiError) else None
        return max(random.uniform(full / 2, full), asked or 0.0)


def may_help(error: ClientError, call: Call) -> bool:
    """Whether sending a request again may end better, and cannot do its work twice."""
    if isinstance(error, Unreachable):
        return call.again or not error.sent
    if isinstance(error, Busy):
        return True
    # A gateway's word that the server behind it did not answer: the request may have reached it.
    return isinstance(error, ServerError) and error.status in (502, 504) and call.again


def exchange(call: Call, how: Retrying) -> Flow[Answer]:
    """Make a request until it is answered, or no more tries make sense; raise what the answer stands for."""
    failed = 0
    while True:
        try:
            return (yield from once(call))
        except ClientError as error:
            failed += 1
            if failed >= how.tries or not may_help(error, call):
                raise
            yield from pause(error, failed, how)


def patiently(call: Call, how: Retrying) -> Flow[Answer]:
    """Make a request as ``exchange`` does, but outlast a server that is away, for ``patience`` seconds."""
    return exchange(call, replace(how, tries=tries_within(how)))


def tries_within(how: Retrying) -> int:
    """Return how many tries fill the seconds of ``patience``, however much the waits are shortened."""
    tries, spent = 1, 0.0
    while spent < how.patience:
        spent += how.full(tries) / 2
        tries += 1
    return tries


def once(call: Call) -> Flow[Answer]:
    """Make a request; raise what its answer stands for when that is an error."""
    answer: Answer = yield Send(call)
    error = answer.error()
    if error is not None:
        raise error
    return answer


def opened(call: Call) -> Flow[Answer]:
    """Open a request whose answer is read piece by piece; an error's body is read, and raised."""
    answer: Answer = yield Open(call)
    if answer.status < 400:
        return answer
    body = b""
    while (block := (yield Receive())) is not None:
        body += block
    yield Shut()
    error = replace(answer, body=body).error()
    assert error is not None
    raise error


def pause(error: ClientError, failed: int, how: Retrying) -> Flow[None]:
    """Wait as long as is right after so many failures in a row."""
    seconds = how.wait(failed, error)
    if how.notice is not None:
        how.notice(error, seconds)
    yield Sleep(seconds)
