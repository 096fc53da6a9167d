"""Notifications: by rule and by a job's wish, in words people read; written down with the job's end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import orjson
import pytest

from millrace.engine.deliveries import Deliveries, Delivery, DeliveryQuery, Failure
from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.notifications import (
    NOTIFY,
    NotificationPolicy,
    Notifications,
    Rule,
    failure_lines,
    title_of,
    usual_text,
    words_of,
)
from millrace.engine.workload import Retry, Workload
from millrace.errors import BadInput, Conflict, NotFound, SettingsError, Transient
from tests.engine.rig import build, stage

SLOTS = {"cpu": 2, "gpu": 0, "io": 1}
WORKLOADS = (Workload("one", (stage("only"),)), Workload("strict", (stage("only"),), fails_when="any"))
QUICK = Retry(attempts=3, delay=0.01, factor=1.0, max_delay=0.05)
TARGETS = {"ops": "x://ops-secret", "family": "x://family-secret"}


class Post:
    """Stands in for the services: keeps what it is given, or fails as it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str, str, bool]] = []
        self.fails: list[Exception] = []

    def __call__(self, url, title, body, tone, *, trusted):
        if self.fails:
            raise self.fails.pop(0)
        self.sent.append((url, title, body, tone, trusted))


class Rig:
    def __init__(self, tmp_path, url=None, **policy):
        self.post = Post()
        self.engine = build(tmp_path, url=url, workloads=WORKLOADS, slots=SLOTS)
        given = {"targets": TARGETS, "retry": QUICK, **policy}
        self.channel = Notifications(NotificationPolicy(**given), self.post)
        self.deliveries = Deliveries(self.engine, [self.channel])
        self.engine.attach(self.deliveries)
        self.engine.start()

    def run(self, *inputs, id="j1", kind="one", **options):
        items = [NewItem(f"file {n}.mkv", {"do": value} if value else {}) for n, value in enumerate(inputs)]

        async def run():
            await self.engine.submit(NewJob(id, kind, items, **options))
            async for _ in self.engine.watch(id):
                pass
            return await self.engine.job(id)

        return asyncio.run(run())

    def list(self, **query) -> list[Delivery]:
        return asyncio.run(self.deliveries.list(DeliveryQuery(channel=NOTIFY, **query)))

    def ended(self, number=1) -> list[Delivery]:
        for _ in range(1000):
            found = self.list()
            if len(found) == number and all(d.state != "pending" for d in found):
                return found
            time.sleep(0.02)
        raise AssertionError(f"still pending: {self.list()}")


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def make(url=None, **policy) -> Rig:
        rigs.append(Rig(tmp_path, url, **policy))
        return rigs[-1]

    yield make
    for one in rigs:
        one.engine.stop()


def test_a_job_tells_those_it_names(rig, database_url):
    there = rig(database_url, public_url="https://mill.example/")
    there.run(None, None, label="holiday", notify=["family"])
    (delivery,) = there.ended()
    assert (delivery.state, delivery.to, delivery.job, delivery.kind) == ("delivered", "family", "j1", "one")
    ((url, title, body, tone, trusted),) = there.post.sent
    assert (url, title, tone, trusted) == ("x://family-secret", "one succeeded: holiday", "success", True)
    assert body.startswith("holiday (one) succeeded after ")
    assert "2 items: 2 succeeded." in body
    assert body.endswith("https://mill.example/ui/jobs/j1")


def test_a_failure_is_told_with_its_reasons(rig, database_url):
    there = rig(database_url, rules=[Rule("failed", targets=["ops"])], failures=2)
    there.run(*["bad"] * 3, None, kind="strict")
    there.ended()
    ((_, title, body, tone, _),) = there.post.sent
    assert (title, tone) == ("strict failed: j1 (3 of 4 failed)", "failure")
    assert "4 items: 1 succeeded, 3 failed." in body
    lines = body.split("What failed:\n")[1].splitlines()
    assert lines[0].startswith("- file 0.mkv: ")
    assert lines[1].startswith("- file 1.mkv: ")
    assert lines[2] == "- and 1 more"
    assert body.endswith("Job j1")


def test_no_secret_of_the_settings_is_stored(rig):
    there = rig(rules=[Rule(targets=["ops"])])
    there.run(None)
    (delivery,) = there.ended()
    assert "secret" not in repr(delivery)


def test_each_is_told_once_whoever_names_them(rig):
    rules = [
        Rule(targets=["ops"], message="first: {label}"),
        Rule(targets=["ops", "family"], message="second"),
    ]
    there = rig(rules=rules)
    there.run(None, label="x", notify=["family", "ops"])
    there.ended(2)
    assert sorted((url, body) for url, _, body, _, _ in there.post.sent) == [
        ("x://family-secret", "second"),
        ("x://ops-secret", "first: x"),
    ]


def test_what_was_not_taken_is_tried_again_given_up_and_resent(rig, database_url):
    there = rig(database_url)
    there.post.fails = [Transient("busy")] * 3
    there.run(None, notify=["ops"])
    (delivery,) = there.ended()
    assert (delivery.state, delivery.attempts, delivery.error) == ("failed", 3, "busy")
    asyncio.run(there.deliveries.resend(delivery.id, NOTIFY))
    (again,) = there.ended()
    assert (again.state, again.id, len(there.post.sent)) == ("delivered", delivery.id, 1)
    for call in (there.deliveries.get, there.deliveries.resend):
        with pytest.raises(NotFound):
            asyncio.run(call(delivery.id, "webhook"))


def test_what_can_never_be_sent_is_tried_once(rig):
    there = rig()
    there.post.fails = [BadInput("it leads inside", code="notify_refused")]
    there.run(None, notify=["ops"])
    (delivery,) = there.ended()
    assert (delivery.state, delivery.attempts, delivery.error) == ("failed", 1, "it leads inside")


def test_a_target_that_is_gone_is_said(rig):
    there = rig()
    there.run(None, notify=["nobody"])
    (delivery,) = there.ended()
    assert (delivery.state, delivery.attempts) == ("failed", 1)
    assert "no target 'nobody'" in delivery.error


@pytest.mark.parametrize(("per_job", "state"), [("any", "delivered"), ("named", "failed")])
def test_an_address_of_the_jobs_own_is_not_trusted(rig, per_job, state):
    there = rig(per_job=per_job)
    there.run(None, notify=["x://mine"])
    (delivery,) = there.ended()
    assert delivery.state == state
    assert [(url, trusted) for url, _, _, _, trusted in there.post.sent] == [("x://mine", False)] * (
        state == "delivered"
    )


def test_a_job_that_is_tried_again_and_ends_again_tells_again(rig):
    there = rig(rules=[Rule("ended", targets=["ops"])])
    there.run("bad", kind="strict")
    there.ended()
    asyncio.run(there.engine.retry("j1"))
    there.ended(2)


def test_a_cancelled_job(rig):
    there = rig(rules=[Rule("cancelled", targets=["ops"]), Rule("failures", targets=["family"])])

    async def run():
        await there.engine.submit(NewJob("j1", "one", [NewItem()], held=True))
        await there.engine.cancel("j1")

    asyncio.run(run())
    there.ended()
    ((_, title, _, tone, _),) = there.post.sent
    assert (title, tone) == ("one cancelled: j1", "warning")


def test_a_test_goes_to_a_target(rig):
    there = rig()
    told = asyncio.run(there.deliveries.tell(NOTIFY, there.channel.test_message("ops")))
    assert (told.job, told.event, told.state) == ("", "test", "pending")
    there.ended()
    assert there.post.sent[0][1] == "Millrace: a test"


def test_one_that_is_pending_cannot_be_resent(rig):
    there = rig(retry=Retry(attempts=3, delay=600.0))
    there.post.fails = [Transient("busy")]
    there.run(None, notify=["ops"])
    (delivery,) = there.list()
    with pytest.raises(Conflict):
        asyncio.run(there.deliveries.resend(delivery.id, NOTIFY))


# -- rules and words, which are pure --------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A job that has ended, to be varied."""
    there = Rig(tmp_path_factory.mktemp("ended"))
    job = there.run(None, label="a label")
    there.engine.stop()
    return replace(job, started_at=1000.0, finished_at=1252.0)


@pytest.mark.parametrize(
    ("state", "failed", "told"),
    [
        (State.SUCCEEDED, 0, {"ended", "succeeded"}),
        (State.SUCCEEDED, 1, {"ended", "succeeded", "failures"}),
        (State.SKIPPED, 0, {"ended", "succeeded"}),
        (State.FAILED, 0, {"ended", "failed", "failures"}),
        (State.CANCELLED, 0, {"ended", "cancelled"}),
    ],
)
def test_when_a_rule_speaks(ended, state, failed, told):
    job = replace(ended, state=state, counts=replace(ended.counts, failed=failed))
    whens = ("ended", "failed", "failures", "succeeded", "cancelled")
    assert {when for when in whens if Rule(when, targets=["x"]).matches(job)} == told


def test_a_rule_of_some_kinds_and_of_long_jobs(ended):
    assert Rule(kinds=["one"]).matches(ended)
    assert not Rule(kinds=["two"]).matches(ended)
    assert Rule(min_seconds=252.0).matches(ended)
    assert not Rule(min_seconds=253.0).matches(ended)
    assert not Rule(min_seconds=1.0).matches(replace(ended, started_at=None))
    assert Rule().matches(replace(ended, started_at=None))


@pytest.mark.parametrize("text", ["{nonsense}", "{label.upper}", "{label!r}", "{label:>9}", "{", "{0}", "{}"])
def test_a_message_that_names_what_is_not_there_is_refused(text):
    with pytest.raises(SettingsError, match=r"notify\.rules"):
        Rule(message=text)


def test_a_message_of_ones_own(ended):
    rule = Rule(message="{kind} {label}: {succeeded}/{total} in {took} {{really}} {link}")
    words = words_of(ended, [], "http://mill")
    assert rule.message.format_map(words) == "one a label: 1/1 in 4 min 12 s {really} http://mill/ui/jobs/j1"


def test_names_of_files_cannot_forge_lines_or_headers(ended):
    evil = "a.mkv\r\nBcc: all@example.org\x00\x1b[2J"
    lines = failure_lines([Failure(0, evil, "x", "no\nsuch")], 1)
    assert lines == "- a.mkv Bcc: all@example.org [2J: no such"
    title = title_of(replace(ended, label=evil))
    assert "\n" not in title
    assert "\r" not in title
    text = usual_text(ended, words_of(replace(ended, label="x" * 5000), [], None))
    assert len(text) < 600


def test_a_jobs_own_error_is_told(ended):
    job = replace(ended, state=State.FAILED, error={"code": "x", "message": "the folder is gone"})
    assert "Reason: the folder is gone" in usual_text(job, words_of(job, [], None))
    assert orjson.dumps(words_of(job, [], None))
