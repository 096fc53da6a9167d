"""Inputs: declared media roots only, links followed before the check, names never trusted."""

import inspect
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.blobs import DirectoryBlobs
from millrace.engine.context import StageContext, WarmModels
from millrace.errors import BadInput, InvalidRequest, Transient
from millrace.fetch import FetchPolicy
from millrace.sources import allowed_path, localise, path_reference, plain_name, regular_file, url_reference
from tests.unit.local_http import LocalServer

OPEN_PORTS = FetchPolicy(ports=())


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "media"
    (root / "shows").mkdir(parents=True)
    (root / "shows" / "a.mkv").write_bytes(b"a")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media-2").mkdir()
    return root


@pytest.fixture
def stage(tmp_path, root):
    def context(**site) -> StageContext:
        blobs = DirectoryBlobs(tmp_path / "blobs")
        private = "_" if "_report" in inspect.signature(StageContext).parameters else ""
        return StageContext(
            job="j",
            idx=0,
            name="n",
            stage="s",
            attempt=1,
            input={},
            options={},
            meta={},
            results={},
            settings={},
            site={"media_roots": [str(root)], **site},
            slots=1,
            workdir=tmp_path / "work",
            models=WarmModels(),
            **{f"{private}report": print, f"{private}add": print, f"{private}fetch_blob": blobs.local_path},
        )

    (tmp_path / "work").mkdir()
    return context


def test_a_path_below_a_root_is_allowed_whether_or_not_it_is_there(root):
    for path in (root, root / "shows" / "a.mkv", root / "shows" / "none.mkv"):
        assert allowed_path(str(path), [root]) == path
    assert path_reference(f"{root}/shows/../shows//a.mkv", [str(root)]) == {
        "kind": "path",
        "path": str(root / "shows" / "a.mkv"),
    }


@pytest.mark.parametrize(
    "path",
    [
        "",
        "shows/a.mkv",
        "/etc/passwd",
        "{root}/../secret",
        "{root}-2",
        "{root}/../media-2/x",
        "{root}/shows/../../secret",
        "{root}\0",
        "/",
        "{root}/\ud800",
        "~/x",
    ],
)
def test_a_path_anywhere_else_is_refused(root, path):
    with pytest.raises(InvalidRequest):
        allowed_path(path.replace("{root}", str(root)), [root])


def test_without_a_root_no_path_is_allowed(root):
    with pytest.raises(InvalidRequest, match="--media-root"):
        allowed_path(str(root), [])


def test_links_that_lead_out_are_refused_and_those_within_are_not(root, tmp_path):
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "chain").symlink_to(root / "up")
    (root / "missing").symlink_to("/nowhere/at/all")
    (root / "within").symlink_to(root / "shows")
    for path in ("out", "up/secret", "chain/secret", "up/media-2", "missing", "up/not-there"):
        with pytest.raises(InvalidRequest):
            allowed_path(str(root / path), [root])
    assert regular_file(str(root / "within" / "a.mkv"), [root]) == root / "shows" / "a.mkv"


def test_a_refusal_does_not_tell_what_exists(root, tmp_path):
    said = set()
    for name in ("secret", "nothing"):
        with pytest.raises(InvalidRequest) as caught:
            allowed_path(str(tmp_path / name), [root])
        said.add(caught.value.message.replace(name, "X"))
    assert len(said) == 1


def test_a_root_that_is_itself_a_link_serves_both_spellings(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    for base in (root, tmp_path / "link"):
        assert regular_file(str(base / "shows" / "a.mkv"), [tmp_path / "link"]) == root / "shows" / "a.mkv"


def test_only_regular_files_are_read(root):
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        for name in ("fifo", "socket", "shows"):
            with pytest.raises(BadInput, match="not a regular file"):
                regular_file(str(root / name), [root])
    with pytest.raises(BadInput) as caught:
        regular_file(str(root / "none"), [root])
    assert caught.value.code == "input_missing"
    with pytest.raises(BadInput):
        regular_file(str(root / "shows" / "a.mkv" / "below"), [root])


def test_a_stage_checks_the_path_again(stage, root, tmp_path):
    reference = path_reference(str(root / "shows" / "a.mkv"), [root])
    assert localise(stage(), reference).read_bytes() == b"a"
    (root / "shows" / "a.mkv").unlink()
    (root / "shows" / "a.mkv").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput) as caught:
        localise(stage(), reference, code="bad_audio")
    assert caught.value.code == "bad_audio"


def test_an_upload_carries_the_name_its_user_knows(stage, tmp_path):
    (tmp_path / "up").write_bytes(b"uploaded")
    DirectoryBlobs(tmp_path / "blobs").put(tmp_path / "up", "uploads/1/0")
    context = stage()
    reference = {"kind": "upload", "key": "uploads/1/0", "name": "talk.wav"}
    assert [localise(context, reference).name for _ in range(2)] == ["talk.wav", "talk.wav"]


def test_a_stage_gets_an_upload_from_the_store(stage, tmp_path):
    (tmp_path / "up").write_bytes(b"uploaded")
    DirectoryBlobs(tmp_path / "blobs").put(tmp_path / "up", "uploads/1/x.wav")
    reference = {"kind": "upload", "key": "uploads/1/x.wav", "name": "../../x.wav"}
    assert localise(stage(), reference).read_bytes() == b"uploaded"
    for key in ("uploads/2/x.wav", "../secret"):
        with pytest.raises(BadInput) as caught:
            localise(stage(), {"kind": "upload", "key": key, "name": "x"})
        assert caught.value.code == "input_missing"


def test_a_stage_fetches_a_url_under_a_plain_name(stage, tmp_path):
    server = LocalServer()
    try:
        server.says("/sounds/one%20two.mp3", body=b"sound")
        server.says("/busy", 503)
        reference = url_reference(server.url("/sounds/one%20two.mp3"), policy=OPEN_PORTS)
        assert reference["name"] == "one two.mp3"
        fetch = {"allow_private": True, "ports": []}
        got = localise(stage(fetch=fetch), reference)
        assert (got.name, got.read_bytes()) == ("one two.mp3", b"sound")
        assert got.is_relative_to(tmp_path / "work")
        with pytest.raises(BadInput) as caught:
            localise(stage(), reference)
        assert caught.value.code == "fetch_refused"
        with pytest.raises(Transient):
            localise(stage(fetch=fetch), url_reference(server.url("/busy"), policy=OPEN_PORTS))
    finally:
        server.close()


def test_a_bad_url_is_refused_when_it_is_named(root):
    with pytest.raises(InvalidRequest):
        url_reference("file:///etc/passwd")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.mp3", "a.mp3"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("../..", "input"),
        ("", "input"),
        (".htaccess", "htaccess"),
        ("a\0b\n.txt", "ab.txt"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("  x . ", "x"),
        ("CON:stream", "CONstream"),
        ("日本語.srt", "日本語.srt"),
        ("x" * 300 + ".mkv", "x" * 196 + ".mkv"),
        ("é" * 300 + ".mkv", "é" * 98 + ".mkv"),
    ],
)
def test_names_become_plain_file_names(name, plain):
    assert plain_name(name) == plain


@given(st.text())
def test_no_name_is_ever_more_than_a_file_name(name):
    plain = plain_name(name)
    assert plain not in ("", ".", "..")
    assert "/" not in plain
    assert "\0" not in plain
    assert len(plain.encode()) <= 255
