"""Runs calls on the worker nodes of a cluster: through rows in PostgreSQL, hinted at by Celery messages.

What is dispatched, claimed and reported is in the database (see ``engine.cluster``), and is written within
the engine's own transactions. A thread listens for news of reports and worker nodes and wakes the engine;
behind it stands a look every second. Calls outlive the server: whichever is in charge takes in their reports.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import psycopg

from millrace.engine.cluster import COMMANDS, NODES, REPORTS, Dispatch, NodeRow
from millrace.engine.cluster.hints import HintSender
from millrace.engine.cluster.messages import call_of, payload, queue_of, reports_of
from millrace.engine.executors import Call, Ended, Lost, Report, WorkerInfo
from millrace.engine.sql.cluster import KEEPALIVE
from millrace.engine.store import Transaction
from millrace.engine.workload import Stage

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_REPORTS_A_ROUND = 2000
_RECONNECT_SECONDS = 0.5


class CeleryExecutor:
    """Worker nodes on any number of machines; see ``engine.executors.Executor``.

    Args:
        url: the database's libpq connection string, to listen on.
        nodes: reads the nodes that were seen within so many seconds.
        hints: how workers are woken.
        lease: seconds after which a node that was not heard of has lost its calls.
    """

    keeps_time = True
    grain = 0.1
    ahead = 1.0

    def __init__(
        self, url: str, nodes: Callable[[float], list[NodeRow]], hints: HintSender, lease: float = 10.0
    ) -> None:
        self._url = url
        self._read_nodes = nodes
        self._hints = hints
        self._lease = lease
        self._slots: dict[str, int] = {"cpu": 0, "gpu": 0, "io": 0}
        self._by_queue: dict[tuple[str, str], int] = {}
        self._nodes: list[NodeRow] = []
        self._queues: dict[int, tuple[str, str, int]] = {}
        self._busy: dict[str, int] = {}
        self._kills: dict[int, str] = {}
        self._worker_of: dict[int, str] = {}
        self._news = threading.Condition()
        self._woken = False
        self._dirty = True
        self._looked_at = 0.0
        self._sweep_at = 0.0
        self._stopping = threading.Event()
        self.commands_wait = True
        self._watcher = threading.Thread(target=self._watch, name="cluster", daemon=True)

    # -- the port -----------------------------------------------------------------------------

    @property
    def slots(self) -> Mapping[str, int]:
        """How many slots of each resource the nodes have together."""
        return self._slots

    def limit(self, kind: str, stage: Stage) -> int | None:
        """How many slots those nodes have that take from the stage's queue."""
        return self._by_queue.get((queue_of(kind, stage), stage.resource), 0)

    def start(self) -> None:
        """Begin to listen, and to send hints."""
        self._hints.start()
        with contextlib.suppress(Exception):
            self._take_nodes(self._read_nodes(self._lease))
        self._watcher.start()

    def survivors(self, tx: Transaction) -> Sequence[Call] | None:
        """Return the calls that the database holds. Whatever was remembered of others is forgotten."""
        found = [call_of(row.lease, row.payload) for row in tx.survivors()]
        self._queues.clear()
        self._busy.clear()
        for call in found:
            self._note(call)
        self._dirty = True
        # Workers could not renew their leases while the database was away: they get the time to do it.
        self._sweep_at = time.monotonic() + self._lease
        return found

    def record(self, tx: Transaction, calls: Sequence[tuple[Call, int]]) -> None:
        """Write calls down, within the transaction that claims their items."""
        tx.insert_dispatches(
            [
                Dispatch(
                    call.lease,
                    queue_of(call.kind, call.stage),
                    call.stage.resource,
                    priority,
                    call.slots,
                    payload(call),
                )
                for call, priority in calls
            ],
            self._resend,
        )

    @property
    def _resend(self) -> float:
        return min(2.0, self._lease / 4)

    def submit(self, call: Call) -> None:
        """Wake a worker for a call that was recorded, unless all are busy: those look by themselves."""
        idle = self._slots.get(call.stage.resource, 0) > self._busy.get(call.stage.resource, 0)
        self._note(call)
        if idle:
            self._hints.send(queue_of(call.kind, call.stage))

    def _note(self, call: Call) -> None:
        resource = call.stage.resource
        self._queues[call.lease] = (queue_of(call.kind, call.stage), resource, call.slots)
        self._busy[resource] = self._busy.get(resource, 0) + call.slots

    def kill(self, lease: int, reason: str) -> None:
        """Have a call killed: at once if nobody has claimed it, else by its worker."""
        self._kills.setdefault(lease, reason)
        self.wake()

    def recall(self, tx: Transaction, leases: Sequence[int]) -> Sequence[int]:
        """Take back those calls that no worker has claimed."""
        return tx.recall_dispatches(leases)

    def collect(self, tx: Transaction) -> Sequence[Report]:
        """Take out what workers reported; end what nobody began, and what nobody was heard of any more."""
        reports: list[Report] = []
        now = time.monotonic()
        if self._kills:
            for lease in tx.withdraw_dispatches(self._kills):
                reports.append(Lost(lease, self._kills[lease], blame=False))
        look = now - self._looked_at >= _LOOK_SECONDS
        if self._dirty or look:
            self._dirty = False
            self._looked_at = now
            self._take(tx, reports)
        if now >= self._sweep_at:
            self._sweep_at = now + min(_LOOK_SECONDS, self._lease / 4)
            for lease, worker in tx.expire_dispatches():
                log.warning("call %d: nothing was heard of its worker %s any more", lease, worker)
                reports.append(Lost(lease, f"its worker {worker} was not heard of any more", blame=True))
            for queue, number in tx.unclaimed_queues(self._resend).items():
                self._hints.send(queue, min(number, 8))
        return reports

    def _take(self, tx: Transaction, reports: list[Report]) -> None:
        rows = tx.take_reports(_REPORTS_A_ROUND)
        over: list[int] = []
        for lease, text in rows:
            worker, found = reports_of(lease, text)
            self._worker_of[lease] = worker
            reports += found
            if isinstance(found[-1], Ended | Lost):
                over.append(lease)
        if over:
            tx.delete_dispatches(over)
        if len(rows) == _REPORTS_A_ROUND:
            self._dirty = True
            self.wake()

    def poll(self, timeout: float | None) -> Sequence[Report]:
        """Wait for news. The reports themselves are taken out by ``collect``."""
        longest = _LOOK_SECONDS if timeout is None else min(timeout, _LOOK_SECONDS)
        with self._news:
            if not self._woken and longest > 0:
                self._news.wait(longest)
            self._woken = False
        return ()

    def wake(self) -> None:
        """Make ``poll`` return; from any thread."""
        with self._news:
            self._woken = True
            self._news.notify_all()

    def worker_of(self, lease: int) -> str:
        """Name the worker that runs (or last ran) a call."""
        found = self._worker_of.get(lease)
        if found:
            return found
        for node in list(self._nodes):
            for worker in node.workers:
                if worker.get("lease") == lease:
                    return f"{node.name}/{worker['name']}"
        return ""

    def forget(self, lease: int) -> None:
        """Drop what is remembered of a call that has ended."""
        self._kills.pop(lease, None)
        self._worker_of.pop(lease, None)
        known = self._queues.pop(lease, None)
        if known is not None:
            self._busy[known[1]] -= known[2]

    def disown(self) -> None:
        """Forget all calls: another server is in charge of them now."""
        for remembered in (self._kills, self._worker_of, self._queues, self._busy):
            remembered.clear()

    def workers(self) -> list[WorkerInfo]:
        """Describe the worker processes of all nodes, as they last told."""
        return [
            WorkerInfo(
                name=f"{node.name}/{worker['name']}",
                pid=worker["pid"],
                state=worker["state"],
                kind=worker["kind"],
                stage=worker["stage"],
                since=worker["since"],
                calls=worker["calls"],
                warm=tuple(worker["warm"]),
            )
            for node in list(self._nodes)
            for worker in node.workers
        ]

    def stop(self) -> None:
        """Stop listening. What runs on the nodes goes on: this server, or another, takes it in later."""
        self._stopping.set()
        if self._watcher.ident is not None:
            self._watcher.join(5.0)
        self._hints.stop()

    # -- news ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, **KEEPALIVE) as link:
                    for channel in (REPORTS, NODES, COMMANDS):
                        link.execute(f"LISTEN {channel}")
                    self._listen(link)
            except (psycopg.Error, OSError, Exception) as error:  # noqa: BLE001 - the database is away
                if not self._stopping.is_set():
                    log.warning("the cluster's news are not heard for now: %s", str(error).strip())
                    self._stopping.wait(_RECONNECT_SECONDS)

    def _listen(self, link: psycopg.Connection) -> None:
        looked = 0.0
        while not self._stopping.is_set():
            nodes = time.monotonic() - looked >= _LOOK_SECONDS
            for notice in link.notifies(timeout=0.0 if nodes else 0.2, stop_after=1):
                if notice.channel == NODES:
                    nodes = True
                elif notice.channel == COMMANDS:
                    self.commands_wait = True
                else:
                    self._dirty = True
                self.wake()
            if nodes:
                looked = time.monotonic()
                self._take_nodes(self._read_nodes(self._lease))

    def _take_nodes(self, nodes: list[NodeRow]) -> None:
        slots = dict.fromkeys(("cpu", "gpu", "io"), 0)
        by_queue: dict[tuple[str, str], int] = {}
        for node in nodes:
            for resource, number in node.slots.items():
                slots[resource] = slots.get(resource, 0) + number
                for queue in node.queues:
                    by_queue[queue, resource] = by_queue.get((queue, resource), 0) + number
        self._nodes = nodes
        changed = slots != self._slots or by_queue != self._by_queue
        self._by_queue = by_queue
        self._slots.update(slots)
        if changed:
            log.info(
                "%d worker nodes with %s slots", len(nodes), ", ".join(f"{n} {r}" for r, n in slots.items())
            )
            self.wake()
