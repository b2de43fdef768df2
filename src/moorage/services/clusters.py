"""Clusters: who may do what with them, and what a request makes wanted."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence

from moorage.model.caller import Caller, Permission
from moorage.model.cluster import Cluster, ClusterStatus, HealthStatus
from moorage.model.errors import Conflict, Invalid
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.services import options, patching, rules
from moorage.services.access import listing, reach, require
from moorage.services.catalogue import Catalogue
from moorage.services.labels import LabelDifferences, differences, laid_over
from moorage.services.names import generated
from moorage.services.requests import NewCluster, PatchOp
from moorage.store import EVERYTHING, Limits, Store
from moorage.trust.authority import ClusterAuthority

NAMES_TO_TRY = 3


class ClusterService:
    """All methods raise Forbidden for want of a role, and NotFound for what a caller can't see.

    `ident` is a uuid or a name. An admin reaches every project's clusters by uuid.
    """

    def __init__(self, store: Store, catalogue: Catalogue, limits: Limits) -> None:
        self._store = store
        self._catalogue = catalogue
        self._limits = limits

    async def create(self, caller: Caller, new: NewCluster, *, allow_zero: bool = True) -> Cluster:
        """Write the cluster down as wanted; the conductor makes it.

        Raises Invalid, NoRoom, QuotaExceeded, NotFound for an unknown template, or
        Conflict for a name that is taken. `allow_zero`: node_count may be 0 (from
        version 1.10 on).
        """
        require(caller, Permission.MEMBER)
        template = await self._store.templates.get(new.template, reach(caller, new.template))
        cluster = self._wanted(caller, new, template, allow_zero=allow_zero)
        authority = ClusterAuthority.create(cluster.name)
        await self._catalogue.room(cluster.provider, self._catalogue.nodes(cluster, authority))
        for _ in range(NAMES_TO_TRY if new.name is None else 0):
            try:
                return await self._store.clusters.add(cluster, authority.pair, self._limits)
            except Conflict:
                cluster = dataclasses.replace(cluster, name=generated(cluster.coe))
        return await self._store.clusters.add(cluster, authority.pair, self._limits)

    def _wanted(
        self, caller: Caller, new: NewCluster, template: ClusterTemplate, *, allow_zero: bool
    ) -> Cluster:
        own = None if new.labels is None else rules.labels(new.labels)
        labels = laid_over(template.labels, own, merge=new.merge_labels)
        minutes = rules.create_timeout(new.create_timeout)
        self._catalogue.driver(template.coe)
        flavor = self._catalogue.flavor(new.flavor_id or template.flavor_id)
        master_flavor = self._catalogue.flavor(
            new.master_flavor_id or template.master_flavor_id, "master_flavor_id"
        )
        return Cluster(
            uuid=str(uuid.uuid4()),
            project_id=caller.project_id,
            user_id=caller.user_id,
            name=generated(template.coe) if new.name is None else rules.cluster_name(new.name),
            template_uuid=template.uuid,
            coe=template.coe,
            provider=self._catalogue.provider_for(labels),
            flavor_id=flavor.name,
            master_flavor_id=master_flavor.name,
            master_count=rules.master_count(new.master_count),
            node_count=rules.node_count(new.node_count, allow_zero=allow_zero),
            create_timeout=minutes,
            labels=labels,
            options=options.checked(
                {**new.options, "merge_labels": new.merge_labels}, options.CLUSTER_OPTIONS
            ),
            deadline=_deadline(minutes),
        )

    async def get(self, caller: Caller, ident: str) -> Cluster:
        require(caller, Permission.READER)
        return await self._store.clusters.get(ident, reach(caller, ident))

    async def labels(self, cluster: Cluster) -> LabelDifferences:
        """How the labels of a cluster that the caller got differ from its template's."""
        template = await self._store.templates.get(cluster.template_uuid, EVERYTHING)
        return differences(template.labels, cluster.labels)

    async def list(
        self, caller: Caller, page: Page, *, all_projects: bool = False
    ) -> list[Cluster]:
        """The caller's project's; `all_projects` is for admins."""
        require(caller, Permission.READER)
        return await self._store.clusters.list(listing(caller, all_projects=all_projects), page)

    async def update(
        self, caller: Caller, ident: str, patch: Sequence[PatchOp], *, allow_zero: bool = True
    ) -> Cluster:
        """PATCH of node_count, health_status and health_status_reason; all or nothing.

        Accepted also while the cluster is being made or changed: the conductor then
        goes for what is wanted last. Raises Invalid, QuotaExceeded, NoRoom; Conflict
        once the cluster is being deleted.
        """
        require(caller, Permission.MEMBER)
        cluster = await self._store.clusters.get(ident, reach(caller, ident))
        wish = _Wish.of(patch, allow_zero=allow_zero)
        await self._refuse_without_room(cluster, wish.on(cluster))
        return await self._store.clusters.want(cluster.uuid, wish.on, self._limits)

    async def _refuse_without_room(self, before: Cluster, after: Cluster) -> None:
        if after.node_count <= before.node_count:
            return
        authority = ClusterAuthority(await self._store.clusters.ca(before.uuid))
        there = {node.name for node in self._catalogue.nodes(before, authority)}
        wanted = self._catalogue.nodes(after, authority)
        await self._catalogue.room(
            before.provider, [node for node in wanted if node.name not in there]
        )

    async def delete(self, caller: Caller, ident: str) -> None:
        """Wish it away. Always accepted, and asking again changes nothing."""
        require(caller, Permission.MEMBER)
        cluster = await self._store.clusters.get(ident, reach(caller, ident))
        await self._store.clusters.want(cluster.uuid, _deleted)


@dataclasses.dataclass(frozen=True, slots=True)
class _Wish:
    """What a patch of a cluster asks for; None: leave it as it is."""

    node_count: int | None = None
    health_status: HealthStatus | None = None
    health_reasons: dict[str, str] | None = None

    @classmethod
    def of(cls, operations: Sequence[PatchOp], *, allow_zero: bool) -> _Wish:
        patching.refuse_too_many(len(operations))
        wish = cls()
        for operation in operations:
            attribute, key = patching.target(operation)
            value = None if operation.op == "remove" else operation.value
            match attribute, key:
                case "node_count", None:
                    count = rules.node_count(value, allow_zero=allow_zero)
                    wish = dataclasses.replace(wish, node_count=count)
                case "health_status", None:
                    wish = dataclasses.replace(wish, health_status=_health_status(value))
                case "health_status_reason", None:
                    reasons = rules.labels(value, "health_status_reason")
                    wish = dataclasses.replace(wish, health_reasons=reasons)
                case _:
                    raise Invalid(
                        f"The attribute {rules.shown(attribute)} of a cluster can't be changed; "
                        "node_count, health_status and health_status_reason can.",
                        field=attribute,
                    )
        return wish

    def on(self, cluster: Cluster) -> Cluster:
        """The cluster as it is wanted now. Raises Conflict once it is being deleted."""
        if cluster.status.deleting:
            raise Conflict(f"Cluster {cluster.name} is being deleted.")
        health = cluster.health
        if self.health_status is not None:
            health = dataclasses.replace(health, status=self.health_status)
        if self.health_reasons is not None:
            health = dataclasses.replace(health, reasons=self.health_reasons)
        cluster = dataclasses.replace(cluster, health=health)
        if self.node_count is None or self.node_count == cluster.node_count:
            return cluster
        creating = cluster.status is ClusterStatus.CREATE_IN_PROGRESS
        return dataclasses.replace(
            cluster,
            node_count=self.node_count,
            status=cluster.status if creating else ClusterStatus.UPDATE_IN_PROGRESS,
            status_reason=f"node_count goes from {cluster.node_count} to {self.node_count}.",
            deadline=_deadline(cluster.create_timeout),
        )


def _health_status(value: object) -> HealthStatus:
    try:
        return HealthStatus(HealthStatus.UNKNOWN if value is None else str(value))
    except ValueError:
        raise Invalid(
            f"health_status must be one of {', '.join(HealthStatus)}, not {rules.shown(value)}.",
            field="health_status",
        ) from None


def _deleted(cluster: Cluster) -> Cluster:
    if cluster.status is ClusterStatus.DELETE_IN_PROGRESS:
        return cluster
    return dataclasses.replace(
        cluster,
        status=ClusterStatus.DELETE_IN_PROGRESS,
        status_reason=None,
        deadline=_deadline(cluster.create_timeout),
    )


def _deadline(minutes: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
