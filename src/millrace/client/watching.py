"""Following a job's events over Server-Sent Events, through dropped connections. As flows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from millrace.client.errors import ClientError, Unreachable
from millrace.client.flow import Call, Emit, Feed, Shut, path, receive
from millrace.client.retrying import Retrying, may_help, opened, pause, tries_within
from millrace.client.rows import Event

_SILENCE = 45.0
"""Seconds without a byte after which a stream counts as dropped; the server says something every 15."""

_FINISHED = "job.finished"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream; ``data`` is empty for one that only names a time to come back."""

    event: str
    data: str


class Parser:
    """Cuts a stream of bytes into messages (WHATWG HTML, §9.2.6). Lines may end in LF, CR or both.

    >>> [m.data for m in Parser().feed(b"event: x\\ndata: 1\\ndata: 2\\n\\n: a comment\\n\\n")]
    ['1\\n2']
    """

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._data: list[str] = []

    def feed(self, block: bytes) -> Iterator[Message]:
        """Take the next bytes; yield the messages that are whole now."""
        text = self._rest + block
        # A CR at the end may be half of a CR LF.
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if held else b"")
        for line in lines:
            message = self._line(line.decode("utf-8", "replace"))
            if message is not None:
                yield message

    def _line(self, line: str) -> Message | None:
        if not line:
            message = Message(self._event or "message", "\n".join(self._data)) if self._data else None
            self._event, self._data = "", []
            return message
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        return None


def watch(job: str, after: int, how: Retrying) -> Feed[Event]:
    """Emit a job's events behind number ``after``, each stored one once, until the job has finished.

    A stream that drops is opened again behind the last event that came. ``Unreachable`` when the server
    stayed away for longer than ``how.patience``; the error it answered with when it refuses.
    """
    seen, failed, ended = after, 0, False
    while True:
        headers = {"accept": "text/event-stream", "last-event-id": str(seen)}
        call = Call("GET", path("jobs", job, "events"), headers=headers, silence=_SILENCE)
        error: ClientError = Unreachable("the event stream ended before the job did", sent=True)
        try:
            answer = yield from opened(call)
            if answer.status == 204:  # whoever has the last event of a finished job has them all
                return
            parser, opening = Parser(), True
            while (block := (yield from receive())) is not None:
                # The first block only greets: a server that dies of each stream must not be asked for ever.
                failed, opening = (failed if opening else 0), False
                for message in parser.feed(block):
                    event = Event.of(json.loads(message.data))
                    if event.seq and event.seq <= seen:
                        continue
                    seen = event.seq or seen
                    # Not the end where more follows: a finished job may be sent on its way again.
                    ended = event.type == _FINISHED or (ended and not event.seq)
                    yield Emit(event)
        except ClientError as found:
            if not may_help(found, call):
                raise
            error = found
        yield Shut()
        if ended:
            return
        failed += 1
        if failed >= tries_within(how):
            raise error
        yield from pause(error, failed, how)
