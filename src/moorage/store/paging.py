"""Keyset paging: the rows after a marker, by where it stands and not by counting.

Rows are ordered by (sort key, id), so that each row is on one page, whatever the key's
values are: NULLs count as the lowest value, and equal ones are told apart by the id.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Table,
    asc,
    bindparam,
    desc,
    func,
    literal,
    tuple_,
)

from moorage.model.errors import Invalid
from moorage.model.page import Page
from moorage.store.ident import storable
from moorage.store.scope import Visible


def page_of(
    connection: Connection,
    table: Table,
    visible: Visible,
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
    asked = {**visible.values, "most": page.size}
    shown = visible.statement
    query = _page(table, shown, page.sort_key, page.sort_dir, page.marker is not None)
    if page.marker is None:
        return connection.execute(query, asked).all()
    if storable(page.marker):
        asked["marker"] = page.marker
        rows = connection.execute(query, asked).all()
        if rows or connection.execute(_marked(table, shown), asked).first() is not None:
            return rows
    raise Invalid(f"The marker {page.marker!r} was not found.", field="marker")


@lru_cache(maxsize=256)
def _page(
    table: Table, shown: Select[Any], sort_key: str, sort_dir: str, after_marker: bool
) -> Select[Any]:
    """At most `most` rows; where the marker is not among those shown, none."""
    place = [_never_null(table, sort_key), table.c.id]
    descending = sort_dir == "desc"
    query = shown
    if after_marker:
        marked = _marked(table, shown).with_only_columns(*place).correlate(None).scalar_subquery()
        row = tuple_(*place)
        query = query.where(row < marked if descending else row > marked)
    order = desc if descending else asc
    return query.order_by(*map(order, place)).limit(bindparam("most"))


@lru_cache(maxsize=64)
def _marked(table: Table, shown: Select[Any]) -> Select[Any]:
    return shown.where(table.c.uuid == bindparam("marker"))


def _never_null(table: Table, name: str) -> ColumnElement[Any]:
    column = table.c[name]
    if not column.nullable:
        return column
    lowest = literal("") if isinstance(column.type, String) else literal(-1)
    return func.coalesce(column, lowest, type_=column.type)
