"""Every executor that must pass the conformance suite, by name; a new one is added here and nowhere else."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from millrace.engine.executors import Executor
from millrace.engine.executors.local import LocalExecutor
from millrace.engine.sql import SqlStore
from tests.engine.conftest import fresh_database

ROOT = Path(__file__).parents[2]
BROKER = os.environ.get("TEST_BROKER", "amqp://guest:guest@127.0.0.1:5672//")
"""Where RabbitMQ is; the variable names another."""

QUEUES = dict.fromkeys(
    [
        *(
            f"cpu.{kind}.only"
            for kind in ("one", "noop", "planned", "patient", "strict", "small", "gives_up")
        ),
        *(f"cpu.{kind}.{stage}" for kind in ("two", "flow") for stage in ("first", "second")),
        *("cpu.one.plan", "cpu.planned.plan"),
    ],
    "cpu",
)
"""The queues of the test workloads, each with its resource. A quorum queue costs a broker much: no more."""

MakeExecutor = Callable[..., Executor]


def make_local(
    directory: Path, artifacts: Mapping[str, Any], slots: Mapping[str, int], **more: Any
) -> Executor:
    """Worker processes on this machine."""
    more = {"settings": {}, "site": {}, **more}
    return LocalExecutor(slots, artifacts=artifacts, scratch=directory / "scratch", **more)


@contextlib.contextmanager
def celery_executors(directory: Path, prefix: str) -> Iterator[MakeExecutor]:
    """A function that makes executors with a worker node of their own, on real PostgreSQL and RabbitMQ."""
    from tests.engine.cluster import Node, OnItsOwn

    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_database("postgresql", directory))
        numbers = itertools.count(1)

        def make(
            folder: Path, artifacts: Mapping[str, Any], slots: Mapping[str, int], **more: Any
        ) -> Executor:
            store = SqlStore(url)
            node = Node(folder / f"node-{next(numbers)}", url, BROKER, prefix, artifacts, slots, **more)
            stack.callback(node.kill)
            stack.callback(store.close)
            return OnItsOwn(store, url, BROKER, prefix, node)

        # An engine that is to use such executors must be on the same database.
        make.url = url  # type: ignore[attr-defined]
        yield make


@pytest.fixture(scope="session")
def queue_prefix() -> Iterator[str]:
    """Queues for all tests of this process: a hint that another test left behind means nothing.

    Declaring them for each test would be hundreds of quorum queues, which a small broker does not survive.
    """
    skip_without_broker()
    from tests.engine.cluster import delete_queues

    prefix = f"test-{uuid.uuid4().hex[:12]}."
    yield prefix
    delete_queues(BROKER, prefix)


def skip_without_broker() -> None:
    """Skip a test where no RabbitMQ answers."""
    pytest.importorskip("celery")
    from kombu import Connection

    try:
        with Connection(BROKER, connect_timeout=10) as connection:
            connection.connect()
    except OSError as error:
        pytest.skip(f"no RabbitMQ answers at {BROKER.rpartition('@')[2]}: {error}")


def add_root_to_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes import the test stages by name, from the project's root."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    if str(ROOT) not in sys.path:
        monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture(params=["local", pytest.param("celery", marks=[pytest.mark.postgres, pytest.mark.rabbitmq])])
def make_executor(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MakeExecutor]:
    """A function ``(directory, artifacts, slots, **options)`` that returns an executor, not yet started."""
    add_root_to_path(monkeypatch)
    if request.param == "local":
        yield make_local
        return
    with celery_executors(tmp_path, request.getfixturevalue("queue_prefix")) as make:
        yield make
