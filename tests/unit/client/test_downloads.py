"""Downloads: whole and right or not at all, resumed where they were, and safe names for what comes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from millrace.client import Artifact, DamagedDownload, LocalError, Retrying, Unreachable
from millrace.client.core import ArtifactFlows
from millrace.client.downloads import folder_of, plain, read, save
from millrace.client.flow import Answer
from tests.unit.client.play import answer, play

HOW = Retrying(delay=0.01)
CONTENT = b"0123456789"
WHOLE, PART = Answer(200, {}), Answer(206, {})
DROPPED = Unreachable("cut off", sent=True)


def artifact(**changed: Any) -> Artifact:
    row = {
        "item": 0,
        "name": "out.srt",
        "stage": "asr",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "media_type": "text/plain",
        "url": "/jobs/j/items/0/artifacts/out.srt",
        **changed,
    }
    return Artifact.of(row, "j")


def test_a_download_that_is_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    found = artifact()
    played = play(save(found, tmp_path / "a/out.srt", HOW), [WHOLE, b"0123", DROPPED, PART, b"456789", None])
    assert played.result.read_bytes() == CONTENT
    first, second = played.calls
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=4-"
    assert second.headers["if-range"] == f'"{found.sha256}"'
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out.srt"]


def test_what_an_earlier_try_left_is_gone_on_with(tmp_path: Path) -> None:
    once = Retrying(tries=1)
    with pytest.raises(Unreachable):
        play(save(artifact(), tmp_path / "out.srt", once), [WHOLE, b"01234", DROPPED])
    assert not (tmp_path / "out.srt").exists()
    played = play(save(artifact(), tmp_path / "out.srt", once), [PART, b"56789", None])
    assert played.calls[0].headers["range"] == "bytes=5-"
    assert (tmp_path / "out.srt").read_bytes() == CONTENT


def test_a_file_that_is_there_already_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "out.srt").write_bytes(CONTENT)
    assert play(save(artifact(), tmp_path / "out.srt", HOW), []).calls == []
    (tmp_path / "out.srt").write_bytes(b"9876543210")
    play(save(artifact(), tmp_path / "out.srt", HOW), [WHOLE, CONTENT, None])
    assert (tmp_path / "out.srt").read_bytes() == CONTENT


def test_an_empty_file_needs_no_download(tmp_path: Path) -> None:
    empty = artifact(bytes=0, sha256=hashlib.sha256().hexdigest())
    assert play(save(empty, tmp_path / "e", HOW), []).result.read_bytes() == b""
    assert play(read(empty, HOW), []).result == b""


def test_damage_is_noticed_and_nothing_kept(tmp_path: Path) -> None:
    with pytest.raises(DamagedDownload):
        play(save(artifact(), tmp_path / "out.srt", HOW), [WHOLE, b"0123456780", None])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DamagedDownload):
        play(read(artifact(), HOW), [WHOLE, b"0123456780", None])


def test_an_artifact_that_was_made_anew_meanwhile_is_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(DamagedDownload, match="changed on the server"):
        play(save(artifact(), tmp_path / "x", HOW), [WHOLE, b"0123", DROPPED, WHOLE])


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="cannot be written"):
        play(save(artifact(), tmp_path / "file" / "x", HOW), [])


def test_saving_a_job_makes_a_folder_for_each_item(tmp_path: Path) -> None:
    rows = [
        {**artifact(item=n).raw, "name": name}
        for n, name in ((0, "out.srt"), (0, "vocals.mp3"), (1, "../../evil.srt"))
    ]
    items = {"items": [{"idx": 0, "name": "a/talk.mp3"}, {"idx": 1, "name": ".."}], "next_after": None}
    told: list[str] = []
    flow = ArtifactFlows(HOW, "j").save(tmp_path, names="*.srt", progress=lambda a, _: told.append(a.name))
    played = play(flow, [answer({"artifacts": rows}), answer(items), *[WHOLE, CONTENT, None] * 2])
    assert [str(path.relative_to(tmp_path)) for path in played.result] == [
        "0 talk/out.srt",
        "1 _/.._.._evil.srt",
    ]
    assert told == ["out.srt", "../../evil.srt"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a.srt", "a.srt"), ("../x", ".._x"), ("..", "_"), ("", "_"), ("a\n\0b", "a__b"), ("C:\\x", "C__x")],
)
def test_a_name_of_the_server_stays_in_its_folder(name: str, safe: str) -> None:
    assert plain(name) == safe


def test_a_long_name_keeps_its_suffix_and_fits() -> None:
    long = plain("ü" * 300 + ".srt")
    assert len(long.encode()) <= 120
    assert long.endswith("ü.srt")
    assert len(plain("x" * 300)) == 120


@pytest.mark.parametrize(
    ("idx", "name", "total", "folder"),
    [
        (7, "/srv/a b.mkv", 120, "007 a b"),
        (0, "0.txt", 1, "0 0"),
        (0, ".hidden", 1, "0 .hidden"),
        (3, "x\\y.wav", 4, "3 y"),
        (3, "folder/", 4, "3 folder"),
    ],
)
def test_folders_sort_by_the_number_of_the_item(idx: int, name: str, total: int, folder: str) -> None:
    assert folder_of(idx, name, total) == folder
