"""Cluster templates, kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Text, and_, bindparam, cast, exists, or_, select

from moorage.model.errors import Conflict, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.quota import UNLIMITED
from moorage.model.template import ClusterTemplate
from moorage.store.engine import Database
from moorage.store.ident import the_one
from moorage.store.paging import page_of
from moorage.store.scope import Scope, Visible
from moorage.store.tables import Instant, clusters, templates

SORT_KEYS = frozenset(
    {"id", "uuid", "name", "coe", "flavor_id", "master_flavor_id", "created_at", "updated_at"}
)
KEPT = frozenset({"id", "uuid", "project_id", "user_id", "created_at", "updated_at"})
"""Fields that an edit can't change."""

# The statements stand here, built once: building one costs more than running it.
_ALL = select(*(templates.c[field.name] for field in dataclasses.fields(ClusterTemplate)))
"""The columns in the order of the fields: a row is a template's arguments."""
_LISTED = _ALL.where(
    or_(
        templates.c.project_id == bindparam("project"),
        and_(templates.c.public.is_(True), templates.c.hidden.is_(False)),
    )
)
_REACHED = _ALL.where(
    or_(templates.c.project_id == bindparam("project"), templates.c.public.is_(True))
)
"""Who knows the name of a hidden one can use it: clusters made from it go on being changed."""
_LABELS = select(templates.c.uuid, templates.c.labels).where(
    templates.c.uuid.in_(bindparam("several", expanding=True))
)
_LOCKED = _ALL.where(templates.c.uuid == bindparam("wanted")).with_for_update()
_ADD = templates.insert().returning(templates.c.id)
_CHANGE = templates.update().where(templates.c.uuid == bindparam("wanted"))
_NTH = (
    select(templates.c.id)
    .where(templates.c.project_id == bindparam("project"))
    .limit(1)
    .offset(bindparam("before"))
)
_REMOVE = templates.delete().where(templates.c.uuid == bindparam("wanted"))
_IN_USE = select(
    exists().where(
        or_(
            clusters.c.template_uuid == bindparam("wanted"),
            *(
                cast(column, Text).contains(bindparam("wanted"))
                for column in (clusters.c.groups, clusters.c.fallback)
            ),
        )
    )
)
"""By a cluster, a group of its own template, or nodes that one may have to go back to."""


class Templates:
    """`store.templates`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, template: ClusterTemplate, most: int = UNLIMITED) -> ClusterTemplate:
        """Store it; the answer has its `id` and `created_at`. Names need not be unique.

        Raises QuotaExceeded where its project has `most` already.
        """
        stored = dataclasses.replace(template, created_at=Instant.now())

        def work(connection: Connection) -> ClusterTemplate:
            if most != UNLIMITED:
                _refuse_many(connection, stored.project_id, most)
            return dataclasses.replace(
                stored, id=connection.execute(_ADD, _values(stored)).scalar_one()
            )

        return await self._database.write(work)

    async def get(self, ident: str, scope: Scope) -> ClusterTemplate:
        """By uuid or name, hidden ones too. Raises NotFound; Conflict for several of a name."""

        def work(connection: Connection) -> ClusterTemplate:
            return _template(
                the_one(connection, templates, _of(scope, _REACHED), ident, "Cluster template")
            )

        return await self._database.read(work)

    async def list(self, scope: Scope, page: Page) -> list[ClusterTemplate]:
        """Raises Invalid (field `marker` or `sort_key`)."""

        def work(connection: Connection) -> list[ClusterTemplate]:
            rows = page_of(connection, templates, _of(scope, _LISTED), page, SORT_KEYS)
            return [_template(row) for row in rows]

        return await self._database.read(work)

    async def labels(self, uuids: Collection[str]) -> dict[str, Mapping[str, str]]:
        """The labels of those templates that are there, by uuid."""

        def work(connection: Connection) -> dict[str, Mapping[str, str]]:
            found = connection.execute(_LABELS, {"several": list(uuids)})
            return {row.uuid: row.labels for row in found}

        return await self._database.read(work)

    async def change(
        self, uuid: str, edit: Callable[[ClusterTemplate, bool], ClusterTemplate]
    ) -> ClusterTemplate:
        """Replace it by `edit(template, in_use)`, read and written in one transaction.

        `in_use`: a cluster was made from it. `edit` must be pure and may raise.
        uuid, owner and times are not its to change. Raises NotFound.
        """

        def work(connection: Connection) -> ClusterTemplate:
            row = connection.execute(_LOCKED, {"wanted": uuid}).first()
            if row is None:
                raise NotFound(f"Cluster template {uuid} could not be found.")
            before = _template(row)
            kept = {name: getattr(before, name) for name in KEPT}
            after = dataclasses.replace(edit(before, _in_use(connection, uuid)), **kept)
            if after == before:
                return before
            after = dataclasses.replace(after, updated_at=Instant.now())
            connection.execute(_CHANGE, {"wanted": uuid, **_values(after)})
            return after

        return await self._database.write(work)

    async def remove(self, uuid: str) -> None:
        """Raises NotFound; Conflict while a cluster uses it."""

        def work(connection: Connection) -> None:
            if _in_use(connection, uuid):
                raise Conflict(
                    f"Cluster template {uuid} is in use: delete the clusters made from it first."
                )
            gone = connection.execute(_REMOVE, {"wanted": uuid})
            if gone.rowcount == 0:
                raise NotFound(f"Cluster template {uuid} could not be found.")

        await self._database.write(work)


def _of(scope: Scope, statement: Select[Any]) -> Visible:
    if scope.project_id is None:
        return Visible(_ALL)
    return Visible(statement, {"project": scope.project_id})


def _refuse_many(connection: Connection, project_id: str, most: int) -> None:
    if not most or connection.scalar(_NTH, {"project": project_id, "before": most - 1}) is not None:
        raise QuotaExceeded(
            f"The project's quota of {most} cluster templates is used up: delete one first, or ask "
            "the cloud's operator for more."
        )


def _in_use(connection: Connection, uuid: str) -> bool:
    return bool(connection.scalar(_IN_USE, {"wanted": uuid}))


def _template(row: Sequence[Any]) -> ClusterTemplate:
    return ClusterTemplate(*row)


def _values(template: ClusterTemplate) -> dict[str, Any]:
    """The columns of a template, its row number left to the database."""
    values = {
        field.name: getattr(template, field.name)
        for field in dataclasses.fields(template)
        if field.name != "id"
    }
    return values | {"labels": dict(template.labels), "options": dict(template.options)}
