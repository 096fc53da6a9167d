"""The write side of the SQL store: one transaction's statements, on the raw driver.

The statements run tens of thousands of times a second; SQLAlchemy's compiler would cost more than
the database. They are plain SQL that SQLite and PostgreSQL share, with ``?`` turned into ``%s``
for psycopg; the few differences are marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson

from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.sql.cluster import ClusterStatements
from millrace.engine.sql.deliveries import DeliveryStatements
from millrace.engine.sql.presets import PresetStatements
from millrace.engine.sql.retention import RetentionStatements
from millrace.engine.sql.schedules import ScheduleStatements
from millrace.engine.sql.watches import WatchStatements
from millrace.engine.store import PLAN_STAGE, ArtifactRow, Claimed, ItemUpdate, JobRow, TransactionLost
from millrace.errors import Conflict, IdempotencyConflict, InvalidRequest

T = TypeVar("T")

_JOB_COLUMNS = (
    "seq, id, kind, state, priority, parallelism, held, planning, cancel_requested, stages, options, meta, "
    "total, queued, running, succeeded, skipped, failed, cancelled, size_total, size_done, eta_at, error, "
    "scope, ttl, created_at, started_at, updated_at, finished_at, expires_at, last_event"
)
_INSERT_ITEM = (
    "INSERT INTO items (job, idx, uid, key, name, state, stage, attempt, tries, losses, lease, available_at, "
    "size, input, progress, phase, updated_at) "
    "VALUES (?, ?, ?, ?, ?, 'queued', ?, 0, 0, 0, 0, 0, ?, ?, 0, '', ?)"
)
_FINISH = (
    "UPDATE items SET state = ?, stage = ?, tries = ?, losses = ?, available_at = ?, "
    "results = COALESCE(?, results), error = ?, updated_at = ?, finished_at = ?, progress = 0, "
    "lease_until = NULL "
    "WHERE job = ? AND idx = ? AND lease = ? AND state = 'running'"
)
_SAVE_JOB = (
    "UPDATE jobs SET state = ?, priority = ?, parallelism = ?, held = ?, planning = ?, cancel_requested = ?, "
    "total = ?, queued = ?, running = ?, succeeded = ?, skipped = ?, failed = ?, cancelled = ?, "
    "size_total = ?, size_done = ?, eta_at = ?, error = ?, started_at = ?, updated_at = ?, finished_at = ?, "
    "expires_at = ?, last_event = ? WHERE seq = ?"
)


def dumps(value: Any) -> str:
    """Return compact JSON text; numbers and strings as keys."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def related(one: str, other: str) -> bool:
    """Whether two path-like scopes are the same, or one lies above the other."""
    a, b = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return a.startswith(b) or b.startswith(a)


def _parts(values: Sequence[T]) -> Iterator[tuple[Sequence[T], str]]:
    """Cut a list into parts that fit a statement, each with its parameter marks."""
    for start in range(0, len(values), 500):
        part = values[start : start + 500]
        yield part, ", ".join("?" * len(part))


def _job_row(row: Sequence[Any]) -> JobRow:
    values = list(row)
    values[3] = State(values[3])
    values[6], values[7], values[8] = bool(values[6]), bool(values[7]), bool(values[8])
    values[9] = tuple(orjson.loads(values[9]))
    return JobRow(*values)


class SqlTransaction(
    DeliveryStatements,
    PresetStatements,
    ScheduleStatements,
    RetentionStatements,
    WatchStatements,
    ClusterStatements,
):
    """The statements of one write transaction; see ``engine.store.Transaction``."""

    def __init__(self, cursor: Any, dialect: str, driver_error: type[Exception]) -> None:
        super().__init__(cursor, dialect)
        self._driver_error = driver_error
        self._savepoints = 0

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo only what happened inside when the block raises."""
        self._savepoints += 1
        name = f"sp{self._savepoints}"
        self._run(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException as error:
            try:
                self._run(f"ROLLBACK TO SAVEPOINT {name}")
                self._run(f"RELEASE SAVEPOINT {name}")
            except self._driver_error:
                raise TransactionLost(str(error)) from error
            raise
        self._run(f"RELEASE SAVEPOINT {name}")

    # -- jobs ---------------------------------------------------------------------------------

    def insert_job(self, new: NewJob, stages: Sequence[str], now: float, ttl: float | None) -> JobRow:
        """Create a job and its items; Conflict where its scope is taken or its id is not new."""
        if new.scope is not None:
            self.check_scope(new.kind, new.scope)
        if self._run("SELECT 1 FROM jobs WHERE id = ?", (new.id,)).fetchone():
            raise Conflict(f"a job with the id {new.id!r} exists already")
        cursor = self._run(
            "INSERT INTO jobs (id, kind, state, label, priority, parallelism, held, planning, "
            "cancel_requested, stages, options, meta, callbacks, notify, owns, total, queued, running, "
            "succeeded, skipped, failed, cancelled, size_total, size_done, scope, ttl, created_at, "
            "updated_at, last_event) "
            "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, "
            "?, ?, ?, ?, 0) "
            "RETURNING " + _JOB_COLUMNS,
            (
                new.id,
                new.kind,
                new.label,
                int(new.priority),
                new.parallelism,
                int(new.held),
                int(new.plan),
                dumps(list(stages)),
                dumps(new.options),
                dumps(new.meta),
                dumps(list(new.callbacks)),
                dumps(list(new.notify)),
                dumps(list(new.owns)),
                new.scope,
                ttl,
                now,
                now,
            ),
        )
        job = _job_row(cursor.fetchone())
        self.insert_items(job, new.items)
        if new.plan:
            self.insert_plan(job)
        return job

    def check_scope(self, kind: str, scope: str, but: int | None = None) -> None:
        """Raise Conflict while an unfinished job of the kind works on the scope, above or below it."""
        if self._postgres:
            self._run("SELECT pg_advisory_xact_lock(hashtext(?))", (f"millrace scope {kind}",))
        rows = self._run(
            "SELECT seq, id, scope FROM jobs "
            "WHERE kind = ? AND scope IS NOT NULL AND state IN ('queued', 'running')",
            (kind,),
        ).fetchall()
        for seq, job_id, taken in rows:
            if seq != but and related(scope, taken):
                raise Conflict(f"job {job_id} is already working on {taken}", details={"job_id": job_id})

    def insert_items(self, job: JobRow, items: Sequence[NewItem]) -> tuple[int, float]:
        """Append items (those whose key is there already are dropped); return how many, and their size."""
        fresh = self._without_known_keys(job, items)
        now = job.updated_at
        rows = [
            (
                job.seq,
                job.total + offset,
                item.uid,
                item.key,
                item.name,
                0,
                item.size,
                dumps(item.input) if item.input else "{}",
                now,
            )
            for offset, item in enumerate(fresh)
        ]
        uids = [item.uid for item in fresh if item.uid is not None]
        if len(set(uids)) != len(uids):
            raise InvalidRequest("two items of the job carry the same uid")
        self._many(_INSERT_ITEM, rows)
        size = sum(item.size for item in fresh)
        job.total += len(fresh)
        job.queued += len(fresh)
        job.size_total += size
        return len(fresh), size

    def _without_known_keys(self, job: JobRow, items: Sequence[NewItem]) -> Sequence[NewItem]:
        keys = {item.key for item in items if item.key is not None}
        if not keys:
            return items
        known: set[str] = set()
        if job.total:
            for part, marks in _parts(sorted(keys)):
                rows = self._run(
                    f"SELECT key FROM items WHERE job = ? AND key IN ({marks})", (job.seq, *part)
                )
                known.update(row[0] for row in rows.fetchall())
        fresh = []
        for item in items:
            if item.key is None:
                fresh.append(item)
            elif item.key not in known:
                known.add(item.key)
                fresh.append(item)
        return fresh

    def insert_plan(self, job: JobRow) -> None:
        """Create the hidden item that carries the job's plan call."""
        self._run(_INSERT_ITEM, (job.seq, PLAN_STAGE, None, None, "", PLAN_STAGE, 0.0, "{}", job.updated_at))

    def idempotent(self, key: str, body: str, job_id: str, now: float) -> str | None:
        """Remember the key, or return the job that already has it; IdempotencyConflict with another body."""
        cursor = self._run(
            "INSERT INTO idempotency (key, body, job, at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
            (key, body, job_id, now),
        )
        if cursor.rowcount == 1:
            return None
        known, job = self._run("SELECT body, job FROM idempotency WHERE key = ?", (key,)).fetchone()
        if known != body:
            raise IdempotencyConflict(f"the idempotency key {key!r} was used before with another body")
        return str(job)

    def unfinished_jobs(self, kind: str) -> int:
        """Count jobs of the kind that are queued or running."""
        row = self._run(
            "SELECT count(*) FROM jobs WHERE kind = ? AND state IN ('queued', 'running')", (kind,)
        ).fetchone()
        return int(row[0])

    def load_job(self, job_id: str) -> JobRow | None:
        """Read one job for writing."""
        row = self._run(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return _job_row(row) if row else None

    def active_jobs(self) -> list[JobRow]:
        """Read all jobs that are not finished."""
        rows = self._run(
            f"SELECT {_JOB_COLUMNS} FROM jobs WHERE state IN ('queued', 'running') ORDER BY seq"
        ).fetchall()
        return [_job_row(row) for row in rows]

    def save_jobs(self, jobs: Iterable[JobRow]) -> None:
        """Write the mutable columns of jobs."""
        self._many(
            _SAVE_JOB,
            [
                (
                    job.state.value,
                    job.priority,
                    job.parallelism,
                    int(job.held),
                    int(job.planning),
                    int(job.cancel_requested),
                    job.total,
                    job.queued,
                    job.running,
                    job.succeeded,
                    job.skipped,
                    job.failed,
                    job.cancelled,
                    job.size_total,
                    job.size_done,
                    job.eta_at,
                    job.error,
                    job.started_at,
                    job.updated_at,
                    job.finished_at,
                    job.expires_at,
                    job.last_event,
                    job.seq,
                )
                for job in jobs
            ],
        )

    def set_meta(self, job: JobRow, meta: Mapping[str, Any]) -> None:
        """Replace the contract's own facts about a job."""
        job.meta = dumps(meta)
        self._run("UPDATE jobs SET meta = ? WHERE seq = ?", (job.meta, job.seq))

    # -- items --------------------------------------------------------------------------------

    def stage_counts(self, job: JobRow) -> list[tuple[int, State, int, float]]:
        """Return (stage, state, number, size) of the job's unfinished items; the plan call included."""
        rows = self._run(
            "SELECT stage, state, count(*), sum(size) FROM items "
            "WHERE job = ? AND state IN ('queued', 'running') GROUP BY stage, state",
            (job.seq,),
        ).fetchall()
        return [(stage, State(state), number, size) for stage, state, number, size in rows]

    def claim(
        self, job: JobRow, stage: int, lease: int, until: float, now: float, limit: int
    ) -> list[Claimed]:
        """Make up to ``limit`` available items of that stage running, under one lease."""
        rows = self._run(
            "SELECT idx, name, uid, input, results, tries, losses, attempt, size FROM items "
            "WHERE job = ? AND stage = ? AND state = 'queued' AND available_at <= ? "
            "ORDER BY available_at, idx LIMIT ?" + (" FOR UPDATE SKIP LOCKED" if self._postgres else ""),
            (job.seq, stage, now, limit),
        ).fetchall()
        claimed: list[Claimed] = []
        for row in rows:
            item = Claimed(*row)
            if item.losses and claimed:
                break
            item.attempt += 1
            claimed.append(item)
            if item.losses:
                break
        self._many(
            "UPDATE items SET state = 'running', lease = ?, lease_until = ?, attempt = attempt + 1, "
            "started_at = COALESCE(started_at, ?), updated_at = ? WHERE job = ? AND idx = ?",
            [(lease, until, now, now, job.seq, item.idx) for item in claimed],
        )
        return claimed

    def renew(self, leases: Sequence[int], until: float) -> None:
        """Move the deadline of running items."""
        if leases:
            marks = ", ".join("?" * len(leases))
            self._run(
                f"UPDATE items SET lease_until = ? WHERE state = 'running' AND lease IN ({marks})",
                (until, *leases),
            )

    def finish(self, updates: Sequence[ItemUpdate]) -> list[bool]:
        """Apply the end of attempts; False for each whose lease no longer holds (nothing changed then)."""
        if not updates:
            return []
        self._run("SAVEPOINT finish")
        if self._many(_FINISH, updates) == len(updates):
            self._run("RELEASE SAVEPOINT finish")
            return [True] * len(updates)
        # A stale one is among them; which one, only single statements tell.
        self._run("ROLLBACK TO SAVEPOINT finish")
        self._run("RELEASE SAVEPOINT finish")
        return [self._run(_FINISH, update).rowcount == 1 for update in updates]

    def next_available(self, job: JobRow, stage: int) -> float | None:
        """Return when the first queued item of the stage may run; None when there is none."""
        row = self._run(
            "SELECT available_at FROM items WHERE job = ? AND stage = ? AND state = 'queued' "
            "ORDER BY available_at LIMIT 1",
            (job.seq, stage),
        ).fetchone()
        return None if row is None else float(row[0])

    def end_queued(self, job: JobRow, now: float, error: str | None, state: State) -> list[int]:
        """End all queued items of the job in ``state``; return which, ascending."""
        rows = self._run(
            "UPDATE items SET state = ?, error = ?, updated_at = ?, finished_at = ? "
            "WHERE job = ? AND state = 'queued' RETURNING idx",
            (state.value, error, now, now, job.seq),
        ).fetchall()
        return sorted(row[0] for row in rows)

    def requeue_running(self, now: float, alive: Sequence[int] = ()) -> int:
        """Put running items back in their queues, but those whose lease is ``alive``; count all jobs anew."""
        but = f" AND lease NOT IN ({', '.join('?' * len(alive))})" if alive else ""
        moved = self._run(
            "UPDATE items SET state = 'queued', lease = 0, lease_until = NULL, progress = 0, updated_at = ? "
            f"WHERE state = 'running'{but}",
            (now, *alive),
        ).rowcount
        run_on = "(SELECT count(*) FROM items WHERE job = jobs.seq AND state = 'running' AND idx >= 0)"
        self._run(
            f"UPDATE jobs SET queued = queued + running - {run_on}, running = {run_on} WHERE running > 0"
        )
        return int(moved)

    def running_items(self, job: JobRow) -> list[tuple[int, int, int, int, int]]:
        """Return (idx, stage, tries, losses, lease) of the job's running items."""
        rows = self._run(
            "SELECT idx, stage, tries, losses, lease FROM items "
            "WHERE job = ? AND state = 'running' ORDER BY idx",
            (job.seq,),
        ).fetchall()
        return [tuple(row) for row in rows]

    def retry_items(
        self, job: JobRow, idxs: Sequence[int] | None, now: float
    ) -> list[tuple[int, int, float]]:
        """Queue failed items (all, or those named, cancelled ones too) again; return (idx, stage, size)."""
        update = (
            "UPDATE items SET state = 'queued', tries = 0, losses = 0, available_at = 0, error = NULL, "
            "finished_at = NULL, updated_at = ? WHERE job = ? AND {} RETURNING idx, stage, size"
        )
        if idxs is None:
            rows = self._run(update.format("state = 'failed'"), (now, job.seq)).fetchall()
        else:
            rows = []
            for part, marks in _parts(idxs):
                where = f"state IN ('failed', 'cancelled') AND idx IN ({marks})"
                rows += self._run(update.format(where), (now, job.seq, *part)).fetchall()
        return [tuple(row) for row in sorted(rows)]

    def ended_items(self, job: JobRow, idxs: Sequence[int] | None) -> list[tuple[int, str]]:
        """Return (idx, state) of the job's failed and cancelled items: all, or those named."""
        query = "SELECT idx, state FROM items WHERE job = ? AND state IN ('failed', 'cancelled')"
        if idxs is None:
            return [(row[0], row[1]) for row in self._run(query, (job.seq,)).fetchall()]
        found: list[tuple[int, str]] = []
        for part, marks in _parts(idxs):
            found += self._run(f"{query} AND idx IN ({marks})", (job.seq, *part)).fetchall()
        return found

    def progress(self, rows: Sequence[tuple[float, str, float, int, int, int]]) -> None:
        """Store live progress: (fraction, phase, updated_at, job, idx, lease)."""
        self._many(
            "UPDATE items SET progress = ?, phase = ?, updated_at = ? "
            "WHERE job = ? AND idx = ? AND lease = ? AND state = 'running'",
            rows,
        )

    # -- what goes with them ------------------------------------------------------------------

    def insert_events(self, rows: Sequence[tuple[int, int, float, str, int | None, str]]) -> None:
        """Append (job, seq, at, type, idx, data as JSON)."""
        self._many("INSERT INTO events (job, seq, at, type, idx, data) VALUES (?, ?, ?, ?, ?, ?)", rows)

    def insert_runs(self, rows: Sequence[tuple[int, int, int, str, str, float, float, str]]) -> None:
        """Append (job, idx, attempt, stage, outcome, started_at, finished_at, worker)."""
        self._many(
            "INSERT INTO runs (job, idx, attempt, stage, outcome, started_at, finished_at, worker) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def insert_artifacts(self, rows: Sequence[ArtifactRow]) -> None:
        """Add artifacts, each in place of an older one of that name."""
        self._many(
            "INSERT INTO artifacts (job, idx, name, stage, bytes, sha256, media_type, key, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, idx, name) DO UPDATE SET "
            "stage = excluded.stage, bytes = excluded.bytes, sha256 = excluded.sha256, "
            "media_type = excluded.media_type, key = excluded.key, created_at = excluded.created_at",
            rows,
        )

    def artifact_keys(self, job: JobRow, idxs: Sequence[int]) -> dict[int, dict[str, str]]:
        """Return idx → name → key of what these items have published."""
        keys: dict[int, dict[str, str]] = {}
        marks = ", ".join("?" * len(idxs))
        rows = self._run(
            f"SELECT idx, name, key FROM artifacts WHERE job = ? AND idx IN ({marks})", (job.seq, *idxs)
        ).fetchall()
        for idx, name, key in rows:
            keys.setdefault(idx, {})[name] = key
        return keys

    def put_record(self, namespace: str, key: str, data: Mapping[str, Any], now: float) -> int:
        """Append a record; return its number."""
        row = self._run(
            "INSERT INTO records (namespace, key, at, data) VALUES (?, ?, ?, ?) RETURNING seq",
            (namespace, key, now, dumps(data)),
        ).fetchone()
        return int(row[0])

    def delete_records(self, namespace: str, key: str) -> int:
        """Delete the records of a key; return how many there were."""
        return int(
            self._run("DELETE FROM records WHERE namespace = ? AND key = ?", (namespace, key)).rowcount
        )

    def fact(self, name: str) -> str | None:
        """Return a fact the engine keeps for itself."""
        row = self._run("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Keep a fact."""
        self._run(
            "INSERT INTO facts (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )
