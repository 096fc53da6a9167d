"""What every part of the SQL store is built on: running a statement, and reading rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


class Statements:
    """Writes on the raw driver of either database: plain SQL with ``?`` for its parameters."""

    def __init__(self, cursor: Any, dialect: str) -> None:
        self._cursor = cursor
        self._postgres = dialect == "postgresql"

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        if self._postgres:
            sql = sql.replace("?", "%s")
        self._cursor.execute(sql, parameters)
        return self._cursor

    def _many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        if not rows:
            return 0
        if self._postgres:
            sql = sql.replace("?", "%s")
        self._cursor.executemany(sql, rows)
        return int(self._cursor.rowcount)


class Selects:
    """Reads on connections of their own, which see only what was committed."""

    _read_engine: sa.Engine

    def _rows(self, statement: sa.Select[Any]) -> Sequence[Any]:
        with self._read_engine.connect() as connection:
            return connection.execute(statement).all()

    def _one(self, statement: sa.Select[Any]) -> Any:
        with self._read_engine.connect() as connection:
            return connection.execute(statement).first()
