"""What the servers on one PostgreSQL database tell each other; see ``engine.cluster.peers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from millrace.engine.cluster import ANSWERS, COMMANDS, EVENTS, LIVE
from millrace.engine.sql.board import AWAY
from millrace.engine.sql.cluster import KEEPALIVE, NOW

T = TypeVar("T")

_ALIVE = f"""
INSERT INTO servers (name, leads, status, started_at, seen_at) VALUES (%s, %s, %s, {NOW}, {NOW})
ON CONFLICT (name) DO UPDATE SET leads = excluded.leads, status = excluded.status, seen_at = {NOW}
"""
_OTHERS = f"SELECT name, leads, status FROM servers WHERE name <> %s AND seen_at > {NOW} - %s"
_ASK = f"INSERT INTO commands (id, name, body, created_at) VALUES (%s, %s, %s, {NOW}) ON CONFLICT DO NOTHING"
_ANSWER = "DELETE FROM commands WHERE id = %s AND done_at IS NOT NULL RETURNING answer, error"


class PostgresPeers:
    """One server's connections to its peers. Every method may raise ``ConnectionError``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._links: dict[str, psycopg.Connection[Any]] = {}

    def alive(self, name: str, leading: bool, status: str, patience: float) -> list[tuple[str, bool, str]]:
        """Say that this server lives; return (name, leading, status) of the others that do."""

        def work(link: psycopg.Connection[Any]) -> list[tuple[str, bool, str]]:
            with link.transaction():
                link.execute("SET LOCAL synchronous_commit = off")
                link.execute(_ALIVE, (name, int(leading), status))
                rows = link.execute(_OTHERS, (name, patience)).fetchall()
            return [(row[0], bool(row[1]), row[2]) for row in rows]

        return self._do("alive", work)

    def gone(self, name: str) -> None:
        """Say that this server has ended, and forget others that are long gone."""
        statement = f"DELETE FROM servers WHERE name = %s OR seen_at < {NOW} - 3600"
        self._do("alive", lambda link: link.execute(statement, (name,)))

    def ask(self, id: str, name: str, body: str) -> None:
        """Write a command down for the server in charge. Doing so again changes nothing."""

        def work(link: psycopg.Connection[Any]) -> None:
            with link.transaction():
                link.execute(_ASK, (id, name, body))
                link.execute("SELECT pg_notify(%s, '')", (COMMANDS,))

        self._do("ask", work)

    def answer(self, id: str) -> tuple[str | None, str | None] | None:
        """Take what became of a command, (answer, error); None while it waits."""
        return self._do("ask", lambda link: link.execute(_ANSWER, (id,)).fetchone())

    def withdraw(self, id: str) -> bool:
        """Take a command back that nobody has executed; False when somebody has."""
        statement = "DELETE FROM commands WHERE id = %s AND done_at IS NULL"
        return self._do("ask", lambda link: link.execute(statement, (id,)).rowcount == 1)

    def news(self, timeout: float) -> list[tuple[str, str]]:
        """Wait for notifications; return (channel, payload)."""

        def work(link: psycopg.Connection[Any]) -> list[tuple[str, str]]:
            return [
                (notice.channel, notice.payload) for notice in link.notifies(timeout=timeout, stop_after=1)
            ]

        return self._do("news", work)

    def close(self) -> None:
        """Close the connections."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _do(self, name: str, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        try:
            link = self._links.get(name)
            if link is None or link.closed:
                link = psycopg.connect(self._url, autocommit=True, **KEEPALIVE)
                if name == "news":
                    for channel in (ANSWERS, EVENTS, LIVE):
                        link.execute(f"LISTEN {channel}")
                self._links[name] = link
            return work(link)
        except AWAY as error:
            broken = self._links.pop(name, None)
            if broken is not None:
                broken.close()
            raise ConnectionError(str(error).strip()) from error
