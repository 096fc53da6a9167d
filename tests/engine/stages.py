"""Stage functions that the engine's tests and benchmarks run in real worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millrace.engine.context import Skip, StageContext
from millrace.engine.model import NewItem
from millrace.errors import BadInput, StageError, TookTooLong, Transient


def noop(ctx: StageContext) -> None:
    """Do nothing at all."""


def act(ctx: StageContext) -> Mapping[str, Any] | Skip | None:
    """Do what the input says, after ``takes`` seconds; ``do`` may be a mapping of stage name → deed."""
    time.sleep(ctx.input.get("takes", 0))
    deed = ctx.input.get("do", "echo")
    if isinstance(deed, Mapping):
        deed = deed.get(ctx.stage, "echo")
    if deed == "echo":
        return {"idx": ctx.idx, "stage": ctx.stage, "attempt": ctx.attempt}
    if deed == "sleep":
        time.sleep(ctx.input.get("seconds", 60))
        return {"slept": True}
    if deed == "tidy":
        try:
            time.sleep(60)
        except TookTooLong:
            return {"tidied": True}
    if deed == "write":
        ctx.artifact("out.txt").write_text(f"{ctx.job} {ctx.idx} {ctx.stage}\n" * ctx.input.get("lines", 1))
        return {"wrote": True}
    if deed == "sign":
        # No two attempts write the same.
        mark = os.urandom(8).hex()
        ctx.artifact("out.txt").write_text(mark)
        return mark
    if deed == "read":
        return {"read": ctx.published("out.txt").read_text()}
    if deed == "skip":
        return Skip("nothing to do", {"why": "asked"})
    if deed == "bad":
        raise BadInput("this input is bad", code="bad_audio")
    if deed == "flaky":
        if ctx.attempt <= ctx.input.get("failures", 1):
            raise Transient("not yet")
        return {"attempt": ctx.attempt}
    if deed == "broken":
        raise StageError("the back end is broken")
    if deed == "raise":
        raise ValueError("unexpected")
    if deed == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "progress":
        for step in range(1, 6):
            ctx.progress(step / 5, f"step {step}")
            time.sleep(0.06)
        return None
    if deed == "eat":
        return {"size": len(b"\1" * ctx.input["bytes"]), "pid": os.getpid()}
    if deed == "warm":
        return {"model": ctx.model("model", lambda: os.urandom(8).hex()), "pid": os.getpid()}
    if deed == "slots":
        return {"slots": ctx.slots}
    if deed == "given":
        return {"settings": dict(ctx.settings), "site": dict(ctx.site), "options": dict(ctx.options)}
    if deed == "child":
        child = subprocess.Popen(["sleep", "60"])
        Path(ctx.input["path"]).write_text(f"{os.getpid()} {child.pid}")
        child.wait()
    if deed == "print":
        print("x" * 100_000, flush=True)
        return {"printed": True}
    if deed == "large":
        return {"echo": ctx.input["text"]}
    if deed == "log":
        with Path(ctx.input["path"]).open("a") as log:
            log.write(f"{ctx.job} {ctx.idx} {ctx.stage} {time.monotonic()}\n")
        time.sleep(ctx.input.get("seconds", 0))
        with Path(ctx.input["path"]).open("a") as log:
            log.write(f"{ctx.job} {ctx.idx} {ctx.stage} {time.monotonic()} end\n")
        return None
    if deed == "gate":
        while not Path(ctx.input["path"]).exists():
            time.sleep(0.005)
        return None
    if deed == "nap":
        ctx.artifact(f"{ctx.stage}.txt").write_text(f"{ctx.idx} {ctx.stage}\n" * 1000)
        time.sleep(0.01)
        return {"attempt": ctx.attempt}
    if deed == "needs":
        if not Path(ctx.input["path"]).exists():
            raise BadInput("what it needs is not there")
        return {"attempt": ctx.attempt}
    if deed == "missing":
        ctx.artifact("promised.txt")
        return None
    if deed == "litter":
        path = ctx.artifact("out.txt")
        path.write_text("done")
        path.with_suffix(".tmp").write_text("left beside it")
        (path.parent / "folder").mkdir()
        (path.parent / "folder" / "file").write_text("left in a folder")
        (ctx.workdir / "notes").write_text("left in the work directory")
        return None
    if deed == "stuck":
        (ctx.workdir / "half").write_text("half of it")
        Path(ctx.input["path"]).write_text(f"{ctx.workdir}\n")
        time.sleep(60)
    if deed == "half":
        ctx.artifact("out.txt").write_text("half of it")
        raise BadInput("it broke in the middle")
    if deed == "unstable":
        ctx.artifact("out.txt").write_text("first try" if ctx.attempt == 1 else "second try")
        if ctx.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return None
    raise BadInput(f"no such deed: {deed!r}")


def plan(ctx: StageContext) -> Mapping[str, Any]:
    """Find as many items as the job's options say, in two batches that overlap."""
    number = ctx.options["find"]
    items = [
        NewItem(name=f"found {n}", key=str(n), input=ctx.options.get("input", {})) for n in range(number)
    ]
    ctx.add_items(items[: number // 2 + 1])
    if ctx.options.get("die_once") and ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    ctx.add_items(items[number // 2 :])
    return {"found": number}


def write_input(ctx: StageContext) -> Mapping[str, Any]:
    """Change the very file it was given, as those do that set flags in place; once."""
    path = Path(ctx.input["path"])
    if not path.read_text().endswith("!"):
        with path.open("a") as file:
            file.write("!")
    return {"bytes": path.stat().st_size}
