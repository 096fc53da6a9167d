"""The worker nodes' side of a cluster's dispatches, on PostgreSQL; see ``engine.cluster.Board``.

Each node has three connections: one for exchanges, one for heartbeats (which must go on while an exchange
waits), one that listens.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import psycopg

from millrace.engine.cluster import NODES, REPORTS, WORKERS, Exchanged
from millrace.engine.sql.cluster import KEEPALIVE, NOW

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.UndefinedTable)
"""What is raised while the database is away, or no server has made its tables yet."""

_INSERT = """
INSERT INTO reports (lease, body)
SELECT r.lease, r.body
FROM unnest(%s::bigint[], %s::text[]) WITH ORDINALITY AS r(lease, body, place)
JOIN (
    SELECT lease FROM dispatches WHERE lease = ANY(%s) AND worker = %s AND state = 'claimed'
    ORDER BY lease FOR UPDATE
) AS held ON held.lease = r.lease
ORDER BY r.place
RETURNING lease
"""
_END = "UPDATE dispatches SET state = 'ended' WHERE lease = ANY(%s) AND worker = %s AND state = 'claimed'"
# Chosen once, before anything is updated: as a plain subquery the planner may run it again for each row, and
# more is claimed than there is room for.
_CLAIM = f"""
WITH chosen AS MATERIALIZED (
    SELECT lease FROM dispatches WHERE state = 'sent' AND resource = %s AND queue = ANY(%s)
    ORDER BY priority DESC, lease LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE dispatches SET state = 'claimed', worker = %s, until = {NOW} + %s, claimed_at = {NOW}
FROM chosen WHERE dispatches.lease = chosen.lease
RETURNING dispatches.priority, dispatches.lease, dispatches.payload, dispatches.slots
"""
_NUMBER = "UPDATE nodes SET exchanged = %s WHERE name = %s"
_MINE = "SELECT lease, payload, slots FROM dispatches WHERE worker = %s AND state = 'claimed' ORDER BY lease"
_JOIN = f"""
INSERT INTO nodes (name, slots, queues, workers, exchanged, started_at, seen_at)
VALUES (%s, %s, %s, %s, 0, {NOW}, {NOW})
ON CONFLICT (name) DO UPDATE SET slots = excluded.slots, queues = excluded.queues,
    workers = excluded.workers, seen_at = excluded.seen_at
"""
# Rows are locked in order of lease everywhere: two of these statements may meet.
_RENEW = f"""
UPDATE dispatches SET until = {NOW} + %s
WHERE lease IN (
    SELECT lease FROM dispatches WHERE worker = %s AND state = 'claimed' ORDER BY lease FOR UPDATE
)
RETURNING lease, cancel
"""
_FORGET = f"DELETE FROM nodes WHERE name = %s OR seen_at < {NOW} - 3600"
_HEARD = f"SELECT name, {NOW} - seen_at FROM nodes WHERE name = ANY(%s)"


def heard_of(url: str, nodes: Sequence[str]) -> dict[str, float]:
    """Return node → seconds since its last heartbeat, of those that have joined. Raises ConnectionError."""
    try:
        with psycopg.connect(url, autocommit=True, **{**KEEPALIVE, "connect_timeout": 3}) as link:
            return {name: float(age) for name, age in link.execute(_HEARD, (list(nodes),))}
    except AWAY as error:
        raise ConnectionError(str(error).strip()) from error


class PostgresBoard:
    """One node's connections; see ``engine.cluster.Board``.

    Args:
        url: a libpq connection string.
        node: the node's name, of this process alone.
        lease: seconds for which a claim holds unless it is renewed.
        slots: how many calls of each resource the node runs at once.
        queues: the queues it takes from.
    """

    def __init__(
        self, url: str, node: str, lease: float, slots: Mapping[str, int], queues: Sequence[str]
    ) -> None:
        self._url = url
        self._node = node
        self._lease = lease
        self._slots = orjson.dumps(dict(slots)).decode()
        self._queues = orjson.dumps(list(queues)).decode()
        self._links: dict[str, psycopg.Connection[Any]] = {}
        self._joined = False
        self._locks = {name: threading.Lock() for name in ("exchange", "renew", "listen")}

    def exchange(
        self,
        number: int,
        reports: Sequence[tuple[int, str]],
        ended: Sequence[int],
        wants: Mapping[str, int],
        queues: Sequence[str],
    ) -> Exchanged:
        """Write reports, in order; end calls; claim up to so many calls by resource. One transaction."""
        result = Exchanged()
        claims = []
        # One round trip for all: none of these statements needs what another returns.
        with self._link("exchange") as link, link.pipeline(), link.transaction():
            link.execute(_NUMBER, (number, self._node))
            if reports:
                leases = [lease for lease, _ in reports]
                written = link.execute(_INSERT, (leases, [text for _, text in reports], leases, self._node))
                if ended:
                    link.execute(_END, (list(ended), self._node))
                link.execute("SELECT pg_notify(%s, '')", (REPORTS,))
                claims = self._claims(link, wants, queues)
                result.held.update(row[0] for row in written.fetchall())
            else:
                claims = self._claims(link, wants, queues)
            for claim in claims:
                rows = sorted(claim.fetchall(), key=lambda row: (-row[0], row[1]))
                result.claimed += [(row[1], row[2], row[3]) for row in rows]
        return result

    def _claims(
        self, link: psycopg.Connection[Any], wants: Mapping[str, int], queues: Sequence[str]
    ) -> list[psycopg.Cursor[Any]]:
        return [
            link.execute(_CLAIM, (resource, list(queues), number, self._node, self._lease))
            for resource, number in wants.items()
        ]

    def resolve(self, number: int) -> tuple[bool, list[tuple[int, str, int]]]:
        """Return whether that exchange was committed, and all calls that are the node's now."""
        with self._link("exchange") as link, link.transaction():
            found = link.execute(
                "SELECT exchanged FROM nodes WHERE name = %s FOR UPDATE", (self._node,)
            ).fetchone()
            rows = link.execute(_MINE, (self._node,)).fetchall()
        return found is not None and found[0] >= number, [(row[0], row[1], row[2]) for row in rows]

    def renew(self, workers: str) -> dict[int, str | None]:
        """Renew the node and the leases of its calls; return lease → why it is to be killed, or None."""
        with self._link("renew") as link, link.transaction(), link.cursor() as cursor:
            # Whether a heartbeat survives a power cut is of no interest.
            cursor.execute("SET LOCAL synchronous_commit = off")
            cursor.execute(_JOIN, (self._node, self._slots, self._queues, workers))
            cursor.execute(_RENEW, (self._lease, self._node))
            held = {row[0]: row[1] for row in cursor.fetchall()}
            if not self._joined:
                cursor.execute("SELECT pg_notify(%s, '')", (NODES,))
        self._joined = True
        return held

    def leave(self) -> None:
        """Say that the node is gone."""
        with self._link("renew") as link, link.transaction(), link.cursor() as cursor:
            cursor.execute(_FORGET, (self._node,))
            cursor.execute("SELECT pg_notify(%s, '')", (NODES,))
        self._joined = False

    def wait(self, timeout: float) -> bool:
        """Wait for word that a call is to be killed; whether there was any."""
        with self._link("listen") as link:
            return any(
                notice.payload == self._node for notice in link.notifies(timeout=timeout, stop_after=1)
            )

    def close(self) -> None:
        """Close the connections."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _link(self, name: str) -> _Link:
        return _Link(self, name)

    def _open(self, name: str) -> psycopg.Connection[Any]:
        link = self._links.get(name)
        if link is None or link.closed:
            link = psycopg.connect(self._url, autocommit=True, **KEEPALIVE)
            if name == "listen":
                link.execute(f"LISTEN {WORKERS}")
            self._links[name] = link
        return link


class _Link:
    """A connection for the time of a block; what breaks it is told as ConnectionError, and it is dropped."""

    def __init__(self, board: PostgresBoard, name: str) -> None:
        self._board = board
        self._name = name

    def __enter__(self) -> psycopg.Connection[Any]:
        self._board._locks[self._name].acquire()
        try:
            return self._board._open(self._name)
        except AWAY as error:
            self._board._locks[self._name].release()
            raise ConnectionError(str(error).strip()) from error
        except BaseException:
            self._board._locks[self._name].release()
            raise

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._board._locks[self._name].release()
        if isinstance(error, AWAY):
            link = self._board._links.pop(self._name, None)
            if link is not None:
                link.close()
            raise ConnectionError(str(error).strip()) from error
