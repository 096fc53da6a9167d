"""What the engines under comparison run: nothing at all, told to a file so that its end can be seen.

Every engine's task appends one byte (or the time) to the file named by ``BENCH_MARKS``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

_marks: int | None = None


def mark(text: str = ".") -> None:
    """Append to the file of marks; one write, so that processes do not mix theirs."""
    global _marks
    if _marks is None:
        _marks = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND)
    os.write(_marks, text.encode())


def noop(ctx: Any) -> None:
    """Do nothing: a stage of Millrace, which keeps its own count."""


def clock(ctx: Any) -> None:
    """Tell when it began: a stage of Millrace."""
    mark(f"{time.time():.7f}\n")


def sleep(ctx: Any) -> None:
    """Tell that it began, and stay: a stage of Millrace."""
    Path(ctx.input["path"]).write_text(f"{os.getpid()} {time.time():.7f}")
    time.sleep(600)


def huey_app(path: str) -> Any:
    """Return huey on SQLite with fsync on, and its tasks."""
    from huey import SqliteHuey

    huey = SqliteHuey("bench", filename=path, fsync=True, results=False)

    @huey.task()
    def nothing() -> None:
        mark()

    @huey.task()
    def tell() -> None:
        mark(f"{time.time():.7f}\n")

    return huey, nothing, tell


def celery_app(queue: str) -> Any:
    """Return Celery on RabbitMQ, durable queue, publisher confirms, late acknowledgement; and its tasks."""
    from celery import Celery

    app = Celery("bench", broker="amqp://guest:guest@127.0.0.1:5672//", set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        task_ignore_result=True,
        task_acks_late=True,
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=8,
    )

    @app.task(name="nothing")
    def nothing() -> None:
        mark()

    @app.task(name="tell")
    def tell() -> None:
        mark(f"{time.time():.7f}\n")

    return app, nothing, tell


if "BENCH_HUEY" in os.environ:
    huey = huey_app(os.environ["BENCH_HUEY"])[0]
if "BENCH_CELERY" in os.environ:
    celery = celery_app(os.environ["BENCH_CELERY"])[0]
