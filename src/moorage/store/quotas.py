"""Quotas, kept; and held, in the transaction that takes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from moorage.model.errors import Conflict, Invalid, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.quota import UNLIMITED, Amounts, Quota, Resource
from moorage.store.engine import Database
from moorage.store.rows import COUNTED
from moorage.store.tables import Instant, clusters, quotas

UNITS: Mapping[Resource, str] = {
    Resource.CLUSTER: "clusters",
    Resource.NODE: "nodes",
    Resource.CPU: "CPUs",
    Resource.MEMORY: "MiB of memory",
    Resource.DISK: "GiB of disk",
}
SORT_KEYS = ("id", "project_id", "resource", "hard_limit", "created_at", "updated_at")

_SUMS = [func.coalesce(func.sum(clusters.c[column]), 0) for column in COUNTED.values()]
_USED = select(func.count(), *_SUMS)
_USED_BY = _USED.where(clusters.c.project_id == bindparam("project"))
_LIMITS = select(quotas.c.resource, quotas.c.hard_limit).where(
    quotas.c.project_id == bindparam("project")
)
_ONE = select(quotas).where(
    quotas.c.project_id == bindparam("project"), quotas.c.resource == bindparam("what")
)


class Quotas:
    """`store.quotas`: what admins have set. What nobody has set is not here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, project_id: str | None, page: Page) -> list[Quota]:
        """A project's, or everybody's. The marker is a quota's id. Raises Invalid."""
        if page.sort_key not in SORT_KEYS:
            known = ", ".join(SORT_KEYS)
            raise Invalid(
                f"Can't sort by {page.sort_key!r}: sort_key is one of {known}.", field="sort_key"
            )
        query = select(quotas)
        if project_id is not None:
            query = query.where(quotas.c.project_id == project_id)

        rows = await self._database.read(lambda connection: connection.execute(query).all())
        # Admins set few of them: the page is made here.
        found = sorted(
            map(_quota, rows),
            key=lambda quota: _order(quota, page.sort_key),
            reverse=page.sort_dir == "desc",
        )
        return _after(found, page.marker)[: page.size]

    async def get(self, project_id: str, resource: Resource) -> Quota | None:
        values = {"project": project_id, "what": resource.value}
        row = await self._database.read(lambda c: c.execute(_ONE, values).first())
        return None if row is None else _quota(row)

    async def add(self, quota: Quota) -> Quota:
        """Raises Conflict where the project has one for that resource."""

        def work(connection: Connection) -> Quota:
            values = {"project": quota.project_id, "what": quota.resource.value}
            if connection.execute(_ONE, values).first() is not None:
                raise Conflict(
                    f"Project {quota.project_id} has a quota of {quota.resource} already."
                )
            insert = quotas.insert().values(
                project_id=quota.project_id,
                resource=quota.resource.value,
                hard_limit=quota.hard_limit,
                created_at=Instant.now(),
            )
            return _quota(connection.execute(insert.returning(quotas)).one())

        return await self._database.write(work)

    async def change(self, quota: Quota) -> Quota:
        """Set `hard_limit`. Raises NotFound."""

        def work(connection: Connection) -> Quota:
            update = (
                quotas.update()
                .where(
                    quotas.c.project_id == quota.project_id,
                    quotas.c.resource == quota.resource.value,
                )
                .values(hard_limit=quota.hard_limit, updated_at=Instant.now())
            )
            row = connection.execute(update.returning(quotas)).first()
            if row is None:
                raise _missing(quota.project_id, quota.resource)
            return _quota(row)

        return await self._database.write(work)

    async def remove(self, project_id: str, resource: Resource) -> None:
        """Raises NotFound."""

        def work(connection: Connection) -> None:
            delete = quotas.delete().where(
                quotas.c.project_id == project_id, quotas.c.resource == resource.value
            )
            if connection.execute(delete).rowcount == 0:
                raise _missing(project_id, resource)

        await self._database.write(work)

    async def used(self, project_id: str | None) -> Amounts:
        """What a project's clusters take, those being deleted included; None: all projects'."""
        return await self._database.read(lambda connection: _used(connection, project_id))


def refuse_over_quota(
    connection: Connection, project_id: str, growth: Amounts, defaults: Amounts
) -> None:
    """Raises QuotaExceeded where the project can't have `growth` on top of what it has.

    To be called in the transaction that writes the growth down. What does not grow is not
    looked at: a project that is over a quota lowered since may still shrink.
    """
    grown = {resource: more for resource, more in growth.items() if more > 0}
    if not grown:
        return
    rows = connection.execute(_LIMITS, {"project": project_id}).all()
    limits = {**defaults, **{Resource(row.resource): row.hard_limit for row in rows}}
    used = _used(connection, project_id)
    for resource, more in grown.items():
        limit = limits.get(resource, UNLIMITED)
        if limit != UNLIMITED and used[resource] + more > limit:
            raise QuotaExceeded(
                f"The project's quota of {limit} {UNITS[resource]} is too small: "
                f"it has {used[resource]}, and {more} more were asked for."
            )


def _used(connection: Connection, project_id: str | None) -> dict[Resource, int]:
    if project_id is None:
        row = connection.execute(_USED).one()
    else:
        row = connection.execute(_USED_BY, {"project": project_id}).one()
    resources = (Resource.CLUSTER, *COUNTED)
    return {resource: int(value) for resource, value in zip(resources, row, strict=True)}


def _order(quota: Quota, key: str) -> tuple[bool, Any, int]:
    value = getattr(quota, key)
    return value is not None, value, quota.id


def _after(found: list[Quota], marker: str | None) -> list[Quota]:
    if marker is None:
        return found
    for place, quota in enumerate(found):
        if str(quota.id) == marker:
            return found[place + 1 :]
    raise Invalid(f"The marker {marker!r} was not found.", field="marker")


def _missing(project_id: str, resource: Resource) -> NotFound:
    return NotFound(f"Project {project_id} has no quota of {resource} of its own.")


def _quota(row: Row[Any]) -> Quota:
    values = dict(row._mapping)
    return Quota(**{**values, "resource": Resource(values["resource"])})
