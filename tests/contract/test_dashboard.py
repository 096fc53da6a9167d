"""The dashboard as HTTP: who may see it, what its pages load, and that nothing foreign runs in them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx2 as httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from millrace.server import session
from tests.conftest import NewServer
from tests.contract.conftest import Jobs
from tests.live import LiveServer, probe_path

TOKEN = "wheel & water"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def guarded(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    """A server that asks for a token."""
    environ = {"REQUIRE_AUTH": "true", "BEARER_TOKEN": TOKEN}
    return new_module_server(environ=environ, path=probe_path(tmp_path_factory.mktemp("plugins"))).start()


@pytest.fixture
def browser(guarded: LiveServer) -> httpx.Client:
    """What a browser does: it keeps cookies and says where its requests come from."""
    headers = {**HTML, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=guarded.url, headers=headers) as client:
        yield client


def sign_in(browser: httpx.Client, token: str = TOKEN, there: str = "/") -> httpx.Response:
    return browser.post("/ui/sign-in", data={"token": token, "next": there})


class Page(HTMLParser):
    """What a page loads and links to, and what would be a script or style inside it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._in = tag
        self.ids += [found["id"] or ""] if "id" in found else []
        self.inline += [f"{tag} {name}" for name in found if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            value = found.get(name)
            if value and (name == "src" or tag in ("link", "use")):
                self.loads.append(value)
            elif value:
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style") and data.strip():
            self.inline.append(f"{self._in}: {data[:40]}")


# -- who may see it ---------------------------------------------------------------------------


def test_who_has_no_session_is_sent_to_sign_in(browser: httpx.Client) -> None:
    reply = browser.get("/ui/jobs", params={"kind": "probe"})
    assert (reply.status_code, reply.headers["location"]) == (
        303,
        "/ui/sign-in?next=%2Fui%2Fjobs%3Fkind%3Dprobe",
    )
    assert browser.get("/").headers["location"] == "/ui/sign-in?next=%2F"
    page = browser.get(reply.headers["location"])
    assert 'name="next" value="/ui/jobs?kind=probe"' in page.text


def test_scripts_and_programs_get_a_401(guarded: LiveServer) -> None:
    with httpx.Client(base_url=guarded.url) as stranger:
        assert stranger.get("/").status_code == 401
        assert stranger.get("/ui/part/now").status_code == 401
        assert stranger.get("/ui/live", headers={"Accept": "text/event-stream"}).status_code == 401
        assert stranger.get("/jobs", headers=HTML).status_code == 401


def test_the_token_opens_a_session(browser: httpx.Client) -> None:
    reply = sign_in(browser, there="/ui/jobs")
    assert (reply.status_code, reply.headers["location"]) == (303, "/ui/jobs")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "wheel" not in cookie
    assert browser.get("/ui/jobs").status_code == 200
    assert browser.get("/jobs").status_code == 200
    assert browser.get("/ui/sign-in", params={"next": "/ui/new"}).headers["location"] == "/ui/new"


@pytest.mark.parametrize("token", ["", "wheel", TOKEN + "x", "ü"])
def test_a_wrong_token_opens_none(browser: httpx.Client, token: str) -> None:
    reply = sign_in(browser, token)
    assert reply.status_code == 403
    assert "not this server" in reply.text
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    "there", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/a\nb"]
)
def test_nobody_is_sent_elsewhere(browser: httpx.Client, there: str) -> None:
    assert sign_in(browser, there=there).headers["location"] == "/"


def test_a_session_changes_things_only_for_our_own_pages(guarded: LiveServer, browser: httpx.Client) -> None:
    sign_in(browser)
    body = {"kind": "probe", "items": [{"input": {}}]}
    cookie = {"Cookie": f"{session.COOKIE}={browser.cookies[session.COOKIE]}"}
    ours = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=guarded.url, headers=cookie) as client:
        for headers, status in (
            (ours, 202),
            ({"Origin": guarded.url}, 202),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({}, 403),
        ):
            assert client.post("/jobs", json=body, headers=headers).status_code == status, headers
        assert client.delete("/jobs/x", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.get("/jobs").status_code == 200


def test_a_session_opens_sockets_only_for_our_own_pages(guarded: LiveServer, browser: httpx.Client) -> None:
    sign_in(browser)
    job = Jobs(guarded).run({})["job_id"]
    address = guarded.url.replace("http", "ws") + f"/jobs/{job}/ws"
    cookie = ("Cookie", f"{session.COOKIE}={browser.cookies[session.COOKIE]}")
    with connect(address, additional_headers=[cookie], origin=guarded.url) as socket:  # type: ignore[arg-type]
        assert "job.created" in str(socket.recv(timeout=30))
    for origin in ("https://evil.example", None):
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(address, additional_headers=[cookie], origin=origin),  # type: ignore[arg-type]
        ):
            pass
        assert refused.value.response.status_code == 403


def test_signing_in_from_another_site_is_refused(guarded: LiveServer) -> None:
    with httpx.Client(base_url=guarded.url, headers={"Origin": "https://evil.example"}) as client:
        assert sign_in(client).status_code == 403


def test_signing_out_ends_it(browser: httpx.Client) -> None:
    sign_in(browser)
    reply = browser.post("/ui/sign-out")
    assert reply.headers["location"] == "/ui/sign-in"
    assert browser.get("/ui/jobs").status_code == 303


def test_a_session_is_worth_nothing_once_it_is_old_or_the_token_new() -> None:
    token = TOKEN.encode()
    cookie = session.sign_in(token, now=1000.0)
    assert session.signed_in(token, cookie, now=1000.0 + session.LASTS - 1)
    assert not session.signed_in(token, cookie, now=1000.0 + session.LASTS + 1)
    assert not session.signed_in(b"another", cookie, now=1000.0)
    until, _, signature = cookie.partition(".")
    for forged in (
        f"{int(until) + 1}.{signature}",
        f"{until}.{signature[:-1]}",
        until,
        "",
        ".",
        "x.y",
        f"٣.{signature}",
    ):
        assert not session.signed_in(token, forged, now=1000.0), forged


# -- what its pages may load, and what must not run in them -----------------------------------

WICKED = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def wicked(probe: LiveServer) -> dict[str, Any]:
    """A job whose every word tries to be markup."""
    items = [
        {"name": WICKED, "input": {"fail": WICKED}},
        {"name": WICKED, "input": {"artifact": "a<b>.html", "content": WICKED, "media_type": "text/html"}},
    ]
    body = {"kind": "probe", "label": WICKED, "items": items, "options": {WICKED: WICKED}}
    return probe.wait(probe.client.post("/jobs", json=body).json()["job_id"])


def addresses(job: str) -> list[str]:
    return [
        "/",
        "/ui/jobs",
        f"/ui/jobs?q={WICKED}",
        f"/ui/jobs?status={WICKED}",
        f"/ui/jobs/{job}",
        f"/ui/jobs/{job}?show=failed",
        f"/ui/jobs/{job}/items/0",
        f"/ui/jobs/{job}/items/1",
        "/ui/new",
        "/ui/new?kind=probe",
        "/ui/system",
        "/ui/jobs/nowhere",
        "/ui/sign-in",
        *(f"/ui/part/jobs/{job}/{part}" for part in ("head", "items", "artifacts", "events", "items/0/head")),
        "/ui/part/now",
        "/ui/part/system/findings",
        "/ui/part/jobs",
    ]


def test_pages_load_nothing_from_elsewhere_and_hold_no_script(
    probe: LiveServer, wicked: dict[str, Any]
) -> None:
    seen = set()
    for address in addresses(wicked["job_id"]):
        reply = probe.client.get(address, headers=HTML)
        if reply.status_code == 303:
            continue
        assert reply.headers["content-type"].startswith("text/html"), address
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        page = Page(reply.text)
        assert page.inline == [], address
        assert len(page.ids) == len(set(page.ids)), address
        assert not [load for load in page.loads if not load.startswith("/") or load.startswith("//")], address
        assert not [link for link in page.links if re.match(r"[a-z]+:|//", link)], address
        seen.update(load.partition("#")[0] for load in page.loads)
    assert not [load for load in seen if "<" in load]
    for load in seen:
        reply = probe.client.get(load)
        assert reply.status_code in (200, 206), load


def test_scripts_load_nothing_from_elsewhere(probe: LiveServer) -> None:
    front = probe.client.get("/", headers=HTML).text
    base = re.search(r'src="(/ui/static/\w+/)page\.js"', front)
    assert base is not None
    todo, done = {"page.js", "jobs.js", "sign_in.js", "style.css"}, set()
    while todo:
        name = todo.pop()
        done.add(name)
        reply = probe.client.get(base[1] + name)
        assert reply.status_code == 200, name
        assert reply.headers["cache-control"].startswith("public, max-age=31536000")
        text = re.sub(r'"http://www\.w3\.org/2000/svg"', "", reply.text)
        assert not re.search(r"https?://|@import|eval\(|new Function", text), name
        todo |= set(re.findall(r'(?:from|import) "\./([\w/.]+)"', reply.text)) - done
    assert {"feed.js", "morph.js", "parts.js", "actions.js", "keys.js", "theme.js", "time.js"} <= done


def test_files_of_another_version_are_not_kept(probe: LiveServer) -> None:
    reply = probe.client.get("/ui/static/0000/page.js")
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "private, no-cache"
    for name in ("nothing.js", "..%2f__init__.py", "..%2frender.py", "%2fetc%2fpasswd"):
        assert probe.client.get(f"/ui/static/0000/{name}").status_code == 404


def test_a_page_that_does_not_exist_says_so(probe: LiveServer) -> None:
    for address, words in (
        ("/ui/jobs/nowhere", "no job"),
        ("/ui/jobs?kind=odd", "unknown kind"),
        ("/ui/jobs?status=odd", "is no status"),
        ("/ui/new?kind=odd", "no workload"),
    ):
        reply = probe.client.get(address, headers=HTML)
        assert reply.status_code in (400, 404)
        assert words in reply.text
        assert 'href="/ui/jobs"' in reply.text


def test_without_scripts_failures_come_first_and_pages_lead_on(probe: LiveServer, jobs: Jobs) -> None:
    inputs: list[dict[str, Any]] = [{"fail": "no"} if n in (7, 140) else {} for n in range(150)]
    job = jobs.run(*inputs)["job_id"]
    seen: list[int] = []
    address = f"/ui/jobs/{job}"
    while address:
        text = probe.client.get(address, headers=HTML).raise_for_status().text
        rows = [int(idx) for idx in re.findall(r'<li id="item-(\d+)"', text)]
        assert len(rows) <= 100
        seen += rows
        more = re.search(r'rel="next" href="([^"]+)"', text)
        address = more[1].replace("&amp;", "&") if more else ""
    assert seen[:2] == [7, 140]
    assert sorted(seen) == list(range(150))


def test_the_feed_hints_and_ends_with_the_server(new_server: NewServer) -> None:
    server = new_server().start()
    with httpx.Client(base_url=server.url, timeout=30) as client, client.stream("GET", "/ui/live") as reply:
        lines = reply.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: change"
        assert server.stop() == 0
        assert not [line for line in lines if line.startswith("event: error")]
