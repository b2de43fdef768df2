"""Which database an URL means."""

from __future__ import annotations

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from moorage.model.errors import Refused
from moorage.store.engine import Database
from moorage.store.postgres import PostgresDatabase
from moorage.store.sqlite import SqliteDatabase

_FORMS = "sqlite:////var/lib/moorage/moorage.db or postgresql://user:password@host/database"


async def open_database(url: str, *, migrating: bool = True) -> Database:
    """Connect, and bring the tables to the newest version (not `migrating`: look only).

    Raises Refused where the URL is none, where the server knows no such user, password or
    database, or where the tables are of a newer Moorage; RetryLater where the server can't
    be reached, or another process holds the file locked.
    """
    try:
        backend = make_url(url).get_backend_name()
    except (ArgumentError, ValueError):
        # What can't be parsed may hold a password: it is not shown.
        raise Refused(f"The database URL can't be read: write {_FORMS}.") from None
    match backend:
        case "sqlite":
            return await SqliteDatabase.open(url, migrating=migrating)
        case "postgresql":
            return await PostgresDatabase.open(url, migrating=migrating)
        case _:
            raise Refused(f"A database of kind {backend!r} is not known: write {_FORMS}.")
