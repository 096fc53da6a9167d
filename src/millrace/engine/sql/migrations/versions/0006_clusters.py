"""Calls on their way to the workers of a cluster and back, and what servers ask of the one in charge."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SENT = sa.text("state = 'sent'")
_WAITING = sa.text("done_at IS NULL")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "dispatches",
        sa.Column("lease", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("queue", sa.String(length=128), nullable=False),
        sa.Column("resource", sa.String(length=8), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("slots", sa.SmallInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("cancel", sa.Text(), nullable=True),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("lease"),
    )
    op.create_index(
        "dispatches_waiting",
        "dispatches",
        ["resource", "priority", "lease"],
        sqlite_where=_SENT,
        postgresql_where=_SENT,
    )
    op.create_index("dispatches_by_worker", "dispatches", ["worker"])
    op.create_table(
        "reports",
        sa.Column("seq", _BIG_ID, autoincrement=True, nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("slots", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("workers", sa.Text(), nullable=False),
        sa.Column("exchanged", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "servers",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("leads", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "commands",
        sa.Column("seq", _BIG_ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("commands_waiting", "commands", ["seq"], sqlite_where=_WAITING, postgresql_where=_WAITING)


def downgrade() -> None:
    """Undo."""
    for table in ("commands", "servers", "nodes", "reports", "dispatches"):
        op.drop_table(table)
