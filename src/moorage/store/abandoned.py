"""What may remain of clusters that were deleted by force, noted until it is removed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select

from moorage.model.orphan import Abandoned, LeftNode
from moorage.store.engine import Database, Isolation
from moorage.store.tables import abandoned


class Abandonments:
    """`store.abandoned`. Written by `claims.abandon`, with the row's end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> list[Abandoned]:
        """The oldest first."""
        query = select(abandoned).order_by(abandoned.c.id)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [_abandoned(row) for row in rows]

    async def forget(self, uuid: str) -> bool:
        """Whether there was one."""
        statement = abandoned.delete().where(abandoned.c.uuid == uuid)
        return await self._database.write(
            lambda connection: connection.execute(statement).rowcount > 0,
            isolation=Isolation.READ_COMMITTED,
        )


def note(connection: Connection, left: Abandoned) -> None:
    """Write it down, in the transaction that ends the cluster's row."""
    values = {**asdict(left), "traces": list(left.traces)}
    values["nodes"] = [asdict(node) for node in left.nodes]
    connection.execute(abandoned.insert().values(values))


def _abandoned(row: Row[Any]) -> Abandoned:
    values = {name: value for name, value in row._mapping.items() if name != "id"}
    values["nodes"] = tuple(LeftNode(**node) for node in values["nodes"])
    values["traces"] = tuple(values["traces"])
    return Abandoned(**values)
