"""Puts a server together from its settings: blobs, engine, uploads. Imports no web framework.

The engine is started here, so that its workers come up while the application is still being imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import to_jsonable_python

from millrace import fetch, folders, notify
from millrace.blobs import Blobs, open_blobs
from millrace.engine.deliveries import Deliveries
from millrace.engine.engine import Engine
from millrace.engine.executors import Executor
from millrace.engine.executors.local import LocalExecutor
from millrace.engine.looking import Listing
from millrace.engine.notifications import NotificationPolicy, Notifications, Rule
from millrace.engine.presets import Presets
from millrace.engine.retention import Retention, RetentionPolicy
from millrace.engine.schedules import Schedules
from millrace.engine.sql.store import SqlStore, libpq
from millrace.engine.watches import Watches, WatchSpec
from millrace.engine.webhooks import WebhookPolicy, Webhooks
from millrace.engine.workload import Retry
from millrace.errors import MillraceError, SettingsError, Unavailable
from millrace.server import submission, watch_specs
from millrace.server.joblog import log_events
from millrace.server.services import Services
from millrace.server.uploads import Uploads
from millrace.settings import Settings
from millrace.workloads import Plugin

log = logging.getLogger(__name__)


def open_services(settings: Settings, plugins: Mapping[str, Plugin]) -> Services:
    """Open the stores, start the engine and return the parts; blocks until jobs can be taken.

    SettingsError or Unavailable says in one sentence why it cannot start.
    """
    try:
        for directory in (settings.data_dir, settings.tmp_dir):
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the directory {error.filename} cannot be made: {error.strerror}") from error
    notifications = _notifications(settings, plugins)
    blobs = open_blobs(settings)
    sections = {kind: settings.workload(kind, plugin.settings) for kind, plugin in plugins.items()}
    store = SqlStore(
        settings.database_url.render_as_string(hide_password=False),
        lock_file=settings.data_dir / "millrace.lock",
    )
    executor = _executor(settings, sections, blobs, store)
    workloads = [plugin.build(sections[kind]) for kind, plugin in plugins.items()]
    if settings.retention.ttl is not None:
        workloads = [replace(workload, ttl=settings.retention.ttl) for workload in workloads]
    connect = None
    if settings.executor == "celery":
        from millrace.worker import leave_mark

        leave_mark(settings, blobs)
        from millrace.engine.sql.peers import PostgresPeers

        connect = partial(PostgresPeers, libpq(settings.database_url))
    engine = Engine(store, executor, blobs, workloads, connect=connect)
    uploads = Uploads(blobs, settings.limits)
    engine.loop.listeners.append(log_events)
    post = partial(fetch.post, policy=submission.webhook_policy(settings))
    webhooks = Webhooks(engine.workloads, post, _webhook_policy(settings))

    def scan(spec: WatchSpec, stopping: Callable[[], bool]) -> Listing:
        return folders.listing(Path(spec.path), spec.patterns, stopping)

    services = Services(
        settings=settings,
        engine=engine,
        blobs=blobs,
        uploads=uploads,
        deliveries=Deliveries(engine, [webhooks, notifications]),
        notifications=notifications,
        presets=Presets(engine),
        schedules=Schedules(engine, lambda request: submission.prepare(services, request)),
        watches=Watches(engine, scan, lambda request: submission.prepare(services, request)),
        plugins=dict(plugins),
    )
    engine.attach(services.deliveries)
    engine.attach(services.schedules)
    _watch(services)
    engine.attach(services.watches)
    engine.attach(Retention(engine, blobs, RetentionPolicy(sweep=settings.retention.sweep)))
    engine.start()
    return services


def _watch(services: Services) -> None:
    """Have the folders of the settings watched; SettingsError where one of them could make no job."""
    specs = []
    for given in services.settings.watches:
        spec = watch_specs.spec_of(given)
        try:
            # Presets may be saved later, by the API of this very server.
            watch_specs.check_watch(services, spec, preset=False)
        except MillraceError as error:
            raise SettingsError(f"watches: {given.name} cannot be watched: {error.message}") from error
        specs.append(spec)
    services.watches.configure(specs)


def _executor(
    settings: Settings, sections: Mapping[str, BaseModel], blobs: Blobs, store: SqlStore
) -> Executor:
    if settings.executor == "local":
        return LocalExecutor(
            settings.slots.model_dump(),
            settings={kind: plain(section) for kind, section in sections.items()},
            site=settings.site(),
            artifacts=blobs.descriptor(),
            scratch=settings.tmp_dir / "work",
            idle=settings.idle_unload,
        )
    from millrace.worker import open_broker

    broker = open_broker(settings)
    from millrace.engine.cluster.hints import HintSender
    from millrace.engine.executors.celery import CeleryExecutor

    return CeleryExecutor(
        libpq(settings.database_url), store.nodes, HintSender(broker), settings.cluster.lease
    )


def _webhook_policy(settings: Settings) -> WebhookPolicy:
    webhooks = settings.webhooks
    secret = webhooks.secret.get_secret_value() if webhooks.secret is not None else None
    retry = Retry(webhooks.attempts, webhooks.delay, 3.0, webhooks.max_delay)
    return WebhookPolicy(retry, secret)


def _notifications(settings: Settings, plugins: Mapping[str, Plugin]) -> Notifications:
    """Return the channel of notifications; SettingsError where a target or a rule cannot be used."""
    given = settings.notify
    for name, reason in notify.check_targets(given.targets):
        raise SettingsError(f"notify.targets.{name} cannot be used: {reason}")
    for rule in given.rules:
        for kind in rule.kinds:
            if kind not in plugins:
                raise SettingsError(f"notify.rules names the kind {kind!r}; there are: {', '.join(plugins)}")
    policy = NotificationPolicy(
        targets={name: url.get_secret_value() for name, url in given.targets.items()},
        rules=[Rule(**rule.model_dump()) for rule in given.rules],
        per_job=given.per_job,
        failures=given.failures,
        public_url=settings.public_url,
        retry=Retry(given.attempts, given.delay, 3.0, given.max_delay),
    )
    send = partial(notify.send, allow_private=given.allow_private, timeout=given.timeout)
    return Notifications(policy, send)


def plain(section: BaseModel) -> dict[str, Any]:
    """Return a workload's settings as plain JSON for its stages, secrets in clear."""
    found: dict[str, Any] = to_jsonable_python(_reveal(section.model_dump()))
    return found


def _reveal(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return {key: _reveal(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_reveal(entry) for entry in value]
    return value
