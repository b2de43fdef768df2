"""Clusters, kept: the half of each row that the services write.

A project's quota and names are checked in the transaction that relies on them. SQLite
has one writer at a time, so that is enough; PostgreSQL will need an advisory lock on
the project there.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from moorage.model.cluster import Cluster
from moorage.model.errors import Conflict, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.ports import KeyPair
from moorage.store.engine import Database
from moorage.store.hints import Hints
from moorage.store.ident import the_one
from moorage.store.paging import page_of
from moorage.store.rows import cluster_of, health_values, values_of, verdict_values
from moorage.store.scope import Scope
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

SHOWN = select(*(column for column in clusters.c if not column.name.startswith("ca_")))
"""What lists and lookups read: never a key, not even a sealed one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A project's quota: clusters, and nodes (masters and workers) of all of them."""

    clusters: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What clusters take, those being deleted included."""

    clusters: int
    nodes: int


class Clusters:
    """`store.clusters`. Every row is a live cluster: `claims.remove` ends one."""

    def __init__(self, database: Database, seal: Seal, hints: Hints) -> None:
        self._database = database
        self._seal = seal
        self._hints = hints

    async def add(self, cluster: Cluster, ca: KeyPair, limits: Limits) -> Cluster:
        """Store it with its CA (the key sealed), due at once; the answer has `id` and times.

        One transaction; raises QuotaExceeded, Conflict where the project has a cluster
        of that name, NotFound where the template is gone.
        """
        stored = dataclasses.replace(cluster, created_at=Instant.now())
        hidden = {
            "ca_certificate": ca.certificate,
            "ca_key": self._seal.seal(ca.key, cluster.uuid),
            "generation": 1,
            "due_at": time.time(),
            "token": 0,
        }

        def work(connection: Connection) -> Cluster:
            _refuse_gone_template(connection, stored)
            _refuse_taken_name(connection, stored)
            _refuse_over_quota(connection, stored, limits, clusters=1, nodes=_nodes(stored))
            statement = (
                clusters.insert().values(**values_of(stored), **hidden).returning(clusters.c.id)
            )
            return dataclasses.replace(stored, id=connection.execute(statement).scalar_one())

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

    async def want(
        self, uuid: str, wish: Callable[[Cluster], Cluster], limits: Limits | None = None
    ) -> Cluster:
        """Replace what is wanted by `wish(cluster)`, read and written in one transaction.

        Written are node_count, status, status_reason, deadline and health; the row's
        generation moves on, `attempts` becomes 0, and it is due at once. (A wish for
        health alone leaves the generation: it voids nothing that the conductor does.)
        An unchanged cluster writes nothing. `wish` must be pure and may raise. Raises
        NotFound; QuotaExceeded where the growth passes `limits`.
        """

        def work(connection: Connection) -> tuple[Cluster, bool]:
            row = connection.execute(_by_uuid(uuid).with_for_update()).first()
            if row is None:
                raise NotFound(f"Cluster {uuid} could not be found.")
            before = cluster_of(row)
            wished = wish(before)
            after = dataclasses.replace(
                before,
                node_count=wished.node_count,
                status=wished.status,
                status_reason=wished.status_reason,
                deadline=wished.deadline,
                health=wished.health,
            )
            if after == before:
                return before, False
            growth = after.node_count - before.node_count
            if growth > 0 and limits is not None:
                _refuse_over_quota(connection, before, limits, nodes=growth)
            values: dict[str, Any] = {**health_values(after), "due_at": time.time()}
            if dataclasses.replace(after, health=before.health) != before:
                after = dataclasses.replace(after, attempts=0)
                values |= verdict_values(after)
                values |= {"node_count": after.node_count, "generation": row.generation + 1}
            after = dataclasses.replace(after, updated_at=Instant.now())
            connection.execute(
                clusters.update()
                .where(clusters.c.uuid == uuid)
                .values(**values, updated_at=after.updated_at)
            )
            return after, True

        def hint(result: tuple[Cluster, bool]) -> None:
            if result[1]:
                self._hints.give()

        return (await self._database.write(work, hint))[0]

    async def ca(self, uuid: str) -> KeyPair:
        """The cluster's CA, its key opened. Raises NotFound; SealBroken."""
        query = select(clusters.c.ca_certificate, clusters.c.ca_key).where(clusters.c.uuid == uuid)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise NotFound(f"Cluster {uuid} could not be found.")
        return KeyPair(row.ca_certificate, self._seal.open(row.ca_key, uuid))

    async def usage(self, scope: Scope) -> Usage:
        return await self._database.read(lambda connection: _usage(connection, scope))


def _visible(scope: Scope) -> Select[Any]:
    if scope.project_id is None:
        return SHOWN
    return SHOWN.where(clusters.c.project_id == bindparam("project", scope.project_id))


def _by_uuid(uuid: str) -> Select[Any]:
    return select(clusters).where(clusters.c.uuid == uuid)


def _nodes(cluster: Cluster) -> int:
    return cluster.master_count + cluster.node_count


def _usage(connection: Connection, scope: Scope) -> Usage:
    nodes = func.coalesce(func.sum(clusters.c.master_count + clusters.c.node_count), 0)
    query = _visible(scope).with_only_columns(func.count(), nodes)
    counted, of_nodes = connection.execute(query).one()
    return Usage(clusters=counted, nodes=of_nodes)


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


def _refuse_over_quota(
    connection: Connection, cluster: Cluster, limits: Limits, *, clusters: int = 0, nodes: int
) -> None:
    used = _usage(connection, Scope(cluster.project_id))
    if clusters and used.clusters + clusters > limits.clusters:
        raise QuotaExceeded(
            f"The project's quota of {limits.clusters} clusters is used up: it has {used.clusters}."
        )
    if used.nodes + nodes > limits.nodes:
        raise QuotaExceeded(
            f"The project's quota of {limits.nodes} nodes is too small: "
            f"it has {used.nodes}, and {nodes} more were asked for."
        )
