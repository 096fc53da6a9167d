"""The two faces of the one core: ``Millrace`` blocks, ``AsyncMillrace`` is for asyncio.

Each method is a flow from ``core.py`` or ``resources.py``, where it is documented; here stands only how it
is carried out.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from millrace.client.core import ArtifactFlows, ClientFlows, JobFlows
from millrace.client.drivers import Asynchronous, Blocking, Site
from millrace.client.flow import Feed, Flow
from millrace.client.resources import DeliveryFlows, PresetFlows, ScheduleFlows
from millrace.client.retrying import Retrying
from millrace.client.rows import JobInfo

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

DEFAULT_URL = "http://127.0.0.1:8000"


def _site(url: str | None, token: str | None, timeout: float) -> Site:
    chosen = url or os.environ.get("MILLRACE_URL") or DEFAULT_URL
    return Site.of(chosen, token or os.environ.get("MILLRACE_TOKEN"), timeout)


class Face(Generic[S]):
    """What blocks: flows, and the driver that carries them out."""

    def __init__(self, driver: Blocking, flows: S) -> None:
        self.driver = driver
        self.flows = flows


class AsyncFace(Generic[S]):
    """What awaits: flows, and the driver that carries them out."""

    def __init__(self, driver: Asynchronous, flows: S) -> None:
        self.driver = driver
        self.flows = flows


def blocking(flow: Callable[Concatenate[S, P], Flow[T]]) -> Callable[Concatenate[Face[S], P], T]:
    """Return the method that carries out a flow, blocking; its signature and documentation stay."""

    @wraps(flow)
    def method(self: Face[S], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.driver.run(flow(self.flows, *args, **kwargs))

    return cast("Callable[Concatenate[Face[S], P], T]", method)


def iterating(feed: Callable[Concatenate[S, P], Feed[T]]) -> Callable[Concatenate[Face[S], P], Iterator[T]]:
    """Return the method that iterates over a feed, blocking."""

    @wraps(feed)
    def method(self: Face[S], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self.driver.iterate(feed(self.flows, *args, **kwargs))

    return cast("Callable[Concatenate[Face[S], P], Iterator[T]]", method)


def awaited(
    flow: Callable[Concatenate[S, P], Flow[T]],
) -> Callable[Concatenate[AsyncFace[S], P], Coroutine[Any, Any, T]]:
    """Return the coroutine method that carries out a flow."""

    @wraps(flow)
    async def method(self: AsyncFace[S], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.driver.run(flow(self.flows, *args, **kwargs))

    return cast("Callable[Concatenate[AsyncFace[S], P], Coroutine[Any, Any, T]]", method)


def async_iterating(
    feed: Callable[Concatenate[S, P], Feed[T]],
) -> Callable[Concatenate[AsyncFace[S], P], AsyncGenerator[T, None]]:
    """Return the method that iterates over a feed with ``async for``."""

    @wraps(feed)
    def method(self: AsyncFace[S], *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self.driver.iterate(feed(self.flows, *args, **kwargs))

    return cast("Callable[Concatenate[AsyncFace[S], P], AsyncGenerator[T, None]]", method)


class Artifacts(Face[ArtifactFlows]):
    """What a job has published so far; iterate over it, or ``save`` it."""

    list = blocking(ArtifactFlows.list)
    read = blocking(ArtifactFlows.read)
    chunks = iterating(ArtifactFlows.chunks)
    download = blocking(ArtifactFlows.download)
    save = blocking(ArtifactFlows.save)
    __iter__ = iterating(ArtifactFlows.each)


class AsyncArtifacts(AsyncFace[ArtifactFlows]):
    """What a job has published so far; iterate over it, or ``save`` it."""

    list = awaited(ArtifactFlows.list)
    read = awaited(ArtifactFlows.read)
    chunks = async_iterating(ArtifactFlows.chunks)
    download = awaited(ArtifactFlows.download)
    save = awaited(ArtifactFlows.save)
    __aiter__ = async_iterating(ArtifactFlows.each)


class JobBasics:
    """What is known of a job without asking."""

    flows: JobFlows

    @property
    def info(self) -> JobInfo:
        """What the server said of it last."""
        return self.flows.info

    @property
    def id(self) -> str:
        """Its id."""
        return self.info.id

    @property
    def kind(self) -> str:
        """Its workload."""
        return self.info.kind

    @property
    def state(self) -> str:
        """Its canonical state, as of the last answer."""
        return self.info.state

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.id} {self.state}>"


class Job(Face[JobFlows], JobBasics):
    """One job. ``info`` is what the server said of it last; ``refresh`` asks anew."""

    refresh = blocking(JobFlows.refresh)
    wait = blocking(JobFlows.wait)
    watch = iterating(JobFlows.watch)
    items = iterating(JobFlows.items)
    item = blocking(JobFlows.item)
    cancel = blocking(JobFlows.cancel)
    delete = blocking(JobFlows.delete)
    retry = blocking(JobFlows.retry)
    change = blocking(JobFlows.change)

    @property
    def artifacts(self) -> Artifacts:
        """What it has published so far."""
        return Artifacts(self.driver, ArtifactFlows(self.flows.how, self.id))


class AsyncJob(AsyncFace[JobFlows], JobBasics):
    """One job. ``info`` is what the server said of it last; ``refresh`` asks anew."""

    refresh = awaited(JobFlows.refresh)
    wait = awaited(JobFlows.wait)
    watch = async_iterating(JobFlows.watch)
    items = async_iterating(JobFlows.items)
    item = awaited(JobFlows.item)
    cancel = awaited(JobFlows.cancel)
    delete = awaited(JobFlows.delete)
    retry = awaited(JobFlows.retry)
    change = awaited(JobFlows.change)

    @property
    def artifacts(self) -> AsyncArtifacts:
        """What it has published so far."""
        return AsyncArtifacts(self.driver, ArtifactFlows(self.flows.how, self.id))


class Schedules(Face[ScheduleFlows]):
    """Jobs by the clock."""

    list = blocking(ScheduleFlows.list)
    get = blocking(ScheduleFlows.get)
    add = blocking(ScheduleFlows.add)
    ticks = blocking(ScheduleFlows.ticks)
    enable = blocking(ScheduleFlows.enable)
    delete = blocking(ScheduleFlows.delete)


class AsyncSchedules(AsyncFace[ScheduleFlows]):
    """Jobs by the clock."""

    list = awaited(ScheduleFlows.list)
    get = awaited(ScheduleFlows.get)
    add = awaited(ScheduleFlows.add)
    ticks = awaited(ScheduleFlows.ticks)
    enable = awaited(ScheduleFlows.enable)
    delete = awaited(ScheduleFlows.delete)


class Deliveries(Face[DeliveryFlows]):
    """Webhooks that were sent, are being tried, or were given up."""

    list = iterating(DeliveryFlows.list)
    get = blocking(DeliveryFlows.get)
    resend = blocking(DeliveryFlows.resend)


class AsyncDeliveries(AsyncFace[DeliveryFlows]):
    """Webhooks that were sent, are being tried, or were given up."""

    list = async_iterating(DeliveryFlows.list)
    get = awaited(DeliveryFlows.get)
    resend = awaited(DeliveryFlows.resend)


class Presets(Face[PresetFlows]):
    """Options of a kind, saved under a name."""

    list = blocking(PresetFlows.list)
    get = blocking(PresetFlows.get)
    save = blocking(PresetFlows.save)
    delete = blocking(PresetFlows.delete)


class AsyncPresets(AsyncFace[PresetFlows]):
    """Options of a kind, saved under a name."""

    list = awaited(PresetFlows.list)
    get = awaited(PresetFlows.get)
    save = awaited(PresetFlows.save)
    delete = awaited(PresetFlows.delete)


class Millrace(Face[ClientFlows[Job]]):
    """A client of a Millrace server, for use with ``with``; safe to share between threads.

    Args:
        url: of the server; by default ``MILLRACE_URL``, or http://127.0.0.1:8000.
        token: its bearer token; by default ``MILLRACE_TOKEN``.
        timeout: seconds to wait for a connection, or for a sign of life of an answer.
        retrying: when and how often requests are sent again.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        retrying: Retrying | None = None,
    ) -> None:
        how, driver = retrying or Retrying(), Blocking(_site(url, token, timeout))
        super().__init__(driver, ClientFlows(how, lambda info: Job(driver, JobFlows(how, info))))
        self.schedules = Schedules(driver, ScheduleFlows(how))
        self.deliveries = Deliveries(driver, DeliveryFlows(how))
        self.presets = Presets(driver, PresetFlows(how))

    submit = blocking(ClientFlows[Job].submit)
    transcripts = blocking(ClientFlows[Job].transcripts)
    tracks = blocking(ClientFlows[Job].tracks)
    sync = blocking(ClientFlows[Job].sync)
    images = blocking(ClientFlows[Job].images)
    documents = blocking(ClientFlows[Job].documents)
    job = blocking(ClientFlows[Job].job)
    jobs = iterating(ClientFlows[Job].jobs)
    page = blocking(ClientFlows[Job].page)
    stats = blocking(ClientFlows[Job].stats)
    workloads = blocking(ClientFlows[Job].workloads)
    pause = blocking(ClientFlows[Job].pause)
    drain = blocking(ClientFlows[Job].drain)
    resume = blocking(ClientFlows[Job].resume)
    health = blocking(ClientFlows[Job].health)

    @property
    def url(self) -> str:
        """The server's address."""
        return self.driver.site.url

    def close(self) -> None:
        """Close the connections."""
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncMillrace(AsyncFace[ClientFlows[AsyncJob]]):
    """A client of a Millrace server for asyncio, for use with ``async with``. Arguments: as ``Millrace``."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        retrying: Retrying | None = None,
    ) -> None:
        how, driver = retrying or Retrying(), Asynchronous(_site(url, token, timeout))
        super().__init__(driver, ClientFlows(how, lambda info: AsyncJob(driver, JobFlows(how, info))))
        self.schedules = AsyncSchedules(driver, ScheduleFlows(how))
        self.deliveries = AsyncDeliveries(driver, DeliveryFlows(how))
        self.presets = AsyncPresets(driver, PresetFlows(how))

    submit = awaited(ClientFlows[AsyncJob].submit)
    transcripts = awaited(ClientFlows[AsyncJob].transcripts)
    tracks = awaited(ClientFlows[AsyncJob].tracks)
    sync = awaited(ClientFlows[AsyncJob].sync)
    images = awaited(ClientFlows[AsyncJob].images)
    documents = awaited(ClientFlows[AsyncJob].documents)
    job = awaited(ClientFlows[AsyncJob].job)
    jobs = async_iterating(ClientFlows[AsyncJob].jobs)
    page = awaited(ClientFlows[AsyncJob].page)
    stats = awaited(ClientFlows[AsyncJob].stats)
    workloads = awaited(ClientFlows[AsyncJob].workloads)
    pause = awaited(ClientFlows[AsyncJob].pause)
    drain = awaited(ClientFlows[AsyncJob].drain)
    resume = awaited(ClientFlows[AsyncJob].resume)
    health = awaited(ClientFlows[AsyncJob].health)

    @property
    def url(self) -> str:
        """The server's address."""
        return self.driver.site.url

    async def close(self) -> None:
        """Close the connections."""
        await self.driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
