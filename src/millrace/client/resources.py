"""What else a server keeps: schedules, webhook deliveries, presets. As flows, like ``core.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, Unpack

from millrace.client.core import Flows
from millrace.client.flow import Call, Emit, Feed, Flow, path
from millrace.client.retrying import exchange
from millrace.client.rows import Delivery, Preset, Schedule
from millrace.client.submission import JobFields, job_body

# A method called ``list`` hides the type of that name.
Schedules: TypeAlias = list[Schedule]
Presets: TypeAlias = list[Preset]
Rows: TypeAlias = list[dict[str, Any]]

_PAGE = 200


class ScheduleFlows(Flows):
    """Jobs by the clock."""

    def list(self) -> Flow[Schedules]:
        """List the schedules in the order they were added."""
        answer = yield from self._json(Call("GET", "/schedules"))
        return [Schedule.of(row) for row in answer["schedules"]]

    def get(self, schedule_id: str) -> Flow[Schedule]:
        """Return one schedule; ``raw["upcoming"]`` has the next times it is due."""
        return Schedule.of((yield from self._json(Call("GET", path("schedules", schedule_id)))))

    def add(
        self,
        cron: str,
        kind: str,
        *,
        options: Mapping[str, Any] | None = None,
        items: Rows | None = None,
        zone: str = "UTC",
        name: str = "",
        missed: str = "once",
        overlap: bool = False,
        enabled: bool = True,
        **fields: Unpack[JobFields],
    ) -> Flow[Schedule]:
        """Add a schedule for jobs of a kind.

        Args:
            cron: five fields as in crontab(5), or ``@daily`` and the like.
            options, items, **fields: of the job, as ``POST /jobs`` takes them; see ``JobFields``.
            zone: the time zone that ``cron`` is told in.
            missed: times that passed while no server ran: ``skip``, make up ``once``, or ``all``.
            overlap: whether a job is started while the one before is unfinished.

        Not sent again when its answer is lost: look with ``list`` whether it is there.
        """
        job = job_body(kind, options, fields)
        if items:
            job["items"] = items
        body: dict[str, Any] = {"cron": cron, "job": job, "zone": zone, "name": name}
        body |= {"missed": missed, "overlap": overlap, "enabled": enabled}
        return Schedule.of((yield from self._json(Call.of_json("POST", "/schedules", body, again=False))))

    def ticks(self, schedule_id: str, *, limit: int = 50) -> Flow[Rows]:
        """Return the times it was due, newest first: ``at``, and the ``job`` each made or its ``error``."""
        call = Call("GET", path("schedules", schedule_id, "ticks"), [("limit", str(limit))])
        found: Rows = (yield from self._json(call))["ticks"]
        return found

    def enable(self, schedule_id: str, enabled: bool = True) -> Flow[Schedule]:
        """Switch a schedule on, or off."""
        call = Call.of_json("PATCH", path("schedules", schedule_id), {"enabled": enabled})
        return Schedule.of((yield from self._json(call)))

    def delete(self, schedule_id: str) -> Flow[None]:
        """Delete a schedule; the jobs it made stay."""
        yield from exchange(Call("DELETE", path("schedules", schedule_id)), self.how)


class DeliveryFlows(Flows):
    """Webhooks that were sent, are being tried, or were given up."""

    def list(
        self, *, job: str | None = None, state: str | None = None, limit: int | None = None
    ) -> Feed[Delivery]:
        """Iterate over deliveries, newest first: of one job, in one state; all, or up to ``limit``."""
        before, left = None, limit
        while left is None or left > 0:
            size = min(_PAGE, left) if left is not None else _PAGE
            given = {"job": job, "state": state, "before": before, "limit": size}
            params = [(name, str(value)) for name, value in given.items() if value is not None]
            page = yield from self._json(Call("GET", "/deliveries", params))
            for row in page["deliveries"]:
                yield Emit(Delivery.of(row))
            before = page["next_before"]
            if before is None:
                return
            left = None if left is None else left - len(page["deliveries"])

    def get(self, delivery_id: str) -> Flow[Delivery]:
        """Return one delivery; ``raw["body"]`` is what is sent."""
        return Delivery.of((yield from self._json(Call("GET", path("deliveries", delivery_id)))))

    def resend(self, delivery_id: str) -> Flow[Delivery]:
        """Send a webhook once more; the receiver can tell by its ``webhook-id`` that it knows it."""
        return Delivery.of(
            (yield from self._json(Call("POST", path("deliveries", delivery_id, "resend"), again=False)))
        )


class PresetFlows(Flows):
    """Options of a kind, saved under a name."""

    def list(self, kind: str | None = None) -> Flow[Presets]:
        """List the presets, of all kinds or of one."""
        params = [("kind", kind)] if kind is not None else []
        answer = yield from self._json(Call("GET", "/presets", params))
        return [Preset.of(row) for row in answer["presets"]]

    def get(self, kind: str, name: str) -> Flow[Preset]:
        """Return a preset; NotFound when there is none."""
        return Preset.of((yield from self._json(Call("GET", path("presets", kind, name)))))

    def save(self, kind: str, name: str, options: Mapping[str, Any]) -> Flow[Preset]:
        """Save options under a name, in place of what was there."""
        call = Call.of_json("PUT", path("presets", kind, name), {"options": dict(options)})
        return Preset.of((yield from self._json(call)))

    def delete(self, kind: str, name: str) -> Flow[None]:
        """Delete a preset; jobs that were made with it stay as they are."""
        yield from exchange(Call("DELETE", path("presets", kind, name)), self.how)
