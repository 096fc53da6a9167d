"""The list of jobs: what an address asks for, and the page of jobs it gets. Knows no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from millrace.engine.engine import Engine
from millrace.engine.model import Job
from millrace.engine.store import JobQuery
from millrace.server.words import Words

ROWS = 50


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of jobs. ``next`` is the query of the page behind it; empty at the end."""

    jobs: Sequence[Job]
    total: int
    kind: str
    status: str
    q: str
    cursor: str
    next: str

    @property
    def query(self) -> str:
        """The query of this page's filter, without its place."""
        return _query(kind=self.kind, status=self.status, q=self.q)

    @property
    def here(self) -> str:
        """The query of this very page."""
        return _query(kind=self.kind, status=self.status, q=self.q, cursor=self.cursor)


async def find(engine: Engine, words: Words, query: Mapping[str, str]) -> Listing:
    """Return the jobs that a query asks for: ``kind``, ``status``, ``q`` and ``cursor``."""
    kind, status = query.get("kind", ""), query.get("status", "")
    text, cursor = query.get("q", "")[:200], query.get("cursor", "")
    page = await engine.jobs(
        JobQuery(
            kind=engine.workload(kind).kind if kind else None,
            any_of=words.select(word for word in status.split(",") if word.strip()),
            text=text.strip() or None,
            limit=ROWS,
            cursor=cursor or None,
        )
    )
    behind = _query(kind=kind, status=status, q=text, cursor=page.next_cursor) if page.next_cursor else ""
    return Listing(page.jobs, page.total, kind, status, text, cursor, behind)


def _query(**given: str) -> str:
    return urlencode({name: value for name, value in given.items() if value})
