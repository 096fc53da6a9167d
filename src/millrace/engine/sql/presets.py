"""What the SQL store keeps of presets; see ``engine.presets``."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import select

from millrace.engine.presets import Preset
from millrace.engine.sql import schema
from millrace.engine.sql.statements import Selects, Statements


def _preset(row: Any) -> Preset:
    return Preset(row.kind, row.name, orjson.loads(row.options), row.created_at, row.updated_at)


class PresetStatements(Statements):
    """The writes; a part of ``SqlTransaction``."""

    def put_preset(self, kind: str, name: str, options: str, now: float) -> bool:
        """Save options (JSON text) under a name; whether the name was not there before."""
        changed = self._run(
            "UPDATE presets SET options = ?, updated_at = ? WHERE kind = ? AND name = ?",
            (options, now, kind, name),
        ).rowcount
        if changed:
            return False
        self._run(
            "INSERT INTO presets (kind, name, options, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
            (kind, name, options, now, now),
        )
        return True

    def count_presets(self, kind: str, but: str) -> int:
        """Return how many a kind has, not counting the one of that name."""
        row = self._run("SELECT count(*) FROM presets WHERE kind = ? AND name <> ?", (kind, but)).fetchone()
        return int(row[0])

    def delete_preset(self, kind: str, name: str) -> bool:
        """Delete a preset; False if there is none."""
        return bool(self._run("DELETE FROM presets WHERE kind = ? AND name = ?", (kind, name)).rowcount)


class PresetSelects(Selects):
    """The reads; a part of ``SqlStore``."""

    def presets(self, kind: str | None) -> list[Preset]:
        """Read all presets, or those of a kind, by kind and name."""
        table = schema.presets
        statement = select(table).order_by(table.c.kind, table.c.name)
        if kind is not None:
            statement = statement.where(table.c.kind == kind)
        return [_preset(row) for row in self._rows(statement)]

    def preset(self, kind: str, name: str) -> Preset | None:
        """Read one preset."""
        table = schema.presets
        row = self._one(select(table).where(table.c.kind == kind, table.c.name == name))
        return None if row is None else _preset(row)
