"""Plays the driver of a flow: answers its commands by hand, and keeps them. Opens no socket."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from typing import Any

from millrace.client.flow import Answer, Emit, Open, Receive, Send, Shut, Sleep, Work


class Played:
    """What a flow asked for, what it emitted, and what it returned."""

    def __init__(self) -> None:
        self.commands: list[Any] = []
        self.emitted: list[Any] = []
        self.result: Any = None

    @property
    def calls(self) -> list[Any]:
        return [command.call for command in self.commands if isinstance(command, (Send, Open))]

    @property
    def waits(self) -> list[float]:
        return [command.seconds for command in self.commands if isinstance(command, Sleep)]


def play(flow: Generator[Any, Any, Any], replies: Iterable[Any]) -> Played:
    """Carry out a flow with these replies to ``Send``, ``Open`` and ``Receive``; exceptions are thrown in."""
    played = Played()
    script = iter(replies)
    throw: Exception | None = None
    reply: Any = None
    while True:
        try:
            step = flow.throw(throw) if throw else flow.send(reply)
        except StopIteration as stop:
            played.result = stop.value
            assert next(script, None) is None, "the flow ended before its script"
            return played
        throw = reply = None
        if isinstance(step, Emit):
            played.emitted.append(step.value)
            continue
        played.commands.append(step)
        if isinstance(step, Work):
            reply = step.run()
        elif isinstance(step, (Send, Open, Receive)):
            reply = next(script)
            if isinstance(reply, Exception):
                throw = reply
        else:
            assert isinstance(step, (Sleep, Shut))


def answer(data: Any = None, status: int = 200, **headers: str) -> Answer:
    """Return an answer in JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, json.dumps(data).encode())


JOB = {
    "job_id": "job_1",
    "kind": "probe",
    "status": "awake",
    "state": "running",
    "progress": {"percent": 50.0},
    "priority": 1,
    "counts": {"total": 2, "succeeded": 1, "running": 1},
    "created_at": "2026-01-15T10:30:00.000Z",
}
