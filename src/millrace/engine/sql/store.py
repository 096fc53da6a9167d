"""The SQL store: connections, migrations, ownership and the reads.

SQLite runs in WAL mode with ``synchronous=FULL``: what was committed survives a power cut. One
connection writes; reads take others from a pool and see only what was committed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import event, func, select
from sqlalchemy.pool import QueuePool

from millrace.engine.model import Artifact, Counts, Event, Item, Job, StageRun, State
from millrace.engine.sql import schema
from millrace.engine.sql.cluster import KEEPALIVE, ClusterSelects
from millrace.engine.sql.deliveries import DeliverySelects
from millrace.engine.sql.migrate import upgrade
from millrace.engine.sql.presets import PresetSelects
from millrace.engine.sql.retention import RetentionSelects
from millrace.engine.sql.schedules import ScheduleSelects
from millrace.engine.sql.transaction import SqlTransaction
from millrace.engine.sql.waiting import WaitingSelects
from millrace.engine.sql.watches import WatchSelects
from millrace.engine.store import JobPage, JobQuery, KindStats, LeadershipLost, Record, Selection
from millrace.errors import InvalidRequest, SettingsError, Unavailable

_OWNER_LOCK = 0x6D696C6C  # "mill": the advisory lock that makes one server the owner of a database
_OWNER_WAIT_SECONDS = 2.0


def _sqlite_engine(url: sa.URL, *, writer: bool) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if writer else 8,
        max_overflow=0 if writer else 8,
        connect_args={"check_same_thread": False, "timeout": 30.0},
        isolation_level="AUTOCOMMIT",
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA cache_size = -32768")
        cursor.execute("PRAGMA temp_store = MEMORY")
        if not writer:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    return engine


class SqlStore(
    DeliverySelects,
    PresetSelects,
    ScheduleSelects,
    RetentionSelects,
    WaitingSelects,
    WatchSelects,
    ClusterSelects,
):
    """Jobs in SQLite or PostgreSQL; see ``engine.store.Store``."""

    def __init__(self, url: str, *, lock_file: Path | None = None) -> None:
        try:
            self._url = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise SettingsError(f"database: {url!r} is not a database URL ({error})") from error
        self.dialect = self._url.get_backend_name()
        self._lock_file = lock_file
        self._lock: int | None = None
        self._owning = False
        self._shared = False
        self._epoch: str | None = None
        self._writing = threading.Lock()
        if self.dialect == "sqlite":
            if not self._url.database or self._url.database == ":memory:":
                raise SettingsError("database: SQLite needs a file, several connections share it")
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            self._write_engine = _sqlite_engine(self._url, writer=True)
            self._read_engine = _sqlite_engine(self._url, writer=False)
        elif self.dialect == "postgresql":
            self._url = self._url.set(drivername="postgresql+psycopg")
            self._write_engine = sa.create_engine(
                self._url, pool_size=2, isolation_level="AUTOCOMMIT", connect_args=dict(KEEPALIVE)
            )
            event.listen(self._write_engine, "connect", _notice_the_dead)
            self._read_engine = sa.create_engine(
                self._url,
                pool_size=8,
                pool_pre_ping=True,
                isolation_level="AUTOCOMMIT",
                connect_args=dict(KEEPALIVE),
            )
        else:
            raise SettingsError(f"database: {self.dialect!r} is not supported; use sqlite or postgresql")
        upgrade(self._write_engine)
        self._raw = self._write_engine.raw_connection()

    # -- ownership and transactions -----------------------------------------------------------

    def acquire(self) -> None:
        """Become the owner of the data; Unavailable while another server is."""
        if self.dialect == "postgresql":
            self._acquire_advisory_lock()
            self._owning = True
            return
        path = self._lock_file or Path(f"{self._url.database}.lock")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise Unavailable(f"another server already owns the data directory ({path} is locked)") from error
        self._lock = handle

    def _acquire_advisory_lock(self) -> None:
        deadline = time.monotonic() + _OWNER_WAIT_SECONDS
        while not self._try_lock():
            # PostgreSQL takes a moment to notice that the last owner was killed.
            if time.monotonic() >= deadline:
                raise Unavailable(f"another server already owns the database {self._url.database!r}")
            time.sleep(0.05)

    def _try_lock(self) -> bool:
        """Take the advisory lock on the writing connection: whoever loses that has lost the lock."""
        connection = self._raw.dbapi_connection
        assert connection is not None
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (_OWNER_LOCK,))
            return cursor.fetchone() == (True,)

    def lead(self) -> bool:
        """Try to be the one in charge of a database that several servers share; whether this one is."""
        with self._writing:
            self._shared, self._owning, self._epoch = True, False, None
            self._reconnect()
            self._owning = self._try_lock()
            return self._owning

    def fence(self, epoch: str) -> None:
        """Have every transaction fail, with LeadershipLost, once the fact ``lease_epoch`` is another."""
        self._epoch = epoch

    def depose(self) -> None:
        """Cut the connection of the server in charge: it does not answer any more."""
        with self._read_engine.connect() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(l.pid) "
                    "FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                    "WHERE l.locktype = 'advisory' AND l.objid = :lock AND l.granted "
                    "AND d.datname = current_database()"
                ),
                {"lock": _OWNER_LOCK},
            )

    @contextmanager
    def begin(self) -> Iterator[SqlTransaction]:
        """One write transaction; commits at the end, rolls back when the block raises."""
        with self._writing:
            if self.dialect == "postgresql":
                self._reconnect()
            connection = self._raw.dbapi_connection
            assert connection is not None
            cursor = connection.cursor()
            driver_error = self._write_engine.dialect.loaded_dbapi.Error
            cursor.execute("BEGIN IMMEDIATE" if self.dialect == "sqlite" else "BEGIN")
            try:
                if self._epoch is not None:
                    self._check_epoch(cursor)
                yield SqlTransaction(cursor, self.dialect, driver_error)
                cursor.execute("COMMIT")
            except BaseException:
                # A broken connection has rolled back by itself; the first error is the one to tell.
                with contextlib.suppress(driver_error):
                    cursor.execute("ROLLBACK")
                raise
            finally:
                cursor.close()

    def _reconnect(self) -> None:
        connection = self._raw.dbapi_connection
        if connection is None or connection.closed:
            if connection is not None:
                self._raw.invalidate()
            self._raw = self._write_engine.raw_connection()
            # The lock went with its connection, and another server may have taken it.
            if self._owning and self._shared and not self._try_lock():
                raise LeadershipLost("another server is in charge")
            if self._owning and not self._shared:
                self._acquire_advisory_lock()

    def _check_epoch(self, cursor: Any) -> None:
        # The lock on the row holds up a new leader, which changes it first of all, until this commit.
        cursor.execute(
            "SELECT 1 FROM facts WHERE name = 'lease_epoch' AND value = %s FOR SHARE", (self._epoch,)
        )
        if cursor.fetchone() is None:
            raise LeadershipLost("another server has been in charge since")

    def close(self) -> None:
        """Close all connections and give up ownership."""
        if self.dialect == "postgresql" and self._raw.dbapi_connection is not None:
            # Back in the pool it would keep the lock until it is collected.
            self._raw.invalidate()
        self._raw.close()
        self._write_engine.dispose()
        self._read_engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def ping(self) -> None:
        """Raise Unavailable when the database does not answer."""
        try:
            with self._read_engine.connect() as connection:
                connection.execute(select(1))
        except sa.exc.SQLAlchemyError as error:
            raise Unavailable(f"the database does not answer: {error}") from error

    # -- reads --------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        """Read one job."""
        row = self._one(select(schema.jobs).where(schema.jobs.c.id == job_id))
        return _job(row) if row else None

    def live_progress(self, job_ids: Sequence[str]) -> dict[str, float]:
        """Return job → the summed progress of its running items, as stored."""
        table = schema.items
        rows = self._rows(
            select(schema.jobs.c.id, func.sum(table.c.progress))
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(schema.jobs.c.id.in_(list(job_ids)), table.c.state == sa.literal_column("'running'"))
            .group_by(schema.jobs.c.id)
        )
        return {row[0]: float(row[1]) for row in rows}

    def jobs(self, query: JobQuery) -> JobPage:
        """Read a page of jobs, newest first."""
        table = schema.jobs
        conditions = []
        if query.kind is not None:
            conditions.append(table.c.kind == query.kind)
        if query.states:
            conditions.append(table.c.state.in_([state.value for state in query.states]))
        if query.any_of:
            conditions.append(sa.or_(*map(_selected, query.any_of)))
        if query.text:
            pattern = (
                "%" + query.text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            )
            conditions.append(
                sa.or_(
                    func.lower(table.c.id).like(pattern, escape="\\"),
                    func.lower(table.c.label).like(pattern, escape="\\"),
                )
            )
        by_update = query.order == "updated_at"
        total_statement = select(func.count()).select_from(table).where(*conditions)
        page = select(table).where(*conditions)
        if by_update:
            page = page.order_by(table.c.updated_at.desc(), table.c.seq.desc())
        else:
            page = page.order_by(table.c.seq.desc())
        if query.cursor is not None:
            at, seq = _decode_cursor(query.cursor)
            if by_update:
                page = page.where(
                    sa.or_(table.c.updated_at < at, sa.and_(table.c.updated_at == at, table.c.seq < seq))
                )
            else:
                page = page.where(table.c.seq < seq)
        elif query.offset:
            page = page.offset(query.offset)
        with self._read_engine.connect() as connection:
            total = connection.scalar(total_statement) or 0
            rows = connection.execute(page.limit(query.limit + 1)).all()
        jobs = [_job(row) for row in rows[: query.limit]]
        more = len(rows) > query.limit and jobs
        return JobPage(jobs, total, _encode_cursor(jobs[-1]) if more else None)

    def items(self, job_id: str, after: int, limit: int, states: Sequence[State]) -> list[Item]:
        """Read items in order of idx, beginning behind ``after``."""
        table = schema.items
        statement = (
            select(schema.jobs.c.id.label("job_id"), table)
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(schema.jobs.c.id == job_id, table.c.idx > max(after, -1))
            .order_by(table.c.idx)
            .limit(limit)
        )
        if len(states) == 1:
            # As a literal: SQLite sees only then that a partial index fits, and must still be told to use it.
            statement = statement.where(table.c.state == sa.literal_column(f"'{states[0].value}'"))
            if states[0] in (State.FAILED, State.RUNNING):
                statement = statement.with_hint(table, f"INDEXED BY items_{states[0].value}", "sqlite")
        elif states:
            statement = statement.where(table.c.state.in_([state.value for state in states]))
        return [_item(row) for row in self._rows(statement)]

    def item(self, job_id: str, idx: int) -> Item | None:
        """Read one item."""
        table = schema.items
        row = self._one(
            select(schema.jobs.c.id.label("job_id"), table)
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(schema.jobs.c.id == job_id, table.c.idx == idx)
        )
        return _item(row) if row else None

    def item_by_uid(self, uid: str) -> Item | None:
        """Read the item that has this uid."""
        table = schema.items
        row = self._one(
            select(schema.jobs.c.id.label("job_id"), table)
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(table.c.uid == uid)
        )
        return _item(row) if row else None

    def artifacts(self, job_id: str, idx: int | None) -> list[Artifact]:
        """Read what a job (or one of its items) has published."""
        table = schema.artifacts
        statement = (
            select(schema.jobs.c.id.label("job_id"), table)
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(schema.jobs.c.id == job_id)
            .order_by(table.c.idx, table.c.name)
        )
        if idx is not None:
            statement = statement.where(table.c.idx == idx)
        return [_artifact(row) for row in self._rows(statement)]

    def artifact(self, job_id: str, idx: int, name: str) -> Artifact | None:
        """Read one artifact."""
        table = schema.artifacts
        row = self._one(
            select(schema.jobs.c.id.label("job_id"), table)
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(schema.jobs.c.id == job_id, table.c.idx == idx, table.c.name == name)
        )
        return _artifact(row) if row else None

    def runs(self, job_id: str, idx: int) -> list[StageRun]:
        """Read the attempts of an item, oldest first."""
        table = schema.runs
        rows = self._rows(
            select(table)
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(schema.jobs.c.id == job_id, table.c.idx == idx)
            .order_by(table.c.attempt)
        )
        return [
            StageRun(
                row.idx, row.stage, row.attempt, row.outcome, row.started_at, row.finished_at, row.worker
            )
            for row in rows
        ]

    def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Read a job's log behind event ``after``."""
        table = schema.events
        rows = self._rows(
            select(table)
            .join(schema.jobs, schema.jobs.c.seq == table.c.job)
            .where(schema.jobs.c.id == job_id, table.c.seq > after)
            .order_by(table.c.seq)
            .limit(limit)
        )
        return [Event(job_id, row.seq, row.at, row.type, row.idx, orjson.loads(row.data)) for row in rows]

    def stats(self, kind: str | None) -> list[KindStats]:
        """Count jobs and items by kind and state."""
        table = schema.jobs
        finished = table.c.finished_at - table.c.started_at
        statement = select(
            table.c.kind,
            table.c.state,
            func.count(),
            func.sum(table.c.queued),
            func.sum(table.c.running),
            func.sum(table.c.succeeded),
            func.sum(table.c.skipped),
            func.sum(table.c.failed),
            func.sum(table.c.cancelled),
            func.sum(finished),
            func.count(finished),
        ).group_by(table.c.kind, table.c.state)
        if kind is not None:
            statement = statement.where(table.c.kind == kind)
        kinds: dict[str, tuple[dict[State, int], dict[State, int], list[float]]] = {}
        for row in self._rows(statement):
            jobs, items, spent = kinds.setdefault(row[0], ({}, dict.fromkeys(State, 0), [0.0, 0.0]))
            jobs[State(row[1])] = row[2]
            for state, number in zip(State, row[3:9], strict=True):
                items[state] += int(number or 0)
            spent[0] += float(row[9] or 0.0)
            spent[1] += row[10]
        return [
            KindStats(name, jobs, items, spent[0] / spent[1] if spent[1] else None)
            for name, (jobs, items, spent) in sorted(kinds.items())
        ]

    def records(self, namespace: str, key: str | None, limit: int) -> list[Record]:
        """Read records, oldest first (the newest ``limit`` of them)."""
        table = schema.records
        statement = select(table).where(table.c.namespace == namespace)
        if key is not None:
            statement = statement.where(table.c.key == key)
        rows = self._rows(statement.order_by(table.c.seq.desc()).limit(limit))
        return [Record(row.seq, row.key, row.at, orjson.loads(row.data)) for row in reversed(rows)]

    def oldest_queued(self) -> float | None:
        """Return when the oldest job that waits was created."""
        table = schema.jobs
        row = self._one(
            select(func.min(table.c.created_at)).where(table.c.state == State.QUEUED.value, table.c.held == 0)
        )
        return None if row is None or row[0] is None else float(row[0])

    def expired(self, now: float, limit: int) -> list[tuple[str, str]]:
        """Return (id, kind) of finished jobs whose time to live is over."""
        table = schema.jobs
        rows = self._rows(
            select(table.c.id, table.c.kind)
            .where(table.c.expires_at.is_not(None), table.c.expires_at <= now)
            .order_by(table.c.expires_at)
            .limit(limit)
        )
        return [(row[0], row[1]) for row in rows]


def open_store(url: str, *, lock_file: Path | None = None) -> SqlStore:
    """Open (and create or upgrade) the store at a database URL."""
    return SqlStore(url, lock_file=lock_file)


def _notice_the_dead(connection: Any, _: Any) -> None:
    """Have PostgreSQL notice within some seconds that this machine is gone, and give up its lock."""
    for name, value in (
        ("tcp_keepalives_idle", 1),
        ("tcp_keepalives_interval", 1),
        ("tcp_keepalives_count", 2),
        ("tcp_user_timeout", 3000),
    ):
        connection.execute(f"SET {name} = {value}")


def libpq(url: str | sa.URL) -> str:
    """Return a PostgreSQL URL as libpq takes it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _selected(selection: Selection) -> sa.ColumnElement[bool]:
    table = schema.jobs
    conditions = [table.c.state == selection.state.value]
    if selection.kind is not None:
        conditions.append(table.c.kind == selection.kind)
    if selection.held is not None:
        conditions.append(table.c.held == int(selection.held))
    return sa.and_(*conditions)


def _encode_cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([job.updated_at, job.seq])).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[float, int]:
    try:
        at, seq = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(at), int(seq)
    except ValueError as error:
        raise InvalidRequest(f"cursor: {cursor!r} is not one this server gave out") from error


def _optional_json(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def _job(row: Any) -> Job:
    counts = Counts(row.total, row.queued, row.running, row.succeeded, row.skipped, row.failed, row.cancelled)
    state = State(row.state)
    stages = tuple(orjson.loads(row.stages))
    work = row.size_total * max(1, len(stages))
    progress = (
        1.0
        if state.final and state is not State.CANCELLED
        else min(1.0, row.size_done / work)
        if work
        else 0.0
    )
    return Job(
        seq=row.seq,
        id=row.id,
        kind=row.kind,
        state=state,
        label=row.label,
        priority=row.priority,
        parallelism=row.parallelism,
        held=bool(row.held),
        planning=bool(row.planning),
        cancel_requested=bool(row.cancel_requested),
        stages=stages,
        options=orjson.loads(row.options),
        meta=orjson.loads(row.meta),
        callbacks=tuple(orjson.loads(row.callbacks)),
        notify=tuple(orjson.loads(row.notify)),
        owns=tuple(orjson.loads(row.owns)),
        counts=counts,
        progress=progress,
        eta_at=row.eta_at,
        error=_optional_json(row.error),
        scope=row.scope,
        created_at=row.created_at,
        started_at=row.started_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        last_event=row.last_event,
    )


def _item(row: Any) -> Item:
    return Item(
        job=row.job_id,
        idx=row.idx,
        uid=row.uid,
        name=row.name,
        state=State(row.state),
        stage=row.stage,
        attempt=row.attempt,
        progress=row.progress,
        phase=row.phase,
        input=orjson.loads(row.input),
        results=_optional_json(row.results) or {},
        error=_optional_json(row.error),
        size=row.size,
        available_at=row.available_at,
        started_at=row.started_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
    )


def _artifact(row: Any) -> Artifact:
    return Artifact(
        job=row.job_id,
        idx=row.idx,
        name=row.name,
        stage=row.stage,
        bytes=row.bytes,
        sha256=row.sha256,
        media_type=row.media_type,
        key=row.key,
        created_at=row.created_at,
    )
