"""What runs beside the engine's loop is started with it, in the end, and stopped with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from millrace.engine import parts as parts_module
from millrace.engine.parts import Parts
from millrace.engine.store import LeadershipLost
from millrace.errors import Unavailable


class Plain:
    """A part that says what becomes of it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    def stop(self) -> None:
        self.told.append("stop")


class Stubborn(Plain):
    """A part that does not start before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()
        self.tries = 0
        self.error: Exception = Unavailable("not yet")

    def start(self) -> None:
        self.tries += 1
        if not self.may.is_set():
            raise self.error
        super().start()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "_RETRY_SECONDS", 0.02)


def test_where_the_engine_is_alone_what_cannot_start_keeps_it_from_starting() -> None:
    parts = Parts()
    parts.attach(Stubborn())
    with pytest.raises(Unavailable, match="not yet"):
        parts.start()


def test_beside_the_loop_it_is_tried_until_it_starts_and_keeps_nothing_else() -> None:
    parts, stubborn, plain = Parts(), Stubborn(), Plain()
    for part in (stubborn, plain):
        parts.attach(part)
    parts.start_beside()
    until(lambda: stubborn.tries > 2)
    assert parts.off == {"stubborn": "Unavailable: not yet"}
    assert plain.told == ["start"]
    stubborn.may.set()
    until(lambda: not parts.off)
    assert (stubborn.told, plain.told) == (["start"], ["start"])
    parts.stop()
    assert (stubborn.told, plain.told) == (["start", "stop"], ["start", "stop"])


def test_stopping_ends_the_tries_and_it_can_begin_again() -> None:
    parts, stubborn = Parts(), Stubborn()
    parts.attach(stubborn)
    parts.start_beside()
    until(lambda: stubborn.tries)
    parts.stop()
    tries = stubborn.tries
    assert parts.off == {}
    stubborn.may.set()
    time.sleep(0.1)
    assert stubborn.tries == tries
    parts.start_beside()
    until(lambda: "start" in stubborn.told)
    parts.stop()


def test_nothing_is_tried_where_another_server_is_in_charge() -> None:
    parts, stubborn, plain = Parts(), Stubborn(), Plain()
    stubborn.error = LeadershipLost("another server is in charge")
    for part in (stubborn, plain):
        parts.attach(part)
    parts.start_beside()
    until(lambda: stubborn.tries)
    time.sleep(0.1)
    assert (stubborn.tries, plain.told, parts.off) == (1, [], {})
    parts.stop()


def test_nothing_starts_after_the_end() -> None:
    parts, plain = Parts(), Plain()
    parts.attach(plain)
    parts.close()
    parts.start_beside()
    time.sleep(0.1)
    assert "start" not in plain.told
