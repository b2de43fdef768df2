"""Clusters: who may do what with them, and what a request makes wanted."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import uuid
from collections.abc import Callable, Sequence
from time import monotonic

from structlog.contextvars import bind_contextvars

from moorage.model.caller import Caller, Permission
from moorage.model.cluster import Cluster, Health, HealthStatus
from moorage.model.errors import Conflict, Invalid, NotFound, RetryLater
from moorage.model.node import Flavor
from moorage.model.nodegroup import DEFAULTS, NodeGroup
from moorage.model.page import Page
from moorage.model.ports import KeyPair
from moorage.model.quota import Amounts
from moorage.model.template import ClusterTemplate
from moorage.planning import truth
from moorage.services import options, patching, rules, wishes
from moorage.services.access import listing, reach, require
from moorage.services.catalogue import Catalogue
from moorage.services.labels import LabelDifferences, differences, laid_over
from moorage.services.names import generated
from moorage.services.requests import NewCluster, NewRelease, NewSize, PatchOp
from moorage.store import EVERYTHING, Store
from moorage.trust.authority import new_ca
from moorage.trust.derived import new_secret

INHERITED = {
    "docker_volume_size": "docker_volume_size",
    "fixed_network": "fixed_network",
    "fixed_subnet": "fixed_subnet",
    "floating_ip_enabled": "floating_ip_enabled",
    "keypair": "keypair_id",
    "master_lb_enabled": "master_lb_enabled",
}
"""A cluster's options that its template has as well, and what they are called there."""
HEAL_SECONDS = 40.0
NAMES_TO_TRY = 3
COUNT_SECONDS = 15.0
TIMES_TO_READ = 3


class ClusterService:
    """All methods raise Forbidden for want of a role, and NotFound for what a caller can't see.

    `ident` is a uuid or a name. An admin reaches every project's clusters by uuid.
    `defaults` are the quotas of projects that have none of their own. Changes are accepted
    also while the cluster is being made or changed: the conductor goes for what is wanted
    last. Each raises Conflict once the cluster is being deleted. `heal_seconds` is how often
    the conductor looks at each cluster: where it doesn't, no health is shown.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        defaults: Amounts,
        heal_seconds: float = HEAL_SECONDS,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._defaults = defaults
        self._heal_seconds = self._paced = heal_seconds
        self._count_again = -math.inf

    async def create(self, caller: Caller, new: NewCluster, *, allow_zero: bool = True) -> Cluster:
        """Write the cluster down as wanted; the conductor makes it.

        Raises Invalid, NoRoom, QuotaExceeded, NotFound for an unknown template, or
        Conflict for a name that is taken. `allow_zero`: node_count may be 0 (from
        version 1.10 on).
        """
        require(caller, Permission.MEMBER)
        template = await self._store.templates.get(new.template, reach(caller, new.template))
        cluster = await self._wanted(caller, new, template, allow_zero=allow_zero)
        ca = new_ca(cluster.name)
        await self._catalogue.size(None, cluster)
        await self._catalogue.room(None, cluster)
        for _ in range(NAMES_TO_TRY if new.name is None else 0):
            try:
                return await self._add(caller, cluster, ca)
            except Conflict:
                cluster = dataclasses.replace(cluster, name=generated(cluster.coe))
        return await self._add(caller, cluster, ca)

    async def _add(self, caller: Caller, cluster: Cluster, ca: KeyPair) -> Cluster:
        added = await self._store.clusters.add(
            cluster,
            ca,
            self._defaults,
            secret=new_secret(),
            by=caller.user_name,
            request_id=caller.request_id,
        )
        bind_contextvars(cluster=added.uuid)
        return added

    async def _wanted(
        self, caller: Caller, new: NewCluster, template: ClusterTemplate, *, allow_zero: bool
    ) -> Cluster:
        labels = laid_over(template.labels, rules.labels(new.labels), merge=new.merge_labels)
        minutes = rules.create_timeout(new.create_timeout)
        self._catalogue.driver(template.coe)
        provider = self._catalogue.provider_for(labels)
        shelf = await self._catalogue.shelf(provider)
        rules.refuse_large("labels", labels)
        labels = dict(self._catalogue.checked(template.coe, labels, provider))
        own = {name: value for name, value in new.options.items() if value is not None}
        given = options.checked(
            {**_inherited(template), **own, "merge_labels": new.merge_labels},
            options.CLUSTER_OPTIONS,
        )
        shelf.check(given)
        shelf.check({"image_id": template.options.get("image_id")})
        master_flavor = shelf.flavor(
            new.master_flavor_id or template.master_flavor_id, "master_flavor_id"
        )
        flavor = shelf.flavor(new.flavor_id or template.flavor_id)
        volume = given.get("docker_volume_size")

        def group(name: str, flavor: Flavor, count: int) -> NodeGroup:
            return NodeGroup(
                uuid=str(uuid.uuid4()),
                name=name,
                prefix=DEFAULTS[name],
                role=DEFAULTS[name],
                flavor=flavor,
                ordinals=tuple(range(count)),
                template_uuid=template.uuid,
                image_id=_text(template.options.get("image_id")),
                min_node_count=1 if name == "default-master" else 0,
                docker_volume_size=None if volume is None else int(str(volume)),
                labels=labels,
            )

        return Cluster(
            uuid=str(uuid.uuid4()),
            project_id=caller.project_id,
            user_id=caller.user_id,
            name=generated(template.coe) if new.name is None else rules.cluster_name(new.name),
            template_uuid=template.uuid,
            coe=template.coe,
            provider=provider,
            create_timeout=minutes,
            groups=(
                group("default-master", master_flavor, rules.master_count(new.master_count)),
                group(
                    "default-worker",
                    flavor,
                    rules.node_count(new.node_count, allow_zero=allow_zero),
                ),
            ),
            labels=labels,
            options=given,
            status_reason=self._catalogue.said_of_labels(template.coe, labels),
            deadline=wishes.deadline(minutes),
        )

    async def get(self, caller: Caller, ident: str) -> Cluster:
        require(caller, Permission.READER)
        cluster = await found(self._store, caller, ident)
        return truth.as_known(cluster, utc_now(), await self._pace())

    async def _pace(self) -> float:
        """How often the conductor looks at a cluster; counted anew from time to time."""
        if monotonic() >= self._count_again:
            self._count_again = monotonic() + COUNT_SECONDS
            count = await self._store.clusters.count()
            self._paced = truth.paced(self._heal_seconds, count).longest
        return self._paced

    async def labels(self, clusters: Sequence[Cluster]) -> list[LabelDifferences]:
        """How the labels of clusters that the caller got differ from their templates'."""
        wanted = {cluster.template_uuid for cluster in clusters}
        below = await self._store.templates.labels(wanted)
        return [differences(below.get(c.template_uuid, {}), c.labels) for c in clusters]

    async def list(
        self, caller: Caller, page: Page, *, all_projects: bool = False
    ) -> list[Cluster]:
        """The caller's project's; `all_projects` is for admins."""
        require(caller, Permission.READER)
        scope = listing(caller, all_projects=all_projects)
        found, pace, now = (
            await self._store.clusters.list(scope, page),
            await self._pace(),
            utc_now(),
        )
        return [truth.as_known(cluster, now, pace) for cluster in found]

    async def update(
        self,
        caller: Caller,
        ident: str,
        patch: Sequence[PatchOp],
        *,
        allow_zero: bool = True,
        rollback: bool = False,
    ) -> Cluster:
        """PATCH of node_count, health_status and health_status_reason; all or nothing.

        `rollback`: where the update fails, what was wanted before is wanted again.
        Raises Invalid, QuotaExceeded, NoRoom.
        """
        patching.refuse_too_many(len(patch))
        touches = [_touch(operation, allow_zero=allow_zero) for operation in patch]

        def wish(cluster: Cluster) -> Cluster:
            after = cluster
            for touch in touches:
                after = touch(after)
            return after

        return await self.wish(caller, ident, wish, rollback=rollback)

    async def resize(
        self, caller: Caller, ident: str, size: NewSize, *, allow_zero: bool = True
    ) -> Cluster:
        """Raises Invalid, QuotaExceeded, NoRoom; NotFound also for an unknown group."""
        count = rules.node_count(size.node_count, allow_zero=allow_zero)
        if len(size.nodes_to_remove) > rules.MOST_NODES:
            raise Invalid(
                f"nodes_to_remove may name {rules.MOST_NODES} nodes, "
                f"not {len(size.nodes_to_remove)}.",
                field="nodes_to_remove",
            )

        def wish(cluster: Cluster) -> Cluster:
            return wishes.resized(cluster, size.group, count, size.nodes_to_remove)

        return await self.wish(caller, ident, wish)

    async def upgrade(self, caller: Caller, ident: str, release: NewRelease) -> Cluster:
        """Raises Invalid, QuotaExceeded, Conflict; NotFound also for an unknown group."""
        require(caller, Permission.MEMBER)
        batch = rules.batch_size(release.batch_size)
        for _ in range(TIMES_TO_READ):
            with contextlib.suppress(wishes.Overtaken):
                return await self._upgrade(caller, ident, release, batch)
        raise RetryLater(f"Cluster {ident} is being upgraded by several requests at once.")

    async def _upgrade(
        self, caller: Caller, ident: str, release: NewRelease, batch: int
    ) -> Cluster:
        """Raises Overtaken where another upgrade comes in between."""
        cluster = await found(self._store, caller, ident)
        template = await self._store.templates.get(
            release.template, reach(caller, release.template)
        )
        used = {cluster.template_uuid, *(group.template_uuid for group in cluster.groups)}
        formers = {uuid: await self._template(uuid) for uuid in used}
        shelf = await self._catalogue.shelf(cluster.provider)
        if self._catalogue.provider_for({**cluster.labels, **template.labels}) != cluster.provider:
            raise Conflict(f"Cluster {cluster.name} can't leave its provider, {cluster.provider}.")
        if template.uuid != cluster.template_uuid:
            shelf.check({"image_id": template.options.get("image_id")})
        flavors = shelf.flavors()

        meant = self._catalogue.own_labels(cluster.coe)
        offered = {name: value for name, value in template.labels.items() if name in meant}

        def wish(cluster: Cluster) -> Cluster:
            after = wishes.upgraded(
                cluster, template, formers, flavors, ident=release.group, batch_size=batch
            )
            # What its driver makes something of is the template's, where that says anything.
            labels = self._catalogue.rechecked(cluster, {**after.labels, **offered})
            return dataclasses.replace(after, labels=dict(labels))

        return await self.wish(caller, cluster.uuid, wish)

    async def rotate_credentials(self, caller: Caller, ident: str) -> Cluster:
        """Exchange what members join the cluster with."""
        return await self.wish(caller, ident, wishes.with_new_credentials)

    async def delete(self, caller: Caller, ident: str, *, force: bool = False) -> Cluster:
        """Wish it away. Always accepted, and asking again changes nothing.

        `force`, for admins: it ends also if its provider keeps failing, and what may remain
        is noted (`store.abandoned`).
        """
        if not force:
            return await self.wish(caller, ident, wishes.deleted)
        require(caller, Permission.ADMIN)
        return await self.wish(caller, ident, lambda c: wishes.deleted(c, caller.user_name))

    async def wish(
        self,
        caller: Caller,
        ident: str,
        wish: Callable[[Cluster], Cluster],
        coming: KeyPair | None = None,
        *,
        rollback: bool = False,
    ) -> Cluster:
        """Have a member's wish written down, if it is allowed, and there is room for it.

        `rollback`: where it can't be had, what was wanted before is wanted again.
        """
        require(caller, Permission.MEMBER)
        cluster = await found(self._store, caller, ident)
        after = wish(cluster)
        if not after.status.deleting:
            await self._catalogue.size(cluster, after)
            await self._catalogue.room(cluster, after)

        def whole(cluster: Cluster) -> Cluster:
            return wishes.with_way_back(cluster, wish(cluster), rollback=rollback)

        return await self._store.clusters.want(
            cluster.uuid,
            whole,
            self._defaults,
            by=caller.user_name,
            request_id=caller.request_id,
            coming=coming,
        )

    async def _template(self, uuid: str) -> ClusterTemplate | None:
        try:
            return await self._store.templates.get(uuid, EVERYTHING)
        except NotFound:
            return None


def _inherited(template: ClusterTemplate) -> dict[str, object]:
    """What a cluster has from its template where it was given nothing of its own, as upstream."""
    return {
        name: template.options[there]
        for name, there in INHERITED.items()
        if there in template.options
    }


async def found(store: Store, caller: Caller, ident: str) -> Cluster:
    """The cluster that the caller calls so. What is logged of the request has its uuid, then."""
    cluster = await store.clusters.get(ident, reach(caller, ident))
    bind_contextvars(cluster=cluster.uuid)
    return cluster


Touch = Callable[[Cluster], Cluster]


def _touch(operation: PatchOp, *, allow_zero: bool) -> Touch:
    """What one operation of a PATCH does to a cluster. Raises Invalid."""
    attribute, key = patching.target(operation)
    value = None if operation.op == "remove" else operation.value
    match attribute, key:
        case "node_count", None:
            count = rules.node_count(value, allow_zero=allow_zero)
            return lambda cluster: wishes.resized(cluster, None, count)
        case "health_status", None:
            status = _health_status(value)
            return lambda cluster: _with_health(cluster, status=status)
        case "health_status_reason", None:
            reasons = rules.labels(value, "health_status_reason")
            return lambda cluster: _with_health(cluster, reasons=reasons)
        case _:
            raise Invalid(
                f"The attribute {rules.shown(attribute)} of a cluster can't be changed; "
                "node_count, health_status and health_status_reason can.",
                field=attribute,
            )


def _with_health(
    cluster: Cluster, status: HealthStatus | None = None, reasons: dict[str, str] | None = None
) -> Cluster:
    wishes.refuse_deleting(cluster)
    before = cluster.health
    health = Health(status or before.status, before.reasons if reasons is None else reasons)
    return dataclasses.replace(cluster, health=health)


def _health_status(value: object) -> HealthStatus:
    try:
        return HealthStatus(HealthStatus.UNKNOWN if value is None else str(value))
    except ValueError:
        raise Invalid(
            f"health_status must be one of {', '.join(HealthStatus)}, not {rules.shown(value)}.",
            field="health_status",
        ) from None


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
