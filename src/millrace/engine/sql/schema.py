"""The tables. Alembic's migrations build them; a test holds the two against each other.

Times are epoch seconds, flags 0 or 1, and JSON is kept as text, so that the hot statements can
run on the raw driver of either database with the same parameters.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

BigId = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("seq", BigId, primary_key=True, autoincrement=True),
    Column("id", String(128), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("label", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("parallelism", Integer),
    Column("held", SmallInteger, nullable=False),
    Column("planning", SmallInteger, nullable=False),
    Column("cancel_requested", SmallInteger, nullable=False),
    Column("stages", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("meta", Text, nullable=False),
    Column("callbacks", Text, nullable=False),
    Column("owns", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("queued", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("size_total", Double, nullable=False),
    Column("size_done", Double, nullable=False),
    Column("eta_at", Double),
    Column("error", Text),
    Column("scope", Text),
    Column("ttl", Double),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("updated_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("expires_at", Double),
    Column("last_event", BigInteger, nullable=False),
    Column("notify", Text, nullable=False, server_default="[]"),
    sqlite_autoincrement=True,
)

_ACTIVE = "state IN ('queued', 'running')"

Index("jobs_by_kind", jobs.c.kind, jobs.c.seq)
Index("jobs_by_state", jobs.c.state, jobs.c.seq)
Index("jobs_by_update", jobs.c.updated_at, jobs.c.seq)
Index(
    "jobs_expiring",
    jobs.c.expires_at,
    sqlite_where=text("expires_at IS NOT NULL"),
    postgresql_where=text("expires_at IS NOT NULL"),
)
Index(
    "jobs_scope",
    jobs.c.kind,
    jobs.c.scope,
    unique=True,
    sqlite_where=text(f"scope IS NOT NULL AND {_ACTIVE}"),
    postgresql_where=text(f"scope IS NOT NULL AND {_ACTIVE}"),
)

items = Table(
    "items",
    metadata,
    Column("job", BigId, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("uid", String(128)),
    Column("key", Text),
    Column("name", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("stage", SmallInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("lease_until", Double),
    Column("available_at", Double, nullable=False),
    Column("size", Double, nullable=False),
    Column("input", Text, nullable=False),
    Column("results", Text),
    Column("error", Text),
    Column("progress", Double, nullable=False),
    Column("phase", Text, nullable=False),
    Column("started_at", Double),
    Column("updated_at", Double, nullable=False),
    Column("finished_at", Double),
    PrimaryKeyConstraint("job", "idx"),
    sqlite_with_rowid=False,
)

Index(
    "items_ready",
    items.c.job,
    items.c.stage,
    items.c.available_at,
    items.c.idx,
    sqlite_where=text("state = 'queued'"),
    postgresql_where=text("state = 'queued'"),
)
Index(
    "items_running",
    items.c.job,
    items.c.idx,
    sqlite_where=text("state = 'running'"),
    postgresql_where=text("state = 'running'"),
)
Index(
    "items_failed",
    items.c.job,
    items.c.idx,
    sqlite_where=text("state = 'failed'"),
    postgresql_where=text("state = 'failed'"),
)
Index(
    "items_by_uid",
    items.c.uid,
    unique=True,
    sqlite_where=text("uid IS NOT NULL"),
    postgresql_where=text("uid IS NOT NULL"),
)
Index(
    "items_by_key",
    items.c.job,
    items.c.key,
    unique=True,
    sqlite_where=text("key IS NOT NULL"),
    postgresql_where=text("key IS NOT NULL"),
)

runs = Table(
    "runs",
    metadata,
    Column("job", BigId, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("stage", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double, nullable=False),
    Column("worker", String(128), nullable=False),
    PrimaryKeyConstraint("job", "idx", "attempt"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("job", BigId, nullable=False),
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("at", Double, nullable=False),
    Column("type", String(32), nullable=False),
    Column("idx", Integer),
    Column("data", Text, nullable=False),
    PrimaryKeyConstraint("job", "seq"),
    sqlite_with_rowid=False,
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("job", BigId, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("name", String(255), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("key", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("job", "idx", "name"),
    sqlite_with_rowid=False,
)

Index("artifacts_by_key", artifacts.c.key)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(512), primary_key=True),
    Column("body", String(128), nullable=False),
    Column("job", String(128), nullable=False),
    Column("at", Double, nullable=False),
    sqlite_with_rowid=False,
)
Index("idempotency_by_job", idempotency.c.job)

records = Table(
    "records",
    metadata,
    Column("seq", BigId, primary_key=True, autoincrement=True),
    Column("namespace", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("data", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("records_by_key", records.c.namespace, records.c.key, records.c.seq)

facts = Table(
    "facts",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("value", Text, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", BigId, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job", String(128), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("url", Text, nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("status", Integer),
    Column("error", Text),
    Column("response", Text),
    Column("channel", String(16), nullable=False, server_default="webhook"),
    sqlite_autoincrement=True,
)
Index("deliveries_by_channel", deliveries.c.channel, deliveries.c.seq)
Index("deliveries_by_job", deliveries.c.job, deliveries.c.seq)
Index(
    "deliveries_due",
    deliveries.c.next_at,
    sqlite_where=text("state = 'pending'"),
    postgresql_where=text("state = 'pending'"),
)
Index(
    "deliveries_ended",
    deliveries.c.finished_at,
    sqlite_where=text("finished_at IS NOT NULL"),
    postgresql_where=text("finished_at IS NOT NULL"),
)

presets = Table(
    "presets",
    metadata,
    Column("kind", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("options", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
    sqlite_with_rowid=False,
)

watches = Table(
    "watches",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("spec", Text, nullable=False),
    Column("source", String(16), nullable=False),
    Column("enabled", SmallInteger, nullable=False),
    Column("primed", SmallInteger, nullable=False),
    Column("device", String(64), nullable=False),
    Column("looked_at", Double),
    Column("files", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("last_job", String(128)),
    Column("last_error", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

watched_files = Table(
    "watched_files",
    metadata,
    Column("watch", String(128), nullable=False),
    Column("key", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime", BigInteger, nullable=False),
    Column("job", String(128)),
    Column("idx", Integer),
    Column("at", Double, nullable=False),
    Column("gone_at", Double),
    PrimaryKeyConstraint("watch", "key"),
    sqlite_with_rowid=False,
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("cron", String(200), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("request", Text, nullable=False),
    Column("missed", String(16), nullable=False),
    Column("overlap", SmallInteger, nullable=False),
    Column("enabled", SmallInteger, nullable=False),
    Column("next_at", Double),
    Column("last_at", Double),
    Column("last_job", String(128)),
    Column("last_error", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

ticks = Table(
    "ticks",
    metadata,
    Column("schedule", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("job", String(128)),
    Column("error", Text),
    PrimaryKeyConstraint("schedule", "at"),
    sqlite_with_rowid=False,
)

# -- a cluster's own: calls on their way to workers and back, and what servers ask of the one in charge --

dispatches = Table(
    "dispatches",
    metadata,
    Column("lease", BigInteger, primary_key=True, autoincrement=False),
    Column("queue", String(128), nullable=False),
    Column("resource", String(8), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("slots", SmallInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", String(8), nullable=False),
    Column("worker", String(128)),
    Column("cancel", Text),
    Column("until", Double, nullable=False),
    Column("sent_at", Double, nullable=False),
    Column("claimed_at", Double),
)
Index(
    "dispatches_waiting",
    dispatches.c.resource,
    dispatches.c.priority,
    dispatches.c.lease,
    sqlite_where=text("state = 'sent'"),
    postgresql_where=text("state = 'sent'"),
)
Index("dispatches_by_worker", dispatches.c.worker)

reports = Table(
    "reports",
    metadata,
    Column("seq", BigId, primary_key=True, autoincrement=True),
    Column("lease", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("slots", Text, nullable=False),
    Column("queues", Text, nullable=False),
    Column("workers", Text, nullable=False),
    Column("exchanged", BigInteger, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

servers = Table(
    "servers",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("leads", SmallInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

commands = Table(
    "commands",
    metadata,
    Column("seq", BigId, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("answer", Text),
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("done_at", Double),
)
Index(
    "commands_waiting",
    commands.c.seq,
    sqlite_where=text("done_at IS NULL"),
    postgresql_where=text("done_at IS NULL"),
)
