"""Clusters, kept: the half of each row that the services write.

A project's quota and names are checked in the transaction that relies on them, which is
serialisable: of two requests at the same instant, one sees the other's.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, select

from moorage.model.cluster import Cluster, Rotation
from moorage.model.errors import Conflict, NotFound
from moorage.model.page import Page
from moorage.model.ports import CaKeys, KeyPair
from moorage.model.quota import Amounts
from moorage.store.engine import Database
from moorage.store.events import append, said
from moorage.store.hints import Hints
from moorage.store.ident import the_one
from moorage.store.paging import page_of
from moorage.store.quotas import refuse_over_quota
from moorage.store.rows import cluster_of, group_values, values_of, verdict_values
from moorage.store.scope import Scope, Visible
from moorage.store.tables import Instant, clusters, templates
from moorage.trust.seal import Seal

SORT_KEYS = frozenset(
    {
        "id",
        "uuid",
        "name",
        "status",
        "health_status",
        "node_count",
        "master_count",
        "create_timeout",
        "flavor_id",
        "master_flavor_id",
        "created_at",
        "updated_at",
    }
)

HIDDEN = {"ca_certificate", "ca_key", "coming_certificate", "coming_key", "secret"}
SHOWN = select(*(column for column in clusters.c if column.name not in HIDDEN))
"""What lists and lookups read: never a key, not even a sealed one."""
_OF_PROJECT = SHOWN.where(clusters.c.project_id == bindparam("project"))
_COUNT = select(func.count()).select_from(clusters)
_BY_UUID = SHOWN.where(clusters.c.uuid == bindparam("wanted")).with_for_update()
_FREE = clusters.c.lease_until.is_(None)
_ALIVE = select(clusters.c.uuid).where(
    clusters.c.uuid.in_(bindparam("asked", expanding=True)), clusters.c.status.not_like("DELETE%")
)
_CA = select(
    clusters.c.uuid, clusters.c.rotation, *(clusters.c[name] for name in sorted(HIDDEN))
).where(clusters.c.uuid == bindparam("wanted"))


class Clusters:
    """`store.clusters`. Every row is a live cluster: `claims.remove` ends one."""

    def __init__(self, database: Database, seal: Seal, hints: Hints) -> None:
        self._database = database
        self._seal = seal
        self._hints = hints

    async def add(
        self,
        cluster: Cluster,
        ca: KeyPair,
        defaults: Amounts,
        *,
        secret: bytes | None = None,
        by: str,
        request_id: str | None = None,
    ) -> Cluster:
        """Store it with its CA and its secret (sealed), due at once; the answer has `id` and times.

        `defaults` hold where the project has no quota of its own; `by`: who asked for it, in
        the request of that id.
        One transaction; raises QuotaExceeded, Conflict where the project has a cluster
        of that name, NotFound where the template is gone.
        """
        now = Instant.now()
        groups = tuple(dataclasses.replace(group, created_at=now) for group in cluster.groups)
        stored = dataclasses.replace(cluster, created_at=now, groups=groups)
        hidden = {
            "ca_certificate": ca.certificate,
            "ca_key": self._seal.seal(ca.key, cluster.uuid),
            "secret": None if secret is None else self._seal.seal(secret, cluster.uuid),
            "generation": 1,
            "due_at": time.time(),
            "token": 0,
        }
        reported = f". {stored.status_reason}" if stored.status_reason else ""
        first = said(f"create: {_made_of(stored)}{reported}", by, request_id)

        def work(connection: Connection) -> Cluster:
            _refuse_gone_template(connection, stored)
            _refuse_taken_name(connection, stored)
            refuse_over_quota(connection, stored.project_id, stored.takes, defaults)
            statement = (
                clusters.insert().values(**values_of(stored), **hidden).returning(clusters.c.id)
            )
            number = connection.execute(statement).scalar_one()
            append(connection, stored.uuid, stored.project_id, [first])
            return dataclasses.replace(stored, id=number)

        return await self._database.write(work, lambda _: self._hints.give())

    async def get(self, ident: str, scope: Scope) -> Cluster:
        """By uuid or name. Raises NotFound; Conflict where a name fits several."""

        def work(connection: Connection) -> Cluster:
            return cluster_of(the_one(connection, clusters, _visible(scope), ident, "Cluster"))

        return await self._database.read(work)

    async def list(self, scope: Scope, page: Page) -> list[Cluster]:
        """Raises Invalid (field `marker` or `sort_key`)."""

        def work(connection: Connection) -> list[Cluster]:
            rows = page_of(connection, clusters, _visible(scope), page, SORT_KEYS)
            return [cluster_of(row) for row in rows]

        return await self._database.read(work)

    async def going(self, uuids: Collection[str]) -> set[str]:
        """Those among them that are to be deleted by now, or are gone."""
        asked = {"asked": list(uuids)}
        alive = await self._database.read(lambda c: c.execute(_ALIVE, asked).scalars().all())
        return set(uuids).difference(alive)

    async def uuids(self) -> frozenset[str]:
        """Of every cluster that has its row."""
        query = select(clusters.c.uuid)
        return frozenset(await self._database.read(lambda c: c.execute(query).scalars().all()))

    async def count(self) -> int:
        """How many there are, of all projects."""
        found = await self._database.read(lambda connection: connection.scalar(_COUNT))
        return found or 0

    async def want(
        self,
        uuid: str,
        wish: Callable[[Cluster], Cluster],
        defaults: Amounts,
        *,
        by: str,
        request_id: str | None = None,
        coming: KeyPair | None = None,
    ) -> Cluster:
        """Replace what is wanted by `wish(cluster)`, read and written in one transaction.

        Written are template, labels, groups, batch_size, credentials, rotation, fallback,
        forced_by, status, status_reason, deadline and health; the generation moves on, `attempts`
        becomes 0, it is due as soon as it is free, and the new status_reason becomes an event.
        (A wish for health alone leaves the generation: it voids nothing that the conductor does.)
        An unchanged cluster writes nothing. `wish` must be pure and may raise. `coming`:
        the CA that the cluster's is changed for, where that begins with this wish: while
        one is being changed, nodes trust the one that is coming already. Raises NotFound;
        QuotaExceeded where the growth passes the quotas.
        """

        def work(connection: Connection) -> tuple[Cluster, bool]:
            row = connection.execute(_BY_UUID, {"wanted": uuid}).first()
            if row is None:
                raise NotFound(f"Cluster {uuid} could not be found.")
            before = cluster_of(row)
            after = wish(before)
            if after == before:
                return before, False
            after = dataclasses.replace(after, updated_at=Instant.now())
            if after.template_uuid != before.template_uuid:
                _refuse_gone_template(connection, after)
            refuse_over_quota(connection, before.project_id, _growth(before, after), defaults)
            values: dict[str, Any] = {
                "health_status": after.health.status.value,
                "health_reasons": dict(after.health.reasons),
                "updated_at": after.updated_at,
                "due_at": case((_FREE, time.time()), else_=clusters.c.due_at),
            }
            if dataclasses.replace(after, health=before.health, updated_at=None) != (
                dataclasses.replace(before, updated_at=None)
            ):
                after = dataclasses.replace(after, attempts=0)
                values |= {
                    **group_values(after),
                    **verdict_values(after),
                    "template_uuid": after.template_uuid,
                    "labels": dict(after.labels),
                    "batch_size": after.batch_size,
                    "credentials": after.credentials,
                    "forced_by": after.forced_by,
                    "generation": row.generation + 1,
                }
                if coming is not None and before.rotation is None:
                    values["coming_certificate"] = coming.certificate
                    values["coming_key"] = self._seal.seal(coming.key, uuid)
                asked = said(after.status_reason or after.status.value, by, request_id)
                append(connection, uuid, before.project_id, [asked])
            connection.execute(clusters.update().where(clusters.c.uuid == uuid).values(values))
            return after, True

        def hint(result: tuple[Cluster, bool]) -> None:
            if result[1]:
                self._hints.give()

        return (await self._database.write(work, hint))[0]

    async def ca(self, uuid: str) -> CaKeys:
        """The cluster's CA, its keys opened. Raises NotFound; SealBroken."""
        row = await self._database.read(lambda c: c.execute(_CA, {"wanted": uuid}).first())
        if row is None:
            raise NotFound(f"Cluster {uuid} could not be found.")
        return ca_keys(row, self._seal)


def ca_keys(row: Row[Any], seal: Seal) -> CaKeys:
    """The keys in a cluster's row. Raises SealBroken."""
    current = KeyPair(row.ca_certificate, seal.open(row.ca_key, row.uuid))
    secret = None if row.secret is None else seal.open(row.secret, row.uuid)
    if row.rotation is None:
        return CaKeys(current, secret=secret)
    coming = KeyPair(row.coming_certificate, seal.open(row.coming_key, row.uuid))
    return CaKeys(current, coming, Rotation(row.rotation), secret)


def _visible(scope: Scope) -> Visible:
    if scope.project_id is None:
        return Visible(SHOWN)
    return Visible(_OF_PROJECT, {"project": scope.project_id})


def _growth(before: Cluster, after: Cluster) -> Amounts:
    had, takes = before.takes, after.takes
    return {resource: takes[resource] - had[resource] for resource in takes}


def _made_of(cluster: Cluster) -> str:
    return ", ".join(
        f"{group.node_count} {group.flavor.name} in {group.name}" for group in cluster.groups
    )


def _refuse_gone_template(connection: Connection, cluster: Cluster) -> None:
    query = select(templates.c.id).where(templates.c.uuid == cluster.template_uuid)
    if connection.execute(query).first() is None:
        raise NotFound(f"Cluster template {cluster.template_uuid} could not be found.")


def _refuse_taken_name(connection: Connection, cluster: Cluster) -> None:
    query = select(clusters.c.status).where(
        clusters.c.project_id == cluster.project_id, clusters.c.name == cluster.name
    )
    taken = connection.execute(query).first()
    if taken is not None:
        raise Conflict(
            f"A cluster named {cluster.name} already exists in this project ({taken.status})."
        )
