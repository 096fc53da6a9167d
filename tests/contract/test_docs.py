"""The OpenAPI page: complete, with examples, and offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.plugins import discover
from tests.live import LiveServer


@pytest.fixture(scope="module")
def schema(probe: LiveServer) -> dict[str, Any]:
    found: dict[str, Any] = probe.client.get("/openapi.json").raise_for_status().json()
    return found


def test_the_page_loads_nothing_from_elsewhere(probe: LiveServer) -> None:
    page = probe.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for address in loaded:
        assert probe.client.get("/" + address).status_code == 200
    start = probe.client.get("/docs/start.js")
    assert start.headers["content-type"].startswith("text/javascript")
    assert 'url: "openapi.json"' in start.text
    assert "//" not in start.text


def test_the_page_has_only_its_own_files(probe: LiveServer) -> None:
    for name in ("core.py", "..%2fcore.py", "redoc.standalone.js"):
        assert probe.client.get(f"/docs/{name}").status_code == 404


CONTRACTS = ["transcripts", "tracks", "sync", "images", "documents"]


OURS = ["jobs", "workloads", "presets", "schedules", "watches", "deliveries", "notifications", "server"]


@pytest.mark.parametrize("tag", [*OURS, *CONTRACTS])
def test_every_endpoint_has_a_summary_a_description_and_an_example(schema: dict[str, Any], tag: str) -> None:
    operations = [
        (f"{method} {path}", operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if tag in operation.get("tags", [])
    ]
    assert operations
    for name, operation in operations:
        assert operation.get("summary"), name
        assert operation.get("description") or tag in CONTRACTS, name
        answers = [
            content
            for status, answer in operation["responses"].items()
            if status.startswith("2")
            for content in answer.get("content", {}).values()
        ]
        assert any("example" in content for content in answers), f"{name} has no example of an answer"
        if "requestBody" in operation:
            bodies = operation["requestBody"]["content"].values()
            assert any("example" in body for body in bodies), f"{name} has no example of a request"


def test_no_example_is_of_an_endpoint_that_is_not_there(schema: dict[str, Any]) -> None:
    there = {f"{method.upper()} {path}" for path, methods in schema["paths"].items() for method in methods}
    for kind, plugin in discover().items():
        if plugin.examples is not None:
            assert yaml.safe_load(plugin.examples.read_text()).keys() <= there, kind


def test_errors_are_described_as_they_are(schema: dict[str, Any]) -> None:
    statuses = {s for path in schema["paths"].values() for op in path.values() for s in op["responses"]}
    assert "422" not in statuses
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    assert schema["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}


def test_the_examples_have_the_fields_of_real_answers(probe: LiveServer, schema: dict[str, Any]) -> None:
    reply = probe.client.post("/jobs", json={"kind": "probe", "items": [{"input": {"artifact": "a.txt"}}]})
    job = probe.wait(reply.json()["job_id"])["job_id"]
    for path, real in (
        ("/jobs", "/jobs"),
        ("/jobs/{job_id}", f"/jobs/{job}"),
        ("/jobs/{job_id}/items", f"/jobs/{job}/items"),
        ("/jobs/{job_id}/items/{idx}", f"/jobs/{job}/items/0"),
        ("/jobs/{job_id}/artifacts", f"/jobs/{job}/artifacts"),
        ("/jobs/stats", "/jobs/stats"),
        ("/workloads", "/workloads"),
        ("/presets", "/presets"),
        ("/schedules", "/schedules"),
        ("/deliveries", "/deliveries"),
        ("/watches", "/watches"),
        ("/notifications", "/notifications"),
        ("/health", "/health"),
        ("/readyz", "/readyz"),
    ):
        example = schema["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["example"]
        _same_fields(example, probe.client.get(real).json(), path)


def test_the_guide_names_every_endpoint_and_metric(probe: LiveServer, schema: dict[str, Any]) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "jobs-api.md").read_text()
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            if set(operation.get("tags", [])) & (set(OURS) - {"schedules", "deliveries"}):
                assert f"{path}`" in guide, path
    guide += (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    families = re.findall(r"^# TYPE (millrace_\w+) ", probe.client.get("/metrics").text, re.MULTILINE)
    undocumented = {name for name in families if f"`{name}" not in guide}
    assert undocumented <= {"millrace_info"} | {name for name in undocumented if name.endswith("_created")}


def _same_fields(example: Any, real: Any, where: str) -> None:
    """Check that both have the same keys, down through lists; what is free-form is left out."""
    if isinstance(example, list) and isinstance(real, list) and example and real:
        _same_fields(example[0], real[0], f"{where}[]")
    elif isinstance(example, dict) and isinstance(real, dict):
        assert example.keys() == real.keys(), where
        for key in example.keys() - {"options", "results", "by_kind", "workloads"}:
            _same_fields(example[key], real[key], f"{where}.{key}")
