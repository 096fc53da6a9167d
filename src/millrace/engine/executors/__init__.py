"""The Executor port: who runs stage calls, and what they report back.

A call is one stage for one or more items under one lease. The engine hands calls out, and polls
for reports. An executor whose calls outlive the server keeps them in the database, within the engine's own
transactions (``collect``, ``record``); it commits nothing itself. Every executor must pass the conformance
suite in ``tests/engine``.

The contract, beyond the types:

* A call that was submitted ends in exactly one ``Ended`` or ``Lost``, and nothing of that call is
  reported afterwards. Only then is its slot free again.
* ``Done`` comes at most once an item. Items without one when the call is lost were not finished.
* After ``kill`` none of the call's processes, children included, does anything more once ``Lost`` came.
* A worker that dies takes only its own call with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from millrace.engine.artifacts import Staged
from millrace.engine.lifecycle import Verdict
from millrace.engine.model import NewItem
from millrace.engine.store import Claimed
from millrace.engine.workload import Stage

if TYPE_CHECKING:
    from millrace.engine.store import Transaction

OVERDUE = "it took too long"
"""The reason with which a call is killed that exceeded its stage's timeout."""

RECALLED = "it was called back"
"""The reason with which a call is lost that nobody had begun: for its items it is as if it had never been."""


@dataclass(slots=True)
class Call:
    """One dispatch. ``lease`` identifies it and fences its writes; ``options`` and ``meta`` are JSON text.

    ``artifacts`` maps idx → name → key of what the items have published so far.
    """

    lease: int
    job: str
    kind: str
    stage: Stage
    options: str
    meta: str
    items: list[Claimed]
    slots: int = 1
    artifacts: Mapping[int, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """An item is so far: fraction 0–1 of its present stage."""

    lease: int
    idx: int
    fraction: float
    phase: str


@dataclass(frozen=True, slots=True)
class Added:
    """A plan call found items."""

    lease: int
    items: list[NewItem]


@dataclass(slots=True)
class Done:
    """An item's stage ended by itself. ``results`` is all its results so far as JSON text, None if unchanged.

    ``error`` is ``{code, message, details, retryable, backend}`` for ``failed``. ``staging`` is how many of
    the seconds between start and finish its files took to be written aside, together with others'.
    """

    lease: int
    idx: int
    verdict: Verdict
    results: str | None
    error: dict[str, Any] | None
    artifacts: list[Staged]
    started_at: float
    finished_at: float
    staging: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """All items of the call are done; its slot is free."""

    lease: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The call's worker is gone and so is the call. ``blame``: whether its item may have killed it."""

    lease: int
    reason: str
    blame: bool


Report = Progress | Added | Done | Ended | Lost


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as people see it. ``warm`` names the models it keeps loaded."""

    name: str
    pid: int
    state: str
    kind: str | None
    stage: str | None
    since: float
    calls: int
    warm: tuple[str, ...] = ()


class DiesWithServer:
    """What an executor needs whose calls die with the server: nothing of them is in the database."""

    commands_wait = False
    keeps_time = False
    grain = 0.02
    ahead = 0.0

    def limit(self, kind: str, stage: Stage) -> int | None:
        """As many as there are slots."""
        return None

    def collect(self, tx: Transaction) -> Sequence[Report]:
        """Nothing was kept in the database."""
        return ()

    def record(self, tx: Transaction, calls: Sequence[tuple[Call, int]]) -> None:
        """Nothing is kept in the database."""

    def recall(self, tx: Transaction, leases: Sequence[int]) -> Sequence[int]:
        """Every call is begun at once."""
        return ()

    def survivors(self, tx: Transaction) -> Sequence[Call] | None:
        """None has survived."""
        return None

    def disown(self) -> None:
        """There is no other server that could take over."""


class Executor(Protocol):
    """Runs calls; used from the engine's thread alone, but for ``wake`` and ``workers``.

    keeps_time  whether it ends calls by itself that exceed their stage's timeout (``Lost`` with ``OVERDUE``,
                reckoned from when a worker began); otherwise the engine kills them.
    grain       seconds that a chunk of small items should take.
    commands_wait  set when another server has asked this one for something.
    ahead       how many calls of short items may be under way beyond the slots, as a part of the slots:
                so that a worker far away finds the next one waiting.
    """

    commands_wait: bool
    keeps_time: bool
    grain: float
    ahead: float

    @property
    def slots(self) -> Mapping[str, int]:
        """How many slots of each resource there are. The mapping may change; the object stays."""
        ...

    def limit(self, kind: str, stage: Stage) -> int | None:
        """Return how many slots there are that can run a stage; None: all of its resource."""
        ...

    def collect(self, tx: Transaction) -> Sequence[Report]:
        """Take out, within the transaction that applies them, the reports that are kept in the database."""
        ...

    def record(self, tx: Transaction, calls: Sequence[tuple[Call, int]]) -> None:
        """Write down calls, each with its job's priority, within the transaction that claims their items.

        Each is submitted after the commit.
        """
        ...

    def recall(self, tx: Transaction, leases: Sequence[int]) -> Sequence[int]:
        """Take back, within the transaction, those calls that nobody has begun; return them.

        They are over without a report, and with the commit nobody can begin them any more.
        """
        ...

    def survivors(self, tx: Transaction) -> Sequence[Call] | None:
        """Return the calls that the database holds; None for an executor that keeps none there."""
        ...

    def disown(self) -> None:
        """Forget all calls: another server is in charge of them now. They run on."""
        ...

    def start(self) -> None:
        """Make workers ready."""
        ...

    def submit(self, call: Call) -> None:
        """Run a call. The engine never has more running than there are slots."""
        ...

    def kill(self, lease: int, reason: str) -> None:
        """Stop a call at once, its processes included; ``Lost`` follows with that reason and no blame."""
        ...

    def poll(self, timeout: float | None) -> Sequence[Report]:
        """Wait up to ``timeout`` seconds (None: until something comes) for reports, or for ``wake``."""
        ...

    def wake(self) -> None:
        """Make ``poll`` return; from any thread."""
        ...

    def worker_of(self, lease: int) -> str:
        """Name the worker that runs (or last ran) a call."""
        ...

    def forget(self, lease: int) -> None:
        """Drop what is remembered of a call that has ended or was lost."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Describe the workers."""
        ...

    def stop(self) -> None:
        """Kill everything that runs and could not go on without the server."""
        ...
