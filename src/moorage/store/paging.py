"""Keyset paging: the rows after a marker, by where it stands and not by counting.

Rows are ordered by (sort key, id), so that each row is on one page, whatever the key's
values are: NULLs count as the lowest value, and equal ones are told apart by the id.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Table,
    and_,
    asc,
    desc,
    func,
    or_,
)

from moorage.model.errors import Invalid
from moorage.model.page import Page


def page_of(
    connection: Connection,
    table: Table,
    visible: Select[Any],
    page: Page,
    sort_keys: Collection[str],
) -> Sequence[Row[Any]]:
    """One page of `visible`, which selects from `table` what the caller may see.

    Raises Invalid: field `sort_key`, or `marker` where `visible` doesn't hold it.
    """
    if page.sort_key not in sort_keys:
        known = ", ".join(sorted(sort_keys))
        raise Invalid(
            f"Can't sort by {page.sort_key!r}: sort_key is one of {known}.", field="sort_key"
        )
    key, number = _never_null(table, page.sort_key), table.c.id
    descending = page.sort_dir == "desc"
    query = visible
    if page.marker is not None:
        marker = connection.execute(
            visible.with_only_columns(key, number).where(table.c.uuid == page.marker)
        ).first()
        if marker is None:
            raise Invalid(f"The marker {page.marker!r} was not found.", field="marker")
        value, row = marker
        further = (key < value, number < row) if descending else (key > value, number > row)
        query = query.where(or_(further[0], and_(key == value, further[1])))
    order = desc if descending else asc
    return connection.execute(query.order_by(order(key), order(number)).limit(page.size)).all()


def _never_null(table: Table, name: str) -> ColumnElement[Any]:
    column = table.c[name]
    if not column.nullable:
        return column
    return func.coalesce(column, "" if isinstance(column.type, String) else -1)
