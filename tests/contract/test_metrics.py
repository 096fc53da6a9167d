"""What Prometheus scrapes, and what is logged."""

from __future__ import annotations

import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import NewServer
from tests.contract.conftest import Jobs
from tests.live import LiveServer, probe_path

Labels = dict[str, str]


def scrape(server: LiveServer) -> dict[str, list[tuple[Labels, float]]]:
    """Return every sample by its name."""
    text = server.client.get("/metrics").raise_for_status().text
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(samples: list[tuple[Labels, float]], **labels: str) -> float:
    return sum(number for found, number in samples if labels.items() <= found.items())


def test_metrics_tell_what_happened(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    own = Jobs(server)
    own.run({}, {}, {"fail": "no"})
    own.run({"die": True})
    own.submit({}, held=True)
    server.client.get("/jobs/none")
    found = scrape(server)
    assert value(found["millrace_jobs"], kind="probe", state="failed") == 2
    assert value(found["millrace_jobs"], kind="probe", state="queued") == 1
    assert value(found["millrace_items"], kind="probe", state="succeeded") == 2
    assert value(found["millrace_items"], kind="probe", state="failed") == 2
    assert value(found["millrace_stage_seconds_count"], kind="probe", stage="first", outcome="succeeded") == 2
    assert value(found["millrace_stage_seconds_count"], kind="probe", stage="first", outcome="failed") == 1
    assert (
        value(found["millrace_stage_seconds_count"], kind="probe", stage="second", outcome="succeeded") == 2
    )
    assert value(found["millrace_workers"]) >= 1
    assert value(found["millrace_workers_lost_total"]) >= 1
    assert value(found["millrace_slots"], resource="cpu") >= 1
    assert found["millrace_queue_age_seconds"][0][1] >= 0
    assert value(found["millrace_oldest_waiting_seconds"], kind="probe", stage="first", resource="cpu") == 0
    requests = found["millrace_http_requests_total"]
    assert value(requests, method="POST", route="/jobs", status="202") == 3
    assert value(requests, method="GET", route="/jobs/{job_id}", status="404") == 1
    assert not any("none" in labels["route"] for labels, _ in requests)
    assert value(found["millrace_http_request_seconds_count"], method="POST", route="/jobs") == 3


def test_log_lines_are_json_where_wanted(new_server: NewServer) -> None:
    server = new_server(settings={"log": {"format": "json", "level": "info"}}).start()
    server.client.get("/jobs", headers={"x-request-id": "find-me"})
    server.stop()
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    (mine,) = [line for line in lines if line.get("request_id") == "find-me" and "http_status" in line]
    assert (mine["http_status"], mine["level"]) == (200, "info")
    assert mine["message"].startswith("GET /jobs 200")


def test_the_log_follows_jobs_and_items(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(settings={"log": {"format": "json"}}, path=probe_path(tmp_path)).start()
    job = Jobs(server).run({}, {"fail": "no good"})["job_id"]
    server.stop()
    lines = [line for line in map(json.loads, server.log().splitlines()) if line.get("job") == job]
    assert [line["message"].partition(": ")[2] for line in lines if "item" not in line] == [
        "created",
        "started",
        "failed; 1 succeeded, 0 skipped, 1 failed, 0 cancelled",
    ]
    (failed,) = [line for line in lines if "item" in line]
    assert (failed["item"], failed["code"], failed["level"]) == (1, "bad_probe", "warning")
    assert failed["message"].endswith("failed at first: no good")
