"""Calls and reports as the JSON text that travels through the database. Pure; nothing is ever unpickled."""

from __future__ import annotations

from typing import Any

import orjson

from millrace.engine import wire
from millrace.engine.artifacts import Staged
from millrace.engine.executors import Added, Call, Done, Ended, Lost, Progress, Report
from millrace.engine.model import NewItem
from millrace.engine.store import Claimed
from millrace.engine.workload import Stage


def queue_of(kind: str, stage: Stage) -> str:
    """Return the name of a stage's queue: its own, else ``resource.kind.stage``."""
    return stage.queue or f"{stage.resource}.{kind}.{stage.name}"


def payload(call: Call) -> str:
    """Write a call down."""
    stage = call.stage
    return wire.dumps(
        {
            "job": call.job,
            "kind": call.kind,
            "stage": [stage.name, stage.run, stage.resource, stage.timeout, stage.soft_timeout, stage.memory],
            "options": call.options,
            "meta": call.meta,
            "slots": call.slots,
            "items": [
                [i.idx, i.name, i.uid, i.input, i.results, i.tries, i.losses, i.attempt, i.size]
                for i in call.items
            ],
            "artifacts": call.artifacts,
        }
    ).decode()


def call_of(lease: int, text: str) -> Call:
    """Read a call; ValueError, KeyError or TypeError where the text is none."""
    found = orjson.loads(text)
    name, run, resource, timeout, soft, memory = found["stage"]
    return Call(
        lease=lease,
        job=found["job"],
        kind=found["kind"],
        stage=Stage(name, run, resource, timeout=timeout, soft_timeout=soft, memory=memory),
        options=found["options"],
        meta=found["meta"],
        items=[Claimed(*item) for item in found["items"]],
        slots=found["slots"],
        artifacts={int(idx): names for idx, names in found["artifacts"].items()},
    )


def report_row(report: Report) -> list[Any]:
    """Write one report of a call as a list, its name first."""
    if isinstance(report, Progress):
        return ["progress", report.idx, report.fraction, report.phase]
    if isinstance(report, Added):
        return ["added", [[i.name, dict(i.input), i.size, i.uid, i.key] for i in report.items]]
    if isinstance(report, Done):
        staged = [[a.name, a.staged, a.bytes, a.sha256, a.media_type] for a in report.artifacts]
        return [
            *("done", report.idx, report.verdict, report.results, report.error, staged),
            *(report.started_at, report.finished_at, report.staging),
        ]
    if isinstance(report, Ended):
        return ["ended"]
    return ["lost", report.reason, report.blame]


def report_of(lease: int, row: list[Any]) -> Report:
    """Read what ``report_row`` wrote."""
    what, *rest = row
    if what == "progress":
        return Progress(lease, *rest)
    if what == "added":
        return Added(lease, [NewItem(*item) for item in rest[0]])
    if what == "done":
        idx, verdict, results, error, staged, *times = rest
        return Done(lease, idx, verdict, results, error, [Staged(*a) for a in staged], *times)
    if what == "ended":
        return Ended(lease)
    if what == "lost":
        return Lost(lease, *rest)
    raise ValueError(f"an unknown report {what!r}")


def body(worker: str, reports: list[Report]) -> str:
    """Write a call's reports down together, with the name of the worker process that runs it."""
    return wire.dumps([worker, [report_row(report) for report in reports]]).decode()


def reports_of(lease: int, text: str) -> tuple[str, list[Report]]:
    """Read (worker, reports)."""
    worker, rows = orjson.loads(text)
    return worker, [report_of(lease, row) for row in rows]
