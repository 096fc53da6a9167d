"""``/notifications`` on a real server, with a real mail server: people are told, once, and no secret is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewServer
from tests.live import LiveServer, ServerDied, probe_path
from tests.mail_server import MailServer

pytest.importorskip("apprise")
PUBLIC = "https://mill.example"


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def empty(mail: MailServer) -> Iterator[None]:
    yield
    mail.refuse = None
    mail.mails.clear()


def configured(mail: MailServer, **notify: Any) -> dict[str, Any]:
    rules = [
        {"when": "failures", "kinds": ["probe"], "targets": ["ops"]},
        {"when": "succeeded", "min_seconds": 3600, "targets": ["family"]},
    ]
    targets = {"ops": mail.address("ops@example.org"), "family": mail.address("family@example.org")}
    given = {"targets": targets, "rules": rules, "attempts": 2, "delay": 0.05, **notify}
    return {"public_url": PUBLIC, "notify": given}


@pytest.fixture(scope="module")
def there(
    new_module_server: Callable[..., LiveServer],
    tmp_path_factory: pytest.TempPathFactory,
    mail: MailServer,
) -> LiveServer:
    path = probe_path(tmp_path_factory.mktemp("probe"))
    return new_module_server(settings=configured(mail), path=path).start()


def until(condition: Callable[[], Any]) -> Any:
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came to pass")


def ended(there: LiveServer, job: str, number: int = 1) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]] | None:
        rows = there.client.get("/notifications", params={"job": job}).json()["notifications"]
        over = len(rows) == number and all(row["state"] != "pending" for row in rows)
        return rows if over else None

    return list(until(found))


def submit(there: LiveServer, *inputs: dict[str, Any], **fields: Any) -> str:
    body = {
        "kind": "probe",
        "items": [{"name": f"{n}.mkv", "input": i} for n, i in enumerate(inputs)],
        **fields,
    }
    answer = there.client.post("/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def test_a_failure_is_told_by_rule_with_its_reasons_and_a_link(there: LiveServer, mail: MailServer) -> None:
    job = submit(there, {"fail": "no such recording"}, {}, label="interviews")
    (row,) = ended(there, job)
    assert (row["state"], row["target"], row["event"], row["kind"]) == (
        "delivered",
        "ops",
        "job.finished",
        "probe",
    )
    assert row["title"] == "probe failed: interviews (1 of 2 failed)"
    (sent,) = mail.mails
    assert (sent["Subject"], sent["To"]) == (row["title"], "ops@example.org")
    (text,) = mail.texts()
    assert "2 items: 1 succeeded, 1 failed." in text
    assert "- 0.mkv: no such recording" in text
    assert f"{PUBLIC}/ui/jobs/{job}" in text
    whole = there.client.get(f"/notifications/{row['id']}").json()
    assert whole["body"].split() == text.split()


def test_a_job_names_whom_to_tell_and_others_are_not_told(there: LiveServer, mail: MailServer) -> None:
    job = submit(there, {}, notify=["family"])
    (row,) = ended(there, job)
    assert (row["state"], row["target"]) == ("delivered", "family")
    assert [sent["To"] for sent in mail.mails] == ["family@example.org"]


def test_a_form_names_whom_to_tell(there: LiveServer, mail: MailServer) -> None:
    fields = {"job": json.dumps({"kind": "probe"}), "notify": ["family", "ops"]}
    answer = there.client.post("/jobs", data=fields, files={"file": ("a.txt", b"a")})
    assert answer.status_code == 202, answer.text
    rows = ended(there, answer.json()["job_id"], 2)
    assert {row["target"] for row in rows} == {"family", "ops"}


def test_what_was_not_taken_is_listed_and_sent_again(there: LiveServer, mail: MailServer) -> None:
    mail.refuse = "550 no room"
    job = submit(there, {}, notify=["ops"])
    (row,) = ended(there, job)
    assert (row["state"], row["attempts"]) == ("failed", 2)
    assert row["error"]
    failed = there.client.get("/notifications", params={"state": "failed"}).json()["notifications"]
    assert row["id"] in [entry["id"] for entry in failed]
    mail.refuse = None
    again = there.client.post(f"/notifications/{row['id']}/resend")
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    (row,) = ended(there, job)
    assert (row["state"], len(mail.mails)) == ("delivered", 1)


def test_a_test_is_sent_to_a_target(there: LiveServer, mail: MailServer) -> None:
    answer = there.client.post("/notifications/test", json={"target": "ops"})
    assert answer.status_code == 202, answer.text
    here = answer.headers["location"]
    row = until(lambda: (found := there.client.get(here).json())["state"] != "pending" and found)
    assert (row["state"], row["job"], row["event"]) == ("delivered", None, "test")
    assert mail.mails[0]["Subject"] == "Millrace: a test"
    assert PUBLIC in mail.texts()[0]


def test_the_targets_are_listed_by_name_and_nothing_of_their_addresses(
    there: LiveServer, mail: MailServer
) -> None:
    job = submit(there, {}, notify=["ops"])
    ended(there, job)
    listed = there.client.get("/notifications")
    assert listed.json()["targets"] == ["family", "ops"] or listed.json()["targets"] == ["ops", "family"]
    assert str(mail.port) not in listed.text
    assert there.client.get("/deliveries", params={"job": job}).json()["deliveries"] == []
    (row,) = ended(there, job)
    assert there.client.get(f"/deliveries/{row['id']}").status_code == 404


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        (["nobody"], "notify: there is no target 'nobody'; there are: "),
        (
            ["mailto://me:hunter22@example.org"],
            "notify: mailto://… is not allowed, only names of targets are",
        ),
        (["mailto:me:hunter22@example.org"], "notify: there is no target of such a name"),
        ("ops", "notify: must be a list of at most 10 strings"),
        ([1], "notify: must be a list"),
        (["ops"] * 11, "notify: must be a list"),
    ],
)
def test_what_cannot_be_told_makes_no_job(there: LiveServer, notify: Any, said: str) -> None:
    before = there.client.get("/jobs").json()["total"]
    answer = there.client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}], "notify": notify})
    assert (answer.status_code, answer.json()["detail"].startswith(said)) == (400, True), answer.text
    assert "hunter22" not in answer.text
    assert there.client.get("/jobs").json()["total"] == before
    if isinstance(notify, list) and len(notify) == 1 and isinstance(notify[0], str):
        test = there.client.post("/notifications/test", json={"target": notify[0]})
        assert (test.status_code, "hunter22" in test.text) == (400, False)


def test_an_unknown_notification_is_not_found(there: LiveServer) -> None:
    for answer in (there.client.get("/notifications/x"), there.client.post("/notifications/x/resend")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_server_may_let_jobs_bring_their_own_addresses(
    new_server: NewServer, tmp_path: Path, mail: MailServer
) -> None:
    settings = configured(mail, per_job="any")
    there = new_server(settings=settings, path=probe_path(tmp_path)).start()
    own = mail.address("me@example.org")
    (row,) = ended(there, submit(there, {}, notify=[own]))
    assert (row["state"], row["attempts"], row["target"]) == ("failed", 1, "mailto://…")
    assert "a loopback address, not a public one" in row["error"]
    assert mail.mails == []
    bad = there.client.post(
        "/jobs", json={"kind": "probe", "items": [{"input": {}}], "notify": ["nonsense://hunter22@x"]}
    )
    assert bad.status_code == 400
    assert bad.json()["detail"] == "notify: nonsense://… cannot be used: there is no service 'nonsense'"

    settings["notify"]["allow_private"] = True
    there.restart(**settings)
    job = submit(there, {}, notify=[own])
    (row,) = ended(there, job)
    assert (row["state"], mail.mails[0]["To"]) == ("delivered", "me@example.org")
    for url in ("/notifications", f"/notifications/{row['id']}", f"/jobs/{job}", f"/jobs/{job}/events"):
        said = there.client.get(url, headers={"accept": "application/json"}).text
        assert str(mail.port) not in said, url
    assert str(mail.port) not in there.log()


def test_a_server_may_forbid_it(new_server: NewServer, tmp_path: Path, mail: MailServer) -> None:
    there = new_server(settings=configured(mail, per_job="off"), path=probe_path(tmp_path)).start()
    answer = there.client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}], "notify": ["ops"]})
    assert (answer.status_code, "notify.per_job is off" in answer.json()["detail"]) == (400, True)
    assert there.client.post("/notifications/test", json={"target": "ops"}).status_code == 202


def test_a_crash_while_a_mail_is_taken_sends_it_once_more_and_no_oftener(
    new_server: NewServer, tmp_path: Path, mail: MailServer
) -> None:
    there = new_server(settings=configured(mail), path=probe_path(tmp_path)).start()
    mail.hold = True
    job = submit(there, {}, notify=["family"])
    until(lambda: mail.mails)
    there.kill()
    mail.let_go()
    there.start()
    (row,) = ended(there, job)
    assert (row["state"], row["attempts"]) == ("delivered", 1)
    assert len(mail.mails) == 2
    assert mail.texts()[0] == mail.texts()[1]


def test_what_waits_survives_a_crash_and_goes_where_the_target_leads_by_then(
    new_server: NewServer, tmp_path: Path, mail: MailServer
) -> None:
    settings = configured(mail, attempts=50, delay=1.0, max_delay=2.0)
    settings["notify"]["targets"]["ops"] = (
        "mailto://127.0.0.1:1?from=a@example.org&to=b@example.org&mode=insecure"
    )
    there = new_server(settings=settings, path=probe_path(tmp_path)).start()
    job = submit(there, {}, notify=["ops"])

    def row() -> dict[str, Any]:
        found: dict[str, Any] = there.client.get("/notifications", params={"job": job}).json()[
            "notifications"
        ][0]
        return found

    until(lambda: there.client.get("/notifications", params={"job": job}).json()["notifications"])
    until(lambda: row()["attempts"] >= 1)
    assert (row()["state"], row()["next_at"] is not None, bool(row()["error"])) == ("pending", True, True)
    there.restart(kill=True, **configured(mail, attempts=50))
    until(lambda: row()["state"] == "delivered")
    assert len(mail.mails) == 1


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        (
            {"targets": {"ops": "nonsense://hunter22"}},
            "notify.targets.ops cannot be used: there is no service",
        ),
        ({"targets": {"o s": "mailto://hunter22@x"}}, "notify.targets"),
        ({"targtes": {"ops": "mailto://hunter22@x"}}, "unknown setting notify.targtes"),
        ({"targets": "mailto://hunter22@x"}, "notify.targets"),
        ({"rules": [{"targets": ["ops"]}]}, "names the target 'ops'; there are: none"),
        ({"rules": [{"targets": []}]}, "notify.rules"),
        ({"rules": [{"when": "never", "targets": ["ops"]}]}, "notify.rules.0.when"),
        (
            {"targets": {"ops": "json://x"}, "rules": [{"kinds": ["prob"], "targets": ["ops"]}]},
            "notify.rules names the kind 'prob'",
        ),
        (
            {"targets": {"ops": "json://x"}, "rules": [{"message": "{lable}", "targets": ["ops"]}]},
            "names {lable}; there are: ",
        ),
    ],
)
def test_wrong_settings_stop_the_start_and_tell_no_secret(
    new_server: NewServer, notify: dict[str, Any], said: str
) -> None:
    with pytest.raises(ServerDied) as caught:
        new_server(settings={"notify": notify}).start()
    assert "code 2" in str(caught.value)
    assert said in str(caught.value)
    assert "hunter22" not in str(caught.value)
