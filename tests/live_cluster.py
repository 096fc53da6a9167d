"""A real cluster for tests: servers and workers as processes, on a PostgreSQL and a RabbitMQ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.engine.conftest import fresh_database
from tests.engine.executors import BROKER, skip_without_broker
from tests.live import START_SECONDS, LiveServer, probe_path


class LiveWorker:
    """One ``millrace worker``; can be killed, frozen, told to leave, and started again.

    ``prefix`` is put before its command line (``ip netns exec …``).
    """

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, Any],
        path: Sequence[Path],
        *,
        arguments: Sequence[str] = ("--slots", "cpu=2"),
        prefix: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.settings = dict(settings)
        self._path = path
        self._arguments = list(arguments)
        self._prefix = list(prefix)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> LiveWorker:
        """Start it; it joins when its services are there."""
        command = [*self._command(), *self._arguments]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def _command(self) -> list[str]:
        self.home.mkdir(parents=True, exist_ok=True)
        config = self.home / "millrace.yaml"
        config.write_text(yaml.safe_dump(dict(self.settings)))
        return [
            *self._prefix,
            *(sys.executable, "-m", "millrace.cli", "worker", "--config", str(config)),
            *("--data-dir", str(self.home / "data"), "--name", self.home.name),
        ]

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        path = [*map(str, self._path), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        return environment

    def check(self) -> tuple[int, str]:
        """Run ``millrace worker --check`` beside it; return its exit code and what it said."""
        ran = subprocess.run(
            [*self._command(), "--check"],
            cwd=self.home,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        return ran.returncode, (ran.stdout + ran.stderr).strip()

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self) -> int:
        """Ask it to leave; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(START_SECONDS)
        self.process = None
        return code

    def log(self) -> str:
        """Return what it has said so far."""
        return (self.home / "log").read_text()


class LiveCluster:
    """Servers and workers that share a database, a broker and a directory of blobs.

    Args:
        home: an empty directory.
        database, broker: URLs.
        queue_prefix: of this cluster's queues.
        lease: ``cluster.lease``.
    """

    def __init__(
        self, home: Path, database: str, broker: str, *, queue_prefix: str = "", lease: float = 3.0
    ) -> None:
        self.home = home
        self.blobs = home / "blobs"
        self.settings: dict[str, Any] = {
            "database": database,
            "executor": "celery",
            "broker": {"url": broker, "queue_prefix": queue_prefix},
            "blobs": {"location": str(self.blobs)},
            "cluster": {"lease": lease, "grace": 5.0},
        }
        self.path = probe_path(home)
        self.servers: list[LiveServer] = []
        self.workers: list[LiveWorker] = []

    def add_server(self, **changed: Any) -> LiveServer:
        """Make another server, not started yet."""
        name = f"server-{len(self.servers)}"
        settings = {**self.settings, **changed}
        self.servers.append(LiveServer(self.home / name, settings=settings, path=self.path))
        return self.servers[-1]

    def add_worker(self, *arguments: str, prefix: Sequence[str] = (), **changed: Any) -> LiveWorker:
        """Make another worker, not started yet."""
        name = f"worker-{len(self.workers)}"
        settings = {**self.settings, **changed}
        given = arguments or ("--slots", "cpu=2")
        self.workers.append(LiveWorker(self.home / name, settings, self.path, arguments=given, prefix=prefix))
        return self.workers[-1]

    def close(self) -> None:
        """Kill all of it."""
        for worker in self.workers:
            worker.kill()
        for server in self.servers:
            if server.process is not None:
                server.kill()


@contextmanager
def cluster_of_its_own(home: Path, **settings: Any) -> Iterator[LiveCluster]:
    """A cluster without servers and workers yet, with a database and queues that are gone afterwards."""
    skip_without_broker()
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    with fresh_database("postgresql", home) as url:
        made = LiveCluster(home, url, BROKER, queue_prefix=prefix)
        made.settings.update(settings)
        try:
            yield made
        finally:
            made.close()
            _delete_queues(prefix)


def _delete_queues(prefix: str) -> None:
    from kombu import Connection

    from millrace.engine.cluster.hints import Broker
    from millrace.plugins import discover
    from millrace.worker import queues_of

    broker = Broker(BROKER, prefix)
    workloads = [plugin.build(plugin.settings()) for plugin in discover().values()]
    names = [*queues_of(workloads), "cpu.probe.first", "cpu.probe.second", "cpu.probe.plan"]
    with Connection(BROKER) as connection:
        channel = connection.default_channel
        for name in names:
            channel.queue_delete(f"{prefix}{name}")
        channel.queue_delete(broker.dead.name)
        channel.exchange_delete(f"{prefix}millrace")
        channel.exchange_delete(f"{prefix}millrace.dead")


def until(condition: Any, patience: float = 60.0, what: str = "it") -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {patience:g} s"
        time.sleep(0.05)


def leader(cluster: LiveCluster) -> LiveServer:
    """Wait for a server to be in charge, and return it."""
    found: list[LiveServer] = []

    def look() -> bool:
        found[:] = [server for server in cluster.servers if leads(server)]
        return len(found) == 1

    until(look, what="one server in charge")
    return found[0]


def leads(server: LiveServer) -> bool:
    """Whether a server runs and was the last to say of itself that it is in charge, or is no more."""
    last = [line for line in server.log().splitlines() if "this server is in charge" in line]
    return bool(last) and "in charge now" in last[-1] and server.process is not None


def follower(cluster: LiveCluster) -> LiveServer:
    """Return a server that is not in charge."""
    first = leader(cluster)
    return next(server for server in cluster.servers if server is not first)
