"""Who may ask: the bearer token, and other sites' pages."""

from __future__ import annotations

import httpx2 as httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import NewServer
from tests.contract.conftest import Jobs
from tests.live import LiveServer, ServerDied, probe_path

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def guarded(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    """A server that asks for a token."""
    environ = {"REQUIRE_AUTH": "true", "BEARER_TOKEN": TOKEN}
    path = probe_path(tmp_path_factory.mktemp("plugins"))
    return new_module_server(environ=environ, path=path).start()


@pytest.fixture(scope="module")
def stranger(guarded: LiveServer) -> httpx.Client:
    """A client without a token."""
    with httpx.Client(base_url=guarded.url) as client:
        yield client


GUARDED = [
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("GET", "/jobs/stats"),
    ("GET", "/jobs/x"),
    ("PATCH", "/jobs/x"),
    ("DELETE", "/jobs/x"),
    ("GET", "/jobs/x/items"),
    ("GET", "/jobs/x/events"),
    ("GET", "/jobs/x/items/0/artifacts/a"),
    ("GET", "/workloads"),
    ("POST", "/workloads/none/pause"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/docs/swagger-ui.css"),
    ("GET", "/openapi.json"),
    ("GET", "/probe/errors/http"),
    ("POST", "/probe/uploads"),
    ("GET", "/nothing/here"),
    ("OPTIONS", "/jobs"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_everything_but_health_needs_the_token(stranger: httpx.Client, method: str, path: str) -> None:
    none = stranger.request(method, path)
    assert none.status_code == 401
    assert none.headers["www-authenticate"].startswith("Bearer")
    wrong = stranger.request(method, path, headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 403
    right = stranger.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code not in (401, 403)


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/probe/health"])
def test_health_needs_none(stranger: httpx.Client, path: str) -> None:
    assert stranger.get(path).status_code == 200
    assert stranger.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN])
def test_what_is_no_bearer_token_counts_as_none(stranger: httpx.Client, given: str) -> None:
    assert stranger.get("/jobs", headers={"Authorization": given.strip()}).status_code == 401


@pytest.mark.parametrize("given", [f"bearer {TOKEN}", f"BEARER  {TOKEN}"])
def test_the_scheme_is_written_in_any_case(stranger: httpx.Client, given: str) -> None:
    assert stranger.get("/jobs", headers={"Authorization": given}).status_code == 200


@pytest.mark.parametrize("given", [f"{TOKEN}x", TOKEN[:-1], TOKEN.upper(), "é"])
def test_nearly_right_is_wrong(stranger: httpx.Client, given: str) -> None:
    header = {b"Authorization": b"Bearer " + given.encode()}
    assert stranger.get("/jobs", headers=header).status_code == 403


def test_refusals_wear_the_shape_of_the_contract(stranger: httpx.Client) -> None:
    ours = stranger.get("/jobs").json()
    assert (ours["status"], ours["code"], ours["title"]) == (401, "unauthorized", "Unauthorized")
    theirs = stranger.get("/probe/errors/http", headers={"Authorization": "Bearer wrong"}).json()
    assert theirs["probe_error"]["code"] == "forbidden"


def test_event_streams_and_sockets_may_pass_it_in_the_address(
    guarded: LiveServer, stranger: httpx.Client
) -> None:
    job = Jobs(guarded).run({})["job_id"]
    events = f"/jobs/{job}/events"
    assert stranger.get(events, params={"access_token": TOKEN}).status_code == 200
    assert stranger.get(events, params={"access_token": "wrong"}).status_code == 403
    base = guarded.url.replace("http", "ws") + f"/jobs/{job}/ws"
    with connect(f"{base}?access_token={TOKEN}") as socket:
        assert "job.created" in str(socket.recv(timeout=30))
    for query, status in (("", 401), ("?access_token=wrong", 403)):
        with pytest.raises(InvalidStatus) as refused, connect(base + query):
            pass
        assert refused.value.response.status_code == status


def test_nothing_else_takes_it_from_the_address(stranger: httpx.Client) -> None:
    query = {"access_token": TOKEN}
    assert stranger.get("/jobs", params=query).status_code == 401
    assert stranger.post("/jobs", params=query, headers={"Accept": "text/event-stream"}).status_code == 401


def test_the_documentation_passes_it_on(stranger: httpx.Client) -> None:
    page = stranger.get("/docs", params={"access_token": TOKEN})
    assert page.status_code == 200
    assert f"docs/start.js?access_token={TOKEN}" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")


def test_the_token_is_never_logged(guarded: LiveServer, stranger: httpx.Client) -> None:
    stranger.get("/jobs/x/events", params={"access_token": TOKEN})
    assert "/jobs/x/events" in guarded.log()
    assert TOKEN not in guarded.log()


def test_a_token_is_needed_where_the_world_can_reach(new_server: NewServer) -> None:
    server = new_server(settings={"host": "0.0.0.0"})
    with pytest.raises(ServerDied, match="bearer_token is not set"):
        server.start()


def test_an_open_server_says_so(new_server: NewServer) -> None:
    server = new_server(settings={"host": "0.0.0.0"}, environ={"REQUIRE_AUTH": "false"})
    with server:
        assert "anybody who reaches 0.0.0.0 can use this server" in server.log()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_another_sites_page_cannot_change_anything_here(probe: LiveServer, headers: dict[str, str]) -> None:
    body = {"kind": "probe", "items": [{"input": {}}]}
    assert probe.client.post("/jobs", json=body, headers=headers).status_code == 403
    assert probe.client.get("/jobs", headers=headers).status_code == 200


def test_our_own_page_and_plain_clients_can(probe: LiveServer) -> None:
    body = {"kind": "probe", "items": [{"input": {}}]}
    for headers in (
        {"Sec-Fetch-Site": "same-origin", "Origin": probe.url},
        {"Sec-Fetch-Site": "none"},
        {"Origin": probe.url},
        {},
    ):
        assert probe.client.post("/jobs", json=body, headers=headers).status_code == 202
