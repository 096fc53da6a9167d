"""What the SQL store keeps of watched folders and their files; see ``engine.watches``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import func, select

from millrace.engine.looking import KnownFile
from millrace.engine.sql import schema
from millrace.engine.sql.statements import Selects, Statements
from millrace.engine.watches import Watch, WatchJob, WatchSpec

_COLUMNS = (
    "id, spec, source, enabled, primed, device, looked_at, files, pending, last_job, last_error, "
    "created_at, updated_at"
)


def _key(path: str) -> str:
    """Return what a path is found by: paths may be longer than an index takes."""
    return hashlib.sha256(path.encode()).hexdigest()


def _watch(row: Any) -> Watch:
    values = list(row)
    values[1] = WatchSpec(**orjson.loads(values[1]))
    values[3], values[4] = bool(values[3]), bool(values[4])
    return Watch(*values)


class WatchStatements(Statements):
    """The writes; a part of ``SqlTransaction``."""

    def put_watch(self, watch: Watch) -> None:
        """Add a watched folder, or write all of it."""
        names = _COLUMNS.split(", ")
        changed = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        self._run(
            f"INSERT INTO watches ({_COLUMNS}) VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT (id) DO UPDATE SET {changed}",
            (
                watch.id,
                orjson.dumps(asdict(watch.spec)).decode(),
                watch.source,
                int(watch.enabled),
                int(watch.primed),
                watch.device,
                watch.looked_at,
                watch.files,
                watch.pending,
                watch.last_job,
                watch.last_error,
                watch.created_at,
                watch.updated_at,
            ),
        )

    def load_watch(self, id: str) -> Watch | None:
        """Read one for writing."""
        row = self._run(f"SELECT {_COLUMNS} FROM watches WHERE id = ?", (id,)).fetchone()
        return None if row is None else _watch(row)

    def delete_watch(self, id: str) -> bool:
        """Delete one and what it knows; False if there is none."""
        self._run("DELETE FROM watched_files WHERE watch = ?", (id,))
        return bool(self._run("DELETE FROM watches WHERE id = ?", (id,)).rowcount)

    def take_file(self, watch: str, path: str, file: KnownFile, now: float) -> bool:
        """Write down that a file was dealt with; False if it was before, in the same state."""
        cursor = self._run(
            "INSERT INTO watched_files (watch, key, path, size, mtime, job, idx, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (watch, key) DO UPDATE SET size = excluded.size, "
            "mtime = excluded.mtime, job = excluded.job, idx = excluded.idx, at = excluded.at, "
            "gone_at = NULL "
            "WHERE watched_files.size <> excluded.size OR watched_files.mtime <> excluded.mtime",
            (watch, _key(path), path, file.size, file.mtime, file.job, file.idx, now),
        )
        return bool(cursor.rowcount == 1)

    def mark_gone(self, watch: str, paths: Iterable[str], at: float | None) -> None:
        """Write down that files are not there any more, or (None) that they are again."""
        self._many(
            "UPDATE watched_files SET gone_at = ? WHERE watch = ? AND key = ?",
            [(at, watch, _key(path)) for path in paths],
        )

    def forget_gone(self, watch: str, before: float) -> int:
        """Delete what is known of files gone since before that time; return how many."""
        cursor = self._run("DELETE FROM watched_files WHERE watch = ? AND gone_at < ?", (watch, before))
        return int(cursor.rowcount)


class WatchSelects(Selects):
    """The reads; a part of ``SqlStore``."""

    def watches(self) -> list[Watch]:
        """Read all, in order of creation."""
        table = schema.watches
        return [_watch(row) for row in self._rows(_selected().order_by(table.c.created_at, table.c.id))]

    def watch(self, id: str) -> Watch | None:
        """Read one."""
        row = self._one(_selected().where(schema.watches.c.id == id))
        return None if row is None else _watch(row)

    def known_files(self, id: str) -> dict[str, KnownFile]:
        """Read what one has dealt with, by relative path."""
        c = schema.watched_files.c
        rows = self._rows(select(c.path, c.size, c.mtime, c.job, c.idx, c.gone_at).where(c.watch == id))
        return {
            row.path: KnownFile(row.size, row.mtime, row.job, row.idx, row.gone_at is not None)
            for row in rows
        }

    def watch_jobs(self, id: str, limit: int) -> list[WatchJob]:
        """Read the jobs one has made, newest first."""
        c = schema.watched_files.c
        at = func.max(c.at)
        statement = (
            select(c.job, func.count(), at)
            .where(c.watch == id, c.job.is_not(None))
            .group_by(c.job)
            .order_by(at.desc(), c.job)
            .limit(limit)
        )
        return [WatchJob(*row) for row in self._rows(statement)]


def _selected() -> sa.Select[Any]:
    return select(*(schema.watches.c[name] for name in _COLUMNS.split(", ")))
