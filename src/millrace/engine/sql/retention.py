"""What the SQL store does for retention; see ``engine.retention``."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from sqlalchemy import Column, select

from millrace.engine.sql import schema
from millrace.engine.sql.statements import Selects, Statements

_AT_ONCE = 500


class RetentionStatements(Statements):
    """The writes; a part of ``SqlTransaction``."""

    def delete_job_rows(self, job_id: str, limit: int) -> bool:
        """Delete up to ``limit`` rows of each of a job's tables; the job itself when nothing else is left."""
        row = self._run("SELECT seq FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            return True
        deleted = 0
        for table, column in (("artifacts", "idx"), ("runs", "idx"), ("events", "seq"), ("items", "idx")):
            # The rows of an item go together, so a batch may be a little larger than its limit.
            deleted += self._run(
                f"DELETE FROM {table} WHERE job = ? AND {column} <= (SELECT max({column}) FROM "
                f"(SELECT {column} FROM {table} WHERE job = ? ORDER BY {column} LIMIT ?) AS oldest)",
                (row[0], row[0], limit),
            ).rowcount
        if deleted:
            return False
        self._run("DELETE FROM idempotency WHERE job = ?", (job_id,))
        self._run("DELETE FROM jobs WHERE seq = ?", (row[0],))
        return True


class RetentionSelects(Selects):
    """The reads; a part of ``SqlStore``."""

    def owned(self) -> set[str]:
        """Return all prefixes of blobs that jobs own."""
        table = schema.jobs
        rows = self._rows(select(table.c.owns).where(table.c.owns != "[]"))
        return {prefix for row in rows for prefix in orjson.loads(row[0])}

    def nameless(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that no artifact has."""
        wanted = set(keys)
        return wanted - self._there(schema.artifacts.c.key, wanted)

    def known_jobs(self, ids: Iterable[str]) -> set[str]:
        """Return those ids that are jobs'."""
        return self._there(schema.jobs.c.id, ids)

    def _there(self, column: Column[str], values: Iterable[str]) -> set[str]:
        """Return those values that a column holds."""
        wanted = list(values)
        found: set[str] = set()
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            found.update(row[0] for row in self._rows(select(column).where(column.in_(some))))
        return found

    def kept_by_others(self, job_id: str, keys: Iterable[str], prefixes: Iterable[str]) -> set[str]:
        """Return those keys and prefixes that another job refers to as well."""
        jobs, artifacts = schema.jobs, schema.artifacts
        kept: set[str] = set()
        wanted = list(keys)
        for start in range(0, len(wanted), _AT_ONCE):
            rows = self._rows(
                select(artifacts.c.key)
                .join(jobs, jobs.c.seq == artifacts.c.job)
                .where(artifacts.c.key.in_(wanted[start : start + _AT_ONCE]), jobs.c.id != job_id)
            )
            kept.update(row[0] for row in rows)
        for prefix in prefixes:
            text = orjson.dumps(prefix).decode()
            rows = self._rows(
                select(jobs.c.id)
                .where(jobs.c.owns != "[]", jobs.c.id != job_id, jobs.c.owns.contains(text, autoescape=True))
                .limit(1)
            )
            if rows:
                kept.add(prefix)
        return kept
