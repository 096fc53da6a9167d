"""What mkvmerge, ffprobe and ffmpeg say of a file: the witnesses that are not ours."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

needs_mkvtoolnix = pytest.mark.skipif(
    not (shutil.which("mkvmerge") and shutil.which("mkvpropedit")), reason="mkvtoolnix is not installed"
)
needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffprobe") and shutil.which("ffmpeg")), reason="ffmpeg is not installed"
)


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode in (0, 1), f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def mkvmerge(path: Path) -> dict:
    return json.loads(run("mkvmerge", "-J", path))


def mkv_defaults(path: Path) -> list[bool]:
    found = mkvmerge(path)
    assert not found["errors"], found["errors"]
    assert not found["warnings"], found["warnings"]
    return [track["properties"]["default_track"] for track in found["tracks"] if track["type"] == "audio"]


def ffprobe_defaults(path: Path) -> list[bool]:
    found = json.loads(run("ffprobe", "-v", "error", "-show_streams", "-of", "json", path))
    return [bool(s["disposition"]["default"]) for s in found["streams"] if s["codec_type"] == "audio"]


def unchanged_facts(path: Path) -> dict:
    """Everything that a change of the default flag must leave alone, packets' checksums included."""
    facts: dict = {
        "packets": run(
            "ffmpeg", "-v", "error", "-i", path, "-map", "0", "-c", "copy", "-f", "framehash", "-"
        ),
        "chapters": run("ffprobe", "-v", "error", "-show_chapters", "-of", "json", path),
        "format": run("ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "json", path),
    }
    if path.suffix == ".mkv":
        found = mkvmerge(path)
        for track in found["tracks"]:
            track["properties"].pop("default_track", None)
        found.pop("file_name")
        facts["mkvmerge"] = found
        facts["chapters_xml"] = run("mkvextract", path, "chapters", "-")
        facts["tags_xml"] = run("mkvextract", path, "tags", "-")
    return facts
