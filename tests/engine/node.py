"""A worker node for the engine's tests: what its process does."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

from millrace.blobs import open_store
from millrace.engine.cluster.hints import Broker, HintReceiver
from millrace.engine.cluster.node import Node
from millrace.engine.executors.local import LocalExecutor
from millrace.engine.sql.board import PostgresBoard


def main(config: dict[str, Any], log: Path, environment: dict[str, str]) -> None:
    """Be a node, until told to leave; ``environment`` is that of the test."""
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(level="WARNING", format="%(asctime)s %(threadName)s %(message)s")
    slots, queues, lease = config["slots"], config["queues"], config["lease"]
    blobs = open_store(config["artifacts"])
    executor = LocalExecutor(
        slots,
        settings=config["settings"],
        site=config["site"],
        artifacts=config["artifacts"],
        scratch=Path(config["scratch"]),
        idle=config["idle"],
    )
    name = f"node-{os.getpid()}"
    board = PostgresBoard(config["database"], name, lease, slots, list(queues))
    node = Node(name, board, executor, blobs, queues, lease)
    receiver = HintReceiver(Broker(config["broker"], config["prefix"]), list(queues), node.hint)
    node.listen_to(receiver)
    signal.signal(signal.SIGTERM, lambda *_: node.leave(config["grace"]))
    receiver.start()
    node.run()
    os._exit(0)
