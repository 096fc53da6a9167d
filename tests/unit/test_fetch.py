"""Fetching: against real servers, with the tricks that get inner networks and full disks."""

import gzip
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from millrace.errors import BadInput, Transient
from millrace.fetch import FetchPolicy, fetch, parse, post
from millrace.settings import FetchSettings
from tests.unit.local_http import LocalServer

OPEN = FetchPolicy(allow_private=True, ports=(), max_bytes=1_000_000, deadline=20)


@pytest.fixture
def server():
    server = LocalServer()
    yield server
    server.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "fetched"


def refused(target, url, policy=OPEN, error=BadInput, **options) -> BadInput:
    with pytest.raises(error) as caught:
        fetch(url, target, policy, **options)
    assert not target.exists()
    return caught.value


def with_(policy=OPEN, **changes) -> FetchPolicy:
    from dataclasses import replace

    return replace(policy, **changes)


def test_the_settings_have_the_words_and_defaults_of_the_policy():
    assert FetchPolicy.of(FetchSettings().model_dump(mode="json")) == FetchPolicy()


def test_what_is_there_arrives_whole(server, target):
    body = bytes(range(256)) * 1000
    seen = []
    got = fetch(
        server.says("/a.bin?x=1", body=body, content_type="Video/MP4; a=b"),
        target,
        OPEN,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (target.read_bytes(), got.bytes, got.media_type) == (body, len(body), "video/mp4")
    assert seen[-1] == (len(body), len(body))
    assert server.requests[0][1] == "/a.bin?x=1"


def test_the_request_asks_for_identity_and_names_the_host(server, target):
    server.says("/", body=b"x")
    fetch(server.url("/", host="files.test"), target, OPEN, resolver=lambda host, port: ["127.0.0.1"])
    headers = server.requests[0][2]
    assert headers["host"] == f"files.test:{server.port}"
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


def test_the_proxy_of_the_environment_is_not_used(server, target, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(server.says("/", body=b"direct"), target, OPEN).bytes == 6


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/x",
        "gopher://example.org/",
        "data:text/plain,x",
        "//example.org/x",
        "example.org",
        "http://",
        "http:///x",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://example.org@127.0.0.1/",
        "http://example.org\\@127.0.0.1/",
        "http://example.org/a b",
        "http://example.org/\r\nHost: inner",
        "http://exa\tmple.org/",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://example.org:notaport/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://example.org:22/",
        "http://" + "a" * 9000,
    ],
)
def test_a_url_that_is_no_plain_public_one_is_refused_before_any_lookup(target, url):
    def never(host, port):
        raise AssertionError("looked up")

    error = refused(target, url, FetchPolicy(), resolver=never)
    assert error.code == "fetch_refused"
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "100.64.1.1",
        "10.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
    ],
)
def test_no_spelling_of_an_inner_address_is_reached(server, target, host):
    server.says("/", body=b"secret")
    error = refused(target, server.url("/", host=host), with_(allow_private=False))
    assert error.code in ("fetch_refused", "fetch_failed")
    assert server.requests == []


def test_one_inner_address_among_the_answers_is_enough_to_refuse(target):
    error = refused(
        target, "http://mixed.test/", FetchPolicy(), resolver=lambda host, port: ["93.184.216.34", "10.0.0.5"]
    )
    assert "mixed.test is 10.0.0.5, a private address" in error.message


def test_a_name_server_that_changes_its_mind_is_asked_only_once(server, target):
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    server.says("/", body=b"first")
    fetch(server.url("/", host="rebind.test"), target, OPEN, resolver=lambda host, port: next(answers))
    assert target.read_bytes() == b"first"
    assert next(answers) == ["169.254.169.254"]


def test_a_dead_address_is_passed_over_for_the_next(server, target):
    server.says("/", body=b"here")
    url = server.url("/", host="two.test")
    # Nothing listens on this address of the loopback network.
    got = fetch(url, target, OPEN, resolver=lambda host, port: ["127.9.9.9", "127.0.0.1"])
    assert got.bytes == 4


def test_redirects_are_followed_and_told(server, target):
    server.says("/deep/b", body=b"end")
    got = fetch(server.says("/deep/a", 302, location="b"), target, OPEN)
    assert (got.url, got.bytes) == (server.url("/deep/b"), 3)


def test_no_more_redirects_than_allowed(server, target):
    server.says("/loop", 302, location="/loop")
    error = refused(target, server.url("/loop"))
    assert "redirects more than 3 times" in error.message
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "http://a:b@127.0.0.1/",
        "gopher://x/",
    ],
)
def test_each_redirect_is_checked_like_the_first_address(server, target, location):
    assert refused(target, server.says("/", 307, location=location)).code == "fetch_refused"


def test_a_redirect_to_a_closed_port_is_refused(server, target):
    url = server.says("/", 301, location="http://127.0.0.1:22/")
    assert "port 22" in refused(target, url, with_(ports=(server.port,))).message


def test_a_redirect_is_looked_up_again_and_refused_when_it_leads_inside(server, target):
    server.says("/", 302, location=f"http://metadata.test:{server.port}/")
    names = {"files.test": ["127.0.0.1"], "metadata.test": ["100.100.100.200"]}
    error = refused(target, server.url("/", "files.test"), resolver=lambda host, port: names[host])
    assert "metadata.test is 100.100.100.200" in error.message


def test_a_declared_length_beyond_the_limit_is_refused_at_once(server, target):
    sent = []

    def answer(handler):
        handler.send_response(200)
        handler.send_header("content-length", str(10**12))
        handler.end_headers()
        sent.append(handler)
        server.stop.wait(10)

    error = refused(target, server.does("/", answer))
    assert error.code == "fetch_too_large"
    assert "1000000 bytes allowed" in error.message


def test_an_endless_answer_is_cut_at_the_limit(server, target):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        while not server.stop.is_set():
            handler.wfile.write(b"x" * 65536)

    assert refused(target, server.does("/", answer)).code == "fetch_too_large"


def test_a_compressed_answer_is_refused_not_unpacked(server, target):
    bomb = gzip.compress(b"\0" * 50_000_000)
    error = refused(target, server.says("/", body=bomb, content_encoding="gzip"))
    assert "gzip" in error.message


def test_a_slow_drip_ends_at_the_deadline(server, target):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        while not server.stop.wait(0.05):
            handler.wfile.write(b"x")

    error = refused(target, server.does("/", answer), with_(deadline=0.5), Transient)
    assert error.code == "fetch_timeout"


def test_dripping_headers_end_at_the_deadline(server, target):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not server.stop.wait(0.05):
            handler.wfile.write(b"x-a: b\r\n")

    assert refused(target, server.does("/", answer), with_(deadline=0.5), Transient).code == "fetch_timeout"


def test_redirects_share_one_deadline(server, target):
    def answer(handler):
        time.sleep(0.25)
        handler.send_response(302)
        handler.send_header("location", "/")
        handler.send_header("content-length", "0")
        handler.end_headers()

    url = server.does("/", answer)
    assert refused(target, url, with_(deadline=0.6, redirects=10), Transient).code == "fetch_timeout"


def test_a_slow_name_server_ends_at_the_deadline(server, target):
    def resolver(host, port):
        server.stop.wait(10)
        return ["127.0.0.1"]

    error = refused(target, "http://slow.test/", with_(deadline=0.3), Transient, resolver=resolver)
    assert error.code == "fetch_timeout"


def test_an_answer_that_breaks_off_may_be_tried_again(server, target):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b"half")

    assert refused(target, server.does("/", answer), error=Transient).retryable


def test_nobody_listening_may_be_tried_again(target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused(target, f"http://127.0.0.1:{unused.getsockname()[1]}/", error=Transient)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, BadInput),
        (403, BadInput),
        (204, BadInput),
        (206, BadInput),
        (500, Transient),
        (503, Transient),
        (429, Transient),
    ],
)
def test_a_status_tells_whether_another_try_may_help(server, target, status, error):
    caught = refused(target, server.says("/x?token=hidden", status), error=error)
    assert caught.details == {"status": status}
    assert f"status code {status}" in caught.message
    assert "hidden" not in caught.message


def test_an_unknown_host_is_the_inputs_fault_a_silent_name_server_is_not(target):
    def unknown(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    def silent(host, port):
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    assert (
        "there is no host nowhere.test" in refused(target, "http://nowhere.test/", resolver=unknown).message
    )
    refused(target, "http://nowhere.test/", error=Transient, resolver=silent)


def test_names_and_paths_beyond_ascii_are_encoded(server, target):
    server.says("/%E6%97%A5%E6%9C%AC?q=%C3%A4", body=b"x")
    asked = []

    def resolver(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    fetch(server.url("/日本?q=ä", host="bücher.test"), target, OPEN, resolver=resolver)
    assert asked == ["xn--bcher-kva.test"]


def test_the_ports_may_be_left_open():
    assert parse("http://example.org:12345/", with_(ports=())).port == 12345


@pytest.fixture
def tls(server, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            key,
            "-out",
            certificate,
            "-subj",
            "/CN=files.test",
            "-addext",
            "subjectAltName=DNS:files.test",
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return ssl.create_default_context(cafile=certificate)


def test_tls_checks_the_name_that_was_asked_for_though_the_address_is_pinned(server, target, tls):
    server.says("/", body=b"safe")
    here = {"resolver": lambda host, port: ["127.0.0.1"]}
    assert fetch(server.url("/", "files.test", "https"), target, OPEN, ssl_context=tls, **here).bytes == 4
    target.unlink()
    refused(target, server.url("/", "other.test", "https"), error=Transient, ssl_context=tls, **here)
    refused(target, server.url("/", "files.test", "https"), error=Transient, **here)


def test_post_sends_and_returns_the_answer_whatever_its_status(server):
    url = server.says("/hook", 500, body=b"no " * 5000)
    answer = post(url, b'{"a":1}', {"X-Signature": "s"}, OPEN, answer_bytes=100)
    assert (answer.status, len(answer.body)) == (500, 100)
    method, _, headers, body = server.requests[0]
    assert (method, body) == ("POST", b'{"a":1}')
    assert (headers["x-signature"], headers["content-type"]) == ("s", "application/json")


def test_post_follows_no_redirect(server):
    assert post(server.says("/hook", 307, location="/other"), b"{}", policy=OPEN).status == 307
    assert len(server.requests) == 1


def test_post_reaches_no_inner_address(server):
    with pytest.raises(BadInput):
        post(server.url("/hook"), b"{}", policy=with_(allow_private=False))
    assert server.requests == []
