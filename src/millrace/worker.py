"""``millrace worker``: one machine of a cluster. Puts a worker node together from the settings, and runs it.

Knows the settings and the workloads' stages; opens no port and writes no job.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.blobs import Blobs, open_blobs
from millrace.engine.cluster.messages import queue_of
from millrace.engine.workload import Workload
from millrace.errors import NotFound, SettingsError
from millrace.nodes import take_directory
from millrace.server.assembly import plain
from millrace.settings import Settings
from millrace.workloads import Plugin

if TYPE_CHECKING:
    from millrace.engine.cluster.hints import Broker

log = logging.getLogger("millrace.worker")

_MARK_TRIES = 30


def queues_of(workloads: Sequence[Workload]) -> dict[str, str]:
    """Return queue → resource of all stages."""
    found = {}
    for workload in workloads:
        for stage in (*workload.stages, *((workload.plan,) if workload.plan else ())):
            found[queue_of(workload.kind, stage)] = stage.resource
    return found


def chosen(queues: Mapping[str, str], patterns: Sequence[str]) -> dict[str, str]:
    """Return those queues that a pattern names, or all where there is none; SettingsError for one in vain."""
    for pattern in patterns:
        if not fnmatch.filter(queues, pattern):
            raise SettingsError(
                f"--queues: no queue is called {pattern!r}; there are: {', '.join(sorted(queues))}"
            )
    return {
        queue: resource
        for queue, resource in queues.items()
        if not patterns or any(fnmatch.fnmatchcase(queue, pattern) for pattern in patterns)
    }


def open_broker(settings: Settings) -> Broker:
    """Return the cluster's broker, not yet connected; SettingsError where it cannot be used."""
    try:
        from millrace.engine.cluster.hints import Broker
    except ModuleNotFoundError as error:
        raise SettingsError("executor: celery needs: pip install 'millrace[cluster]'") from error
    assert settings.broker.url is not None
    return Broker(settings.broker.url, settings.broker.queue_prefix)


def run(
    settings: Settings,
    plugins: Mapping[str, Plugin],
    patterns: Sequence[str],
    name: str | None = None,
    *,
    only_named: bool = False,
) -> None:
    """Run a worker node until SIGTERM or SIGINT; at once when asked a second time.

    ``only_named``: slots of resources that were not given by a flag are none.
    """
    if settings.executor != "celery":
        raise SettingsError(
            "millrace worker needs executor: celery (with database and broker as the servers have them); "
            "with executor: local the server runs its own workers"
        )
    broker = open_broker(settings)
    from millrace.engine.cluster.hints import HintReceiver
    from millrace.engine.cluster.node import Node, describe
    from millrace.engine.executors.local import LocalExecutor
    from millrace.engine.sql.board import PostgresBoard
    from millrace.engine.sql.store import libpq

    sections = {kind: settings.workload(kind, plugin.settings) for kind, plugin in plugins.items()}
    workloads = [plugin.build(sections[kind]) for kind, plugin in plugins.items()]
    queues = chosen(queues_of(workloads), patterns)
    slots = _slots(settings, queues, only_named)
    if not any(slots.values()):
        raise SettingsError("this worker would have no slot for any of its queues; see --slots and --queues")
    # Two workers of one name would renew each other's leases.
    node_name = f"{name or socket.gethostname()}-{secrets.token_hex(3)}"
    blobs = open_blobs(settings)
    blobs.check()
    _look_for_mark(settings, blobs)
    work, _lock = take_directory(settings, node_name)
    executor = LocalExecutor(
        slots,
        settings={kind: plain(section) for kind, section in sections.items()},
        site=settings.site(),
        artifacts=blobs.descriptor(),
        scratch=work,
        idle=settings.idle_unload,
    )
    lease = settings.cluster.lease
    board = PostgresBoard(libpq(settings.database_url), node_name, lease, slots, list(queues))
    node = Node(node_name, board, executor, blobs, queues, lease)
    receiver = HintReceiver(broker, list(queues), node.hint)
    node.listen_to(receiver)
    _listen_for_signals(node, settings.cluster.grace)
    log.info("%s: %s, on %s", node_name, describe(slots), ", ".join(sorted(queues)))
    print(f"millrace worker {node_name} with {describe(slots)}", flush=True)
    receiver.start()
    try:
        node.run()
    finally:
        receiver.stop()
        shutil.rmtree(work, ignore_errors=True)
    log.info("%s has left", node_name)


def _slots(settings: Settings, queues: Mapping[str, str], only_named: bool) -> dict[str, int]:
    given: dict[str, int] = settings.slots.model_dump()
    if only_named:
        given = {name: given[name] if name in settings.slots.model_fields_set else 0 for name in given}
        # Stages that mostly wait need a place too, unless it was said how many.
        if "io" not in settings.slots.model_fields_set and "io" in queues.values():
            given["io"] = max(2, 2 * given["cpu"])
    return {name: number if name in queues.values() else 0 for name, number in given.items()}


def leave_mark(settings: Settings, blobs: Blobs) -> None:
    """Leave a mark in the blob store by which workers see that theirs is the same."""
    key = _mark_of(settings)
    with tempfile.TemporaryDirectory(dir=settings.tmp_dir) as folder:
        mark = Path(folder, "mark")
        mark.write_text("The blobs of a Millrace cluster; workers look for this file.\n")
        blobs.put(mark, key)


def _look_for_mark(settings: Settings, blobs: Blobs) -> None:
    """Refuse to run beside another blob store than the servers'; wait for a server where none has run yet."""
    for attempt in range(_MARK_TRIES):
        try:
            blobs.stat(_mark_of(settings))
        except NotFound:
            if attempt == 0:
                log.info("no server has used the blobs at %s yet; waiting for one", settings.blob_location)
            time.sleep(1.0)
        else:
            return
    raise SettingsError(
        f"the blobs at {settings.blob_location} are not those of the servers on this database: "
        "mount the same directory on all machines, or set blobs to an s3:// bucket"
    )


def _mark_of(settings: Settings) -> str:
    """Return the key of the mark, which differs from database to database."""
    url = settings.database_url
    name = hashlib.sha256(f"{url.database}".encode()).hexdigest()[:16]
    return f".cluster/{name}"


def _listen_for_signals(node: object, grace: float) -> None:
    asked: list[int] = []

    def stop(number: int, _: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            log.warning("asked again: what runs is given back at once")
        else:
            log.info("stopping on %s: up to %g s for what runs", signal.Signals(number).name, grace)
        node.leave(grace if len(asked) == 1 else 0.0)  # type: ignore[attr-defined]

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit("run it as: millrace worker")
