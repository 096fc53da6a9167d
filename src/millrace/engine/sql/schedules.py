"""What the SQL store keeps of schedules and their ticks; see ``engine.schedules``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import func, select

from millrace.engine.schedules import Schedule, Tick
from millrace.engine.sql import schema
from millrace.engine.sql.statements import Selects, Statements

_COLUMNS = (
    "id, name, cron, zone, request, missed, overlap, enabled, next_at, last_at, last_job, last_error, "
    "created_at, updated_at"
)
_TICKS_KEPT = 1000


def _schedule(row: Sequence[Any]) -> Schedule:
    values = list(row)
    values[4] = orjson.loads(values[4])
    values[6], values[7] = bool(values[6]), bool(values[7])
    return Schedule(*values)


class ScheduleStatements(Statements):
    """The writes; a part of ``SqlTransaction``."""

    def insert_schedule(self, schedule: Schedule) -> None:
        """Add a schedule."""
        self._run(
            f"INSERT INTO schedules ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                schedule.id,
                schedule.name,
                schedule.cron,
                schedule.zone,
                orjson.dumps(schedule.request).decode(),
                schedule.missed,
                int(schedule.overlap),
                int(schedule.enabled),
                schedule.next_at,
                schedule.last_at,
                schedule.last_job,
                schedule.last_error,
                schedule.created_at,
                schedule.updated_at,
            ),
        )

    def save_schedule(self, schedule: Schedule) -> None:
        """Write what changes of a schedule."""
        self._run(
            "UPDATE schedules SET enabled = ?, next_at = ?, last_at = ?, last_job = ?, last_error = ?, "
            "updated_at = ? WHERE id = ?",
            (
                int(schedule.enabled),
                schedule.next_at,
                schedule.last_at,
                schedule.last_job,
                schedule.last_error,
                schedule.updated_at,
                schedule.id,
            ),
        )

    def load_schedule(self, id: str) -> Schedule | None:
        """Read one schedule for writing."""
        row = self._run(f"SELECT {_COLUMNS} FROM schedules WHERE id = ?", (id,)).fetchone()
        return _schedule(row) if row else None

    def delete_schedule(self, id: str) -> bool:
        """Delete a schedule and its ticks; False if there is none."""
        self._run("DELETE FROM ticks WHERE schedule = ?", (id,))
        return bool(self._run("DELETE FROM schedules WHERE id = ?", (id,)).rowcount)

    def insert_tick(self, tick: Tick) -> bool:
        """Write a tick down; False if it was before. The latest thousand are kept."""
        cursor = self._run(
            "INSERT INTO ticks (schedule, at, job, error) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (schedule, at) DO NOTHING",
            (tick.schedule, tick.at, tick.job, tick.error),
        )
        if cursor.rowcount != 1:
            return False
        self._run(
            "DELETE FROM ticks WHERE schedule = ? AND at <= "
            "(SELECT at FROM ticks WHERE schedule = ? ORDER BY at DESC LIMIT 1 OFFSET ?)",
            (tick.schedule, tick.schedule, _TICKS_KEPT),
        )
        return True


class ScheduleSelects(Selects):
    """The reads; a part of ``SqlStore``."""

    def schedules(self) -> list[Schedule]:
        """Read all schedules, in order of creation."""
        table = schema.schedules
        return [_schedule(row) for row in self._rows(select(table).order_by(table.c.created_at, table.c.id))]

    def schedule(self, id: str) -> Schedule | None:
        """Read one schedule."""
        rows = self._rows(select(schema.schedules).where(schema.schedules.c.id == id))
        return _schedule(rows[0]) if rows else None

    def due_schedules(self, now: float) -> list[Schedule]:
        """Read enabled schedules that are due."""
        table = schema.schedules
        statement = select(table).where(table.c.enabled == 1, table.c.next_at <= now)
        return [_schedule(row) for row in self._rows(statement.order_by(table.c.next_at))]

    def next_schedule(self) -> float | None:
        """Return when the first enabled schedule is due."""
        table = schema.schedules
        rows = self._rows(select(func.min(table.c.next_at)).where(table.c.enabled == 1))
        return None if rows[0][0] is None else float(rows[0][0])

    def ticks(self, id: str, limit: int) -> list[Tick]:
        """Read a schedule's ticks, newest first."""
        table = schema.ticks
        statement = select(table).where(table.c.schedule == id).order_by(table.c.at.desc()).limit(limit)
        return [Tick(*row) for row in self._rows(statement)]
