"""What the tests of a cluster need beside its services: worker nodes, and queues that leave no trace."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from millrace.engine.cluster.hints import Broker, HintSender
from millrace.engine.executors import Call, Report
from millrace.engine.executors.celery import CeleryExecutor
from millrace.engine.sql import SqlStore
from tests.engine import node
from tests.engine.executors import QUEUES

LEASE = 3.0

_NODES = multiprocessing.get_context("forkserver")
# Importing what a node needs takes longer than most tests.
_NODES.set_forkserver_preload([node.__name__])


class Node:
    """A worker node in a process of its own."""

    def __init__(
        self,
        folder: Path,
        url: str,
        broker: str,
        prefix: str,
        artifacts: Mapping[str, Any],
        slots: Mapping[str, int],
        **options: Any,
    ) -> None:
        self._folder = folder
        self._config = {
            "database": url,
            "broker": broker,
            "prefix": prefix,
            "artifacts": artifacts,
            "slots": slots,
            "scratch": str(folder / "scratch"),
            "queues": QUEUES,
            "lease": LEASE,
            "settings": {},
            "site": {},
            "idle": 300.0,
            "grace": 0.0,
            **options,
        }
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        arguments = (self._config, self._folder / "log", dict(os.environ))
        self._process = _NODES.Process(target=node.main, args=arguments)
        self._process.start()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None and self.alive:
            self._process.kill()
            self._process.join()

    def stop(self) -> None:
        """Ask it to leave, as an operator would."""
        if self._process is not None and self.alive:
            self._process.terminate()
            self._process.join(20)
            self.kill()

    def log(self) -> str:
        return (self._folder / "log").read_text()


class OnItsOwn(CeleryExecutor):
    """The executor with a node of its own, used without an engine: it does what the engine's rounds do."""

    def __init__(self, store: SqlStore, url: str, broker: str, prefix: str, node: Node) -> None:
        self._broker = Broker(broker, prefix)
        super().__init__(url, store.nodes, HintSender(self._broker), LEASE)
        self._store = store
        self.node = node
        self.by_engine = False

    def start(self) -> None:
        self.node.start()
        super().start()
        deadline = time.monotonic() + 60
        while not sum(self.slots.values()):
            assert time.monotonic() < deadline, self.node.log()
            assert self.node.alive, self.node.log()
            time.sleep(0.01)

    def submit(self, call: Call) -> None:
        if not self.by_engine:
            with self._store.begin() as tx:
                super().record(tx, [(call, 1)])
        super().submit(call)

    def record(self, tx: Any, calls: Any) -> None:
        self.by_engine = True
        super().record(tx, calls)

    def poll(self, timeout: float | None) -> Sequence[Report]:
        reports = list(super().poll(timeout))
        if not self.by_engine:
            with self._store.begin() as tx:
                reports += self.collect(tx)
        return reports

    def stop(self) -> None:
        super().stop()
        self.node.stop()


def delete_queues(url: str, prefix: str) -> None:
    """Delete the queues and exchanges of one test."""
    from kombu import Connection

    broker = Broker(url, prefix)
    with Connection(url) as connection, contextlib.suppress(Exception):
        channel = connection.default_channel
        for name in QUEUES:
            channel.queue_delete(f"{prefix}{name}")
        channel.queue_delete(broker.dead.name)
        channel.exchange_delete(f"{prefix}millrace")
        channel.exchange_delete(f"{prefix}millrace.dead")
