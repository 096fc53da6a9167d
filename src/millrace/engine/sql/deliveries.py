"""What the SQL store keeps of messages to others; see ``engine.deliveries``."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import select

from millrace.engine.deliveries import Delivery, DeliveryQuery, Failure
from millrace.engine.model import Counts, Job
from millrace.engine.sql import schema
from millrace.engine.sql.statements import Selects, Statements
from millrace.engine.store import JobRow

_COLUMNS = (
    "seq, id, job, kind, channel, url, event, body, state, attempts, next_at, created_at, updated_at, "
    "finished_at, status, error, response"
)


def _selected() -> sa.Select[Any]:
    table = schema.deliveries
    return select(*(table.c[name] for name in _COLUMNS.split(", ")))


class DeliveryStatements(Statements):
    """The writes; a part of ``SqlTransaction``."""

    def insert_delivery(
        self, id: str, job: str, kind: str, channel: str, to: str, event: str, body: str, now: float
    ) -> None:
        """Write down a message, due at once."""
        self._run(
            "INSERT INTO deliveries (id, job, kind, channel, url, event, body, state, attempts, next_at, "
            "created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', 0, ?, ?, ?)",
            (id, job, kind, channel, to, event, body, now, now, now),
        )

    def save_delivery(self, delivery: Delivery) -> None:
        """Write what changed by an attempt; nothing when the delivery is gone."""
        self._run(
            "UPDATE deliveries SET state = ?, attempts = ?, next_at = ?, updated_at = ?, finished_at = ?, "
            "status = ?, error = ?, response = ? WHERE id = ?",
            (
                delivery.state,
                delivery.attempts,
                delivery.next_at,
                delivery.updated_at,
                delivery.finished_at,
                delivery.status,
                delivery.error,
                delivery.response,
                delivery.id,
            ),
        )

    def load_delivery(self, id: str) -> Delivery | None:
        """Read one delivery for writing."""
        row = self._run(f"SELECT {_COLUMNS} FROM deliveries WHERE id = ?", (id,)).fetchone()
        return Delivery(*row) if row else None

    def delete_deliveries(self, before: float, limit: int) -> int:
        """Delete deliveries that ended before that time; return how many."""
        cursor = self._run(
            "DELETE FROM deliveries WHERE seq IN (SELECT seq FROM deliveries "
            "WHERE finished_at IS NOT NULL AND finished_at < ? LIMIT ?)",
            (before, limit),
        )
        return int(cursor.rowcount)

    def notification_source(self, job: JobRow) -> Job:
        """Return a job as it is within this transaction."""
        label, callbacks, notify, owns = self._run(
            "SELECT label, callbacks, notify, owns FROM jobs WHERE seq = ?", (job.seq,)
        ).fetchone()
        return Job(
            seq=job.seq,
            id=job.id,
            kind=job.kind,
            state=job.state,
            label=label,
            priority=job.priority,
            parallelism=job.parallelism,
            held=job.held,
            planning=job.planning,
            cancel_requested=job.cancel_requested,
            stages=job.stages,
            options=orjson.loads(job.options),
            meta=orjson.loads(job.meta),
            callbacks=tuple(orjson.loads(callbacks)),
            notify=tuple(orjson.loads(notify)),
            owns=tuple(orjson.loads(owns)),
            counts=Counts(
                job.total, job.queued, job.running, job.succeeded, job.skipped, job.failed, job.cancelled
            ),
            progress=1.0,
            eta_at=job.eta_at,
            error=orjson.loads(job.error) if job.error else None,
            scope=job.scope,
            created_at=job.created_at,
            started_at=job.started_at,
            updated_at=job.updated_at,
            finished_at=job.finished_at,
            expires_at=job.expires_at,
            last_event=job.last_event,
        )

    def first_failures(self, job: Job, limit: int) -> list[Failure]:
        """Return the first items of a job that failed, within this transaction."""
        rows = self._run(
            "SELECT idx, name, error FROM items WHERE job = ? AND state = 'failed' AND idx >= 0 "
            "ORDER BY idx LIMIT ?",
            (job.seq, limit),
        ).fetchall()
        errors = [orjson.loads(error) if error else {} for _, _, error in rows]
        return [
            Failure(idx, name, str(error.get("code", "")), str(error.get("message", "")))
            for (idx, name, _), error in zip(rows, errors, strict=True)
        ]


class DeliverySelects(Selects):
    """The reads; a part of ``SqlStore``."""

    def deliveries(self, query: DeliveryQuery) -> list[Delivery]:
        """Read a page of deliveries, newest first."""
        table = schema.deliveries
        statement = _selected().order_by(table.c.seq.desc()).limit(query.limit)
        if query.channel is not None:
            statement = statement.where(table.c.channel == query.channel)
        if query.job is not None:
            statement = statement.where(table.c.job == query.job)
        if query.state is not None:
            statement = statement.where(table.c.state == query.state)
        if query.before is not None:
            statement = statement.where(table.c.seq < query.before)
        return [Delivery(*row) for row in self._rows(statement)]

    def delivery(self, id: str) -> Delivery | None:
        """Read one delivery."""
        rows = self._rows(_selected().where(schema.deliveries.c.id == id))
        return Delivery(*rows[0]) if rows else None

    def due_deliveries(self, now: float, limit: int) -> list[Delivery]:
        """Read pending deliveries that are due, the longest due first."""
        table = schema.deliveries
        statement = _selected().where(table.c.state == "pending", table.c.next_at <= now)
        return [Delivery(*row) for row in self._rows(statement.order_by(table.c.next_at).limit(limit))]

    def next_delivery(self, after: float) -> float | None:
        """Return when the first pending delivery that is not due yet will be."""
        table = schema.deliveries
        rows = self._rows(
            select(table.c.next_at)
            .where(table.c.state == "pending", table.c.next_at > after)
            .order_by(table.c.next_at)
            .limit(1)
        )
        return float(rows[0][0]) if rows else None
