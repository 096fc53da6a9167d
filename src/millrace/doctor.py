"""``millrace doctor``: what is configured, whether it would work, and what more could be there.

Looks and asks, changes nothing: no directory is made, no database created, no model loaded.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from millrace import notify
from millrace.errors import MillraceError
from millrace.models import list_models, told
from millrace.settings import GIB, Settings, is_loopback, nvidia_devices
from millrace.sources import allowed_path
from millrace.workloads import Plugin

Level = Literal["ok", "could", "warning", "problem"]
_LOW_SPACE = 2 * GIB
_MARKS: Mapping[Level, str] = {"ok": "✓", "could": "·", "warning": "!", "problem": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``could``: not there, and what it would add; ``problem``: the server cannot work so."""

    part: str
    level: Level
    message: str


def examine(settings: Settings, plugins: Mapping[str, Plugin]) -> list[Finding]:
    """Return all findings, those of the server first, then each workload's own."""
    return [
        *_server(settings),
        *_storage(settings),
        *_database(settings),
        *_blobs(settings),
        *_cluster(settings),
        *_notifications(settings),
        *_watches(settings),
        *_machine(settings),
        *_models(settings),
        *_workloads(settings, plugins),
    ]


def healthy(findings: list[Finding]) -> bool:
    """Whether the server would work: nothing is a problem."""
    return all(finding.level != "problem" for finding in findings)


def as_text(findings: list[Finding]) -> str:
    """Write the findings for people, one a line."""
    width = max((len(finding.part) for finding in findings), default=0)
    return "\n".join(f"{_MARKS[f.level]} {f.part:<{width}}  {f.message}" for f in findings)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """Write the findings for machines."""
    return {"healthy": healthy(findings), "findings": [asdict(finding) for finding in findings]}


def _server(settings: Settings) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", "ok", version)
    where = f"{settings.host}:{settings.port}"
    if settings.require_auth:
        yield Finding("address", "ok", f"{where}, every request but health needs the bearer token")
    elif is_loopback(settings.host):
        yield Finding("address", "ok", f"{where}, from this machine only, without a token")
    else:
        yield Finding("address", "warning", f"{where}, open to everybody who reaches it: set BEARER_TOKEN")
    if settings.fetch.allow_private:
        yield Finding("fetch", "warning", "URLs may reach private addresses (fetch.allow_private)")
    else:
        yield Finding("fetch", "ok", "URLs reach public addresses only")
    if settings.webhooks.secret is None:
        yield Finding("webhooks", "could", "sent unsigned; webhooks.secret would sign them")
    else:
        yield Finding("webhooks", "ok", "sent with a signature (Standard Webhooks)")


def _storage(settings: Settings) -> Iterator[Finding]:
    for part, directory in (("data_dir", settings.data_dir), ("tmp_dir", settings.tmp_dir)):
        there = _nearest(directory)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Finding(part, "problem", f"{directory} cannot be written ({there} is not writable)")
            continue
        free = shutil.disk_usage(there).free
        level: Level = "ok" if free >= _LOW_SPACE else "warning"
        yield Finding(part, level, f"{directory}, {told(free)} free")
    if not settings.media_roots:
        yield Finding(
            "media_roots", "could", "none: only uploads and URLs; --media-root DIR adds local paths"
        )
    for root in settings.media_roots:
        readable = os.access(root, os.R_OK | os.X_OK)
        yield Finding(
            "media_roots", "ok" if readable else "problem", f"{root}{'' if readable else ' cannot be read'}"
        )


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest of those above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _database(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        there = _nearest(file)
        if not os.access(there, os.W_OK):
            yield Finding("database", "problem", f"{shown} cannot be written")
        else:
            new = "" if file.exists() else ", made at the first start"
            yield Finding("database", "ok", f"{shown}{new}")
        return
    if find_spec("psycopg") is None:
        yield Finding("database", "problem", f"{shown} needs: pip install 'millrace[postgres]'")
        return
    import sqlalchemy as sa

    engine = sa.create_engine(url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            version = connection.scalar(sa.text("SHOW server_version"))
        yield Finding("database", "ok", f"{shown}, PostgreSQL {version}")
    except sa.exc.SQLAlchemyError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        yield Finding("database", "problem", f"{shown} does not answer: {reason}")
    finally:
        engine.dispose()


def _blobs(settings: Settings) -> Iterator[Finding]:
    if not settings.blobs.is_s3:
        there = _nearest(Path(settings.blob_location))
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        text = settings.blob_location if writable else f"{settings.blob_location} cannot be written"
        yield Finding("blobs", "ok" if writable else "problem", text)
        return
    from millrace.blobs import open_blobs

    at = f" at {settings.blobs.endpoint}" if settings.blobs.endpoint else ""
    try:
        open_blobs(settings).check()
        yield Finding("blobs", "ok", f"{settings.blob_location}{at}")
    except MillraceError as error:
        yield Finding("blobs", "problem", f"{settings.blob_location}{at}: {error.message}")


def _notifications(settings: Settings) -> Iterator[Finding]:
    targets = settings.notify.targets
    if not notify.available():
        if targets or settings.notify.per_job == "any":
            yield Finding("notify", "problem" if targets else "warning", f"notifications need: {notify.HINT}")
        else:
            yield Finding("notify", "could", f"{notify.HINT} tells people by e-mail, chat and the like")
        return
    if not targets:
        yield Finding("notify", "could", "no notify.targets: nobody is told when a job ends or fails")
    wrong = dict(notify.check_targets(targets))
    for name, address in targets.items():
        shown = f"{name}, {notify.masked(address.get_secret_value())}"
        if name in wrong:
            yield Finding("notify", "problem", f"{shown} cannot be used: {wrong[name]}")
        else:
            rules = sum(name in rule.targets for rule in settings.notify.rules)
            yield Finding("notify", "ok", f"{shown}, named by {rules} rule{'' if rules == 1 else 's'}")


def _watches(settings: Settings) -> Iterator[Finding]:
    for watch in settings.watches:
        path = Path(watch.path)
        try:
            allowed_path(watch.path, settings.media_roots)
        except MillraceError as error:
            yield Finding("watches", "problem", f"{watch.name}: {error.message}")
            continue
        if os.access(path, os.R_OK | os.X_OK) and path.is_dir():
            yield Finding("watches", "ok", f"{watch.name}: new files below {path} become {watch.kind} jobs")
        else:
            # A mount may come later than the server.
            yield Finding("watches", "warning", f"{watch.name}: {path} is not there, or cannot be read")


def _cluster(settings: Settings) -> Iterator[Finding]:
    if settings.executor == "local":
        yield Finding("executor", "ok", "local: worker processes of the server")
        return
    if find_spec("celery") is None:
        yield Finding("executor", "problem", "celery needs: pip install 'millrace[cluster]'")
        return
    from millrace.worker import open_broker

    yield Finding("executor", "ok", "celery: stages run on machines with millrace worker")
    host = urlsplit(settings.broker.url or "").hostname or ""
    try:
        product = open_broker(settings).check()
    except Exception as error:  # noqa: BLE001 - whatever the client raises is told
        yield Finding("broker", "problem", f"{host} does not answer: {error}")
    else:
        yield Finding("broker", "ok", f"{host}, {product}")
    if not settings.blobs.is_s3:
        shared = f"{settings.blob_location} must be a mount that servers and workers share; S3 needs none"
        yield Finding("blobs", "warning", shared)
    for root in settings.media_roots:
        yield Finding("media_roots", "warning", f"{root} must be a mount that servers and workers share")


def _machine(settings: Settings) -> Iterator[Finding]:
    slots = settings.slots
    yield Finding("slots", "ok", f"cpu {slots.cpu}, gpu {slots.gpu}, io {slots.io}")
    devices = nvidia_devices()
    if slots.gpu > devices:
        yield Finding(
            "gpu", "warning", f"{slots.gpu} gpu slots are set but {devices} NVIDIA devices are there"
        )
    elif devices:
        yield Finding("gpu", "ok", f"{devices} NVIDIA device{'s' if devices > 1 else ''}")
    else:
        yield Finding("gpu", "could", "no NVIDIA device: models run on the CPU")
    if settings.database_url.get_backend_name() == "sqlite" and find_spec("psycopg") is None:
        yield Finding("postgres", "could", "pip install 'millrace[postgres]' keeps jobs in PostgreSQL")
    if not settings.blobs.is_s3 and find_spec("obstore") is None:
        yield Finding("s3", "could", "pip install 'millrace[s3]' keeps uploads and artifacts in a bucket")


def _models(settings: Settings) -> Iterator[Finding]:
    models = list_models(settings.models_dir)
    if not models:
        yield Finding("models", "could", f"none below {settings.models_dir}; the embedded engines need none")
    for model in models:
        kind = f", {model.format}" if model.format else ""
        yield Finding("models", "ok", f"{model.name}{kind}, {told(model.bytes)}")


def _workloads(settings: Settings, plugins: Mapping[str, Plugin]) -> Iterator[Finding]:
    if not plugins:
        yield Finding("workloads", "warning", "none is installed: no job can be taken")
    for kind, plugin in plugins.items():
        section = settings.workload(kind, plugin.settings)
        try:
            workload = plugin.build(section)
        except MillraceError as error:
            yield Finding(kind, "problem", error.message)
            continue
        yield Finding(kind, "ok", "stages: " + ", ".join(stage.name for stage in workload.stages))
        found = plugin.doctor(section, settings.models_dir) if plugin.doctor is not None else ()
        for what, works, hint in found:
            text = f"{what}: {hint}" if hint else what
            yield Finding(kind, "ok" if works else "could", text)
