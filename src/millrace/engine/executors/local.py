"""Runs calls on worker processes of this machine, over a socket each.

Workers are spawned, never forked: each leads a process group of its own, so that a kill takes its
children along, and dies with the server. One call at a time; task, progress and result share the
socket. The server's end never blocks: what does not fit is kept and sent when there is room.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from millrace.engine import wire
from millrace.engine.artifacts import Staged
from millrace.engine.executors import (
    Added,
    Call,
    DiesWithServer,
    Done,
    Ended,
    Lost,
    Progress,
    Report,
    WorkerInfo,
)
from millrace.engine.model import NewItem

log = logging.getLogger(__name__)

_READ = 1 << 18
_START_RETRY_SECONDS = 1.0


class _Process:
    """One worker process as the server holds it; ``folder`` is its own, for work files."""

    def __init__(self, name: str, command: Sequence[str], hello: Mapping[str, Any], folder: Path) -> None:
        self.name = name
        self.folder = folder
        ours, theirs = socket.socketpair()
        self.lifeline_read, self.lifeline = os.pipe()
        try:
            self.popen = subprocess.Popen(
                [*command, str(theirs.fileno()), str(self.lifeline_read), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self.lifeline_read),
                start_new_session=True,
                env=_environment(),
            )
        except OSError:
            ours.close()
            os.close(self.lifeline)
            raise
        finally:
            theirs.close()
            os.close(self.lifeline_read)
        ours.setblocking(False)
        self.socket = ours
        self.reader = wire.FrameReader()
        self.unsent = bytearray(wire.encode({**hello, "scratch": str(folder)}))
        self.ready = False
        self.call: Call | None = None
        self.killed: str | None = None
        self.calls = 0
        self.since = time.time()
        self.last: tuple[str, str] | None = None
        self.warm: tuple[str, ...] = ()
        self.used = 0.0

    def flush(self) -> bool:
        """Send what is waiting; return whether anything is left."""
        while self.unsent:
            try:
                sent = self.socket.send(self.unsent)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # The worker is gone; its end of file tells.
                self.unsent.clear()
                break
            del self.unsent[:sent]
        return bool(self.unsent)

    def signal(self) -> None:
        """Have the worker and its children killed."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the worker and its children, and reap it."""
        self.signal()
        self.popen.wait()

    def close(self) -> None:
        self.socket.close()
        os.close(self.lifeline)


def _environment() -> dict[str, str]:
    """Return the environment of workers: one thread for numeric libraries, since slots do the spreading."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, "1")
    environment.setdefault("HF_HUB_OFFLINE", "1")
    return environment


class LocalExecutor(DiesWithServer):
    """Worker processes on this machine; see ``engine.executors.Executor``.

    Args:
        slots: how many calls of each resource may run at once.
        settings: workload kind → its settings, as JSON-able mappings, for ``StageContext.settings``.
        site: the server's settings that stages need.
        artifacts: the artifact store's descriptor; its ``open`` names the function that opens it.
        scratch: a directory for work files, on the artifact store's file system if that is a directory.
        idle: seconds after which a worker unloads a model that nobody used.
        prestart: how many workers to keep ready; by default one for each cpu slot, but at least one.
        command: what starts a worker; descriptors and the server's process id are appended.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        *,
        settings: Mapping[str, Any],
        site: Mapping[str, Any],
        artifacts: Mapping[str, Any],
        scratch: Path,
        idle: float = 300.0,
        prestart: int | None = None,
        command: Sequence[str] = (sys.executable, "-m", "millrace.engine.worker"),
    ) -> None:
        self._slots = dict(slots)
        self._hello = {"settings": settings, "site": site, "artifacts": artifacts, "idle": idle}
        self._prestart = max(1, self._slots.get("cpu", 1)) if prestart is None else prestart
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._processes: list[_Process] = []
        self._by_lease: dict[int, _Process] = {}
        self._started = 0
        self._failed_start = -_START_RETRY_SECONDS
        self._waiting: list[Call] = []
        self._command = tuple(command)
        self._lost: list[Report] = []
        self._scratch = scratch
        self._sweeper = ThreadPoolExecutor(1, thread_name_prefix="scratch")

    @property
    def slots(self) -> Mapping[str, int]:
        """How many slots of each resource there are."""
        return self._slots

    def start(self) -> None:
        """Spawn the workers that are kept ready, and drop the work files of an earlier server."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        for leftover in self._scratch.iterdir():
            self._sweep(leftover)
        self._replenish()

    def submit(self, call: Call) -> None:
        """Run a call on a worker that is warm for it, else an idle one, else a new one."""
        process = self._choose(call)
        if process is None:
            self._waiting.append(call)
            return
        process.call = call
        process.since = time.time()
        process.last = (call.kind, call.stage.name)
        process.calls += 1
        self._by_lease[call.lease] = process
        process.unsent += wire.encode(
            {
                "lease": call.lease,
                "job": call.job,
                "kind": call.kind,
                "stage": call.stage.name,
                "run": call.stage.run,
                "memory": call.stage.memory,
                "soft_timeout": call.stage.soft_timeout,
                "options": orjson.Fragment(call.options),
                "meta": orjson.Fragment(call.meta),
                "slots": call.slots,
                "items": [
                    {
                        "idx": item.idx,
                        "name": item.name,
                        "uid": item.uid,
                        "input": orjson.Fragment(item.input),
                        "results": orjson.Fragment(item.results) if item.results else None,
                        "attempt": item.tries + item.losses + 1,
                        "artifacts": call.artifacts.get(item.idx) or {},
                    }
                    for item in call.items
                ],
            }
        )
        self._write(process)

    def _choose(self, call: Call) -> _Process | None:
        wanted = (call.kind, call.stage.name)
        idle = [process for process in self._processes if process.call is None]
        if not idle:
            return self._spawn() if self._may_spawn() else None
        return min(idle, key=lambda process: (process.last != wanted, process.last is not None, process.used))

    def _may_spawn(self) -> bool:
        # Workers that die while starting would otherwise be started again in a tight loop.
        return time.monotonic() - self._failed_start >= _START_RETRY_SECONDS

    def _spawn(self) -> _Process | None:
        self._started += 1
        name = f"local-{self._started}"
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            # An earlier server's folder of that name may be being removed just now.
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._scratch))
            process = _Process(name, self._command, self._hello, folder)
        except OSError as error:
            self._failed_start = time.monotonic()
            log.error("worker %s cannot be started: %s", name, error)
            return None
        self._processes.append(process)
        self._selector.register(process.socket, selectors.EVENT_READ, process)
        self._write(process)
        return process

    def _replenish(self) -> None:
        if not self._may_spawn():
            return
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self.submit(call)
        while len(self._processes) < self._prestart and self._may_spawn():
            self._spawn()

    def _write(self, process: _Process) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.flush() else 0)
        if self._selector.get_key(process.socket).events != events:
            self._selector.modify(process.socket, events, process)

    def kill(self, lease: int, reason: str) -> None:
        """Stop a call at once, its processes included."""
        for call in self._waiting:
            if call.lease == lease:
                self._waiting.remove(call)
                self._lost.append(Lost(lease, reason, blame=False))
                return
        process = self._by_lease.get(lease)
        if process is None or process.killed is not None or process.call is None:
            return
        process.killed = reason
        process.kill()
        self._bury(process)

    def poll(self, timeout: float | None) -> Sequence[Report]:
        """Wait for reports."""
        if self._lost:
            timeout = 0.0
        elif self._waiting or len(self._processes) < self._prestart:
            timeout = min(_START_RETRY_SECONDS, timeout) if timeout is not None else _START_RETRY_SECONDS
        reports: list[Report] = []
        for key, events in self._selector.select(timeout):
            process: _Process | None = key.data
            if process is None:
                with contextlib.suppress(BlockingIOError):
                    while self._wake_read.recv(4096):
                        pass
                continue
            if process.killed is not None:
                continue
            if events & selectors.EVENT_WRITE:
                self._write(process)
            if events & selectors.EVENT_READ:
                self._read(process, reports)
        reports += self._lost
        self._lost = []
        self._replenish()
        return reports

    def _read(self, process: _Process, reports: list[Report]) -> None:
        try:
            data = process.socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionResetError:
            data = b""
        if not data:
            process.kill()
            self._bury(process)
            return
        try:
            for message in process.reader.feed(data):
                self._understand(process, message, reports)
        except (ValueError, TypeError, IndexError, KeyError):
            log.exception("worker %s sent what is not a message; it is killed", process.name)
            process.kill()
            self._bury(process)

    def _understand(self, process: _Process, message: list[Any], reports: list[Report]) -> None:
        what = message[0]
        if what == "ready":
            process.ready = True
            return
        lease = message[1]
        if process.call is None or process.call.lease != lease:
            raise ValueError(f"a report on call {lease}, which it does not run")
        if what == "done":
            for idx, verdict, results, error, artifacts, *times in message[2]:
                staged = [
                    Staged(name, key, size, digest, media_type)
                    for name, key, size, digest, media_type in artifacts
                ]
                reports.append(Done(lease, idx, verdict, results, error, staged, *times))
            process.warm = tuple(message[4])
            if message[3]:
                process.call = None
                process.used = process.since = time.time()
                reports.append(Ended(lease))
        elif what == "progress":
            reports.append(Progress(lease, message[2], message[3], message[4]))
        elif what == "items":
            reports.append(Added(lease, [NewItem(*row) for row in message[2]]))
        else:
            raise ValueError(f"an unknown report {what!r}")

    def _bury(self, process: _Process) -> None:
        self._selector.unregister(process.socket)
        process.close()
        self._processes.remove(process)
        if not process.ready:
            self._failed_start = time.monotonic()
            log.error(
                "worker %s died while it was starting (%s)", process.name, _death(process.popen.returncode)
            )
        if process.call is not None:
            reason = process.killed or f"its worker died ({_death(process.popen.returncode)})"
            blame = process.killed is None and process.ready
            self._lost.append(Lost(process.call.lease, reason, blame))
        self._sweep(process.folder)

    def _sweep(self, folder: Path) -> None:
        self._sweeper.submit(shutil.rmtree, folder, ignore_errors=True)

    def wake(self) -> None:
        """Make ``poll`` return; from any thread."""
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    def worker_of(self, lease: int) -> str:
        """Name the worker that runs (or last ran) a call."""
        process = self._by_lease.get(lease)
        return process.name if process else ""

    def forget(self, lease: int) -> None:
        """Drop what is remembered of a call that has ended."""
        self._by_lease.pop(lease, None)

    def workers(self) -> list[WorkerInfo]:
        """Describe the workers."""
        return [
            WorkerInfo(
                name=process.name,
                pid=process.popen.pid,
                state="starting" if not process.ready else "busy" if process.call else "idle",
                kind=process.call.kind if process.call else None,
                stage=process.call.stage.name if process.call else None,
                since=process.since,
                calls=process.calls,
                warm=process.warm,
            )
            for process in list(self._processes)
        ]

    def stop(self) -> None:
        """Kill everything that runs."""
        for process in self._processes:
            process.signal()
        for process in self._processes:
            process.kill()
            process.close()
            self._sweep(process.folder)
        self._processes.clear()
        self._by_lease.clear()
        self._sweeper.shutdown(wait=True)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()


def _death(status: int | None) -> str:
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"
