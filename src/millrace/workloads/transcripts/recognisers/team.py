"""One recording's segments spread over the cores that its stage was granted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from millrace.workloads.transcripts.recognisers import (
    RECOGNISERS,
    Recognised,
    Recogniser,
    RecogniserSpec,
    load,
)
from millrace.workloads.transcripts.recognisers.children import ChildRecogniser
from millrace.workloads.transcripts.vad import Speech


class Team:
    """Recognisers of one kind, kept between recordings; each is loaded when first needed.

    An engine that lets go of the interpreter lock is loaded once and asked by several threads; any
    other is asked here when one core is granted, else in as many child processes as there are cores.
    """

    def __init__(self, spec: RecogniserSpec) -> None:
        self._spec = spec
        self._own: Recogniser | None = None
        self._children: list[ChildRecogniser] = []

    def recognise(self, speech: Iterable[Speech], cores: int) -> Iterator[tuple[Speech, Recognised]]:
        """Yield what each segment says, in order, keeping ``cores`` segments in work at once."""
        members = self._members(max(1, cores))
        if len(members) == 1:
            for one in speech:
                yield one, members[0].recognise(one.samples)
            return
        free: SimpleQueue[Recogniser] = SimpleQueue()
        for member in members:
            free.put(member)

        def ask(one: Speech) -> Recognised:
            member = free.get()
            try:
                return member.recognise(one.samples)
            finally:
                free.put(member)

        waiting: deque[tuple[Speech, Future[Recognised]]] = deque()
        with ThreadPoolExecutor(len(members), thread_name_prefix="recogniser") as pool:
            try:
                for one in speech:
                    waiting.append((one, pool.submit(ask, one)))
                    while len(waiting) >= 2 * len(members) or (waiting and waiting[0][1].done()):
                        first, answer = waiting.popleft()
                        yield first, answer.result()
                while waiting:
                    first, answer = waiting.popleft()
                    yield first, answer.result()
            finally:
                for _, answer in waiting:
                    answer.cancel()

    def close(self) -> None:
        """End the children and give the model's memory back."""
        for child in self._children:
            child.close()
        self._children = []
        if self._own is not None:
            self._own.close()
            self._own = None

    def _members(self, cores: int) -> list[Recogniser]:
        if cores == 1 or RECOGNISERS[self._spec.name].threads:
            if self._own is None:
                self._own = load(self._spec)
            return [self._own] * min(cores, self._own.lanes)
        self._children = [child for child in self._children if child.alive]
        while len(self._children) < cores:
            self._children.append(ChildRecogniser(self._spec))
        return list(self._children[:cores])
