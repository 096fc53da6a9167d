"""What the cluster's benchmark runs, here and on bare Celery; and a worker node for it, as a process.

``python -m benchmarks.cluster_tasks CONFIG`` runs a node.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson

SECONDS = 0.01
BROKER = "amqp://guest:guest@127.0.0.1:5672//"
QUEUES = {f"cpu.{kind}.only": "cpu" for kind in ("ten", "moment")}


def ten(ctx: Any) -> None:
    """Take ten milliseconds."""
    time.sleep(SECONDS)


def moment(ctx: Any) -> dict[str, float]:
    """Tell when it began."""
    return {"at": time.time()}


def celery_app(queue: str) -> Any:
    """Return bare Celery as it is set up for speed: a quorum queue, confirms, early acknowledgement."""
    from celery import Celery
    from kombu import Queue

    app = Celery("peer", broker=BROKER, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(queue, queue_arguments={"x-queue-type": "quorum"})],
        task_default_queue=queue,
        task_ignore_result=True,
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=8,
        # Without the 28 queues for delayed tasks that Celery would leave behind on the broker.
        worker_consumer="millrace.engine.cluster.hints:_HintConsumer",
    )
    marks = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @app.task(name="ten", shared=False)
    def task() -> None:
        time.sleep(SECONDS)
        os.write(marks, f"{time.time():.6f}\n".encode())

    return app


def node(config: dict[str, Any]) -> None:
    """Run a worker node until killed."""
    from millrace.blobs import open_store
    from millrace.engine.cluster.hints import Broker, HintReceiver
    from millrace.engine.cluster.node import Node
    from millrace.engine.executors.local import LocalExecutor
    from millrace.engine.sql.board import PostgresBoard

    slots, name = config["slots"], f"node-{os.getpid()}"
    executor = LocalExecutor(
        slots, settings={}, site={}, artifacts=config["artifacts"], scratch=Path(config["scratch"])
    )
    board = PostgresBoard(config["database"], name, 10.0, slots, list(QUEUES))
    worker = Node(name, board, executor, open_store(config["artifacts"]), QUEUES)
    receiver = HintReceiver(Broker(BROKER, config["prefix"]), list(QUEUES), worker.hint)
    worker.listen_to(receiver)
    receiver.start()
    worker.run()


if "BENCH_PEER" in os.environ:
    celery = celery_app(os.environ["BENCH_PEER"])

if __name__ == "__main__":
    node(orjson.loads(Path(sys.argv[1]).read_bytes()))
