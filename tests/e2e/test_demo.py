"""``millrace demo``: a real server of its own, real jobs, and an honest exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import probe_path


@pytest.fixture
def demo(tmp_path: Path):
    """A function that runs ``millrace demo`` beside the probe workload and returns the finished process."""
    path = [*map(str, probe_path(tmp_path)), os.environ.get("PYTHONPATH", "")]
    plain = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "COLUMNS": "150"}

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "millrace.cli", "demo", *arguments],
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
    assert "2.txt: as it was told" in done.stdout


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
