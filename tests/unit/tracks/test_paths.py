"""Paths: mappings between machines, patterns, the walk of a folder, and names that are not UTF-8."""

import json
import os
from pathlib import Path

import pytest

from millrace.errors import InvalidRequest
from millrace.patterns import check_pattern, matches
from millrace.workloads.tracks.paths import (
    Filters,
    display,
    from_json,
    longest_prefix,
    map_path,
    to_json,
    walk,
)

MAPPINGS = [("/data", "/media"), ("/data/tv", "/tv"), ("D:\\Movies", "/films"), ("\\\\NAS\\share", "/nas")]


@pytest.mark.parametrize(
    ("there", "here", "rule"),
    [
        ("/data/tv/Show/a.mkv", "/tv/Show/a.mkv", "/data/tv"),
        ("/data/a.mkv", "/media/a.mkv", "/data"),
        ("/database/a.mkv", "/database/a.mkv", None),
        ("d:/movies/A (2020)/a.mkv", "/films/A (2020)/a.mkv", "D:\\Movies"),
        ("\\\\nas\\Share\\x\\a.mkv", "/nas/x/a.mkv", "\\\\NAS\\share"),
        ("/elsewhere/a.mkv", "/elsewhere/a.mkv", None),
        ("/data/../etc/passwd", "/media/../etc/passwd", "/data"),
    ],
)
def test_the_longest_prefix_of_whole_components_wins(there, here, rule):
    mapped = map_path(there, MAPPINGS)
    assert (mapped.path, mapped.rule) == (here, rule)


def test_overrides_by_the_longest_prefix():
    assert longest_prefix(Path("/m/anime/x/a.mkv"), ["/m", "/m/anime", "/m/anim"]) == "/m/anime"
    assert longest_prefix(Path("/other"), ["/m"]) is None


@pytest.mark.parametrize(
    ("relative", "pattern", "expected"),
    [
        ("a.mkv", "**/*.mkv", True),
        ("x/y/a.MKV", "**/*.mkv", True),
        ("x/y/a.mkv", "*.mkv", True),
        ("x/a.Mp4", "**/*.{mkv,mp4}", True),
        ("x/a.avi", "**/*.{mkv,mp4}", False),
        ("Show/Season 1/e.mkv", "Show/*/e.mkv", True),
        ("Show/Season 1/x/e.mkv", "Show/*/e.mkv", False),
        ("Show/Season 1/e.mkv", "show/**", False),
        ("Show/Season 1/e.mkv", "Show/**", True),
        ("a1.mkv", "a[0-9].mkv", True),
        ("ax.mkv", "a[!0-9].mkv", True),
        ("a.b.mkv", "a?b.*", True),
        ("(a) [b].mkv", "(a) [[]b].mkv", True),
    ],
)
def test_patterns(relative, pattern, expected):
    check_pattern(pattern)
    assert matches(relative, pattern) is expected


@pytest.mark.parametrize(
    "pattern", ["", "/a", "../a", "{a", "a}", "[a", "[z-a]", "a\0", "{a,b}" * 9, "x" * 2000]
)
def test_bad_patterns_are_refused(pattern):
    with pytest.raises(InvalidRequest):
        check_pattern(pattern)


@pytest.fixture
def library(tmp_path):
    for name in ("b.mkv", "a/1.mkv", "a/2.mp4", "a/Sample/s.mkv", "a/notes.txt", ".hidden/h.mkv", "a/.x.mkv"):
        (tmp_path / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name).write_bytes(b"x" * 1000)
    return tmp_path / "lib"


def names(library, filters=None, **options):
    found = walk(library, filters or Filters(), **options)
    return [str(file.path.relative_to(library)) for file in found]


def test_walk_finds_media_files_in_order(library):
    assert names(library) == ["b.mkv", "a/1.mkv", "a/2.mp4", "a/Sample/s.mkv"]
    assert names(library, Filters(recursive=False)) == ["b.mkv"]
    assert names(library, Filters(exclude=("*sample*",))) == ["b.mkv", "a/1.mkv", "a/2.mp4"]
    assert names(library, Filters(pattern="**/*.txt")) == ["a/notes.txt"]


def test_size_and_age(library):
    os.utime(library / "b.mkv", (0, 0))
    assert "b.mkv" not in names(library, Filters(max_age=86400))
    assert names(library, Filters(min_bytes=1001)) == []
    assert [file.path.name for file in walk(library / "b.mkv", Filters())] == ["b.mkv"]


def test_a_walk_can_be_given_a_time(library):
    with pytest.raises(TimeoutError):
        list(walk(library, Filters(pattern="**/*.nothing"), until=0.0))


def test_links_are_followed_inside_the_roots_and_each_folder_once(library, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mkv").write_bytes(b"x")
    (library / "z_out").symlink_to(outside)
    (library / "z_loop").symlink_to(library)
    (library / "a" / "up").symlink_to(library / "a")
    assert names(library, roots=[library]) == ["b.mkv", "a/1.mkv", "a/2.mp4", "a/Sample/s.mkv"]


def test_names_in_any_encoding_keep_their_bytes(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9 \xff.mkv")).write_bytes(b"x")
    (file,) = walk(tmp_path, Filters())
    assert from_json(json.loads(json.dumps(to_json(file.path)))) == file.path
    assert display(file.path).endswith("caf\ufffd \ufffd.mkv")
    assert to_json(Path("/ø/日本.mkv")) == {"path": "/ø/日本.mkv"}
