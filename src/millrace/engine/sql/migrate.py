"""Brings a database to the present schema, by Alembic's migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

HEAD = "0006"
"""The newest revision; a test holds it against the scripts."""

_UPGRADE_LOCK = 0x6D696C6D
_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(engine: sa.Engine) -> None:
    """Create or upgrade the tables. Cheap when there is nothing to do: Alembic is then not even imported."""
    with engine.connect() as connection:
        if sa.inspect(connection).has_table("alembic_version"):
            version = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            if version == HEAD:
                return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    with _alone(engine), strict.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    """Keep other servers that start at the same moment waiting; they find nothing left to do then."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:lock)"), {"lock": _UPGRADE_LOCK})
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:lock)"), {"lock": _UPGRADE_LOCK})
