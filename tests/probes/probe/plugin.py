"""The plugin ``probe``: two stages, a plan stage, and a contract with its own error bodies."""

from __future__ import annotations

import os
from typing import Any

from pydantic import BaseModel, ConfigDict

from millrace.engine.workload import Retry, Stage, Workload
from millrace.workloads import DemoJob, DemoStand, Plugin


class ProbeSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    greeting: str = "hello"
    max_queued_jobs: int | None = None


def build(settings: ProbeSettings) -> Workload:
    quick = Retry(attempts=2, delay=0.01)
    return Workload(
        kind="probe",
        stages=(
            Stage("first", "probe.stages:first", retry=quick),
            Stage("second", "probe.stages:second", retry=quick),
        ),
        plan=Stage("plan", "probe.stages:plan"),
        max_queued_jobs=settings.max_queued_jobs,
        fails_when="any",
    )


def router(services: Any, settings: ProbeSettings) -> Any:
    from probe.contract import make

    return make(services, settings)


def render_error(status: int, code: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    return {"probe_error": {"code": code, "message": message, "status": status, "details": details}}


def demo(stand: DemoStand) -> DemoJob:
    """Submit what the environment says, so that a test can have it fail."""
    sample = stand.media / "sample.txt"
    sample.write_text("a sample")
    inputs = [{"artifact": "out.txt", "content": "made"}, {"sleep": 0.3}]
    if "PROBE_DEMO_FAILS" in os.environ:
        inputs.append({"fail": "as it was told"})
    items = [{"name": f"{n}.txt", "input": value} for n, value in enumerate(inputs)]
    body = {"kind": "probe", "items": items}
    job = stand.client.post("/jobs", json=body).raise_for_status().json()["job_id"]
    return DemoJob(job, "A probe does as it is told", tell=lambda: [f"told: {sample.read_text()}"])


plugin = Plugin(
    kind="probe",
    build=build,
    settings=ProbeSettings,
    router=router,
    errors=("/probe",),
    render_error=render_error,
    health=("/probe/health",),
    words={"queued": "asleep", "running": "awake", "succeeded": "completed", "held": "uploaded"},
    prepare=lambda new, settings: new,
    demo=demo,
)
