"""Every executor that must pass the conformance suite, by name; a new one is added here and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from millrace.engine.executors import Executor
from millrace.engine.executors.local import LocalExecutor

ROOT = Path(__file__).parents[2]

MakeExecutor = Callable[..., Executor]


def make_local(
    directory: Path, artifacts: Mapping[str, Any], slots: Mapping[str, int], **more: Any
) -> Executor:
    """Worker processes on this machine."""
    more = {"settings": {}, "site": {}, **more}
    return LocalExecutor(slots, artifacts=artifacts, scratch=directory / "scratch", **more)


EXECUTORS: dict[str, MakeExecutor] = {"local": make_local}


@pytest.fixture(params=sorted(EXECUTORS))
def make_executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeExecutor:
    """A function ``(directory, artifacts, slots, **options)`` that returns an executor, not yet started."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    if str(ROOT) not in sys.path:
        monkeypatch.syspath_prepend(str(ROOT))
    return EXECUTORS[request.param]
