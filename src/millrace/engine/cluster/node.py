"""A worker node: takes calls of a cluster, runs them on processes of this machine, and reports.

It asks nobody for permission but the database: what it has claimed is its own while it renews the lease, and
what it reports on a lease that it lost is dropped. While the database is away, what runs goes on and its
reports wait; while the broker is away, it looks for work by itself. Knows no server and no workload.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import orjson

from millrace.engine.artifacts import ArtifactStore, drop_staged
from millrace.engine.cluster import Board
from millrace.engine.cluster.messages import body, call_of
from millrace.engine.executors import OVERDUE, Call, Done, Ended, Lost, Progress, Report
from millrace.engine.executors.local import LocalExecutor
from millrace.engine.workload import Stage

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_PROGRESS_SECONDS = 0.05
_BUSY_SECONDS = 0.3
_NOTHING = Stage("unknown", "")


class Receiver(Protocol):
    """Where hints come from; see ``cluster.hints.HintReceiver``."""

    def pause(self, name: str) -> None:
        """Take no more hints from a queue for now."""
        ...

    def resume(self, name: str) -> None:
        """Take hints from a queue again."""
        ...


class Node:
    """One worker node.

    Args:
        name: of this process alone.
        board: its side of the dispatches.
        executor: runs the calls; its slots are the node's.
        artifacts: where its workers stage files: those of calls it has lost are thrown away.
        queues: the queues it takes from, each with the resource of its stage.
        lease: seconds for which a claim holds unless it is renewed.
    """

    def __init__(
        self,
        name: str,
        board: Board,
        executor: LocalExecutor,
        artifacts: ArtifactStore,
        queues: Mapping[str, str],
        lease: float = 10.0,
    ) -> None:
        self.name = name
        self._board = board
        self._executor = executor
        self._artifacts = artifacts
        self._queues = dict(queues)
        self._lease = lease
        self._calls: dict[int, Call] = {}
        self._deadlines: dict[int, float] = {}
        self._unsent: list[Report] = []
        self._lost: set[int] = set()
        self._hinted = True
        self._looked_at = 0.0
        self._sent_at = 0.0
        self._full_since: dict[str, float] = {}
        self._receiver: Receiver | None = None
        self._leaving = threading.Event()
        self._finish_by: float | None = None
        self._stopped = threading.Event()
        self._kills: dict[int, str | None] = {}
        self._kills_lock = threading.Lock()
        self._failing = False
        self._number = 0
        self._doubtful: tuple[list[Report], list[int]] | None = None
        self._renew_now = threading.Event()

    # -- from other threads -------------------------------------------------------------------

    def hint(self, queue: str) -> None:
        """Look for work now."""
        self._hinted = True
        self._executor.wake()

    def listen_to(self, receiver: Receiver) -> None:
        """Have hints paused while this node is busy."""
        self._receiver = receiver

    def leave(self, grace: float) -> None:
        """Take nothing more, give what runs so many seconds to end, give back the rest, and end."""
        self._finish_by = time.monotonic() + grace
        self._leaving.set()
        self._executor.wake()

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to leave."""
        self._executor.start()
        self._join()
        threads = [
            threading.Thread(target=self._heartbeat, name="heartbeat", daemon=True),
            threading.Thread(target=self._listen, name="kills", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while not (self._leaving.is_set() and not self._calls and not self._unsent):
                if self._give_back():
                    break
                self._step()
        finally:
            self._stopped.set()
            self._renew_now.set()
            self._executor.stop()
            try:
                self._board.leave()
            except OSError as error:
                log.warning("the database does not know that this worker has left: %s", error)
            self._board.close()

    def _join(self) -> None:
        """Make this node known, as soon as the database is there."""
        while not self._leaving.is_set():
            try:
                self._board.renew(self._described())
            except OSError as error:
                log.warning("the database is away: %s", error)
                self._leaving.wait(_RETRY_SECONDS)
            else:
                return

    def _step(self) -> None:
        reports = self._executor.poll(self._timeout())
        self._note(reports)
        self._kill_overdue()
        self._apply_kills()
        if self._due():
            self._exchange()

    def _timeout(self) -> float:
        now = time.monotonic()
        times = [self._looked_at + _LOOK_SECONDS]
        if self._failing:
            times.append(self._looked_at + _RETRY_SECONDS)
        elif self._unsent:
            times.append(self._sent_at + _PROGRESS_SECONDS)
        times += self._deadlines.values()
        if self._hinted and not self._failing:
            return 0.0
        return max(0.0, min(times) - now)

    def _note(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if report.lease not in self._calls:
                continue
            self._unsent.append(report)
            stage = self._calls[report.lease].stage
            if isinstance(report, Done) and report.lease in self._deadlines and stage.timeout is not None:
                self._deadlines[report.lease] = time.monotonic() + stage.timeout

    def _due(self) -> bool:
        now = time.monotonic()
        if self._failing and now - self._looked_at < _RETRY_SECONDS:
            return False
        if self._hinted or now - self._looked_at >= _LOOK_SECONDS:
            return True
        if any(not isinstance(report, Progress) for report in self._unsent):
            return True
        return bool(self._unsent) and now - self._sent_at >= _PROGRESS_SECONDS

    def _exchange(self) -> None:
        """Write what is to be reported, and claim what there is room for."""
        self._hinted = False
        self._looked_at = time.monotonic()
        try:
            if self._doubtful is not None:
                self._resolve()
            self._number += 1
            unsent = list(self._unsent)
            rows, over = self._written_down()
            self._doubtful = (unsent, over)
            wants = {} if self._leaving.is_set() else self._free(but=over)
            result = self._board.exchange(self._number, rows, over, wants, list(self._queues))
        except OSError as error:
            if not self._failing:
                log.warning("the database is away; what runs goes on, reports wait: %s", error)
            self._failing = True
            return
        if self._failing:
            log.info("the database is back")
            self._failing = False
        self._sent_at = time.monotonic()
        self._doubtful = None
        self._unsent = []
        for lease, _ in rows:
            if lease not in result.held:
                self._lose(lease)
        for lease in over:
            self._forget(lease)
        for lease, text, slots in result.claimed:
            self._begin(lease, text, slots)
        self._steer_hints()

    def _resolve(self) -> None:
        """Find out whether an exchange was committed although the connection broke over it."""
        assert self._doubtful is not None
        sent, over = self._doubtful
        committed, mine = self._board.resolve(self._number)
        self._doubtful = None
        if committed:
            self._unsent = self._unsent[len(sent) :]
            for lease in over:
                self._forget(lease)
        for lease, text, slots in mine:
            if lease not in self._calls:
                self._begin(lease, text, slots)

    def _written_down(self) -> tuple[list[tuple[int, str]], list[int]]:
        """Return one row for each call that has something to report, and the calls that are over."""
        by_lease: dict[int, list[Report]] = {}
        for report in self._unsent:
            by_lease.setdefault(report.lease, []).append(report)
        rows = [
            (lease, body(f"{self.name}/{self._executor.worker_of(lease)}", reports))
            for lease, reports in by_lease.items()
        ]
        over = [lease for lease, reports in by_lease.items() if isinstance(reports[-1], Ended | Lost)]
        return rows, over

    def _free(self, but: Sequence[int] = ()) -> dict[str, int]:
        free = dict(self._executor.slots)
        for lease, call in self._calls.items():
            if lease not in but:
                free[call.stage.resource] = free.get(call.stage.resource, 0) - call.slots
        return {resource: number for resource, number in free.items() if number > 0}

    def _begin(self, lease: int, text: str, slots: int) -> None:
        try:
            call = call_of(lease, text)
        except (ValueError, KeyError, TypeError):
            log.exception("call %d cannot be understood", lease)
            self._calls[lease] = Call(lease, "", "", _NOTHING, "{}", "{}", [])
            self._unsent.append(Lost(lease, "its worker did not understand it", blame=True))
            return
        # It was given slots of the whole cluster; this machine may have fewer of them free.
        call.slots = max(1, min(slots, self._free().get(call.stage.resource, 1)))
        self._calls[lease] = call
        if call.stage.timeout is not None:
            self._deadlines[lease] = time.monotonic() + call.stage.timeout
        self._executor.submit(call)

    def _steer_hints(self) -> None:
        """Take no hints for queues whose slots are all taken: they are to wake others."""
        if self._receiver is None:
            return
        free, now = self._free(), time.monotonic()
        for queue, resource in self._queues.items():
            if free.get(resource) and not self._leaving.is_set():
                self._full_since.pop(resource, None)
                self._receiver.resume(queue)
            elif now - self._full_since.setdefault(resource, now) > _BUSY_SECONDS or self._leaving.is_set():
                self._receiver.pause(queue)

    # -- ends ---------------------------------------------------------------------------------

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for lease in [lease for lease, deadline in self._deadlines.items() if now >= deadline]:
            del self._deadlines[lease]
            self._executor.kill(lease, OVERDUE)

    def _apply_kills(self) -> None:
        with self._kills_lock:
            kills, self._kills = self._kills, {}
        for lease, reason in kills.items():
            if reason is None:
                self._lose(lease)
            else:
                self._executor.kill(lease, reason)

    def _lose(self, lease: int) -> None:
        """Stop a call that is somebody else's by now, and throw away what it has written."""
        if lease not in self._calls:
            return
        log.warning("call %d: its lease was lost; it is stopped, and what it made is thrown away", lease)
        self._executor.kill(lease, "its lease was lost")
        self._forget(lease)
        self._unsent = [report for report in self._unsent if report.lease != lease]
        try:
            drop_staged(self._artifacts, {lease})
        except Exception:
            log.exception("call %d: what it had staged is left for the sweep", lease)

    def _forget(self, lease: int) -> None:
        self._calls.pop(lease, None)
        self._deadlines.pop(lease, None)
        self._executor.forget(lease)

    def _give_back(self) -> bool:
        """Give back what runs when the time to finish is over; whether this node should end now."""
        if not self._leaving.is_set() or self._finish_by is None or time.monotonic() < self._finish_by:
            return False
        for lease in list(self._calls):
            self._executor.kill(lease, "its worker was told to stop")
        self._note(self._executor.poll(0.0))
        for _ in range(10):
            self._exchange()
            if not self._failing:
                return True
            time.sleep(_RETRY_SECONDS)
        log.warning(
            "%d calls could not be given back: they go on elsewhere when their leases run out",
            len(self._calls),
        )
        return True

    # -- heartbeat ----------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        """Renew leases; hear of calls to be killed, and of leases that were lost."""
        while not self._stopped.is_set():
            before = set(self._calls)
            try:
                held = self._board.renew(self._described())
            except OSError as error:
                log.debug("no heartbeat: %s", error)
                self._renew_now.wait(_RETRY_SECONDS)
                self._renew_now.clear()
                continue
            gone = {lease: None for lease in before - held.keys() if lease in self._calls}
            told = {lease: reason for lease, reason in held.items() if reason is not None}
            if gone or told:
                with self._kills_lock:
                    self._kills.update({**gone, **told})
                self._executor.wake()
            self._renew_now.wait(max(0.05, min(1.0, self._lease / 5)))
            self._renew_now.clear()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._board.wait(0.5):
                    self._renew_now.set()
            except OSError as error:
                log.debug("not listening: %s", error)
                self._stopped.wait(_RETRY_SECONDS)

    def _described(self) -> str:
        busy = {self._executor.worker_of(lease): lease for lease in list(self._calls)}
        return orjson.dumps(
            [
                {
                    "name": worker.name,
                    "pid": worker.pid,
                    "state": worker.state,
                    "kind": worker.kind,
                    "stage": worker.stage,
                    "since": worker.since,
                    "calls": worker.calls,
                    "warm": list(worker.warm),
                    "lease": busy.get(worker.name),
                }
                for worker in self._executor.workers()
            ]
        ).decode()


def describe(slots: Mapping[str, int]) -> str:
    """Write slots for people."""
    return ", ".join(f"{number} {resource}" for resource, number in slots.items() if number) or "no slots"
