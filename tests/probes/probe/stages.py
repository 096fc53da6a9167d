"""Stages that do as their items say, for jobs of kind ``probe``."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millrace.engine.context import Skip, StageContext
from millrace.engine.model import NewItem
from millrace.errors import BadInput
from millrace.sources import localise


def first(ctx: StageContext) -> Mapping[str, Any] | Skip | None:
    """``sleep`` seconds with progress, ``fail``, ``die``, ``skip``, copy a file, write an ``artifact``.

    ``child``: start a process, write its number and the own one into that file, and wait; ``stuck`` in
    native code that gives no other thread of Python's a turn.
    """
    wish = ctx.input
    if wish.get("child"):
        child = subprocess.Popen(["sleep", "300"])
        written = Path(wish["child"] + ".part")
        written.write_text(f"{os.getpid()} {child.pid}")
        written.rename(wish["child"])
        if wish.get("stuck"):
            ctypes.PyDLL(None).sleep(300)
        child.wait()
    if wish.get("die"):
        os.abort()
    if wish.get("fail"):
        raise BadInput(str(wish["fail"]), code="bad_probe")
    if wish.get("skip"):
        return Skip(str(wish["skip"]))
    if wish.get("fail_unless"):
        if not os.path.exists(wish["fail_unless"]):  # noqa: PTH110
            raise BadInput("not there yet", code="missing")
        return None
    for step in range(int(wish.get("sleep", 0) * 20)):
        ctx.progress(step / (wish["sleep"] * 20), "sleeping")
        time.sleep(0.05)
    if "artifact" in wish:
        ctx.artifact(wish["artifact"], wish.get("media_type")).write_bytes(wish.get("content", "").encode())
    reference = wish if wish.get("kind") in ("upload", "path", "url") else wish.get("file")
    if reference:
        content = localise(ctx, reference).read_bytes()
        ctx.artifact("copy.bin").write_bytes(content)
        return {"bytes": len(content), "name": reference.get("name"), "_secret": "not shown"}
    return {"greeting": ctx.settings.get("greeting"), "_secret": "not shown"}


def second(ctx: StageContext) -> Mapping[str, Any]:
    """Say which item it was."""
    return {"seen": ctx.idx}


def plan(ctx: StageContext) -> None:
    """Find as many items as the options say."""
    ctx.add_items(NewItem(name=f"found {n}") for n in range(int(ctx.options.get("found", 0))))
