"""Every example in the documentation runs, or is checked by what would read it.

Shell and Python are run page by page against a real server. What cannot run here says why in a comment
before it (``<!-- not run: it needs root -->``) and is still parsed. Settings are read as the server would
read them, units and configurations by systemd and nginx where these are installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.plugins import discover
from millrace.settings import Settings
from millrace.settings_sources import load_settings
from tests.conftest import NewServer
from tests.contract.test_adding_a_workload import install
from tests.docs import samples
from tests.docs.pages import DOCS, README, ROOT, Block, blocks, name, pages
from tests.docs.shell import ADDRESSES, Shell, replaced
from tests.live import LiveServer

KINDS = ("transcripts", "tracks", "sync", "images", "documents")
MEDIA = ("/srv/media", "/media")
CHECKED = ("bash", "python", "json", "yaml", "toml", "ini", "nginx")
PLAIN = ("text", "csv", "http", "js", "html", "promql")
POLICY = ROOT / "src" / "millrace" / "workloads" / "documents" / "policy.yaml"
PAGES = [pytest.param(page, id=name(page)) for page in pages()]


def every(*languages: str) -> list[Any]:
    """Return all blocks of these languages as parameters."""
    return [pytest.param(block, id=str(block)) for page in pages() for block in blocks(page, *languages)]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs") / "media"
    root.mkdir()
    samples.write_media(root)
    return root


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    samples.write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def documented(new_module_server: NewServer, media: Path) -> LiveServer:
    """The server that the examples ask."""
    shout = install(media.parent / "shout")  # the workload of the guide to writing one
    return new_module_server(media_roots=[media], path=shout, settings=mappings(media)).start()


def mappings(media: Path) -> dict[str, Any]:
    """Return the settings of the guide to Sonarr and Radarr, which its commands try out."""
    return {"tracks": {"path_mappings": [{"remote": "/data", "local": str(media)}]}}


@pytest.fixture
def home(tmp_path: Path, inputs: Path, media: Path) -> Path:
    """A reader's directory: the files that the examples name, and nothing else."""
    folder = tmp_path / "home"
    shutil.copytree(inputs, folder)
    shutil.copyfile(POLICY, folder / "mine.yaml")
    (folder / "millrace.yaml").write_text(yaml.safe_dump(mappings(media)), encoding="utf-8")
    (batch,) = blocks(ROOT / "docs" / "workloads" / "sync.md", "csv")
    (folder / "batch.csv").write_text(batch.text.replace("/media", str(media)), encoding="utf-8")
    return folder


def replacements(server: LiveServer, media: Path) -> dict[str, str]:
    """Return what stands in the documentation, and what is put in its place here."""
    return {
        **dict.fromkeys(ADDRESSES, server.url),
        **{f"{root}": str(media) for root in MEDIA},
        ".venv/bin/millrace": "millrace",
    }


def wait_for(server: LiveServer, job: str) -> None:
    """Wait for a job's end, unless it is one that has to be started first."""
    reply = server.client.get(f"/jobs/{job}")
    if reply.status_code == 200 and not reply.json()["held"]:
        server.wait(job, timeout=90.0)


@pytest.fixture
def shell(documented: LiveServer, home: Path, media: Path) -> Iterator[Shell]:
    running = Shell(
        home,
        replace=replacements(documented, media),
        wait=lambda job: wait_for(documented, job),
        environ={"MILLRACE_URL": documented.url, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )
    yield running
    running.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_order(page: Path, shell: Shell) -> None:
    for block in blocks(page, "bash"):
        if block.not_run is None:
            shell.run(block.text)


@pytest.mark.parametrize("block", every("bash"))
def test_shell_that_is_not_run_is_at_least_shell(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


# Pages whose Python belongs together, and the tests that run it as one program.
RUN_ELSEWHERE = {
    "docs/client.md": "tests/e2e/test_client_guide.py",
    "docs/adding-a-workload.md": "tests/contract/test_adding_a_workload.py",
}


def test_what_runs_elsewhere_does() -> None:
    for page, test in RUN_ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", [b for b in every("python") if b.values[0].page not in RUN_ELSEWHERE])
def test_python_runs(block: Block, documented: LiveServer, home: Path, media: Path) -> None:
    text = replaced(block.text, replacements(documented, media))
    if block.not_run is not None:
        compile(text, str(block), "exec")
        return
    environ = {**documented.environment(), "MILLRACE_URL": documented.url}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=home,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{text}"


@pytest.mark.parametrize("block", every("json"))
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", every("toml"))
def test_toml_is_toml(block: Block) -> None:
    tomllib.loads(block.text)


@pytest.mark.parametrize("block", every("yaml"))
def test_settings_are_taken_by_the_server(block: Block, tmp_path: Path) -> None:
    text = block.text
    for path in re.findall(r"(?<![\w:/.])/(?:srv/)?media[\w/.-]*", text):
        (tmp_path / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    text = re.sub(r"(?<![\w:/.])(/(?:srv/)?media)", rf"{tmp_path}\1", text)
    (tmp_path / "etc").mkdir()
    shutil.copyfile(POLICY, tmp_path / "etc" / "policy.yaml")
    text = text.replace("/etc/millrace", str(tmp_path / "etc"))
    found = yaml.safe_load(text)
    if block.not_run is not None:
        return
    sections = {kind: plugin.settings for kind, plugin in discover().items()}
    own = found.keys() - Settings.model_fields.keys() - sections.keys() - {"jobs"}
    assert not own, f"{block} sets what is no setting: {own}"
    file = tmp_path / "millrace.yaml"
    file.write_text(text, encoding="utf-8")
    load_settings(
        file, environ={"BEARER_TOKEN": "a token that hosts others can reach need"}, sections=sections
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: Path) -> None:
    unknown = {
        f"{block}: {block.language!r}" for block in blocks(page) if block.language not in CHECKED + PLAIN
    }
    assert unknown == set()


def test_extras_that_are_named_can_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for page in pages():
        for names in re.findall(r"millrace\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= project["optional-dependencies"].keys(), f"{name(page)}: {names}"


@pytest.mark.parametrize("block", every("ini"))
def test_systemd_takes_what_is_added_to_the_unit(block: Block, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / "millrace.service"
    text = (ROOT / "deploy" / "millrace.service").read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/millrace/bin/millrace", "/bin/true") + block.text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.timeout(300)
def test_the_artifacts_of_the_readmes_jobs_are_documented(shell: Shell, documented: LiveServer) -> None:
    for block in blocks(README, "bash"):
        if block.not_run is None:
            shell.run(block.text)
    page = (DOCS / "artifacts.md").read_text(encoding="utf-8")
    kinds = set()
    for job in documented.client.get("/jobs", params={"limit": 200}).json()["jobs"]:
        if job["kind"] not in KINDS:
            continue
        wait_for(documented, job["job_id"])
        for artifact in documented.client.get(f"/jobs/{job['job_id']}/artifacts").json()["artifacts"]:
            kinds.add(job["kind"])
            item = documented.client.get(f"/jobs/{job['job_id']}/items/{artifact['item']}").json()
            assert f"`{artifact['name']}`" in page or artifact["name"] == item["name"], (
                f"{job['kind']} publishes {artifact['name']}"
            )
    assert kinds >= {"transcripts", "images", "documents"}
