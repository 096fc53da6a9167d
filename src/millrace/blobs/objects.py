"""Writes one object as its bytes come: a small one by a single request, a larger one in parts.

No more than a few parts are in memory at any time, whatever the object's size. Blocking; knows no keys
but the one it writes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from millrace.errors import MillraceError, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)

PART = 8 * 1024 * 1024
# S3's own bounds (AWS, "Amazon S3 multipart upload limits"): parts of 5 MiB or more, and not more of them.
_MOST_PARTS = 10_000
_PARTS_ABREAST = 2


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Raise NotFound or Unavailable for what the store says of ``what``."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no blob {what!r}") from None
    except (BaseError, OSError) as error:
        reason = str(error).partition("\n")[0][:300]
        raise Unavailable(f"the blob store failed at {what!r}: {reason}") from error


def part_size(most: int) -> int:
    """Return the bytes a part must have so that an object of ``most`` bytes does not take too many."""
    return max(PART, -(-most // _MOST_PARTS))


def put_in_parts(store: ObjectStore, key: str, pieces: Iterator[bytes], most: int) -> None:
    """Write an object of up to ``most`` bytes; when ``pieces`` or the store fails, no part of it stays."""
    obstore.put(
        store,
        key,
        pieces,
        use_multipart=True,
        chunk_size=part_size(most),
        max_concurrency=_PARTS_ABREAST,
    )


class Budget:
    """Bytes that may be on their way at once; whoever would go beyond waits, unless nothing else is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = threading.Condition()

    def take(self, number: int) -> None:
        """Wait until there is room for so many more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + number <= self._limit)
            self._held += number

    def give(self, number: int) -> None:
        """Return what was taken."""
        with self._changed:
            self._held -= number
            self._changed.notify_all()


class _GivenUp(Exception):
    """Nobody wants the object any more."""


class _Pipe:
    """Hands pieces from the thread that has them to the one that sends them, up to ``room`` bytes ahead."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._ended = self._given_up = self._left = False
        self._changed = threading.Condition()

    def put(self, piece: bytes) -> None:
        """Hand over a piece, once there is room; what nobody takes any more is dropped."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._room or self._left)
            if not self._left:
                self._pieces.append(piece)
                self._held += len(piece)
                self._changed.notify_all()

    def end(self, *, give_up: bool = False) -> None:
        """Say that nothing more comes; ``give_up``: and that what came is not wanted."""
        with self._changed:
            self._ended, self._given_up = True, give_up
            self._changed.notify_all()

    def leave(self) -> None:
        """Say that nothing more is taken."""
        with self._changed:
            self._left = True
            self._pieces.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._ended)
                if self._given_up:
                    raise _GivenUp
                if not self._pieces:
                    return
                piece = self._pieces.popleft()
                self._held -= len(piece)
                self._changed.notify_all()
            yield piece


class ObjectWriter:
    """See ``Blobs.writer``. An object is there from when its last byte was sent, a commit only waits.

    Args:
        store: where it goes.
        key: its name.
        most: the bytes it may get.
        requests: threads for the requests of small objects.
        budget: of what those may have in memory together.
    """

    def __init__(self, store: ObjectStore, key: str, most: int, requests: Executor, budget: Budget) -> None:
        self._store = store
        self._key = key
        self._most = most
        self._requests = requests
        self._budget = budget
        self._head = bytearray()
        self._pipe: _Pipe | None = None
        self._sent: Future[None] | None = None
        self._closed = self._committed = False

    def write(self, data: bytes | memoryview) -> None:
        """See ``BlobWriter.write``."""
        if self._pipe is None:
            self._head += data
            if len(self._head) <= PART:
                return
            data, self._head = bytes(self._head), bytearray()
            self._begin_parts()
        assert self._pipe is not None
        self._pipe.put(bytes(data))
        if self._sent is not None and self._sent.done():
            self._sent.result()

    def close(self) -> None:
        """See ``BlobWriter.close``."""
        if self._closed:
            return
        self._closed = True
        if self._pipe is not None:
            self._pipe.end()
            return
        body, self._head = bytes(self._head), bytearray()
        self._budget.take(len(body))
        try:
            self._sent = self._requests.submit(self._put_small, body)
        except BaseException:
            self._budget.give(len(body))
            raise

    def commit(self) -> None:
        """Return once the object is there; Unavailable where it could not be written."""
        self.close()
        assert self._sent is not None
        self._sent.result()
        self._committed = True

    def abort(self) -> None:
        """See ``BlobWriter.abort``."""
        if self._committed:
            return
        self._closed, self._head = True, bytearray()
        if self._pipe is not None:
            self._pipe.end(give_up=True)
        if self._sent is None:
            return
        try:
            self._sent.result()
        except (MillraceError, _GivenUp):
            log.debug("the object %r was given up", self._key)
        try:
            # Also after an error: the answer may have been lost that said it was written.
            with store_errors(self._key):
                obstore.delete(self._store, self._key)
        except MillraceError as error:
            log.warning("the object %r could not be deleted; it is swept later: %s", self._key, error.message)

    def _put_small(self, body: bytes) -> None:
        try:
            with store_errors(self._key):
                obstore.put(self._store, self._key, body, use_multipart=False)
        finally:
            self._budget.give(len(body))

    def _begin_parts(self) -> None:
        self._pipe, self._sent = _Pipe(PART // 4), Future()
        # A thread of its own, for it lives as long as the sender takes: a pool would run out of them.
        work = (self._pipe, self._sent)
        threading.Thread(target=self._put_parts, args=work, name="blob-parts", daemon=True).start()

    def _put_parts(self, pipe: _Pipe, sent: Future[None]) -> None:
        try:
            with store_errors(self._key):
                put_in_parts(self._store, self._key, iter(pipe), self._most)
        except BaseException as error:  # noqa: BLE001 - told to whoever writes
            sent.set_exception(error)
        else:
            sent.set_result(None)
        finally:
            pipe.leave()
