"""Finding one row by what a client calls it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, Table

from moorage.model.errors import Conflict, NotFound


def the_one(
    connection: Connection, table: Table, visible: Select[Any], ident: str, what: str
) -> Row[Any]:
    """The row of `visible` whose uuid, or else whose name, is `ident`.

    Raises NotFound; Conflict where the name fits several. `what`: "Cluster", for the text.
    """
    row = connection.execute(visible.where(table.c.uuid == ident)).first()
    if row is not None:
        return row
    named = connection.execute(visible.where(table.c.name == ident).limit(2)).all()
    match len(named):
        case 0:
            raise NotFound(f"{what} {ident} could not be found.")
        case 1:
            return named[0]
        case _:
            raise Conflict(f"{what} {ident} is not unique: several have this name; use the uuid.")
