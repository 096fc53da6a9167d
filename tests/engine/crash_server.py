"""A server to be killed: takes one job, runs it to its end, and is started again after each kill.

Run as ``python -m tests.engine.crash_server DIRECTORY DATABASE_URL ITEMS``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from millrace.engine.model import NewItem, NewJob
from millrace.errors import Conflict
from tests.engine.rig import TWO, build

JOB = "job"


def deed(n: int) -> dict[str, object]:
    """What item ``n`` does: mostly writes a file at both stages, some fail once, are bad or are skipped."""
    if n % 17 == 3:
        return {"do": {"first": "flaky", "second": "write"}}
    if n % 17 == 5:
        return {"do": "bad"}
    if n % 17 == 7:
        return {"do": {"first": "write", "second": "skip"}}
    return {"do": "nap"}


async def run(directory: Path, url: str, items: int) -> None:
    engine = build(directory, url=url, workloads=(TWO,), slots={"cpu": 2, "gpu": 0, "io": 0})
    engine.start()
    (directory / "started").write_text(str(time.monotonic()))
    job = NewJob(JOB, "two", [NewItem(input=deed(n)) for n in range(items)], idempotency=("key", "body"))
    try:
        await engine.submit(job)
    except Conflict as error:
        raise SystemExit(f"the job was not taken: {error}") from error
    while not (await engine.job(JOB)).state.final:
        await asyncio.sleep(0.01)
    engine.stop()
    (directory / "finished").touch()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
