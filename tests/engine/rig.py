"""Builds a real engine for tests: a store, worker processes and a directory of artifacts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.blobs import Blobs
from millrace.blobs import open_store as open_blobs
from millrace.engine.engine import Engine, Wire
from millrace.engine.sql import SqlStore
from millrace.engine.workload import Retry, Stage, Workload
from tests.engine.executors import ROOT, MakeExecutor, make_local

STAGES = "tests.engine.stages"


def stage(name: str, function: str = "act", **options: Any) -> Stage:
    """Return a stage that runs a function of ``tests.engine.stages``."""
    options.setdefault("retry", Retry(attempts=3, delay=0.02))
    return Stage(name, f"{STAGES}:{function}", **options)


ONE = Workload("one", (stage("only"),))
TWO = Workload("two", (stage("first"), stage("second")), policy="stage_first")
FLOW = Workload("flow", (stage("first"), stage("second")), policy="item_first")
NOOP = Workload("noop", (stage("only", "noop", chunk=256),), ttl=None)
PLANNED = Workload("planned", (stage("only"),), plan=stage("plan", "plan"))


def build(
    directory: Path,
    *,
    url: str | None = None,
    workloads: Sequence[Workload] = (ONE, TWO, FLOW, NOOP, PLANNED),
    slots: Mapping[str, int] | None = None,
    make: MakeExecutor = make_local,
    clock: Callable[[], float] = time.time,
    blobs: Blobs | None = None,
    connect: Callable[[], Wire] | None = None,
    **executor: Any,
) -> Engine:
    """Return an engine on that directory, not yet started; ``connect`` is to the servers beside it."""
    # Workers import the test stages by name, from the project's root.
    if str(ROOT) not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    store = SqlStore(url or f"sqlite:///{directory / 'millrace.db'}")
    blobs = blobs or open_blobs({"root": str(directory / "blobs")})
    chosen = make(directory, blobs.descriptor(), slots or {"cpu": 2, "gpu": 0, "io": 2}, **executor)
    return Engine(store, chosen, blobs, workloads, connect=connect, clock=clock)
