"""Cluster templates, kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, exists, or_, select

from moorage.model.errors import Conflict, NotFound
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.store.engine import Database
from moorage.store.ident import the_one
from moorage.store.paging import page_of
from moorage.store.scope import Scope
from moorage.store.tables import Instant, clusters, templates

SORT_KEYS = frozenset(
    {"id", "uuid", "name", "coe", "flavor_id", "master_flavor_id", "created_at", "updated_at"}
)
KEPT = frozenset({"id", "uuid", "project_id", "user_id", "created_at", "updated_at"})
"""Fields that an edit can't change."""


class Templates:
    """`store.templates`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, template: ClusterTemplate) -> ClusterTemplate:
        """Store it; the answer has its `id` and `created_at`. Names need not be unique."""
        stored = dataclasses.replace(template, created_at=Instant.now())

        def work(connection: Connection) -> ClusterTemplate:
            statement = templates.insert().values(**_values(stored)).returning(templates.c.id)
            return dataclasses.replace(stored, id=connection.execute(statement).scalar_one())

        return await self._database.write(work)

    async def get(self, ident: str, scope: Scope) -> ClusterTemplate:
        """By uuid or name. Raises NotFound; Conflict where a name fits several."""

        def work(connection: Connection) -> ClusterTemplate:
            row = the_one(connection, templates, _visible(scope), ident, "Cluster template")
            return _template(row)

        return await self._database.read(work)

    async def list(self, scope: Scope, page: Page) -> list[ClusterTemplate]:
        """Raises Invalid (field `marker` or `sort_key`)."""

        def work(connection: Connection) -> list[ClusterTemplate]:
            rows = page_of(connection, templates, _visible(scope), page, SORT_KEYS)
            return [_template(row) for row in rows]

        return await self._database.read(work)

    async def change(
        self, uuid: str, edit: Callable[[ClusterTemplate, bool], ClusterTemplate]
    ) -> ClusterTemplate:
        """Replace it by `edit(template, in_use)`, read and written in one transaction.

        `in_use`: a cluster was made from it. `edit` must be pure and may raise.
        uuid, owner and times are not its to change. Raises NotFound.
        """

        def work(connection: Connection) -> ClusterTemplate:
            row = connection.execute(_by_uuid(uuid).with_for_update()).first()
            if row is None:
                raise NotFound(f"Cluster template {uuid} could not be found.")
            before = _template(row)
            kept = {name: getattr(before, name) for name in KEPT}
            after = dataclasses.replace(edit(before, _in_use(connection, uuid)), **kept)
            if after == before:
                return before
            after = dataclasses.replace(after, updated_at=Instant.now())
            connection.execute(
                templates.update().where(templates.c.uuid == uuid).values(**_values(after))
            )
            return after

        return await self._database.write(work)

    async def remove(self, uuid: str) -> None:
        """Raises NotFound; Conflict while a cluster uses it."""

        def work(connection: Connection) -> None:
            if _in_use(connection, uuid):
                raise Conflict(
                    f"Cluster template {uuid} is in use: delete the clusters made from it first."
                )
            gone = connection.execute(templates.delete().where(templates.c.uuid == uuid))
            if gone.rowcount == 0:
                raise NotFound(f"Cluster template {uuid} could not be found.")

        await self._database.write(work)


def _visible(scope: Scope) -> Select[Any]:
    if scope.project_id is None:
        return select(templates)
    mine = templates.c.project_id == bindparam("project", scope.project_id)
    return select(templates).where(
        or_(mine, and_(templates.c.public.is_(True), templates.c.hidden.is_(False)))
    )


def _by_uuid(uuid: str) -> Select[Any]:
    return select(templates).where(templates.c.uuid == uuid)


def _in_use(connection: Connection, uuid: str) -> bool:
    return bool(connection.scalar(select(exists().where(clusters.c.template_uuid == uuid))))


def _template(row: Row[Any]) -> ClusterTemplate:
    return ClusterTemplate(**row._mapping)


def _values(template: ClusterTemplate) -> dict[str, Any]:
    """The columns of a template, its row number left to the database."""
    values = {
        field.name: getattr(template, field.name)
        for field in dataclasses.fields(template)
        if field.name != "id"
    }
    return values | {"labels": dict(template.labels), "options": dict(template.options)}
