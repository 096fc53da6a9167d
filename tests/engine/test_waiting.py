"""How long work has waited, on both databases: by stage, and only what more workers could run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millrace.engine.model import NewItem, NewJob
from millrace.engine.sql import SqlStore
from millrace.engine.store import JobRow
from millrace.engine.waiting import waiting
from millrace.engine.workload import Stage, Workload

NOW = 1000.0
STAGES = (Stage("read", "m:read", resource="io"), Stage("write", "m:write", resource="gpu"))
FREE = {"one": Workload("one", STAGES)}
GATED = {"one": Workload("one", STAGES, policy="stage_first")}


@pytest.fixture
def store(database_url: str) -> Iterator[SqlStore]:
    store = SqlStore(database_url)
    yield store
    store.close()


def create(store: SqlStore, name: str, at: float, items: int = 2, **options: object) -> JobRow:
    new = NewJob(name, "one", [NewItem(f"item {n}") for n in range(items)], **options)  # type: ignore[arg-type]
    with store.begin() as tx:
        row = tx.insert_job(new, ("read", "write"), at, 60.0)
        tx.save_jobs([row])
    return row


def move(store: SqlStore, row: JobRow, idx: int, state: str, stage: int, at: float, due: float = 0.0) -> None:
    with store.begin() as tx:
        tx._run(
            "UPDATE items SET state = ?, stage = ?, updated_at = ?, available_at = ? "
            "WHERE job = ? AND idx = ?",
            (state, stage, at, due, row.seq, idx),
        )


def ages(store: SqlStore, workloads: dict[str, Workload]) -> dict[str, float]:
    return {each.stage: each.seconds for each in waiting(workloads, store, NOW)}


def test_nothing_waits_in_an_empty_house(store: SqlStore) -> None:
    assert ages(store, FREE) == {"read": 0.0, "write": 0.0}
    assert {each.stage: each.resource for each in waiting(FREE, store, NOW)} == {"read": "io", "write": "gpu"}


def test_the_oldest_job_says_how_long(store: SqlStore) -> None:
    create(store, "old", 900.0)
    create(store, "new", 990.0)
    assert ages(store, FREE) == {"read": 100.0, "write": 0.0}


def test_each_stage_counts_from_when_its_item_came_to_it(store: SqlStore) -> None:
    row = create(store, "j", 900.0)
    move(store, row, 0, "queued", 1, 960.0)
    assert ages(store, FREE) == {"read": 100.0, "write": 40.0}


def test_a_retry_waits_from_when_it_is_due(store: SqlStore) -> None:
    row = create(store, "j", 900.0, items=1)
    move(store, row, 0, "queued", 0, 950.0, due=970.0)
    assert ages(store, FREE)["read"] == 30.0
    move(store, row, 0, "queued", 0, 950.0, due=1060.0)
    assert ages(store, FREE)["read"] == 0.0


def test_held_jobs_and_running_items_do_not_wait(store: SqlStore) -> None:
    create(store, "held", 100.0, held=True)
    row = create(store, "j", 900.0, items=1)
    move(store, row, 0, "running", 0, 950.0)
    assert ages(store, FREE) == {"read": 0.0, "write": 0.0}


def test_a_closed_gate_is_not_a_queue(store: SqlStore) -> None:
    row = create(store, "j", 900.0, items=2)
    move(store, row, 0, "queued", 1, 940.0)
    assert ages(store, GATED) == {"read": 100.0, "write": 0.0}
    move(store, row, 1, "running", 0, 950.0)
    assert ages(store, GATED) == {"read": 0.0, "write": 0.0}
    move(store, row, 1, "queued", 1, 960.0)
    assert ages(store, GATED) == {"read": 0.0, "write": 60.0}


def test_a_plan_waits_too(store: SqlStore) -> None:
    planned = {"one": Workload("one", STAGES, plan=Stage("plan", "m:plan", resource="io"))}
    create(store, "j", 900.0, items=0, plan=True)
    assert ages(store, planned) == {"plan": 100.0, "read": 0.0, "write": 0.0}
