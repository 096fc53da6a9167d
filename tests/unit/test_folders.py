"""Listing a folder: what may be taken, what is passed over, what could not be read."""

from __future__ import annotations

import os

import pytest

from millrace.errors import BadInput, Unavailable
from millrace.folders import listing, unfinished


def names(top, *patterns, **options):
    return sorted(listing(top, patterns or ("**",), lambda: False, **options).files)


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a.mkv",
        "deep/er/b.MKV",
        "deep/c.mp3",
        "d.mkv.part",
        "e.crdownload",
        ".hidden.mkv",
        ".folder/f.mkv",
        "~$g.docx",
        "h.tmp",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "empty.mkv").touch()
    return tmp_path


def test_hidden_unfinished_and_empty_files_are_passed_over(tree):
    assert names(tree) == ["a.mkv", "deep/c.mp3", "deep/er/b.MKV"]


def test_patterns_speak_of_the_path_below_the_folder(tree):
    assert names(tree, "**/*.mkv") == ["a.mkv", "deep/er/b.MKV"]
    assert names(tree, "deep/*") == ["deep/c.mp3"]
    assert names(tree, "*.mp3", "a.*") == ["a.mkv", "deep/c.mp3"]


def test_what_is_told_of_a_file(tree):
    found = listing(tree, ("a.mkv",), lambda: False)
    state = (tree / "a.mkv").stat()
    assert found.files["a.mkv"].size == state.st_size == 5
    assert found.files["a.mkv"].mtime == state.st_mtime_ns
    assert found.device == str(tree.stat().st_dev)


def test_links_are_not_followed(tree, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.mkv").write_text("x")
    (tree / "file.mkv").symlink_to(outside / "secret.mkv")
    (tree / "folder").symlink_to(outside)
    (tree / "loop").symlink_to(tree)
    assert names(tree, "**/*.mkv") == ["a.mkv", "deep/er/b.MKV"]


def test_pipes_and_sockets_are_no_files(tree):
    os.mkfifo(tree / "pipe.mkv")
    assert "pipe.mkv" not in names(tree)


def test_names_that_are_not_unicode_are_counted(tree):
    (tree / os.fsdecode(b"\xff.mkv")).write_text("x")
    found = listing(tree, ("**",), lambda: False)
    assert (found.unusable, len(found.files)) == (1, 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tree):
    (tree / "deep").chmod(0)
    try:
        found = listing(tree, ("**",), lambda: False)
    finally:
        (tree / "deep").chmod(0o755)
    assert (found.unreadable, sorted(found.files)) == (["deep"], ["a.mkv"])


def test_a_folder_that_is_not_there_and_one_that_is_a_file(tree):
    for path in (tree / "nowhere", tree / "a.mkv"):
        with pytest.raises(BadInput, match="cannot be read"):
            listing(path, ("**",), lambda: False)


def test_a_tree_has_a_limit(tree):
    assert len(names(tree, most=3)) == 3
    with pytest.raises(BadInput, match="more than 2 files"):
        names(tree, most=2)


def test_a_server_that_stops_looks_no_further(tree):
    with pytest.raises(Unavailable):
        listing(tree, ("**",), lambda: True)


@pytest.mark.parametrize("name", ["a.mkv.PART", "a.!qB", "a~", ".a", "._a", "~$a.docx", "a.partial"])
def test_unfinished_names(name):
    assert unfinished(name)


@pytest.mark.parametrize("name", ["a.mkv", "part", "tmp", "a.part.mkv", "~a"])
def test_finished_names(name):
    assert not unfinished(name)
