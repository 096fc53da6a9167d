"""``millrace tracks``: scan, fix, explain and map, as a person types them."""

import json
import os
import subprocess
import sys

import pytest

from millrace.workloads.tracks.repair import inspect
from tests.track_files import Audio, matroska, mp4

TRACKS = [Audio("eng", default=True), Audio("jpn", default=False, name="Main"), Audio("jpn", default=False)]
COMMENTED = [Audio("eng", default=True), Audio("jpn", default=False, name="Commentary")]


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "library"
    (folder / "Show").mkdir(parents=True)
    (folder / "Show" / "1.mkv").write_bytes(matroska(TRACKS))
    (folder / "Show" / "2.mp4").write_bytes(mp4(TRACKS))
    (folder / "Show" / "3.mkv").write_bytes(matroska([Audio("jpn", default=True)]))
    for path in folder.rglob("*.m*"):
        os.utime(path, (1000, 1000))
    return folder


@pytest.fixture
def tracks(tmp_path):
    config = tmp_path / "millrace.yaml"
    config.write_text(
        "tracks:\n  language_priority: [ja]\n"
        "  path_mappings: [{remote: 'D:\\TV', local: " + str(tmp_path / "library") + "}]\n"
    )

    def tracks(*words, code=0):
        command = [sys.executable, "-m", "millrace.cli", "tracks", *map(str, words)]
        environment = {**os.environ, "MILLRACE_CONFIG": str(config), "COLUMNS": "200"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return tracks


def defaults(path):
    with path.open("rb") as file:
        return [track.default for track in inspect(file.fileno(), path)[1].audio]


def test_scan_shows_before_and_after_and_writes_nothing(library, tracks):
    before = {path: path.read_bytes() for path in library.rglob("*.m*")}
    said = tracks("scan", library)
    assert "Show/1.mkv" in said
    assert "1 eng" in said
    assert "2 jpn" in said
    assert "3 files: 2 to change, 1 already correct" in said
    assert {path: path.read_bytes() for path in library.rglob("*.m*")} == before


def test_fix_of_a_folder_wants_a_yes(library, tracks):
    said = tracks("fix", library)
    assert "Nothing was changed" in said
    assert defaults(library / "Show" / "1.mkv") == [True, False, False]
    assert "3 files: 2 changed, 1 already correct" in tracks("fix", library, "--yes")
    for name in ("1.mkv", "2.mp4"):
        assert defaults(library / "Show" / name) == [False, True, False]


def test_fix_of_one_file_needs_no_yes(library, tracks):
    assert "1 file: 1 to change" in tracks("fix", library / "Show" / "1.mkv", "--dry-run")
    tracks("fix", library / "Show" / "1.mkv")
    assert defaults(library / "Show" / "1.mkv") == [False, True, False]
    assert defaults(library / "Show" / "2.mp4") == [True, False, False]


def test_a_failure_is_shown_and_ends_with_1(library, tracks):
    (library / "Show" / "1.mkv").chmod(0o444)
    said = tracks("fix", library, "--yes", "--pattern", "**/*.mkv", code=1)
    assert "is read-only" in said
    assert "2 files: 1 failed, 1 already correct" in said


def test_json_is_for_machines(library, tracks):
    rows = [json.loads(line) for line in tracks("scan", library, "--json", "--language", "eng").splitlines()]
    assert [(row["status"], row.get("reason")) for row in rows] == [
        ("skipped", "already_correct"), ("skipped", "already_correct"), ("skipped", "no_matching_track"),
    ]  # fmt: skip


def test_explain_says_which_and_why(library, tracks):
    (library / "c.mkv").write_bytes(matroska([*COMMENTED, Audio("fre", default=False)]))
    said = tracks("explain", library / "c.mkv", "--original", "fre")
    assert "commentary" in said
    assert "original language (--original) is fr" in said
    assert "Set default audio track to 'fre' (track 3" in said
    found = json.loads(tracks("explain", library / "c.mkv", "--json"))
    assert (found["chosen"], found["skip"]) == (None, "no_matching_track")


def test_map_tries_a_path_mapping_out(library, tracks):
    assert str(library / "Show" / "1.mkv") in tracks("map", "d:/tv/Show/1.mkv")
    assert "no mapping fits" in tracks("map", "/nowhere/x.mkv", code=1)
    found = json.loads(tracks("map", "d:/tv/Show/1.mkv", "--json"))
    assert (found["mapped"], found["exists"]) == (str(library / "Show" / "1.mkv"), True)


def test_a_language_that_is_none_is_refused(library, tracks):
    tracks("scan", library, "--language", "klingonese", code=2)
