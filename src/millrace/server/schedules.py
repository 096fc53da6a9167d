"""``/schedules``: jobs created by the clock."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from millrace.engine.schedules import Missed, Schedule, upcoming
from millrace.server import examples
from millrace.server.replies import json_reply, rfc3339
from millrace.server.services import Services

ScheduleId = Annotated[str, Path(max_length=64)]
_UPCOMING = 5


class NewSchedule(BaseModel):
    """A schedule to be added. ``job`` is what ``POST /jobs`` takes."""

    model_config = ConfigDict(extra="forbid")

    cron: Annotated[str, Field(description="five fields as in crontab(5), or `@daily` and the like")]
    job: Annotated[dict[str, Any], Field(description="what `POST /jobs` takes")]
    zone: Annotated[str, Field(description="IANA time zone the times are told in")] = "UTC"
    name: Annotated[str, Field(max_length=200)] = ""
    missed: Annotated[
        Missed, Field(description="ticks that passed while no server ran: `skip`, make up `once`, or `all`")
    ] = "once"
    overlap: Annotated[bool, Field(description="start a job while the one before is unfinished")] = False
    enabled: bool = True


class Switch(BaseModel):
    """Whether a schedule is on."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool


def schedule_row(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the API writes it."""
    return {
        "id": schedule.id,
        "name": schedule.name,
        "cron": schedule.cron,
        "zone": schedule.zone,
        "job": schedule.request,
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "enabled": schedule.enabled,
        "next_at": rfc3339(schedule.next_at),
        "last_at": rfc3339(schedule.last_at),
        "last_job": schedule.last_job,
        "last_error": schedule.last_error,
        "created_at": rfc3339(schedule.created_at),
    }


def router(services: Services) -> APIRouter:
    """Return the routes below ``/schedules``."""
    api = APIRouter(prefix="/schedules", tags=["schedules"])
    schedules = services.schedules

    @api.get("", summary="All schedules", **examples.SCHEDULES)
    async def list_schedules() -> Response:
        """List the schedules in the order they were added."""
        return json_reply({"schedules": [schedule_row(found) for found in await schedules.list()]})

    @api.post("", status_code=201, summary="Add a schedule", **examples.ADD_SCHEDULE)
    async def add(body: NewSchedule) -> Response:
        """Create the job each time the schedule is due, at most one for each time.

        The job is checked now as it will be then; what fails later is kept with its tick.
        """
        added = await schedules.add(
            body.cron,
            body.job,
            name=body.name,
            zone=body.zone,
            missed=body.missed,
            overlap=body.overlap,
            enabled=body.enabled,
        )
        return json_reply(schedule_row(added), 201, {"Location": f"/schedules/{added.id}"})

    @api.get("/{schedule_id}", summary="One schedule, and when it is due", **examples.SCHEDULE)
    async def schedule(schedule_id: ScheduleId) -> Response:
        """Say all about a schedule, and the next times it is due."""
        found = await schedules.get(schedule_id)
        due = upcoming(found, _UPCOMING, time.time())
        return json_reply({**schedule_row(found), "upcoming": [rfc3339(at) for at in due]})

    @api.get("/{schedule_id}/ticks", summary="What a schedule has done", **examples.TICKS)
    async def ticks(schedule_id: ScheduleId, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        """List the times it was due, newest first: the job each made, or why it made none."""
        found = await schedules.ticks(schedule_id, limit)
        rows = [{"at": rfc3339(tick.at), "job": tick.job, "error": tick.error} for tick in found]
        return json_reply({"ticks": rows})

    @api.patch("/{schedule_id}", summary="Switch a schedule on or off", **examples.SWITCH_SCHEDULE)
    async def switch(schedule_id: ScheduleId, body: Switch) -> Response:
        """Switch it; what it would have run while off is not made up."""
        return json_reply(schedule_row(await schedules.enable(schedule_id, body.enabled)))

    @api.delete("/{schedule_id}", summary="Delete a schedule", **examples.DELETE_SCHEDULE)
    async def delete(schedule_id: ScheduleId) -> Response:
        """Delete it and its ticks; the jobs it made stay."""
        await schedules.delete(schedule_id)
        return json_reply({"message": "Schedule deleted", "id": schedule_id})

    return api
