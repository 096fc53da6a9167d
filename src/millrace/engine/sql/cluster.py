"""What the SQL store keeps of a cluster, on the side of the server in charge; see ``engine.cluster``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import select

from millrace.engine.cluster import WORKERS, Command, Dispatch, NodeRow, ServerRow, Survivor
from millrace.engine.sql import schema
from millrace.engine.sql.statements import Selects, Statements

NOW = "extract(epoch FROM clock_timestamp())"
"""The database's own clock."""

KEEPALIVE: Mapping[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
}
"""Connection parameters by which a peer that is gone is noticed within about four seconds."""

_LONGEST_WAIT = 30.0


class ClusterStatements(Statements):
    """The writes, in PostgreSQL's own words; a part of ``SqlTransaction``."""

    def insert_dispatches(self, rows: Sequence[Dispatch], until: float) -> None:
        """Write calls down as sent, each to be hinted at again ``until`` seconds from now."""
        self._many(
            "INSERT INTO dispatches "
            "(lease, queue, resource, priority, slots, payload, until, state, sent_at) "
            f"VALUES (?, ?, ?, ?, ?, ?, {NOW} + ?, 'sent', {NOW})",
            [
                (row.lease, row.queue, row.resource, row.priority, row.slots, row.payload, until)
                for row in rows
            ],
        )

    def survivors(self) -> list[Survivor]:
        """Read all dispatches, oldest first."""
        rows = self._run(
            "SELECT lease, payload, sent_at, claimed_at FROM dispatches ORDER BY lease"
        ).fetchall()
        return [Survivor(*row) for row in rows]

    def take_reports(self, limit: int) -> list[tuple[int, str]]:
        """Take out (lease, body) of what workers reported, oldest first."""
        rows = self._run(
            "DELETE FROM reports WHERE seq IN (SELECT seq FROM reports ORDER BY seq LIMIT ?) "
            "RETURNING seq, lease, body",
            (limit,),
        ).fetchall()
        return [(row[1], row[2]) for row in sorted(rows)]

    def delete_dispatches(self, leases: Sequence[int]) -> None:
        """Delete calls that are over."""
        self._run("DELETE FROM dispatches WHERE lease = ANY(?)", (list(leases),))

    def withdraw_dispatches(self, kills: Mapping[int, str]) -> list[int]:
        """Have calls killed for a reason each; return those that nobody had begun, which are deleted."""
        leases = list(kills)
        withdrawn = self._run(
            "DELETE FROM dispatches WHERE lease = ANY(?) AND state = 'sent' RETURNING lease", (leases,)
        ).fetchall()
        told = self._run(
            "UPDATE dispatches SET cancel = k.reason FROM unnest(?::bigint[], ?::text[]) AS k(lease, reason) "
            "WHERE dispatches.lease = k.lease AND dispatches.lease IN (SELECT lease FROM dispatches "
            "WHERE lease = ANY(?) AND state = 'claimed' AND cancel IS NULL ORDER BY lease FOR UPDATE) "
            "RETURNING worker",
            (leases, list(kills.values()), leases),
        ).fetchall()
        for worker in {row[0] for row in told}:
            self.notify(WORKERS, worker)
        return [row[0] for row in withdrawn]

    def recall_dispatches(self, leases: Sequence[int]) -> list[int]:
        """Delete those of these calls that nobody has claimed, or is about to; return them."""
        rows = self._run(
            "DELETE FROM dispatches WHERE lease IN (SELECT lease FROM dispatches "
            "WHERE lease = ANY(?) AND state = 'sent' FOR UPDATE SKIP LOCKED) RETURNING lease",
            (list(leases),),
        ).fetchall()
        return [row[0] for row in rows]

    def expire_dispatches(self) -> list[tuple[int, str]]:
        """Delete claimed calls whose lease has run out; return (lease, worker)."""
        rows = self._run(
            "DELETE FROM dispatches WHERE lease IN (SELECT lease FROM dispatches "
            f"WHERE state = 'claimed' AND until < {NOW} FOR UPDATE SKIP LOCKED) RETURNING lease, worker"
        ).fetchall()
        return [(row[0], row[1]) for row in rows]

    def unclaimed_queues(self, wait: float) -> dict[str, int]:
        """Return queue → number of calls to be hinted at again, and have each wait longer the next time."""
        rows = self._run(
            f"UPDATE dispatches SET until = {NOW} + LEAST(?, GREATEST(?, {NOW} - sent_at)) "
            f"WHERE lease IN (SELECT lease FROM dispatches WHERE state = 'sent' AND until < {NOW} "
            "FOR UPDATE SKIP LOCKED) RETURNING queue",
            (_LONGEST_WAIT, wait),
        ).fetchall()
        queues: dict[str, int] = {}
        for (queue,) in rows:
            queues[queue] = queues.get(queue, 0) + 1
        return queues

    def take_commands(self, limit: int) -> list[Command]:
        """Read commands that wait, oldest first, and keep others from them."""
        rows = self._run(
            "SELECT seq, id, name, body FROM commands WHERE done_at IS NULL ORDER BY seq LIMIT ? "
            "FOR UPDATE SKIP LOCKED",
            (limit,),
        ).fetchall()
        return [Command(*row) for row in rows]

    def answer_command(self, seq: int, answer: str | None, error: str | None) -> None:
        """Write down what became of a command."""
        self._run(
            f"UPDATE commands SET answer = ?, error = ?, done_at = {NOW} WHERE seq = ?", (answer, error, seq)
        )

    def drop_commands(self, age: float) -> None:
        """Delete answered commands that nobody fetched for so many seconds."""
        self._run(f"DELETE FROM commands WHERE done_at < {NOW} - ?", (age,))

    def notify(self, channel: str, payload: str) -> None:
        """Notify at the commit."""
        self._run("SELECT pg_notify(?, ?)", (channel, payload))


class ClusterSelects(Selects):
    """The reads; a part of ``SqlStore``."""

    def nodes(self, lease: float) -> list[NodeRow]:
        """Return the worker nodes that were seen within so many seconds."""
        table = schema.nodes
        alive = table.c.seen_at > sa.literal_column(NOW) - lease
        return [node_row(row) for row in self._rows(select(table).where(alive).order_by(table.c.name))]

    def servers(self, patience: float) -> list[ServerRow]:
        """Return the servers that were seen within so many seconds."""
        table = schema.servers
        alive = table.c.seen_at > sa.literal_column(NOW) - patience
        rows = self._rows(select(table).where(alive).order_by(table.c.name))
        return [ServerRow(row.name, bool(row.leads), orjson.loads(row.status), row.seen_at) for row in rows]


def node_row(row: Any) -> NodeRow:
    """Make a node of its row."""
    return NodeRow(
        name=row.name,
        slots=orjson.loads(row.slots),
        queues=frozenset(orjson.loads(row.queues)),
        workers=orjson.loads(row.workers),
        seen_at=row.seen_at,
    )
