"""Counting what there is, and trying whether the database takes a write."""

from __future__ import annotations

import time

from sqlalchemy import Connection, bindparam, func, or_, select

from moorage.model.census import Alike, Census
from moorage.store.engine import Database, Isolation
from moorage.store.tables import clusters

_ALIKE = (clusters.c.status, clusters.c.coe, clusters.c.health_status)
_GROUPS = select(*_ALIKE, func.count(), func.sum(clusters.c.nodes)).group_by(*_ALIKE)
_DUE = select(func.count(), func.min(clusters.c.due_at)).where(
    clusters.c.due_at <= bindparam("now"),
    or_(clusters.c.lease_until.is_(None), clusters.c.lease_until <= bindparam("now")),
)


class Counting:
    """`store.census`: nothing in it belongs to a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self) -> Census:
        now = time.time()

        def work(connection: Connection) -> Census:
            groups = [Alike(*row) for row in connection.execute(_GROUPS)]
            due, oldest = connection.execute(_DUE, {"now": now}).one()
            waits = 0.0 if oldest is None else max(0.0, now - oldest)
            return Census(groups, due, waits)

        return await self._database.read(work)

    async def try_write(self) -> None:
        """Have the database take a write, and change nothing. Raises RetryLater.

        What is written goes all the way to its disk: PostgreSQL gives away the number of a
        transaction, SQLite writes a page of its journal that says what was there before.
        """

        def work(connection: Connection) -> None:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA user_version = 0")
            else:
                connection.exec_driver_sql("SELECT txid_current()")

        await self._database.write(work, isolation=Isolation.READ_COMMITTED)
