"""Many machines: the ports between the server in charge, the other servers, and the workers.

The database is the truth. A call is a row (a *dispatch*), written in the transaction that claims its items;
a worker claims the row by compare-and-set, reports in rows that are taken out in the transaction that applies
them, and everything it writes is fenced by the call's lease. The broker only carries hints.

* A dispatch is ``sent`` until a worker has claimed it, ``claimed`` while that worker renews its lease, and
  ``ended`` from its last report until the server in charge has taken that in; then it is gone.
* A claimed dispatch whose lease ran out is lost: the row is deleted, and with it whatever that worker may
  still want to report.
* A dispatch that nobody claims is hinted at again, ever less often.

Times in these rows are the database's clock, so that no other has to be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

REPORTS = "millrace_reports"
"""Notified when a worker has written reports."""

WORKERS = "millrace_workers"
"""Notified when a call is to be killed; the payload is its worker's name."""

NODES = "millrace_nodes"
"""Notified when a worker node came, left, or changed."""

COMMANDS = "millrace_commands"
"""Notified when a server has asked the one in charge for something."""

ANSWERS = "millrace_answers"
"""Notified when a command was answered; the payload is its id."""

EVENTS = "millrace_events"
"""Notified when events were committed; the payload names jobs, or is empty for any."""

LIVE = "millrace_live"
"""Notified with live progress, as JSON ``[job, item, at, data]`` rows."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A call as it is written down. ``payload`` is made by ``cluster.messages``."""

    lease: int
    queue: str
    resource: str
    priority: int
    slots: int
    payload: str


@dataclass(frozen=True, slots=True)
class Survivor:
    """A dispatch that was found in the database: of an earlier server, or of a commit that was in doubt."""

    lease: int
    payload: str
    sent_at: float
    claimed_at: float | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A worker node: its slots by resource, the queues it takes from, and its worker processes."""

    name: str
    slots: Mapping[str, int]
    queues: frozenset[str]
    workers: Sequence[Mapping[str, Any]]
    seen_at: float


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A server on this database. ``status`` is what the one in charge last told of itself."""

    name: str
    leading: bool
    status: Mapping[str, Any]
    seen_at: float


@dataclass(frozen=True, slots=True)
class Command:
    """What a server asks of the one in charge: a method of the engine's and its arguments, as JSON."""

    seq: int
    id: str
    name: str
    body: str


class ClusterWrites(Protocol):
    """What a transaction of the server in charge must offer for a cluster; PostgreSQL only."""

    def insert_dispatches(self, rows: Sequence[Dispatch], until: float) -> None:
        """Write calls down as sent, each to be hinted at again ``until`` seconds from now."""
        ...

    def survivors(self) -> list[Survivor]:
        """Read all dispatches, oldest first."""
        ...

    def take_reports(self, limit: int) -> list[tuple[int, str]]:
        """Take out (lease, body) of what workers reported, oldest first."""
        ...

    def delete_dispatches(self, leases: Sequence[int]) -> None:
        """Delete calls that are over."""
        ...

    def withdraw_dispatches(self, kills: Mapping[int, str]) -> list[int]:
        """Have calls killed for a reason each; return those that nobody had begun, which are deleted."""
        ...

    def recall_dispatches(self, leases: Sequence[int]) -> list[int]:
        """Delete those of these calls that nobody has claimed, or is about to; return them."""
        ...

    def expire_dispatches(self) -> list[tuple[int, str]]:
        """Delete claimed calls whose lease has run out; return (lease, worker)."""
        ...

    def unclaimed_queues(self, wait: float) -> dict[str, int]:
        """Return queue → number of calls to be hinted at again, and have each wait longer the next time."""
        ...

    def take_commands(self, limit: int) -> list[Command]:
        """Read commands that wait, oldest first, and keep others from them."""
        ...

    def answer_command(self, seq: int, answer: str | None, error: str | None) -> None:
        """Write down what became of a command."""
        ...

    def drop_commands(self, age: float) -> None:
        """Delete answered commands that nobody fetched for so many seconds."""
        ...

    def notify(self, channel: str, payload: str) -> None:
        """Notify at the commit."""
        ...


@dataclass(slots=True)
class Exchanged:
    """What a worker node's exchange with the database brought.

    held     leases among those reported on that were still the node's; reports on others were dropped.
    claimed  (lease, payload, slots) of calls that are the node's now.
    """

    held: set[int] = field(default_factory=set)
    claimed: list[tuple[int, str, int]] = field(default_factory=list)


class Board(Protocol):
    """The worker nodes' side of the dispatches. Every method may raise ``OSError``: the database is away."""

    def exchange(
        self,
        number: int,
        reports: Sequence[tuple[int, str]],
        ended: Sequence[int],
        wants: Mapping[str, int],
        queues: Sequence[str],
    ) -> Exchanged:
        """Write reports, in order; end calls; claim up to so many calls by resource. One transaction.

        ``number`` counts a node's exchanges. When one fails, ``resolve`` says what became of it.
        """
        ...

    def resolve(self, number: int) -> tuple[bool, list[tuple[int, str, int]]]:
        """Return whether that exchange was committed, and all calls that are the node's now."""
        ...

    def renew(self, workers: str) -> dict[int, str | None]:
        """Renew the node and the leases of its calls; return lease → why it is to be killed, or None."""
        ...

    def leave(self) -> None:
        """Say that the node is gone."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait for word that a call is to be killed; whether there was any."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
