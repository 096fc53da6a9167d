"""What the page System shows: workers, models, disks, settings in force, schedules and webhooks."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, SecretStr

from millrace import doctor
from millrace.engine.deliveries import DeliveryQuery
from millrace.engine.notifications import NOTIFY
from millrace.engine.schedules import upcoming
from millrace.engine.webhooks import WEBHOOK
from millrace.models import list_models
from millrace.notify import masked
from millrace.server.watches import watch_row
from millrace.settings import Settings

if TYPE_CHECKING:
    from millrace.server.dashboard.render import Renderer
    from millrace.server.services import Services

MASK = "••••••"
_DELIVERIES = 50


@dataclass(frozen=True, slots=True)
class Disk:
    """A place where the server keeps something, and the disk it is on."""

    what: str
    path: str
    total: int
    used: int
    free: int


async def gather(services: Services, renderer: Renderer) -> dict[str, Any]:
    """Return all that the page shows."""
    settings = services.settings
    disks, models = await asyncio.gather(
        asyncio.to_thread(_disks, settings),
        asyncio.to_thread(list_models, settings.models_dir),
    )
    schedules = await services.schedules.list()
    now = time.time()
    return {
        "status": services.engine.status(),
        "disks": disks,
        "models": models,
        "models_dir": settings.models_dir,
        "settings": list(in_force(settings, services.plugins)),
        "watches": [watch_row(watch, services) for watch in await services.watches.list()],
        "schedules": [(schedule, upcoming(schedule, 3, now)) for schedule in schedules],
        "deliveries": await services.deliveries.list(DeliveryQuery(channel=WEBHOOK, limit=_DELIVERIES)),
        "notifications": [
            (told, masked(told.to), orjson.loads(told.body)["title"])
            for told in await services.deliveries.list(DeliveryQuery(channel=NOTIFY, limit=_DELIVERIES))
        ],
        "targets": list(settings.notify.targets),
        "started_at": services.started_at,
        "panels": [
            f"{kind}/system.html" for kind in services.engine.workloads if renderer.has(f"{kind}/system.html")
        ],
    }


async def findings(services: Services) -> list[doctor.Finding]:
    """Return what ``millrace doctor`` finds; it looks for programs and models, which takes a moment."""
    return await asyncio.to_thread(doctor.examine, services.settings, services.plugins)


def _disks(settings: Settings) -> list[Disk]:
    places = [
        ("data", settings.data_dir),
        ("temporary files", settings.tmp_dir),
        ("models", settings.models_dir),
        *(("media root", root) for root in settings.media_roots),
    ]
    if not settings.blobs.is_s3:
        places.insert(1, ("uploads and artifacts", Path(settings.blob_location)))
    found = []
    for what, path in places:
        try:
            usage = shutil.disk_usage(path)
        except OSError:
            continue
        found.append(Disk(what, str(path), usage.total, usage.used, usage.free))
    return found


def in_force(settings: Settings, plugins: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield every setting in force: its name, its value for people, whether it is other than the default."""
    sections: dict[str, BaseModel] = {
        kind: settings.workload(kind, plugin.settings) for kind, plugin in plugins.items()
    }
    yield from _flat("", settings, type(settings)())
    for kind, section in sorted(sections.items()):
        yield from _flat(f"{kind}.", section, type(section)())


def _flat(prefix: str, section: BaseModel, default: BaseModel | None) -> Iterator[tuple[str, str, bool]]:
    for name in type(section).model_fields:
        if name == "workloads":
            continue
        value = getattr(section, name)
        usual = getattr(default, name, None)
        if isinstance(value, BaseModel):
            yield from _flat(f"{prefix}{name}.", value, usual if isinstance(usual, BaseModel) else None)
        else:
            yield f"{prefix}{name}", shown(name, value), value != usual


def shown(name: str, value: Any) -> str:
    """Write a setting's value for people, with what is secret in it masked."""
    if value is None:
        return "not set"
    if isinstance(value, SecretStr):
        return MASK
    if name == "database":
        from sqlalchemy.engine import make_url

        return make_url(str(value)).render_as_string(hide_password=True)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(name, entry) for entry in value) or "none"
    if isinstance(value, BaseModel):
        return ", ".join(f"{key}: {shown(key, entry)}" for key, entry in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {shown(str(key), entry)}" for key, entry in value.items()) or "none"
    return str(value)
