"""Finding one row by what a client calls it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, bindparam

from moorage.model.errors import Conflict, NotFound
from moorage.store.scope import Visible

UUID_LENGTH = 36


def the_one(
    connection: Connection, table: Table, visible: Visible, ident: str, what: str
) -> Row[Any]:
    """The row of `visible` whose uuid, or else whose name, is `ident`.

    Raises NotFound; Conflict where the name fits several. `what`: "Cluster", for the text.
    """
    # No name holds what can't be stored.
    if not storable(ident):
        raise NotFound(f"{what} {ident!r} could not be found.")
    asked = {**visible.values, "ident": ident}
    if len(ident) == UUID_LENGTH:
        row = connection.execute(_where(table, visible.statement, "uuid", 1), asked).first()
        if row is not None:
            return row
    named = connection.execute(_where(table, visible.statement, "name", 2), asked).all()
    match len(named):
        case 0:
            raise NotFound(f"{what} {ident} could not be found.")
        case 1:
            return named[0]
        case _:
            raise Conflict(f"{what} {ident} is not unique: several have this name; use the uuid.")


def storable(text: str) -> bool:
    """No NUL (PostgreSQL has no place for it), no half of a surrogate pair (no UTF-8)."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


@lru_cache(maxsize=64)
def _where(table: Table, shown: Select[Any], column: str, most: int) -> Select[Any]:
    return shown.where(table.c[column] == bindparam("ident")).limit(most)
