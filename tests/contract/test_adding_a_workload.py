"""The workload in docs/adding-a-workload.md works as written, and is as short as promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import NewServer
from tests.live import LiveServer, ServerDied, install_plugin

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-workload.md"


def block(language: str) -> str:
    """Return the first block of that language in the document."""
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def install(folder: Path) -> list[Path]:
    """Install the document's module with its entry point."""
    folder.mkdir(exist_ok=True)
    (folder / "shout.py").write_text(block("python"))
    entry = re.search(r'^(\w+) = "(.+)"$', block("toml"), re.MULTILINE)
    assert entry is not None
    return [install_plugin(folder, entry[1], entry[2])]


@pytest.fixture(scope="module")
def shouting(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    """A server with the document's workload and settings."""
    path = install(tmp_path_factory.mktemp("site") / "shout")
    return new_module_server(path=path, settings=yaml.safe_load(block("yaml"))).start()


def test_it_is_shorter_than_sixty_lines() -> None:
    assert len(block("python").splitlines()) < 60


def test_its_own_endpoint_makes_jobs(shouting: LiveServer) -> None:
    reply = shouting.client.post("/shouts", json={"texts": ["hello", "is anybody there"]})
    assert reply.status_code == 202
    assert shouting.wait(reply.json()["id"])["state"] == "succeeded"
    job = shouting.client.get(reply.json()["status_url"]).json()["job_id"]
    items = shouting.client.get(f"/jobs/{job}/items").json()["items"]
    assert [item["results"]["emphasise"]["text"] for item in items] == ["HELLO!!!", "IS ANYBODY THERE!!!"]
    assert shouting.client.get(f"/jobs/{job}/items/0/artifacts/shout.txt").text == "HELLO!!!"


def test_the_jobs_api_reaches_it_too(shouting: LiveServer) -> None:
    body = {"kind": "shout", "items": [{"input": {"text": "hello"}}, {"input": {"text": " "}}]}
    row = shouting.wait(shouting.client.post("/jobs", json=body).json()["job_id"])
    assert (row["state"], row["counts"]["succeeded"], row["counts"]["failed"]) == ("succeeded", 1, 1)
    failed = shouting.client.get(f"/jobs/{row['job_id']}/items/1").json()["error"]
    assert failed["code"] == "silence"
    assert failed["message"] == "there is nothing to shout: the text is empty"


def test_it_has_its_place_beside_the_others(shouting: LiveServer) -> None:
    kinds = {workload["kind"] for workload in shouting.client.get("/workloads").json()["workloads"]}
    assert "shout" in kinds
    assert shouting.client.get("/jobs", params={"status": "shouting"}).status_code == 200
    assert "/shouts" in shouting.client.get("/openapi.json").json()["paths"]


def test_its_errors_have_its_shape(shouting: LiveServer) -> None:
    reply = shouting.client.post("/shouts", json={"texts": "hello"})
    assert reply.status_code == 400
    assert reply.json() == {"oops": "texts: input should be a valid list"}


def test_its_settings_are_checked(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(path=install(tmp_path / "site"), settings={"shout": {"mark": 3}})
    with pytest.raises(ServerDied, match=r"shout\.mark"):
        server.start()
