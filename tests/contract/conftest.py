"""A server with the workload ``probe``, shared by the contracts' own tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live import LiveServer, probe_path


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A running server whose jobs of kind ``probe`` do as their items say."""
    home = tmp_path_factory.mktemp("probe")
    media = home / "media"
    media.mkdir()
    settings = {"limits": {"body_bytes": 3_000_000, "request_bytes": 2_000_000, "parts": 20}}
    server = LiveServer(home / "server", settings=settings, media_roots=[media], path=probe_path(home))
    with server:
        yield server


class Jobs:
    """Short ways to make jobs on a server."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server

    def submit(self, *items: dict[str, Any], **fields: Any) -> str:
        """Submit a probe job with these inputs; return its id."""
        body = {"kind": "probe", "items": [{"input": item} for item in items], **fields}
        reply = self.server.client.post("/jobs", json=body)
        assert reply.status_code == 202, reply.text
        job_id: str = reply.json()["job_id"]
        return job_id

    def run(self, *items: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Submit a probe job and wait for its end; return its row."""
        return self.server.wait(self.submit(*items, **fields))


@pytest.fixture(scope="session")
def jobs(probe: LiveServer) -> Jobs:
    return Jobs(probe)
