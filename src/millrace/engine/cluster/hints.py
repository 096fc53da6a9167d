"""Hints: Celery messages that say "there is work in this queue". They carry no work and decide nothing.

A hint that is lost, doubled or late changes nothing wrongly: what is to be done stands in the database, and
is claimed there. Messages are published with confirms, acknowledged as soon as they arrive, and have no
results. Knows RabbitMQ and Celery; knows no database and no call.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from celery import Celery
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Exchange, Queue

from millrace.engine.timer import Timer

log = logging.getLogger(__name__)

TASK = "millrace.hint"
_RETRY_SECONDS = 1.0
_DEAD_KEPT = 10_000

logging.getLogger("celery").setLevel(logging.WARNING)  # it would tell of every hint


class Broker:
    """The exchange, queues and message form that servers and workers agree on.

    Args:
        url: ``amqp://user:password@host/vhost``.
        prefix: put before the name of every exchange and queue, so that several clusters share a broker.
    """

    def __init__(self, url: str, prefix: str = "") -> None:
        self.prefix = prefix
        self._exchange = Exchange(f"{prefix}millrace", "direct", durable=True)
        self._dead_exchange = Exchange(f"{prefix}millrace.dead", "fanout", durable=True)
        self.dead = Queue(
            f"{prefix}millrace.dead",
            self._dead_exchange,
            queue_arguments={"x-queue-type": "quorum", "x-max-length": _DEAD_KEPT},
        )
        self.app = Celery("millrace", broker=url, set_as_current=False)
        self.app.conf.update(
            task_ignore_result=True,
            task_acks_late=False,
            task_default_exchange=self._exchange.name,
            task_default_queue=f"{prefix}millrace.dead",
            task_publish_retry=False,
            broker_connection_timeout=5,
            broker_connection_retry=True,
            broker_connection_retry_on_startup=True,
            broker_connection_max_retries=None,
            broker_heartbeat=5,
            broker_transport_options={"confirm_publish": True, "read_timeout": 10, "write_timeout": 10},
            worker_consumer=f"{__name__}:_HintConsumer",
            worker_enable_remote_control=False,
            worker_send_task_events=False,
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
            worker_prefetch_multiplier=4,
            worker_cancel_long_running_tasks_on_connection_loss=False,
        )

    def queue(self, name: str) -> Queue:
        """Return the quorum queue of a stage. What cannot be understood in it goes to the dead letters."""
        return Queue(
            f"{self.prefix}{name}",
            self._exchange,
            routing_key=f"{self.prefix}{name}",
            queue_arguments={
                "x-queue-type": "quorum",
                "x-dead-letter-exchange": self._dead_exchange.name,
                "x-delivery-limit": 10,
            },
        )

    def check(self) -> str:
        """Connect and return the broker's product and version; raise what went wrong otherwise."""
        with self.app.connection_for_write(connect_timeout=5) as connection:
            connection.connect()
            properties = getattr(connection.connection, "server_properties", {})
            return f"{properties.get('product', 'broker')} {properties.get('version', '')}".strip()


class HintSender:
    """Publishes hints on a thread of its own: a broker that is away never holds anybody up."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._due: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._declared: set[str] = set()
        self._connection: Any = None
        self._producer: Any = None
        self.failure: str | None = None
        self._timer = Timer("hints", self._step)

    def start(self) -> None:
        """Begin."""
        self._timer.start()

    def stop(self) -> None:
        """End; what was not sent yet is not: the workers' own looks find the work."""
        self._timer.stop()
        self._close()

    def send(self, queue: str, number: int = 1) -> None:
        """Say that there is work in a queue, for so many workers. Returns at once, from any thread."""
        with self._lock:
            self._due[queue] += number
        self._timer.wake()

    def _step(self) -> float | None:
        with self._lock:
            due, self._due = self._due, Counter()
        try:
            for queue, number in due.items():
                for _ in range(number):
                    self._publish(queue)
        except Exception as error:  # noqa: BLE001 - whatever the client raises: it is tried again, and told
            if self.failure is None:
                log.warning("the broker does not take messages: %s; workers look for work meanwhile", error)
            self.failure = f"{type(error).__name__}: {error}"
            self._close()
            with self._lock:
                for queue in due:
                    # One is enough: whoever wakes takes all it has room for.
                    self._due[queue] = max(1, self._due[queue])
            return _RETRY_SECONDS
        if due and self.failure is not None:
            log.info("the broker takes messages again")
            self.failure = None
        return None

    def _publish(self, name: str) -> None:
        if self._producer is None:
            connection = self._broker.app.connection_for_write(connect_timeout=5)
            connection.ensure_connection(max_retries=1, timeout=5)
            self._connection = connection
            self._producer = self._broker.app.amqp.Producer(connection, auto_declare=False)
        queue = self._broker.queue(name)
        if name not in self._declared:
            declare(self._broker, self._producer.channel, [queue])
            self._declared.add(name)
        self._broker.app.send_task(
            TASK,
            (name,),
            producer=self._producer,
            queue=queue,  # type: ignore[arg-type]  # the types know names only
            declare=[],
            retry=False,
            ignore_result=True,
        )

    def _close(self) -> None:
        self._declared.clear()
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except Exception as error:  # noqa: BLE001 - it is given up anyway
                log.debug("closing a connection to the broker: %s", error)


def declare(broker: Broker, channel: Any, queues: Iterable[Queue]) -> None:
    """Make the queues, and where their dead letters go."""
    broker.dead(channel).declare()
    for queue in queues:
        queue(channel).declare()


class _HintConsumer(Consumer):
    """Celery's consumer without its 28 queues for delayed delivery, which nothing here uses."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        default_steps = [  # noqa: RUF012 - as Celery declares it
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step)
        ]


class HintReceiver:
    """Receives hints on a thread of its own, from the queues that are not paused.

    A worker that is busy takes no hints, so that they wake those that are not. Celery keeps its state in
    globals: one receiver a process.
    """

    def __init__(self, broker: Broker, queues: Sequence[str], hint: Callable[[str], None]) -> None:
        self._broker = broker
        self._queues = {name: broker.queue(name) for name in queues}
        self._paused: set[str] = set()
        self._hint = hint
        self._controller: Any = None
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        """Begin; a broker that is away is tried again for ever."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        state.should_stop = 0  # type: ignore[assignment]  # an exit code, which Celery declares as None
        self._thread.join(5.0)

    @property
    def connected(self) -> bool:
        """Whether the broker is there just now."""
        consumer = getattr(self._controller, "consumer", None)
        connection = getattr(consumer, "connection", None)
        return bool(connection is not None and connection.connected)

    def pause(self, name: str) -> None:
        """Take no more hints from a queue for now."""
        self._switch(name, pause=True)

    def resume(self, name: str) -> None:
        """Take hints from a queue again."""
        self._switch(name, pause=False)

    def _switch(self, name: str, *, pause: bool) -> None:
        if (name in self._paused) == pause:
            return
        (self._paused.add if pause else self._paused.discard)(name)
        consumer = getattr(self._controller, "consumer", None)
        if consumer is not None:
            consumer.call_soon(self._apply, consumer, name)

    def _apply(self, consumer: Any, name: str) -> None:
        tasks = consumer.task_consumer
        if tasks is None:
            return
        queue = self._queues[name]
        if name in self._paused:
            tasks.cancel_by_queue(queue.name)
        elif not tasks.consuming_from(queue):
            tasks.add_queue(queue(tasks.channel))
            tasks.consume()

    def _run(self) -> None:
        app = self._broker.app

        @app.task(name=TASK, ignore_result=True)
        def hint(queue: str) -> None:
            self._hint(queue)

        app.conf.task_queues = list(self._queues.values())
        while state.should_stop is None or state.should_stop is False:
            try:
                with app.connection_for_write(connect_timeout=5) as connection:
                    declare(self._broker, connection.default_channel, self._queues.values())
                self._controller = app.WorkController(
                    app=app,
                    pool_cls="solo",
                    concurrency=1,
                    queues=[queue.name for queue in self._queues.values()],
                    loglevel="WARNING",
                    # Others require these steps, so that they cannot be left out above.
                    without_gossip=True,
                    without_mingle=True,
                    without_heartbeat=True,
                )
                self._controller.start()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next try may do better
                log.warning("no hints from the broker for now: %s", error)
                threading.Event().wait(_RETRY_SECONDS)
            except SystemExit:
                return
