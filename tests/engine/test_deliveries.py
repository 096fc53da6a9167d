"""Webhooks out: written down with the job's end, signed, retried, kept, resent; nobody inside is reached."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from functools import partial

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from millrace.engine.deliveries import (
    Deliveries,
    Delivery,
    DeliveryQuery,
    after_attempt,
)
from millrace.engine.model import NewItem, NewJob, Notification
from millrace.engine.webhooks import WEBHOOK, WebhookPolicy, Webhooks, signed_headers, signing_key
from millrace.engine.workload import Retry, Workload
from millrace.errors import BadInput, Conflict, NotFound, SettingsError, Transient
from millrace.fetch import Answer, FetchPolicy, post
from tests.engine.rig import build, stage
from tests.unit.local_http import LocalServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SLOTS = {"cpu": 1, "gpu": 0, "io": 1}
QUICK = WebhookPolicy(Retry(attempts=3, delay=0.01, factor=1.0, max_delay=0.05), SECRET)
OPEN = FetchPolicy(allow_private=True, ports=(), deadline=10)


def in_own_words(job):
    return [Notification(job.meta["url"], "batch.done", {"batch_id": job.id, "ok": job.counts.succeeded})]


def speechless(job):
    raise RuntimeError("no words")


def unspeakable(job):
    return [Notification("http://example.org/", "x", {"what": object()})]


WORKLOADS = (
    Workload("one", (stage("only"),)),
    Workload("own", (stage("only"),), notifications=in_own_words),
    Workload("speechless", (stage("only"),), notifications=speechless),
    Workload("unspeakable", (stage("only"),), notifications=unspeakable),
)


@pytest.fixture
def receiver():
    server = LocalServer()
    yield server
    server.close()


class Rig:
    def __init__(self, tmp_path, url, policy=QUICK, network=OPEN):
        self.engine = build(tmp_path, url=url, workloads=WORKLOADS, slots=SLOTS)
        self.deliveries = Deliveries(
            self.engine, [Webhooks(self.engine.workloads, partial(post, policy=network), policy)]
        )
        self.engine.attach(self.deliveries)
        self.engine.start()

    def run(self, new: NewJob) -> None:
        async def run():
            await self.engine.submit(new)
            async for _ in self.engine.watch(new.id):
                pass

        asyncio.run(run())

    def list(self, **query) -> list[Delivery]:
        return asyncio.run(self.deliveries.list(DeliveryQuery(**query)))

    def ended(self, number: int = 1) -> list[Delivery]:
        """Wait until so many deliveries have ended."""
        for _ in range(500):
            found = self.list()
            if len(found) == number and all(d.state != "pending" for d in found):
                return found
            time.sleep(0.02)
        raise AssertionError(f"still pending: {self.list()}")


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def make(url=None, **options) -> Rig:
        rigs.append(Rig(tmp_path, url, **options))
        return rigs[-1]

    yield make
    for one in rigs:
        one.engine.stop()


def job(*urls: str, id: str = "j1", **options) -> NewJob:
    return NewJob(
        id, "one", [NewItem("a"), NewItem("b")], callbacks=[{"url": url} for url in urls], **options
    )


def test_the_end_of_a_job_is_told_and_signed(rig, receiver, database_url):
    there = rig(database_url)
    there.run(job(receiver.says("/hook", 204)))
    (delivery,) = there.ended()
    assert (delivery.state, delivery.status, delivery.attempts, delivery.error) == ("delivered", 204, 1, None)
    _, _, headers, body = receiver.requests[0]
    payload = Webhook(SECRET).verify(body, headers)
    assert payload["type"] == "job.finished"
    assert payload["data"]["id"] == "j1"
    assert payload["data"]["state"] == "succeeded"
    assert payload["data"]["counts"]["succeeded"] == 2
    assert payload["timestamp"].endswith("Z")
    assert headers["webhook-id"] == delivery.id
    assert headers["content-type"] == "application/json"


def test_a_contract_tells_it_in_its_own_words(rig, receiver):
    there = rig()
    there.run(NewJob("j2", "own", [NewItem()], meta={"url": receiver.says("/hook")}))
    (delivery,) = there.ended()
    assert (delivery.event, delivery.kind, delivery.job) == ("batch.done", "own", "j2")
    assert orjson.loads(receiver.requests[0][3]) == {"batch_id": "j2", "ok": 1}


@pytest.mark.parametrize("kind", ["speechless", "unspeakable"])
def test_a_workload_that_finds_no_words_does_not_keep_its_jobs_from_ending(rig, kind):
    there = rig()
    there.run(NewJob("j3", kind, [NewItem()]))
    assert there.engine.store.job("j3").state.value == "succeeded"
    assert there.list() == []


def test_a_receiver_that_recovers_gets_the_same_message_again(rig, receiver):
    answers = iter([500, 503, 200])

    def hook(handler):
        handler.send_response(next(answers))
        handler.send_header("content-length", "0")
        handler.end_headers()

    there = rig()
    there.run(job(receiver.does("/hook", hook)))
    (delivery,) = there.ended()
    assert (delivery.state, delivery.attempts) == ("delivered", 3)
    assert len({headers["webhook-id"] for _, _, headers, _ in receiver.requests}) == 1
    for _, _, headers, body in receiver.requests:
        Webhook(SECRET).verify(body, headers)


def test_what_never_arrives_is_given_up_and_can_be_sent_again(rig, receiver, database_url):
    there = rig(database_url)
    there.run(job(receiver.says("/hook", 500, b"the reason")))
    (delivery,) = there.ended()
    assert (delivery.state, delivery.attempts, delivery.status) == ("failed", 3, 500)
    assert (delivery.response, "status code 500" in delivery.error) == ("the reason", True)

    may = threading.Event()

    def hook(handler):
        may.wait(10)
        handler.send_response(200)
        handler.send_header("content-length", "0")
        handler.end_headers()

    receiver.does("/hook", hook)
    again = asyncio.run(there.deliveries.resend(delivery.id, WEBHOOK))
    assert (again.state, again.attempts) == ("pending", 0)
    may.set()
    (delivery,) = there.ended()
    assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 1, None)


def test_a_delivered_one_can_be_sent_again_and_an_unknown_one_not(rig, receiver):
    there = rig()
    there.run(job(receiver.says("/hook")))
    (delivery,) = there.ended()
    asyncio.run(there.deliveries.resend(delivery.id, WEBHOOK))
    there.ended()
    assert len(receiver.requests) == 2
    with pytest.raises(NotFound):
        asyncio.run(there.deliveries.resend("msg_none", WEBHOOK))
    with pytest.raises(NotFound):
        asyncio.run(there.deliveries.get("msg_none", WEBHOOK))
    assert asyncio.run(there.deliveries.get(delivery.id, WEBHOOK)).id == delivery.id


def test_no_inner_address_is_reached_and_it_is_not_tried_twice(rig, receiver):
    there = rig(network=FetchPolicy(ports=()))
    there.run(job(receiver.says("/hook")))
    (delivery,) = there.ended()
    assert (delivery.state, delivery.attempts, delivery.status) == ("failed", 1, None)
    assert "a loopback address" in delivery.error
    assert receiver.requests == []


def test_a_receiver_that_hangs_does_not_hold_up_another(rig, receiver):
    slow = LocalServer()
    try:
        there = rig()
        slow.does("/hook", lambda handler: slow.stop.wait(20))
        there.run(job(*[slow.url("/hook")] * 10, receiver.says("/hook")))
        for _ in range(500):
            states = {d.to: d.state for d in there.list()}
            if states[receiver.url("/hook")] == "delivered":
                break
            time.sleep(0.01)
        assert states[receiver.url("/hook")] == "delivered"
        assert states[slow.url("/hook")] == "pending"
    finally:
        slow.close()


def test_one_that_is_pending_cannot_be_resent(rig, receiver):
    there = rig()
    receiver.does("/hook", lambda handler: receiver.stop.wait(20))
    there.run(job(receiver.url("/hook")))
    (delivery,) = there.list()
    with pytest.raises(Conflict):
        asyncio.run(there.deliveries.resend(delivery.id, WEBHOOK))


def test_a_restart_sends_what_was_not_sent(rig, receiver, tmp_path):
    there = rig(policy=replace(QUICK, retry=Retry(attempts=5, delay=600.0)))
    there.run(job(receiver.says("/hook", 500)))
    while not (there.list()[0].attempts):
        time.sleep(0.01)
    (first,) = there.list()
    assert first.state == "pending"
    there.engine.stop()

    receiver.says("/hook", 200)
    later = build(tmp_path, workloads=WORKLOADS, slots=SLOTS)
    deliveries = Deliveries(
        later, [Webhooks(later.workloads, partial(post, policy=OPEN), QUICK)], clock=lambda: time.time() + 700
    )
    later.attach(deliveries)
    later.start()
    try:
        for _ in range(500):
            (delivery,) = asyncio.run(deliveries.list(DeliveryQuery()))
            if delivery.state != "pending":
                break
            time.sleep(0.01)
        assert (delivery.state, delivery.id, delivery.attempts) == ("delivered", first.id, 2)
    finally:
        later.stop()
        there.engine.stop = lambda: None


def test_listing_by_job_and_state_newest_first(rig, receiver, database_url):
    there = rig(database_url)
    ok, bad = receiver.says("/ok"), receiver.says("/bad", 410)
    there.run(job(ok, bad, id="a"))
    there.run(job(ok, id="b"))
    there.ended(3)
    assert [d.job for d in there.list()] == ["b", "a", "a"]
    assert [d.job for d in there.list(job="b")] == ["b"]
    assert [d.to for d in there.list(state="failed")] == [bad]
    newest = there.list(limit=1)
    assert [d.job for d in there.list(before=newest[0].seq)] == ["a", "a"]


DELIVERY = Delivery(
    seq=1,
    id="msg_1",
    job="j",
    kind="one",
    channel=WEBHOOK,
    to="https://example.org/",
    event="job.finished",
    body='{"a":"é"}',
    state="pending",
    attempts=0,
    next_at=0.0,
    created_at=0.0,
    updated_at=0.0,
    finished_at=None,
    status=None,
    error=None,
    response=None,
)
RETRY = Retry(attempts=4, delay=10.0, factor=3.0, max_delay=60.0)


def tried(result, attempts=0) -> Delivery:
    return after_attempt(replace(DELIVERY, attempts=attempts), result, RETRY, 1000.0, lambda: 0.5)


@pytest.mark.parametrize(("attempts", "wait"), [(0, 10), (1, 30), (2, 60)])
def test_the_wait_grows_and_is_capped(attempts, wait):
    after = tried(Answer(500, {}, b""), attempts)
    assert (after.state, after.next_at) == ("pending", pytest.approx(1000 + wait))


def test_the_last_attempt_ends_it():
    after = tried(Answer(500, {}, b""), 3)
    assert (after.state, after.next_at, after.finished_at) == ("failed", None, 1000.0)


@pytest.mark.parametrize(("asked", "wait"), [("30", 30), ("5", 10), ("9999", 60), ("tomorrow", 10)])
def test_a_receivers_wish_to_wait_is_kept_within_bounds(asked, wait):
    assert tried(Answer(429, {"retry-after": asked}, b"")).next_at == pytest.approx(1000 + wait)


def test_errors_of_the_network_are_tried_again_but_forbidden_addresses_are_not():
    assert tried(Transient("no answer", code="fetch_timeout")).state == "pending"
    assert tried(BadInput("no such host", code="fetch_failed")).state == "pending"
    assert tried(BadInput("inside", code="fetch_refused")).state == "failed"
    assert tried(Answer(410, {}, b"")).state == "failed"


def test_an_answer_of_any_bytes_can_be_kept():
    assert tried(Answer(200, {}, b"\xff\0" * 5000)).response == "\N{REPLACEMENT CHARACTER}" * 1000


@given(st.integers(0, 20), st.floats(0, 1))
def test_no_attempt_is_made_beyond_the_policy(attempts, jitter):
    after = after_attempt(
        replace(DELIVERY, attempts=attempts), Answer(500, {}, b""), RETRY, 0.0, lambda: jitter
    )
    assert (after.state == "failed") == (attempts + 1 >= RETRY.attempts)
    if after.next_at is not None:
        assert 8.0 <= after.next_at <= 72.0 + 1e-9


def test_any_secret_signs_as_the_standard_says():
    now = time.time()
    for secret, key in ((SECRET, SECRET), ("just words", b"just words")):
        headers = signed_headers(DELIVERY, secret, now)
        assert Webhook(key).verify(DELIVERY.body, headers) == {"a": "é"}
    assert "webhook-signature" not in signed_headers(DELIVERY, None, now)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_x"])
def test_a_secret_that_is_none_is_refused_at_once(secret):
    with pytest.raises(SettingsError):
        WebhookPolicy(secret=secret)
    assert signing_key("x") == b"x"
