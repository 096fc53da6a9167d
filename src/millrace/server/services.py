"""What a contract's handlers may reach: settings, engine, blobs, uploads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from millrace.blobs import Blobs
from millrace.engine.deliveries import Deliveries
from millrace.engine.engine import Engine
from millrace.engine.notifications import Notifications
from millrace.engine.presets import Presets
from millrace.engine.schedules import Schedules
from millrace.engine.watches import Watches
from millrace.server.uploads import Uploads
from millrace.settings import Settings
from millrace.workloads import Plugin


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server, made once and handed to every router.

    closing     set when the server has been told to stop: long answers (event streams) end then.
    started_at  epoch seconds.
    """

    settings: Settings
    engine: Engine
    blobs: Blobs
    uploads: Uploads
    deliveries: Deliveries
    notifications: Notifications
    presets: Presets
    schedules: Schedules
    watches: Watches
    plugins: Mapping[str, Plugin] = field(default_factory=dict)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: float = field(default_factory=time.time)
