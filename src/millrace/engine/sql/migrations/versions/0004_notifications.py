"""Notifications: deliveries by other channels than webhooks, and whom a job tells."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "deliveries", sa.Column("channel", sa.String(length=16), nullable=False, server_default="webhook")
    )
    op.create_index("deliveries_by_channel", "deliveries", ["channel", "seq"])
    op.add_column("jobs", sa.Column("notify", sa.Text(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Undo."""
    op.drop_column("jobs", "notify")
    op.drop_index("deliveries_by_channel", "deliveries")
    op.drop_column("deliveries", "channel")
