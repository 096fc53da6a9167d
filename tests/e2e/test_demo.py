"""``millrace demo``: a real server of its own, real jobs, and an honest exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.live import probe_path


@pytest.fixture
def demo_command(tmp_path: Path):
    """The command line of ``millrace demo`` beside the probe workload, and its environment."""
    path = [*map(str, probe_path(tmp_path)), os.environ.get("PYTHONPATH", "")]
    plain = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "COLUMNS": "150"}
    return [sys.executable, "-m", "millrace.cli", "demo"], plain


@pytest.fixture
def demo(demo_command, tmp_path: Path):
    """A function that runs ``millrace demo`` and returns the finished process."""
    command, plain = demo_command

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env={**plain, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_it_runs_a_job_shows_it_and_keeps_what_was_made(demo, tmp_path) -> None:
    done = demo("probe", "--output", "out")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "A probe does as it is told" in done.stdout
    assert "told: a sample" in done.stdout
    assert "succeeded" in done.stdout
    results = tmp_path / "out" / "results" / "probe"
    assert {path.name: (path / "out.txt").read_text() for path in results.iterdir()} == {"0 0": "made"}


def test_a_failed_item_is_named_and_makes_the_exit_code_1(demo) -> None:
    done = demo("probe", "--output", "out", PROBE_DEMO_FAILS="1")
    assert done.returncode == 1
    assert "2.txt: failed: bad_probe: as it was told" in done.stdout


def test_the_users_own_settings_do_not_reach_it(demo, tmp_path) -> None:
    (tmp_path / "millrace.yaml").write_text("nonsense: true\n")
    assert demo("probe", "--output", "out", REQUIRE_AUTH="true", MILLRACE_PORT="1").returncode == 0


def test_what_cannot_be_shown_is_said_in_a_sentence(demo, tmp_path) -> None:
    done = demo("nosuch")
    assert done.returncode == 2
    assert "no demonstration of nosuch; there are: " in done.stderr
    (tmp_path / "file").touch()
    done = demo("probe", "--output", str(tmp_path))
    assert done.returncode == 2
    assert "is not empty" in done.stderr


def test_for_machines_there_is_one_document_and_nothing_else(demo) -> None:
    done = demo("probe", "--output", "out", "--json", PROBE_DEMO_FAILS="1")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    (row,) = answer["workloads"]
    assert (answer["well"], row["kind"], row["items"], row["done"], row["failed"]) == (
        False,
        "probe",
        3,
        2,
        1,
    )
    assert [Path(path).name for path in row["artifacts"]] == ["out.txt"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_server_can_be_kept_until_it_is_ended(demo_command, tmp_path, sign) -> None:
    command, environment = demo_command
    with subprocess.Popen(
        [*command, "probe", "--output", "out", "--keep"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        url = None
        for line in running.stdout:
            if found := re.search(r"its dashboard is at (http://\S+)/  Ctrl-C ends it", line):
                url = found[1]
                break
        assert httpx2.get(f"{url}/jobs").json()["total"] == 1
        running.send_signal(sign)
        assert running.wait(60) == 0
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")


@pytest.mark.slow
def test_recordings_become_subtitles_and_stems(demo, tmp_path) -> None:
    done = demo("transcripts", "--output", "out")
    assert done.returncode == 0, done.stderr + done.stdout
    results = tmp_path / "out" / "results" / "transcripts"
    folders = sorted(path.name for path in results.iterdir())
    assert folders == ["0 meeting", "1 story with music", "2 weather film"]
    for folder in results.iterdir():
        assert "-->" in (folder / "output.srt").read_text(encoding="utf-8")
        assert {path.name for path in folder.iterdir()} >= {
            *("output.srt", "vocals.mp3", "no_vocals.mp3", "demucs.zip", "result.zip")
        }
