"""Brings a database to the present schema, by Alembic's migrations."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

HEAD = "0005"
"""The newest revision; a test holds it against the scripts."""

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
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
