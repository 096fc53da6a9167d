"""What may run next."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from millrace.engine.model import Priority, State
from millrace.engine.scheduler import ActiveJob, Pick, Scheduler
from millrace.engine.store import PLAN_STAGE, JobRow
from millrace.engine.workload import Stage, Workload

ITEM_FIRST = Workload("flow", (Stage("a", "m:a"), Stage("b", "m:b")))
STAGE_FIRST = dataclasses.replace(ITEM_FIRST, kind="gated", policy="stage_first")


def row(seq: int, workload: Workload, queued: int, **changes: object) -> JobRow:
    values = dict.fromkeys((field.name for field in dataclasses.fields(JobRow)), None)
    values |= {
        "seq": seq,
        "id": f"job{seq}",
        "kind": workload.kind,
        "state": State.QUEUED,
        "priority": Priority.NORMAL,
        "held": False,
        "planning": False,
        "cancel_requested": False,
        "stages": workload.stage_names({}),
        "total": queued,
        "queued": queued,
        "running": 0,
    }
    return JobRow(**(values | changes))  # type: ignore[arg-type]


def add(
    scheduler: Scheduler,
    seq: int,
    workload: Workload = ITEM_FIRST,
    queued: int = 3,
    counts: list[tuple[int, State, int, float]] | None = None,
    **changes: object,
) -> ActiveJob:
    counts = counts if counts is not None else [(0, State.QUEUED, queued, float(queued))]
    return scheduler.take_in(row(seq, workload, queued, **changes), workload, counts)


def take(scheduler: Scheduler, now: float = 0.0) -> Pick | None:
    pick = scheduler.pick(now)
    if pick is not None:
        scheduler.taken(pick, pick.limit)
    return pick


def scheduler(**slots: int) -> Scheduler:
    return Scheduler({"cpu": 2, "io": 2, "gpu": 0} | slots)


def names(scheduler: Scheduler, number: int, now: float = 0.0) -> list[str]:
    return [pick.job.row.id for _ in range(number) if (pick := take(scheduler, now)) is not None]


def release(scheduler: Scheduler) -> None:
    """Give back the slot of one call of some job's first stage."""
    job = next(scheduler.ordered)
    scheduler.occupy(job.row.kind, job.stage(0), -1)


def test_the_most_urgent_goes_first_and_the_oldest_among_equals() -> None:
    s = scheduler(cpu=4)
    add(s, 1, queued=1)
    add(s, 2, queued=1)
    add(s, 3, queued=1, priority=Priority.HIGH)
    assert names(s, 4) == ["job3", "job1", "job2"]


def test_an_urgent_job_overtakes_a_running_one_at_the_next_item() -> None:
    s = scheduler(cpu=1)
    add(s, 1, queued=100)
    assert names(s, 2) == ["job1"]
    add(s, 2, queued=1, priority=Priority.WEBHOOK)
    release(s)
    assert names(s, 1) == ["job2"]


def test_a_changed_priority_changes_the_order() -> None:
    s = scheduler()
    add(s, 1)
    later = add(s, 2)
    s.set_priority(later, Priority.HIGH)
    assert [job.row.id for job in s.ordered] == ["job2", "job1"]


def test_slots_bound_what_runs() -> None:
    s = scheduler(cpu=2)
    add(s, 1, queued=5)
    assert len(names(s, 5)) == 2
    release(s)
    assert len(names(s, 5)) == 1


def test_a_job_keeps_to_its_parallelism() -> None:
    s = scheduler(cpu=8)
    add(s, 1, queued=5, parallelism=3)
    assert len(names(s, 8)) == 3


def test_the_workloads_parallelism_holds_unless_the_job_says_otherwise() -> None:
    s = scheduler(cpu=8)
    workload = dataclasses.replace(ITEM_FIRST, parallelism=1)
    add(s, 1, workload, queued=5)
    assert len(names(s, 8)) == 1


def test_only_so_many_jobs_of_a_kind_run_at_once() -> None:
    s = scheduler(cpu=8)
    workload = dataclasses.replace(ITEM_FIRST, max_running_jobs=1)
    add(s, 1, workload, queued=2)
    add(s, 2, workload, queued=2)
    assert names(s, 8) == ["job1", "job1"]
    add(s, 3, workload, queued=1, priority=Priority.WEBHOOK)
    assert names(s, 8) == ["job3"]


def test_item_first_finishes_what_it_began() -> None:
    s = scheduler(cpu=1)
    add(s, 1, counts=[(0, State.QUEUED, 2, 2.0), (1, State.QUEUED, 1, 1.0)])
    pick = take(s)
    assert pick is not None
    assert pick.stage == 1


def test_stage_first_keeps_a_stage_shut_while_an_item_is_before_it() -> None:
    s = scheduler(cpu=4)
    job = add(s, 1, STAGE_FIRST, counts=[(0, State.RUNNING, 1, 1.0), (1, State.QUEUED, 2, 2.0)])
    assert take(s) is None
    job.leave(0, 1.0)
    pick = take(s)
    assert pick is not None
    assert pick.stage == 1


def test_stage_first_keeps_later_stages_shut_while_items_are_still_being_found() -> None:
    s = scheduler(cpu=4)
    workload = dataclasses.replace(STAGE_FIRST, plan=Stage("plan", "m:p", resource="io"))
    counts = [(PLAN_STAGE, State.RUNNING, 1, 0.0), (1, State.QUEUED, 2, 2.0)]
    job = add(s, 1, workload, counts=counts, planning=True)
    assert take(s) is None
    job.row.planning = False
    assert take(s) is not None


def test_what_is_held_paused_or_being_cancelled_does_not_start() -> None:
    s = scheduler()
    add(s, 1, held=True)
    add(s, 2, cancel_requested=True)
    assert take(s) is None
    add(s, 3)
    s.paused["flow"] = "paused"
    assert take(s) is None
    s.paused["flow"] = "draining"
    assert names(s, 1) == ["job3"]


def test_an_item_waits_for_its_time_and_does_not_hold_up_the_next_job() -> None:
    s = scheduler()
    first = add(s, 1, queued=1)
    first.wait(0, 50.0)
    add(s, 2, queued=1)
    assert names(s, 2, now=10.0) == ["job2"]
    assert s.next_wake(10.0) == 50.0
    assert names(s, 2, now=50.0) == ["job1"]


def test_a_paused_stage_lets_one_item_through_when_its_time_has_come() -> None:
    s = scheduler()
    add(s, 1, queued=5)
    breaker = s.breakers["flow", "a"]
    for lease in range(3):
        breaker.failed("broken", lease, 0.0)
    assert take(s, 1.0) is None
    probe = take(s, 100.0)
    assert probe is not None
    breaker.started(9)
    assert probe.limit == 1
    assert take(s, 100.0) is None


@pytest.mark.parametrize(
    ("seconds", "round_seconds", "queued", "expected"),
    [
        (1.0, 0.0, 500, 1),
        (0.001, 0.0, 500, 20),
        (0.001, 0.0026, 500, 41),  # sixteen rounds' time
        (0.01, 1.0, 500, 25),  # never more than a quarter of a second
        (0.00001, 0.0, 500, 64),
        (0.004, 0.0, 4, 2),  # shared out over both slots
        (0.00001, 0.0, 10, 10),  # but not where that saves less than a call costs
    ],
)
def test_small_items_share_a_call(seconds: float, round_seconds: float, queued: int, expected: int) -> None:
    s = scheduler()
    add(s, 1, queued=queued)
    for _ in range(100):
        s.learn("flow", "a", seconds, 1.0)
        s.learn_round(round_seconds)
    pick = s.pick(0.0)
    assert pick is not None
    assert pick.limit == expected


def test_a_chunk_never_takes_more_than_the_jobs_parallelism_leaves() -> None:
    s = scheduler()
    add(s, 1, queued=500, parallelism=2)
    s.learn("flow", "a", 1e-5, 1.0)
    pick = s.pick(0.0)
    assert pick is not None
    assert pick.limit <= 2


@pytest.mark.parametrize(("items", "expected"), [(1, [4]), (2, [2, 2]), (4, [1, 1, 1, 1]), (9, [1, 1, 1, 1])])
def test_an_elastic_stage_gets_the_slots_that_nobody_else_needs(items: int, expected: list[int]) -> None:
    s = scheduler(cpu=4)
    add(s, 1, Workload("wide", (Stage("a", "m:a", max_slots=8),)), queued=items)
    slots = []
    while (pick := take(s)) is not None:
        slots.append(pick.slots)
    assert slots == expected
    assert s.used["cpu"] == 4


def test_the_end_is_told_from_the_pace_of_what_is_left() -> None:
    s = scheduler(cpu=2)
    job = add(s, 1, counts=[(0, State.QUEUED, 4, 8.0)], queued=4)
    assert s.eta(job, 0.0) is None
    s.learn("flow", "a", 3.0, 1.0)
    assert s.eta(job, 0.0) is None
    s.learn("flow", "b", 1.0, 1.0)
    # 8 units at 3 s, then the same 8 at 1 s, two at a time.
    assert s.eta(job, 100.0) == pytest.approx(100.0 + (24.0 + 8.0) / 2)


def test_the_demand_for_slots_is_zero_again_when_a_job_is_let_go() -> None:
    s = scheduler()
    add(s, 1, queued=5)
    take(s)
    s.remove("job1")
    assert s.demand == {"cpu": 0}
    assert list(s.ordered) == []


def test_cancelled_items_no_longer_ask_for_slots() -> None:
    s = scheduler()
    job = add(s, 1, queued=5)
    take(s)
    job.withdraw_queued()
    assert s.demand["cpu"] == 0
    assert job.loads[0].running == 1
    assert job.loads[0].size == pytest.approx(1.0)


def test_thousands_of_waiting_jobs_are_not_looked_through_when_no_slot_is_free() -> None:
    s = scheduler(cpu=1)
    jobs: Mapping[int, ActiveJob] = {n: add(s, n, queued=1) for n in range(1, 2000)}
    assert names(s, 1) == ["job1"]
    calls = 0
    original = Scheduler._offer

    def counted(self: Scheduler, job: ActiveJob, index: int, now: float) -> Pick | None:
        nonlocal calls
        calls += 1
        return original(self, job, index, now)

    Scheduler._offer = counted  # type: ignore[method-assign]
    try:
        assert s.pick(0.0) is None
    finally:
        Scheduler._offer = original  # type: ignore[method-assign]
    assert calls == 0
    assert len(jobs) == 1999


def test_what_came_due_while_a_round_was_written_is_looked_at_at_once() -> None:
    s = scheduler()
    add(s, 1, queued=1).wait(0, 10.02)
    assert take(s, now=10.0) is None
    # The round looked at 10.0 and was committed by 10.05: the item it passed over is due by now.
    assert s.next_wake(10.05) == 10.05
    assert names(s, 1, now=10.05) == ["job1"]
    assert s.next_wake(10.06) is None


# -- sent ahead of free slots -----------------------------------------------------------------------

SHORT = Workload("short", (Stage("only", "m:a"),))
LONG = Workload("long", (Stage("only", "m:a"),))
MIXED = Workload("mixed", (Stage("a", "m:a"), Stage("b", "m:b", resource="io")))


def far(**slots: int) -> Scheduler:
    """A scheduler whose workers are far away, and which has seen that all but LONG is quick."""
    made = Scheduler({"cpu": 2, "io": 2, "gpu": 0} | slots, ahead=1.0)
    for workload in (SHORT, ITEM_FIRST, STAGE_FIRST, MIXED):
        for stage in workload.stages:
            made.learn(workload.kind, stage.name, 0.01, 1.0)
    return made


@pytest.mark.parametrize(
    ("workload", "number"), [(SHORT, 4), (STAGE_FIRST, 4), (LONG, 2), (ITEM_FIRST, 2), (MIXED, 4)]
)
def test_short_items_are_sent_ahead_unless_a_neighbours_next_stage_may_need_the_slot(
    workload: Workload, number: int
) -> None:
    s = far()
    add(s, 1, workload, queued=10)
    assert len(names(s, 10)) == number


def test_the_last_stage_of_item_first_is_sent_ahead() -> None:
    s = far()
    add(s, 1, ITEM_FIRST, queued=10, counts=[(1, State.QUEUED, 10, 10.0)])
    assert len(names(s, 10)) == 4


@pytest.mark.parametrize("urgent", [Priority.WEBHOOK, Priority.NORMAL])
def test_what_waits_for_a_slot_is_not_starved_by_short_items_behind_it(urgent: Priority) -> None:
    s = far()
    add(s, 2, SHORT, queued=100)
    assert len(names(s, 10)) == 4
    add(s, 1, LONG, queued=1, priority=urgent)
    for _ in range(2):
        s.occupy("short", SHORT.stages[0], -1)
        assert take(s) is None
    s.occupy("short", SHORT.stages[0], -1)
    assert names(s, 1) == ["job1"]
    # Nobody waits any more.
    assert names(s, 10) == ["job2"] * 2


def test_what_is_more_urgent_and_waits_is_told_by_resource() -> None:
    s = far()
    add(s, 1, SHORT, queued=10)
    assert (len(names(s, 10)), s.mixed) == (4, False)
    add(s, 2, LONG, queued=1, priority=Priority.HIGH)
    add(s, 3, LONG, queued=1, priority=Priority.WEBHOOK)
    assert (take(s), s.mixed) == (None, True)
    assert s.waits(0.0, above=Priority.NORMAL) == {"cpu": Priority.WEBHOOK}
    assert s.waits(0.0, above=Priority.WEBHOOK) == {}


def test_what_no_worker_takes_holds_nobody_up() -> None:
    made = Scheduler({"cpu": 2}, ahead=1.0, limit=lambda kind, stage: 0 if kind == "long" else None)
    made.learn("short", "only", 0.01, 1.0)
    add(made, 1, LONG, queued=1)
    add(made, 2, SHORT, queued=10)
    assert names(made, 10) == ["job2"] * 4
