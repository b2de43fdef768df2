"""Pages of rows that only ever grow in number, such as events: by their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table

from moorage.model.errors import Invalid
from moorage.model.page import Page

LARGEST = 2**31 - 1
"""The largest id that a row can have; PostgreSQL takes no other for a comparison."""


def numbered_page(
    connection: Connection, query: Select[Any], table: Table, page: Page
) -> Sequence[Row[Any]]:
    """A page of `query` over `table`, in the order of `id`; the marker is an id, as text.

    Raises Invalid: field `sort_key` for any but `id`, `marker` for one that can be no id.
    """
    if page.sort_key != "id":
        raise Invalid(f"Can't sort by {page.sort_key!r}: only by 'id'.", field="sort_key")
    descending = page.sort_dir == "desc"
    if page.marker is not None:
        if not (page.marker.isascii() and page.marker.isdigit() and len(page.marker) < 16):
            raise Invalid(f"The marker {page.marker!r} is not a number.", field="marker")
        number = int(page.marker)
        if number > LARGEST:
            raise Invalid(f"The marker {page.marker!r} was not found.", field="marker")
        query = query.where(table.c.id < number if descending else table.c.id > number)
    order = table.c.id.desc() if descending else table.c.id.asc()
    return connection.execute(query.order_by(order).limit(page.size)).all()
