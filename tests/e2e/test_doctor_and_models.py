"""``millrace doctor`` and ``millrace models`` as a person runs them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from millrace import doctor
from millrace.errors import BadInput, Conflict, InvalidRequest
from millrace.fetch import FetchPolicy
from millrace.models import list_models, pull, told
from millrace.settings import Settings
from millrace.workloads import Plugin
from tests.unit.local_http import LocalServer

OPEN = FetchPolicy(allow_private=True, ports=())


def millrace(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return subprocess.run(
        [sys.executable, "-m", "millrace.cli", *arguments],
        cwd=folder,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def findings(folder: Path, *arguments: str, **environ: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    ran = millrace(folder, "doctor", "--json", *arguments, **environ)
    assert ran.stdout, ran.stderr
    found: dict[str, list[tuple[str, str]]] = {}
    answer = json.loads(ran.stdout)
    assert answer["healthy"] == (ran.returncode == 0)
    for finding in answer["findings"]:
        found.setdefault(finding["part"], []).append((finding["level"], finding["message"]))
    return ran.returncode, found


def test_a_fresh_machine_is_healthy_and_nothing_is_changed_by_looking(tmp_path: Path) -> None:
    code, found = findings(tmp_path)
    assert code == 0
    assert found["database"][0][0] == "ok"
    assert found["blobs"] == [("ok", str(tmp_path / "data" / "blobs"))]
    assert found["models"][0][0] == "could"
    assert found["media_roots"][0][0] == "could"
    assert list(tmp_path.iterdir()) == []


def test_people_get_one_line_for_each_finding(tmp_path: Path) -> None:
    ran = millrace(tmp_path, "doctor")
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert all(line[0] in "✓·!✗" for line in lines)
    assert any(line.startswith("✓ python") for line in lines)


def test_what_cannot_work_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        code, found = findings(
            tmp_path,
            "--data-dir",
            str(tmp_path / "file" / "data"),
            MILLRACE_DATABASE=f"postgresql://postgres:hunter2@127.0.0.1:{port}/none",
            MILLRACE_BLOBS__LOCATION="s3://bucket",
            MILLRACE_BLOBS__ENDPOINT=f"http://127.0.0.1:{port}",
            MILLRACE_BLOBS__ACCESS_KEY="k",
            MILLRACE_BLOBS__SECRET_KEY="hunter2",
        )
    assert code == 1
    assert {part for part, lines in found.items() if lines[0][0] == "problem"} == {
        "data_dir",
        "tmp_dir",
        "database",
        "blobs",
    }
    assert "hunter2" not in json.dumps(found)


def test_a_wrong_setting_ends_with_another_code(tmp_path: Path) -> None:
    ran = millrace(tmp_path, "doctor", MILLRACE_PROT="80")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "millrace: unknown setting prot = '80' from the environment variable MILLRACE_PROT: "
        "did you mean port?\n"
    )


def test_an_open_server_is_warned_about(tmp_path: Path) -> None:
    code, found = findings(tmp_path, MILLRACE_HOST="0.0.0.0", REQUIRE_AUTH="false")
    assert (code, found["address"][0][0]) == (0, "warning")
    _, found = findings(tmp_path, MILLRACE_HOST="0.0.0.0", BEARER_TOKEN="hunter2")
    assert found["address"][0][0] == "ok"


def test_who_is_told_and_what_is_watched_is_named_without_its_secrets(tmp_path: Path) -> None:
    pytest.importorskip("apprise")
    inbox = tmp_path / "media" / "inbox"
    inbox.mkdir(parents=True)
    common = {"media_roots": [str(inbox.parent)]}
    watches = [
        {"name": "good", "path": str(inbox), "kind": "tracks"},
        {"name": "gone", "path": str(inbox / "gone"), "kind": "tracks"},
        {"name": "outside", "path": "/etc", "kind": "tracks"},
    ]
    targets = {"ops": "mailto://me:hunter22@example.org", "odd": "nonsense://hunter22"}
    notify = {"targets": targets, "rules": [{"when": "failed", "targets": ["ops"]}]}
    (tmp_path / "millrace.yaml").write_text(json.dumps({**common, "watches": watches, "notify": notify}))
    code, found = findings(tmp_path)
    assert code == 1
    assert found["notify"] == [
        ("ok", "ops, mailto://…, named by 1 rule"),
        ("problem", "odd, nonsense://… cannot be used: there is no service 'nonsense'"),
    ]
    assert [level for level, _ in found["watches"]] == ["ok", "warning", "problem"]
    assert found["watches"][0][1] == f"good: new files below {inbox} become tracks jobs"
    assert "hunter22" not in str(found)


def test_without_apprise_it_is_said_what_it_would_add(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("millrace.notify.available", lambda: False)

    def told_with(**notify: object) -> list[tuple[str, str]]:
        settings = Settings(data_dir=tmp_path, notify=notify)
        return [(f.level, f.message) for f in doctor.examine(settings, {}) if f.part == "notify"]

    assert told_with() == [
        ("could", "pip install 'millrace[notify]' tells people by e-mail, chat and the like")
    ]
    needed = "notifications need: pip install 'millrace[notify]'"
    assert told_with(targets={"ops": "mailto://x"}) == [("problem", needed)]
    assert told_with(per_job="any") == [("warning", needed)]


@pytest.mark.postgres
def test_a_database_that_answers_is_named(tmp_path: Path) -> None:
    try:
        socket.create_connection(("127.0.0.1", 5432), 2).close()
    except OSError:
        pytest.skip("no PostgreSQL on 127.0.0.1:5432")
    _, found = findings(tmp_path, MILLRACE_DATABASE="postgresql://postgres@127.0.0.1/postgres")
    level, message = found["database"][0]
    assert (level, "PostgreSQL" in message) == ("ok", True)


def test_a_workload_tells_what_it_lacks_and_one_that_cannot_be_built_is_a_problem(tmp_path: Path) -> None:
    from millrace.engine.workload import Stage, Workload

    fine = Plugin(
        kind="fine",
        build=lambda settings: Workload("fine", (Stage("only", "x:y"),)),
        doctor=lambda settings, models_dir: [("ears", True, ""), ("eyes", False, "pip install eyes")],
    )

    def refuse(settings: object) -> Workload:
        raise InvalidRequest("its model is not there")

    bad = Plugin(kind="bad", build=refuse)
    found = doctor.examine(Settings(data_dir=tmp_path), {"fine": fine, "bad": bad})
    assert [(f.level, f.message) for f in found if f.part == "fine"] == [
        ("ok", "stages: only"),
        ("ok", "ears"),
        ("could", "eyes: pip install eyes"),
    ]
    assert [f.level for f in found if f.part == "bad"] == ["problem"]
    assert not doctor.healthy(found)


# -- models -------------------------------------------------------------------------------------


def make_model(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


def test_models_are_listed_with_their_format_and_size(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "tiny", model_bin=b"x" * 1500, config_json=b"{}")
    make_model(tmp_path / "models" / "odd", weights=b"x")
    make_model(tmp_path / "models" / ".pull-left-over", x=b"x")
    found = list_models(tmp_path / "models")
    assert [(m.name, m.format, m.files, m.bytes) for m in found] == [
        ("odd", "", 1, 1),
        ("tiny", "faster-whisper (CTranslate2)", 2, 1502),
    ]
    ran = millrace(tmp_path, "models")
    assert ran.stdout.splitlines()[1].startswith("tiny\tfaster-whisper (CTranslate2)\t1.5 kB\t")


def test_no_models_is_no_error(tmp_path: Path) -> None:
    ran = millrace(tmp_path, "models")
    assert (ran.returncode, ran.stdout[:14]) == (0, "no model below")


def tar(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def test_a_model_is_pulled_from_an_archive_a_file_and_a_directory(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (tmp_path / "tiny.tar.gz").write_bytes(tar(tiny__model_bin=b"m", tiny__config_json=b"{}"))
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        archive.writestr("model.onnx", b"m")
        archive.writestr("tokens.txt", b"t")
    (tmp_path / "de.traineddata").write_bytes(b"t")
    make_model(tmp_path / "folder", voice_th=b"v", voice_yaml=b"y")
    assert pull(models, str(tmp_path / "tiny.tar.gz"), "one").format == "faster-whisper (CTranslate2)"
    assert pull(models, str(tmp_path / "zipped.zip"), "two").format == "sherpa-onnx"
    assert pull(models, str(tmp_path / "de.traineddata"), "three").format == "Tesseract"
    assert pull(models, str(tmp_path / "folder"), "four").format == "Demucs"
    assert sorted(path.name for path in models.iterdir()) == ["four", "one", "three", "two"]
    with pytest.raises(Conflict):
        pull(models, str(tmp_path / "folder"), "four")


def test_a_model_from_a_url_must_be_what_was_meant(tmp_path: Path) -> None:
    body = tar(tiny__model_bin=b"m", tiny__config_json=b"{}")
    meant = hashlib.sha256(body).hexdigest()
    server = LocalServer()
    try:
        url = server.says("/tiny.tar.gz", body=body)
        with pytest.raises(InvalidRequest, match="--sha256"):
            pull(tmp_path / "models", url, "tiny", policy=OPEN)
        with pytest.raises(InvalidRequest, match="not what was meant"):
            pull(tmp_path / "models", url, "tiny", sha256="0" * 64, policy=OPEN)
        with pytest.raises(BadInput):
            pull(tmp_path / "models", url, "tiny", sha256=meant)
        assert list((tmp_path / "models").iterdir()) == []
        assert pull(tmp_path / "models", url, "tiny", sha256=meant.upper(), policy=OPEN).files == 2
    finally:
        server.close()


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "/abs"])
def test_a_model_is_put_nowhere_else(tmp_path: Path, name: str) -> None:
    make_model(tmp_path / "folder", x=b"x")
    with pytest.raises(InvalidRequest):
        pull(tmp_path / "models", str(tmp_path / "folder"), name)


def test_an_archive_that_leads_out_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../out.txt", b"x")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive_:
        entry = tarfile.TarInfo("../out.txt")
        entry.size = 1
        archive_.addfile(entry, io.BytesIO(b"x"))
    (tmp_path / "bad.tar").write_bytes(out.getvalue())
    (tmp_path / "short.tar.gz").write_bytes(tar(a=b"x" * 100_000)[:-20])
    for name in ("bad.zip", "bad.tar", "short.tar.gz", "absent"):
        with pytest.raises(InvalidRequest):
            pull(tmp_path / "models", str(tmp_path / name), "m")
        assert list((tmp_path / "models").iterdir()) == []
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_340_000_000, "2.3 GB")]
)
def test_sizes_are_told(size: int, text: str) -> None:
    assert told(size) == text
