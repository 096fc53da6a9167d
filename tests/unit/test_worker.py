"""What a cluster's settings must be, and which queues a worker takes from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace import doctor, nodes
from millrace.cli.local import worker_slots
from millrace.errors import SettingsError
from millrace.plugins import discover
from millrace.settings import Settings
from millrace.settings_sources import load_settings
from millrace.worker import chosen, queues_of, run

WHOLE: dict[str, Any] = {
    "database": "postgresql://millrace@db/millrace",
    "executor": "celery",
    "broker": "amqp://guest:secret@rabbit//",
    "blobs": "s3://bucket/prefix",
}


def load(folder: Path, values: dict[str, Any], environ: dict[str, str] | None = None) -> Settings:
    file = folder / "millrace.yaml"
    file.write_text(yaml.safe_dump(values))
    return load_settings(file, environ=environ or {})


def test_broker_and_blobs_may_be_one_value_or_a_section(tmp_path: Path) -> None:
    short = load(tmp_path, WHOLE, {"MILLRACE_BLOBS__ENDPOINT": "http://minio:9000"})
    long = load(
        tmp_path,
        {
            **WHOLE,
            "broker": {"url": WHOLE["broker"]},
            "blobs": {"location": WHOLE["blobs"], "endpoint": "http://minio:9000"},
        },
    )
    assert short == long
    assert load(tmp_path, {}, {"MILLRACE_BROKER": "amqp://a/b"}).broker.url == "amqp://a/b"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"database": "sqlite:////srv/millrace.db"}, "database is SQLite, which other machines cannot reach"),
        ({"broker": None}, "broker is not set"),
        ({"blobs": None}, "blobs would live in this machine's data directory"),
        ({"broker": "redis://rabbit"}, "the broker must be a URL such as amqp://"),
        ({"executor": "threads"}, "'local' or 'celery'"),
    ],
)
def test_half_a_cluster_is_refused_in_a_sentence(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    values = {name: value for name, value in {**WHOLE, **changed}.items() if value is not None}
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, values)
    assert said in caught.value.message
    assert "secret" not in caught.value.message


def test_a_worker_without_a_cluster_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs executor: celery"):
        run(Settings(), {}, ())
    with pytest.raises(SettingsError, match="needs executor: celery"):
        nodes.check(Settings())


def test_a_workers_directory_is_its_own_while_it_lives_and_gone_after_the_next_start(tmp_path: Path) -> None:
    settings = load(tmp_path, {**WHOLE, "data_dir": str(tmp_path / "data")})
    assert nodes.running(settings) == []
    work, lock = nodes.take_directory(settings, "here-a1")
    _, other_lock = nodes.take_directory(settings, "there-b2")
    assert nodes.running(settings) == ["here-a1", "there-b2"]
    assert nodes.running(settings, "here") == ["here-a1"]
    assert nodes.running(settings, "her") == []
    os.close(lock)
    assert nodes.running(settings) == ["there-b2"]
    assert work.is_dir()
    _, last = nodes.take_directory(settings, "here-c3")
    assert not work.exists()
    assert nodes.running(settings) == ["here-c3", "there-b2"]
    os.close(other_lock)
    os.close(last)


def test_queues_have_the_documented_names() -> None:
    workloads = [plugin.build(plugin.settings()) for plugin in discover().values()]
    queues = queues_of([workload for workload in workloads if workload.kind != "probe"])
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if any(f"| {kind.kind} |" in line for kind in workloads)]
    named = {name for line in rows for name in re.findall(r"`([^`]+)`", line)}
    assert named == queues.keys()
    assert {"image_upload", "image_analysis", "image_writing"} <= queues.keys()


def test_queues_are_chosen_by_name_and_pattern() -> None:
    queues = {"image_upload": "io", "gpu.a.b": "gpu", "cpu.a.c": "cpu"}
    assert chosen(queues, ()) == queues
    assert chosen(queues, ("image_upload", "gpu.*")) == {"image_upload": "io", "gpu.a.b": "gpu"}
    with pytest.raises(SettingsError, match=r"no queue is called 'image_uplod'.*image_upload"):
        chosen(queues, ("image_uplod",))


def test_slots_are_read_from_the_command_line() -> None:
    assert worker_slots("cpu=2,gpu=1") == {"slots.cpu": "2", "slots.gpu": "1"}
    assert worker_slots(None) == {}
    for wrong in ("cpu", "cpu=", "cores=2", "cpu=-1", ""):
        with pytest.raises(SettingsError, match="write it like cpu=2,gpu=1"):
            worker_slots(wrong)


def test_doctor_says_what_a_cluster_lacks_and_what_must_be_shared(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    media = tmp_path / "media"
    media.mkdir()
    values = {**WHOLE, "broker": "amqp://127.0.0.1:1//", "blobs": str(tmp_path / "blobs")}
    findings = doctor.examine(load(tmp_path, {**values, "media_roots": [str(media)]}), {})
    told = {(finding.part, finding.level): finding.message for finding in findings}
    assert "does not answer" in told["broker", "problem"]
    assert "must be a mount that servers and workers share" in told["blobs", "warning"]
    assert "must be a mount that servers and workers share" in told["media_roots", "warning"]
