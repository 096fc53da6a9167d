"""The Python client: ``Millrace`` blocks, ``AsyncMillrace`` awaits; both are typed, and one core.

    from millrace.client import Millrace

    with Millrace("http://127.0.0.1:8000") as millrace:
        job = millrace.transcripts(["talk.mp3", "https://example.com/lecture.m4a"])
        for event in job.watch():
            print(event.type, event.item, event.data)
        job.artifacts.save("subtitles", names="*.srt")

It speaks the jobs API (``/jobs``), and needs nothing of the server's own packages.
"""

from millrace.client.errors import (
    ApiError,
    BadRequest,
    Busy,
    ClientError,
    Conflict,
    DamagedDownload,
    Forbidden,
    JobFailed,
    LocalError,
    NotFound,
    ServerError,
    TooLarge,
    Unauthorized,
    Unreachable,
    WaitTimeout,
)
from millrace.client.faces import AsyncJob, AsyncMillrace, Job, Millrace
from millrace.client.retrying import Retrying
from millrace.client.rows import (
    Artifact,
    Counts,
    Delivery,
    Event,
    Item,
    JobInfo,
    Page,
    Preset,
    Schedule,
    Stats,
    Workload,
)
from millrace.client.submission import Bytes, JobFields, Pair, ServerPath, Source, Url

__all__ = [
    "ApiError",
    "Artifact",
    "AsyncJob",
    "AsyncMillrace",
    "BadRequest",
    "Busy",
    "Bytes",
    "ClientError",
    "Conflict",
    "Counts",
    "DamagedDownload",
    "Delivery",
    "Event",
    "Forbidden",
    "Item",
    "Job",
    "JobFailed",
    "JobFields",
    "JobInfo",
    "LocalError",
    "Millrace",
    "NotFound",
    "Page",
    "Pair",
    "Preset",
    "Retrying",
    "Schedule",
    "ServerError",
    "ServerPath",
    "Source",
    "Stats",
    "TooLarge",
    "Unauthorized",
    "Unreachable",
    "Url",
    "WaitTimeout",
    "Workload",
]
