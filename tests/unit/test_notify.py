"""Apprise in its own process: what it is let reach, and that no secret is told."""

from __future__ import annotations

import pytest

from millrace import notify
from millrace.errors import BadInput, StageError, Transient, Unavailable
from tests.mail_server import MailServer
from tests.unit.local_http import LocalServer

pytest.importorskip("apprise")


@pytest.fixture
def mail():
    server = MailServer()
    yield server
    server.close()


@pytest.fixture
def http():
    server = LocalServer()
    yield server
    server.close()


def send(url, *, trusted=True, allow_private=False, timeout=60.0, body="text"):
    notify.send(url, "title", body, "info", trusted=trusted, allow_private=allow_private, timeout=timeout)


def refused(url, **options) -> StageError:
    with pytest.raises(StageError) as caught:
        send(url, **options)
    return caught.value


def test_a_mail_arrives_as_plain_text(mail):
    send(mail.address(), body="two\nlines, <b>not</b> bold, ü 日本")
    (text,) = mail.texts()
    assert text.strip() == "two\nlines, <b>not</b> bold, ü 日本"
    assert mail.mails[0]["Subject"] == "title"
    assert mail.mails[0]["To"] == "ops@example.org"


def test_a_chat_service_is_told_over_http(http):
    http.says("/hook")
    send(http.url("/hook", scheme="json"))
    ((method, path, _, body),) = http.requests
    assert (method, path, b'"title": "title"' in body) == ("POST", "/hook", True)


def test_mail_that_is_not_taken_may_be_tried_again(mail):
    mail.refuse = "451 later"
    error = refused(mail.address())
    assert (type(error), error.code) == (Transient, "notify_failed")


@pytest.mark.parametrize("trusted", [False, True])
def test_only_the_operators_own_addresses_lead_inside(http, mail, trusted):
    http.says("/hook")
    for url in (http.url("/hook", scheme="json"), http.url("/hook", "localhost", "json"), mail.address()):
        if trusted:
            send(url)
        else:
            error = refused(url, trusted=False)
            assert (type(error), error.code) == (BadInput, "notify_refused")
            assert "a loopback address, not a public one" in error.message
    assert (len(http.requests), len(mail.mails)) == ((2, 1) if trusted else (0, 0))


def test_private_addresses_can_be_opened_to_all(http):
    http.says("/hook")
    send(http.url("/hook", scheme="json"), trusted=False, allow_private=True)
    assert len(http.requests) == 1


def test_a_redirect_does_not_lead_inside_either(http):
    """Through one address that may be reached to one that never may be."""
    http.says("/hook", 307, location="http://169.254.169.254/latest/meta-data/")
    error = refused(http.url("/hook", scheme="json"), trusted=False, allow_private=True)
    assert (error.code, "the metadata service of a cloud" in error.message) == ("notify_refused", True)


@pytest.mark.parametrize("trusted", [False, True])
def test_no_one_reaches_the_metadata_of_a_cloud(trusted):
    error = refused("json://169.254.169.254/latest", trusted=trusted)
    assert (error.code, "the metadata service of a cloud" in error.message) == ("notify_refused", True)


def test_an_address_of_a_caller_writes_into_no_log_and_opens_no_file():
    assert "the log of this machine" in refused("syslog://", trusted=False).message
    error = refused("fcm://project@device/#topic?keyfile=/etc/passwd", trusted=False)
    assert (error.code, "open a file" in error.message) == ("notify_refused", True)


def test_a_service_that_hangs_is_given_up(http):
    http.does("/hook", lambda handler: http.stop.wait(120))
    # Apprise itself would wait for a minute.
    error = refused(f"{http.url('/hook', scheme='json')}?rto=60", timeout=3.0)
    assert (type(error), error.code) == (Transient, "notify_timeout")


def test_addresses_are_checked_without_a_connection(http):
    reasons = notify.check(
        [
            "mailto://user:password@example.org",
            http.url("/x", scheme="json"),
            "nonsense://hunter2@x",
            "mailto://",
            "file:///etc/passwd",
        ]
    )
    assert reasons[:2] == [None, None]
    assert reasons[2] == "there is no service 'nonsense'"
    assert "mailto:// addresses" in reasons[3]
    assert reasons[4] == "there is no service 'file'"
    assert http.requests == []


def test_secrets_are_blotted_out():
    url = "mailto://user%40home:hunter22@mail.example.org:587/?to=boss@elsewhere.net&smtp=relay"
    said = "no login for user@home with hunter22 or hunter%32 at mail.example.org:587, relay"
    shown = notify.without_secrets(said, url)
    assert "hunter22" not in shown
    assert "mail.example.org:587" in shown
    token = notify.without_secrets("POST /bot12345:abcdefgh/send", "tgram://12345:abcdefgh/1")
    assert "abcdefgh" not in token


def test_of_an_address_only_its_scheme_is_shown():
    assert notify.masked("MAILTO://user:password@example.org") == "mailto://…"
    assert notify.masked("a b://secret") == "…"
    assert notify.masked("family") == "family"


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(notify, "available", lambda: False)
    with pytest.raises(Unavailable, match=r"pip install 'millrace\[notify\]'"):
        notify.check(["mailto://a@b.c"])
    assert notify.check([]) == []
    assert refused("mailto://a@b.c").code == "notify_refused"
