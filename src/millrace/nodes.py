"""The worker nodes of this machine: the directory of each, and whether they are alive.

A node holds a lock beside its directory for as long as its process lives, so that another one, and
``millrace worker --check``, know of it without asking anybody. Knows the database's table of nodes by
``engine.sql.board``; runs nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from millrace.errors import SettingsError, Unavailable
from millrace.settings import Settings


class NotAlive(Unavailable):
    """No worker runs on this machine, or the cluster has not heard of one for too long."""


class CannotTell(Unavailable):
    """The database does not answer, so that nobody knows of whom it has heard."""


def take_directory(settings: Settings, name: str) -> tuple[Path, int]:
    """Make a node's own directory, and delete those of nodes that are gone.

    Returns:
        The directory, and a descriptor that holds its lock until it is closed.
    """
    folder = _folder(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for lock in _unlocked(folder):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
        handle = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        work = folder / name
        work.mkdir()
    except OSError as error:
        raise Unavailable(f"the directory {folder} cannot be used: {error.strerror}") from error
    return work, handle


def _folder(settings: Settings) -> Path:
    return settings.tmp_dir / "workers"


def _unlocked(folder: Path) -> Iterator[Path]:
    """Yield the locks of nodes that are gone, each held meanwhile."""
    for lock in sorted(folder.glob("*.lock")):
        try:
            handle = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            continue  # another one that starts has just deleted it
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            yield lock
        finally:
            os.close(handle)


def running(settings: Settings, name: str | None = None) -> list[str]:
    """Return the nodes of this machine and data directory whose processes live; those called ``name``."""
    folder = _folder(settings)
    try:
        gone = set(_unlocked(folder))
    except OSError as error:
        raise Unavailable(f"{folder} cannot be looked into: {error.strerror}") from error
    nodes = [lock.stem for lock in sorted(folder.glob("*.lock")) if lock not in gone]
    return [node for node in nodes if name is None or node.rpartition("-")[0] == name]


def check(settings: Settings, name: str | None = None) -> dict[str, float]:
    """Return node → seconds since the database last heard of it, for the nodes that run here.

    Raises:
        SettingsError: this is no cluster.
        NotAlive: none runs here, or nothing was heard of one for ``cluster.lease`` seconds.
        CannotTell: the database does not answer.
    """
    if settings.executor != "celery":
        raise SettingsError("millrace worker --check needs executor: celery; see millrace doctor")
    from millrace.engine.sql.board import heard_of
    from millrace.engine.sql.store import libpq

    nodes = running(settings, name)
    if not nodes:
        called = f" called {name}" if name else ""
        raise NotAlive(f"no worker{called} runs here: none holds a lock in {_folder(settings)}")
    try:
        ages = heard_of(libpq(settings.database_url), nodes)
    except ConnectionError as error:
        raise CannotTell(f"the database does not answer: {error}") from error
    for node in nodes:
        if node not in ages:
            raise NotAlive(f"{node} runs, but the database has not heard of it yet")
        if ages[node] > settings.cluster.lease:
            raise NotAlive(
                f"{node} runs, but the database has not heard of it for {ages[node]:.0f} s "
                f"(cluster.lease is {settings.cluster.lease:g} s): its calls go on elsewhere"
            )
    return ages
