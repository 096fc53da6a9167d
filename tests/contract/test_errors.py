"""Every error leaves in the shape of the contract that owns the path, with a request id."""

from __future__ import annotations

import re

import pytest

from tests.live import LiveServer


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("invalid", 400, "bad_request"),
        ("missing", 404, "not_found"),
        ("conflict", 409, "conflict"),
        ("large", 413, "too_large"),
        ("full", 503, "queue_full"),
        ("down", 503, "unavailable"),
        ("http", 418, "bad_request"),
        ("crash", 500, "internal_error"),
    ],
)
def test_one_mapping_for_all_contracts(probe: LiveServer, name: str, status: int, code: str) -> None:
    reply = probe.client.get(f"/probe/errors/{name}")
    assert reply.status_code == status
    error = reply.json()["probe_error"]
    assert (error["status"], error["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/json"


def test_details_reach_the_contract(probe: LiveServer) -> None:
    error = probe.client.get("/probe/errors/invalid").json()["probe_error"]
    assert error["details"] == {"field": "field"}
    assert probe.client.get("/probe/errors/full").headers["retry-after"] == "7"


def test_a_crash_tells_nothing_but_where_to_look(probe: LiveServer) -> None:
    reply = probe.client.get("/probe/errors/crash")
    request_id = reply.headers["x-request-id"]
    assert "secret" not in reply.text
    assert request_id in reply.json()["probe_error"]["message"]
    log = probe.log()
    assert "the secret is 42" in log
    assert f"request_id={request_id}" in log
    assert probe.client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "a"}, "size: field required"),
        (
            {"name": 3, "size": "x"},
            "name: input should be a valid string; size: input should be a valid integer",
        ),
        ([], "body: "),
        (None, "body: field required"),
    ],
)
def test_what_is_invalid_is_400_and_named(probe: LiveServer, body: object, said: str) -> None:
    reply = probe.client.post("/probe/bodies", json=body)
    assert reply.status_code == 400
    error = reply.json()["probe_error"]
    assert error["message"].startswith(said)
    assert error["code"] == "bad_request"
    assert all(entry.keys() == {"field", "reason"} for entry in error["details"]["errors"])


@pytest.mark.parametrize("raw", [b"{", b'{"name": "a", "size": 1,}', b'{"name": "\xff"}'])
def test_malformed_json_is_400(probe: LiveServer, raw: bytes) -> None:
    reply = probe.client.post("/probe/bodies", content=raw, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert "probe_error" in reply.json()


def test_json_under_another_name_is_400(probe: LiveServer) -> None:
    raw = b'{"name": "a", "size": 1}'
    reply = probe.client.post("/probe/bodies", content=raw, headers={"content-type": "text/plain"})
    assert reply.status_code == 400


@pytest.mark.parametrize("path", ["/probe/none", "/probe"])
def test_a_path_of_a_contract_that_is_not_there_is_404_in_its_shape(probe: LiveServer, path: str) -> None:
    reply = probe.client.get(path)
    assert reply.status_code == 404
    assert reply.json()["probe_error"]["message"] == f"nothing is served at {path}"


@pytest.mark.parametrize("path", ["/none", "/probes/none", "/probing", "/ui/none"])
def test_any_other_path_that_is_not_there_is_a_problem(probe: LiveServer, path: str) -> None:
    reply = probe.client.get(path)
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": f"nothing is served at {path}",
        "code": "not_found",
        "request_id": reply.headers["x-request-id"],
    }


def test_a_wrong_method_is_405_in_either_shape(probe: LiveServer) -> None:
    ours = probe.client.put("/jobs")
    assert ours.status_code == 405
    assert ours.json()["detail"] == "PUT is not allowed at /jobs"
    assert set(ours.headers["allow"].replace(" ", "").split(",")) >= {"GET"}
    theirs = probe.client.put("/probe/bodies")
    assert theirs.status_code == 405
    assert theirs.json()["probe_error"]["code"] == "method_not_allowed"


def test_a_sane_request_id_is_echoed(probe: LiveServer) -> None:
    reply = probe.client.get("/jobs", headers={"x-request-id": "trace-1.2:3_4"})
    assert reply.headers["x-request-id"] == "trace-1.2:3_4"


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "<b>", "-starts-oddly", "new%0aline\\n"])
def test_any_other_request_id_is_made_anew(probe: LiveServer, given: str) -> None:
    reply = probe.client.get("/jobs", headers={"x-request-id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["x-request-id"])


def test_two_requests_have_two_ids(probe: LiveServer) -> None:
    ids = {probe.client.get("/livez").headers["x-request-id"] for _ in range(10)}
    assert len(ids) == 10
