"""What the SQL store tells of queues; see ``engine.waiting``."""

from __future__ import annotations

import orjson
import sqlalchemy as sa
from sqlalchemy import func, literal, select

from millrace.engine.model import State
from millrace.engine.sql import schema
from millrace.engine.sql.statements import Selects
from millrace.engine.store import PLAN_STAGE
from millrace.engine.waiting import QueueHead

_MOST_STAGES = 8


class WaitingSelects(Selects):
    """The reads; a part of ``SqlStore``."""

    def queue_heads(self, kind: str, now: float, limit: int) -> list[QueueHead]:
        """Return the next item of each stage of the kind's oldest jobs: one look into an index for each."""
        jobs, items = schema.jobs, schema.items
        oldest = (
            select(jobs.c.seq, jobs.c.stages, jobs.c.planning)
            .where(
                jobs.c.kind == kind,
                jobs.c.state.in_((State.QUEUED.value, State.RUNNING.value)),
                jobs.c.held == 0,
                sa.or_(jobs.c.queued > 0, jobs.c.planning == 1),
            )
            .order_by(jobs.c.seq)
            .limit(limit)
            .subquery()
        )
        numbers = range(PLAN_STAGE, _MOST_STAGES)
        stage = sa.union_all(*(select(literal(number).label("number")) for number in numbers)).subquery()
        queued = items.alias("queued")
        since = (
            # Both databases call the larger of two values something else.
            select(
                sa.case(
                    (queued.c.updated_at > queued.c.available_at, queued.c.updated_at),
                    else_=queued.c.available_at,
                )
            )
            .where(
                queued.c.job == oldest.c.seq,
                queued.c.stage == stage.c.number,
                queued.c.state == sa.literal_column("'queued'"),  # as the partial index has it
                queued.c.available_at <= now,
            )
            .order_by(queued.c.available_at, queued.c.idx)
            .limit(1)
            .scalar_subquery()
        )
        at_work = items.alias("at_work")
        running = (
            select(func.min(at_work.c.stage))
            .where(at_work.c.job == oldest.c.seq, at_work.c.state == sa.literal_column("'running'"))
            .scalar_subquery()
        )
        statement = select(
            oldest.c.seq,
            oldest.c.stages,
            oldest.c.planning,
            stage.c.number,
            running.label("running"),
            since.label("since"),
        ).select_from(oldest.join(stage, sa.true()))
        return [
            QueueHead(
                row.seq,
                tuple(orjson.loads(row.stages)),
                bool(row.planning),
                row.number,
                row.running,
                float(row.since),
            )
            for row in self._rows(statement)
            if row.since is not None
        ]
