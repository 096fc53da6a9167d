"""Every example of docs/client.md runs, in order, against a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
from PIL import Image

from millrace.workloads.tracks.demo import write_sample
from tests.live import LiveServer

GUIDE = Path(__file__).parents[2] / "docs" / "client.md"
SAMPLES = Path(__file__).parents[2] / "src/millrace/workloads/transcripts/samples"


def test_the_examples_run(server: LiveServer, tmp_path: Path) -> None:
    media = server.media_roots[0]
    write_sample(media / "tv/show.mkv", ("jpn", "eng"))
    noise = np.random.default_rng(7).integers(-9000, 9000, 12 * 8000, np.int16)
    for name, late in (("master", 0), ("dub", 4000)):
        with wave.open(str(media / f"{name}.wav"), "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes(np.concatenate([np.zeros(late, np.int16), noise]).tobytes())
    (tmp_path / "contract.txt").write_text("This agreement is CONFIDENTIAL.")
    (tmp_path / "payroll.txt").write_text("Name: Maria Gomez\nSSN: 531-21-7351\nDate of birth: 12/27/1986")
    shutil.copy(SAMPLES / "weather.ogg", tmp_path / "talk.ogg")
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "photo.jpg")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) >= 8
    program = "\n".join(blocks).replace("/srv/media", str(media)).replace("http://127.0.0.1:8000", server.url)
    environment = {**server.environment(), "MILLRACE_URL": server.url}
    run = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    assert "payroll.txt succeeded Highly Sensitive" in run.stdout
    assert "404 not_found" in run.stdout
    assert (tmp_path / "talk.srt").read_text().startswith("1\n00:00:0")
