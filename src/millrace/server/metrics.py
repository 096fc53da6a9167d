"""What Prometheus scrapes: HTTP traffic as it happens, the engine's state when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from millrace import __version__

if TYPE_CHECKING:
    from millrace.engine.store import KindStats
    from millrace.engine.waiting import Waiting
    from millrace.server.services import Services

CONTENT_TYPE = CONTENT_TYPE_LATEST
_HTTP_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STAGE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


class Metrics:
    """A registry of its own, so that several servers in one process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "millrace_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "millrace_http_request_seconds",
            "Time to answer a request",
            ["method", "route"],
            buckets=_HTTP_BUCKETS,
            registry=self._registry,
        )
        self._stages = Histogram(
            "millrace_stage_seconds",
            "Duration of one attempt of one item at one stage",
            ["kind", "stage", "outcome"],
            buckets=_STAGE_BUCKETS,
            registry=self._registry,
        )
        self._by_stage: dict[tuple[str, str, str], Histogram] = {}
        info = Gauge("millrace_info", "The version that runs", ["version"], registry=self._registry)
        info.labels(__version__).set(1)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; ``route`` is its template, so that ids make no series of their own."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def stage(self, kind: str, stage: str, outcome: str, seconds: float) -> None:
        """Count an attempt that ended. Safe from any thread."""
        key = (kind, stage, outcome)
        child = self._by_stage.get(key)
        if child is None:
            child = self._by_stage[key] = self._stages.labels(*key)
        child.observe(max(0.0, seconds))

    async def scrape(self, services: Services) -> bytes:
        """Write all metrics in Prometheus' text format."""
        stats = await services.engine.stats()
        age = await services.engine.queue_age()
        waits = await services.engine.longest_waits()
        families = _Families([*_engine_families(services, stats, age), _oldest_waiting(waits)])
        return await asyncio.to_thread(lambda: generate_latest(families) + generate_latest(self._registry))


class _Families(Collector):
    """Figures read from the engine for one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def _oldest_waiting(waiting: Iterable[Waiting]) -> Metric:
    family = GaugeMetricFamily(
        "millrace_oldest_waiting_seconds",
        "How long the oldest item that could run at a stage has waited for a slot",
        labels=["kind", "stage", "resource"],
    )
    for each in waiting:
        family.add_metric([each.kind, each.stage, each.resource], each.seconds)
    return family


def _engine_families(services: Services, stats: list[KindStats], age: float) -> Iterable[Metric]:
    jobs = GaugeMetricFamily("millrace_jobs", "Jobs by kind and state", labels=["kind", "state"])
    items = GaugeMetricFamily("millrace_items", "Items by kind and state", labels=["kind", "state"])
    for kind in stats:
        for state, number in kind.jobs.items():
            jobs.add_metric([kind.kind, state.value], number)
        for state, number in kind.items.items():
            items.add_metric([kind.kind, state.value], number)
    status = services.engine.status()
    slots = GaugeMetricFamily("millrace_slots", "Slots by resource", labels=["resource", "state"])
    for resource, (used, number) in status.slots.items():
        slots.add_metric([resource, "used"], used)
        slots.add_metric([resource, "free"], number - used)
    workers = GaugeMetricFamily("millrace_workers", "Worker processes by what they do", labels=["state"])
    states = [worker.state for worker in status.workers]
    for state_name in sorted(set(states)):
        workers.add_metric([state_name], states.count(state_name))
    paused = GaugeMetricFamily(
        "millrace_stage_paused", "Stages that their circuit breaker has paused", labels=["kind", "stage"]
    )
    for stage in status.paused:
        paused.add_metric([stage.kind, stage.stage], 1)
    yield from (jobs, items, slots, workers, paused)
    yield GaugeMetricFamily("millrace_queue_age_seconds", "How long the oldest waiting job has waited", age)
    yield CounterMetricFamily(
        "millrace_workers_lost", "Workers that died while running something, since the start", status.lost
    )
