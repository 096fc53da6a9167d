"""The SQL store, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.sql import SqlStore, migrate, schema
from millrace.engine.sql.transaction import SqlTransaction
from millrace.engine.store import JobQuery, JobRow
from millrace.errors import Conflict, IdempotencyConflict, InvalidRequest, SettingsError, Unavailable


@pytest.fixture
def store(database_url: str) -> Iterator[SqlStore]:
    store = SqlStore(database_url)
    yield store
    store.close()


def create(store: SqlStore, new: NewJob, now: float = 100.0) -> JobRow:
    with store.begin() as tx:
        row = tx.insert_job(new, ("only",), now, 60.0)
        tx.save_jobs([row])
    return row


def job(name: str = "j", items: int = 3, **options: object) -> NewJob:
    return NewJob(name, "one", [NewItem(f"item {n}") for n in range(items)], **options)  # type: ignore[arg-type]


def update(row: JobRow, idx: int, lease: int, state: State = State.SUCCEEDED) -> tuple[object, ...]:
    return (state.value, 0, 0, 0, 0.0, '{"only":{}}', None, 200.0, 200.0, row.seq, idx, lease)


def test_the_migrations_build_exactly_the_tables_of_the_schema(store: SqlStore) -> None:
    with store._read_engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    assert differences == []


def test_the_newest_revision_is_the_one_that_opening_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate._SCRIPTS))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


def test_opening_again_finds_what_was_stored(database_url: str) -> None:
    first = SqlStore(database_url)
    create(first, job(label="a label", meta={"ä": [1]}, options={"x": True}))
    first.close()
    second = SqlStore(database_url)
    found = second.job("j")
    second.close()
    assert found is not None
    assert (found.label, found.meta, found.options) == ("a label", {"ä": [1]}, {"x": True})
    assert (found.state, found.counts.queued, found.created_at) == (State.QUEUED, 3, 100.0)


def test_one_server_owns_the_data_at_a_time(database_url: str) -> None:
    first, second = SqlStore(database_url), SqlStore(database_url)
    first.acquire()
    with pytest.raises(Unavailable, match="another server"):
        second.acquire()
    first.close()
    second.acquire()
    second.close()


def insert_both(tx: SqlTransaction) -> None:
    with tx.savepoint():
        tx.insert_job(job("gone"), ("only",), 1.0, None)
        tx.insert_job(job("kept"), ("only",), 1.0, None)


def test_what_fails_inside_a_savepoint_leaves_the_rest_of_the_transaction(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.insert_job(job("kept"), ("only",), 1.0, None)
        with pytest.raises(Conflict):
            insert_both(tx)
    assert store.job("kept") is not None
    assert store.job("gone") is None
    assert store.items("gone", -1, 10, ()) == []


def test_a_transaction_that_fails_leaves_nothing(store: SqlStore) -> None:
    def fail() -> None:
        with store.begin() as tx:
            tx.insert_job(job(), ("only",), 1.0, None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.job("j") is None


def test_claims_go_by_availability_then_number_and_never_twice(store: SqlStore) -> None:
    row = create(store, job(items=5))
    with store.begin() as tx:
        first = tx.claim(row, 0, 7, 130.0, 100.0, 2)
        second = tx.claim(row, 0, 8, 130.0, 100.0, 10)
        third = tx.claim(row, 0, 9, 130.0, 100.0, 10)
    assert [item.idx for item in first] == [0, 1]
    assert [item.idx for item in second] == [2, 3, 4]
    assert third == []
    assert [item.attempt for item in first] == [1, 1]


def test_an_item_that_lost_a_worker_is_claimed_alone(store: SqlStore) -> None:
    row = create(store, job(items=4))
    with store.begin() as tx:
        tx.claim(row, 0, 7, 130.0, 100.0, 2)
        queued = State.QUEUED.value
        tx.finish([(queued, 0, 0, 1, 0.0, None, None, 100.0, None, row.seq, idx, 7) for idx in (0, 1)])
        chunks = [[item.idx for item in tx.claim(row, 0, 10 + n, 130.0, 100.0, 10)] for n in range(3)]
    assert chunks == [[0], [1], [2, 3]]


def test_a_result_under_a_stale_lease_changes_nothing(store: SqlStore) -> None:
    row = create(store, job(items=3))
    with store.begin() as tx:
        tx.claim(row, 0, 7, 130.0, 100.0, 3)
        assert tx.requeue_running(140.0) == 3
        tx.claim(row, 0, 8, 170.0, 150.0, 2)
    with store.begin() as tx:
        applied = tx.finish([update(row, 0, 7), update(row, 1, 8), update(row, 2, 7)])  # type: ignore[list-item]
    assert applied == [False, True, False]
    assert [item.state for item in store.items("j", -1, 10, ())] == [
        State.RUNNING,
        State.SUCCEEDED,
        State.QUEUED,
    ]


def test_the_same_result_twice_counts_once(store: SqlStore) -> None:
    row = create(store, job(items=1))
    with store.begin() as tx:
        tx.claim(row, 0, 7, 130.0, 100.0, 1)
        assert tx.finish([update(row, 0, 7)]) == [True]  # type: ignore[list-item]
        assert tx.finish([update(row, 0, 7)]) == [False]  # type: ignore[list-item]


@pytest.mark.parametrize("other", ["/media/tv", "/media", "/media/tv/show", "/", "/media/tv/"])
def test_a_scope_is_worked_on_by_one_job_at_a_time(store: SqlStore, other: str) -> None:
    create(store, job("first", scope="/media/tv"))
    with pytest.raises(Conflict, match="first"):
        create(store, job("second", scope=other))


def test_scopes_beside_each_other_and_of_finished_jobs_are_free(store: SqlStore) -> None:
    row = create(store, job("first", scope="/media/tv"))
    create(store, job("beside", scope="/media/tv2"))
    row.state = State.SUCCEEDED
    with store.begin() as tx:
        tx.save_jobs([row])
    create(store, job("after", scope="/media/tv"))


def test_an_id_is_used_once(store: SqlStore) -> None:
    create(store, job("same"))
    with pytest.raises(Conflict, match="same"):
        create(store, job("same"))


def test_an_idempotency_key_means_one_job_and_one_body(store: SqlStore) -> None:
    with store.begin() as tx:
        assert tx.idempotent("k", "body", "j1", 1.0) is None
        assert tx.idempotent("k", "body", "j2", 2.0) == "j1"
        with pytest.raises(IdempotencyConflict, match="another body"):
            tx.idempotent("k", "other", "j3", 3.0)


def test_items_with_a_known_key_are_added_once(store: SqlStore) -> None:
    row = create(store, NewJob("j", "one", [NewItem("a", key="a"), NewItem("again", key="a")]))
    with store.begin() as tx:
        assert tx.insert_items(row, [NewItem("a", key="a"), NewItem("b", key="b", size=2.0)]) == (1, 2.0)
    assert [(item.idx, item.name) for item in store.items("j", -1, 10, ())] == [(0, "a"), (1, "b")]


def test_two_items_with_the_same_uid_are_refused(store: SqlStore) -> None:
    with pytest.raises(InvalidRequest, match="uid"):
        create(store, NewJob("j", "one", [NewItem(uid="u"), NewItem(uid="u")]))


def test_items_are_read_in_pages_and_by_state(store: SqlStore) -> None:
    row = create(store, job(items=5))
    with store.begin() as tx:
        tx.claim(row, 0, 7, 130.0, 100.0, 2)
        tx.finish([update(row, 1, 7, State.FAILED)])  # type: ignore[list-item]
    assert [item.idx for item in store.items("j", 1, 2, ())] == [2, 3]
    assert [item.idx for item in store.items("j", -1, 10, (State.FAILED,))] == [1]
    assert store.item("j", 4) is not None
    assert store.item("j", 5) is None


def test_retrying_brings_back_what_failed_or_was_named(store: SqlStore) -> None:
    row = create(store, job(items=4))
    with store.begin() as tx:
        tx.claim(row, 0, 7, 130.0, 100.0, 3)
        states = [State.FAILED, State.SUCCEEDED, State.CANCELLED]
        tx.finish([update(row, idx, 7, state) for idx, state in enumerate(states)])  # type: ignore[misc]
        assert sorted(tx.ended_items(row, None)) == [(0, "failed"), (2, "cancelled")]
        assert tx.retry_items(row, [1, 2, 3], 300.0) == [(2, 0, 1.0)]
        assert tx.retry_items(row, None, 300.0) == [(0, 0, 1.0)]
    assert store.items("j", -1, 1, ())[0].error is None


def test_jobs_are_listed_newest_first_with_a_total_and_a_cursor(store: SqlStore) -> None:
    for number in range(7):
        create(store, job(f"job{number}", items=1, label=f"Label {number % 2}"), now=100.0 + number)
    page = store.jobs(JobQuery(limit=3))
    assert ([found.id for found in page.jobs], page.total) == (["job6", "job5", "job4"], 7)
    rest = store.jobs(JobQuery(limit=10, cursor=page.next_cursor))
    assert [found.id for found in rest.jobs] == ["job3", "job2", "job1", "job0"]
    assert rest.next_cursor is None
    assert [found.id for found in store.jobs(JobQuery(offset=5)).jobs] == ["job1", "job0"]
    assert store.jobs(JobQuery(text="LABEL 1")).total == 3
    assert store.jobs(JobQuery(text="%")).total == 0
    assert store.jobs(JobQuery(kind="other")).total == 0
    assert store.jobs(JobQuery(states=(State.QUEUED,))).total == 7
    by_update = store.jobs(JobQuery(order="updated_at", limit=2))
    assert [found.id for found in by_update.jobs] == ["job6", "job5"]
    assert [
        f.id for f in store.jobs(JobQuery(order="updated_at", limit=2, cursor=by_update.next_cursor)).jobs
    ] == [
        "job4",
        "job3",
    ]


def test_a_cursor_that_is_none_is_refused(store: SqlStore) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        store.jobs(JobQuery(cursor="nonsense"))


def test_a_deleted_job_leaves_no_row_behind(store: SqlStore) -> None:
    row = create(store, job())
    with store.begin() as tx:
        tx.idempotent("k", "b", "j", 1.0)
        tx.insert_events([(row.seq, 1, 1.0, "job.created", None, "{}")])
        tx.insert_runs([(row.seq, 0, 1, "only", "succeeded", 1.0, 2.0, "w")])
        tx.insert_artifacts([(row.seq, 0, "a", "only", 1, "0" * 64, "text/plain", "k", 1.0)])
        while not tx.delete_job_rows("j", 2):
            pass
    with store._read_engine.connect() as connection:
        for table in schema.metadata.sorted_tables:
            assert connection.execute(table.select()).all() == [], table.name


def test_events_runs_artifacts_and_records_are_read_as_written(store: SqlStore) -> None:
    row = create(store, job())
    with store.begin() as tx:
        tx.insert_events([(row.seq, n, 1.0, "x", None, f'{{"n":{n}}}') for n in (1, 2, 3)])
        tx.insert_runs([(row.seq, 0, 1, "only", "lost", 1.0, 2.0, "w1")])
        tx.insert_artifacts([(row.seq, 0, "a", "only", 1, "0" * 64, "text/plain", "old", 1.0)])
        tx.insert_artifacts([(row.seq, 0, "a", "only", 2, "1" * 64, "text/plain", "new", 2.0)])
        tx.put_record("ns", "k", {"v": 1}, 1.0)
        tx.put_record("ns", "k", {"v": 2}, 2.0)
        assert tx.artifact_keys(row, [0, 1]) == {0: {"a": "new"}}
    assert [event.data for event in store.events("j", 1, 10)] == [{"n": 2}, {"n": 3}]
    assert [run.outcome for run in store.runs("j", 0)] == ["lost"]
    artifact = store.artifact("j", 0, "a")
    assert artifact is not None
    assert (artifact.bytes, artifact.key) == (2, "new")
    assert [record.data for record in store.records("ns", "k", 10)] == [{"v": 1}, {"v": 2}]
    assert [record.data for record in store.records("ns", None, 1)] == [{"v": 2}]


def test_statistics_count_jobs_and_items_by_state(store: SqlStore) -> None:
    row = create(store, job())
    row.state, row.started_at, row.finished_at = State.SUCCEEDED, 10.0, 14.0
    row.queued, row.succeeded = 0, 3
    with store.begin() as tx:
        tx.save_jobs([row])
    create(store, job("waiting", items=2))
    (stats,) = store.stats(None)
    assert stats.jobs == {State.SUCCEEDED: 1, State.QUEUED: 1}
    assert stats.items[State.SUCCEEDED] == 3
    assert stats.items[State.QUEUED] == 2
    assert stats.mean_seconds == 4.0
    assert store.stats("other") == []


def test_what_expired_is_found_when_its_time_has_come(store: SqlStore) -> None:
    row = create(store, job())
    row.state, row.expires_at = State.SUCCEEDED, 500.0
    with store.begin() as tx:
        tx.save_jobs([row])
    assert store.expired(499.0, 10) == []
    assert store.expired(500.0, 10) == [("j", "one")]


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_do_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match="database"):
        SqlStore(url)
