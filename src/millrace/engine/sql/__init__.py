"""The one implementation of the Store port: SQLAlchemy Core on SQLite or PostgreSQL."""

from millrace.engine.sql.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
