"""Node groups of a cluster: who may do what with them."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from moorage.model.caller import Caller, Permission
from moorage.model.cluster import Cluster
from moorage.model.errors import Invalid
from moorage.model.nodegroup import MASTER_ROLE, NodeGroup, prefix_for
from moorage.model.page import Page
from moorage.services import options, patching, rules, wishes
from moorage.services.access import require
from moorage.services.catalogue import Catalogue
from moorage.services.clusters import ClusterService
from moorage.services.labels import differences, laid_over
from moorage.services.offers import Shelf
from moorage.services.requests import NewNodeGroup, PatchOp

SORT_KEYS = (
    "id",
    "uuid",
    "name",
    "role",
    "node_count",
    "flavor_id",
    "image_id",
    "status",
    "created_at",
    "updated_at",
)
CHANGEABLE = ("min_node_count", "max_node_count", "node_labels", "node_taints")


class NodeGroupService:
    """`cluster` and `ident` are uuids or names. Raises as ClusterService does."""

    def __init__(self, clusters: ClusterService, catalogue: Catalogue) -> None:
        self._clusters = clusters
        self._catalogue = catalogue

    async def create(
        self, caller: Caller, cluster: str, new: NewNodeGroup
    ) -> tuple[Cluster, NodeGroup]:
        """Raises Invalid, QuotaExceeded, NoRoom; Conflict for a name that is taken."""
        require(caller, Permission.MEMBER)
        owner = await self._clusters.get(caller, cluster)
        shelf = await self._catalogue.shelf(owner.provider)
        ident = str(uuid.uuid4())

        def wish(cluster: Cluster) -> Cluster:
            group = _wanted(cluster, new, ident, shelf)
            added = differences(cluster.labels, group.labels).added
            said = self._catalogue.said_of_labels(cluster.coe, added)
            return _reported(wishes.with_group(cluster, group), said)

        after = await self._clusters.wish(caller, owner.uuid, wish)
        return after, wishes.group_of(after, ident)

    async def get(self, caller: Caller, cluster: str, ident: str) -> tuple[Cluster, NodeGroup]:
        owner = await self._clusters.get(caller, cluster)
        return owner, wishes.group_of(owner, ident)

    async def list(
        self, caller: Caller, cluster: str, page: Page, role: str | None = None
    ) -> tuple[Cluster, list[NodeGroup]]:
        """Those of `role`, or all. Raises Invalid (field `marker` or `sort_key`)."""
        owner = await self._clusters.get(caller, cluster)
        if page.sort_key not in SORT_KEYS:
            raise Invalid(
                f"Can't sort by {page.sort_key!r}: sort_key is one of {', '.join(SORT_KEYS)}.",
                field="sort_key",
            )
        numbered = list(enumerate(owner.groups))
        numbered.sort(
            key=lambda one: (*_order(one[1], page.sort_key), one[0]),
            reverse=page.sort_dir == "desc",
        )
        groups = [group for _, group in numbered if role in {None, group.role}]
        return owner, _after(groups, page.marker)[: page.size]

    async def update(
        self, caller: Caller, cluster: str, ident: str, patch: Sequence[PatchOp]
    ) -> tuple[Cluster, NodeGroup]:
        """PATCH of its bounds, node labels and taints; all or nothing."""
        patching.refuse_too_many(len(patch))

        def wish(cluster: Cluster) -> Cluster:
            after = wishes.group_of(cluster, ident)
            for operation in patch:
                after = _patched(after, operation)
            _bounds(after.min_node_count, after.max_node_count)
            rules.refuse_large("node_labels", after.labels, after.node_labels, after.node_taints)
            return wishes.with_changed_group(cluster, ident, after)

        owner = await self._clusters.wish(caller, cluster, wish)
        return owner, wishes.group_of(owner, ident)

    async def delete(self, caller: Caller, cluster: str, ident: str) -> tuple[Cluster, NodeGroup]:
        """It goes once its nodes are gone. Invalid for a default group."""
        owner = await self._clusters.wish(
            caller, cluster, lambda owner: wishes.without_group(owner, ident)
        )
        return owner, wishes.group_of(owner, ident)


def _wanted(cluster: Cluster, new: NewNodeGroup, ident: str, shelf: Shelf) -> NodeGroup:
    """What it doesn't name it has from the cluster's workers as they are wanted by now."""
    workers, name = cluster.default_worker, rules.group_name(new.name)
    labels = laid_over(cluster.labels, rules.labels(new.labels), merge=new.merge_labels)
    node_labels, taints = rules.node_labels(new.node_labels), rules.taints(new.node_taints)
    rules.refuse_large("labels", labels, node_labels, taints)
    volume = options.volume_size(new.docker_volume_size)
    count = rules.node_count(new.node_count, allow_zero=True)
    least, most = _bounds(new.min_node_count or 0, new.max_node_count or None)
    if count < least or (most is not None and count > most):
        raise Invalid(
            f"node_count must be from {least} to {'any' if most is None else most}, not {count}.",
            field="node_count",
        )
    shelf.check({"image_id": new.image_id})
    return NodeGroup(
        uuid=ident,
        name=name,
        prefix=prefix_for(name, {other.prefix for other in cluster.groups}),
        role=_role(new.role),
        flavor=workers.flavor if new.flavor_id is None else shelf.flavor(new.flavor_id),
        ordinals=tuple(range(count)),
        template_uuid=cluster.template_uuid,
        image_id=new.image_id or workers.image_id,
        min_node_count=least,
        max_node_count=most,
        docker_volume_size=volume or workers.docker_volume_size,
        labels=labels,
        merge_labels=new.merge_labels,
        node_labels=node_labels,
        node_taints=taints,
        created_at=datetime.datetime.now(datetime.UTC),
    )


def _reported(cluster: Cluster, said: str | None) -> Cluster:
    """The cluster with what is said of the group's own labels, where some have no effect."""
    if said is None:
        return cluster
    return dataclasses.replace(cluster, status_reason=f"{cluster.status_reason}. {said}")


def _order(group: NodeGroup, key: str) -> tuple[bool, Any]:
    value = {"id": 0, "flavor_id": group.flavor.name}.get(key, getattr(group, key, None))
    return value is not None, value


def _after(groups: list[NodeGroup], marker: str | None) -> list[NodeGroup]:
    if marker is None:
        return groups
    for place, group in enumerate(groups):
        if group.uuid == marker:
            return groups[place + 1 :]
    raise Invalid(f"The marker {marker!r} was not found.", field="marker")


def _role(role: str | None) -> str:
    if role == MASTER_ROLE:
        raise Invalid(
            "The role master is the default group's: resize that one for more masters.",
            field="role",
        )
    return "worker" if role is None else rules.role(role)


def _bounds(least: int, most: int | None) -> tuple[int, int | None]:
    """`most` None: no bound; clients also write 0 for that, as upstream."""
    if not 0 <= least <= rules.MOST_NODES:
        raise Invalid(
            f"min_node_count must be from 0 to {rules.MOST_NODES}, not {least}.",
            field="min_node_count",
        )
    if most is not None and not max(least, 1) <= most <= rules.MOST_NODES:
        raise Invalid(
            f"max_node_count must be from {max(least, 1)} to {rules.MOST_NODES}, not {most}.",
            field="max_node_count",
        )
    return least, most


def _patched(group: NodeGroup, operation: PatchOp) -> NodeGroup:
    attribute, key = patching.target(operation)
    value = None if operation.op == "remove" else operation.value
    match attribute, key:
        case "min_node_count", None:
            least = 0 if value is None else rules.integer(value, attribute)
            return dataclasses.replace(group, min_node_count=least)
        case "max_node_count", None:
            most = None if value is None else rules.integer(value, attribute)
            return dataclasses.replace(group, max_node_count=most or None)
        case "node_labels", None:
            return dataclasses.replace(group, node_labels=rules.node_labels(value))
        case "node_labels", str():
            return dataclasses.replace(group, node_labels=_with_label(group, key, operation))
        case "node_taints", None:
            return dataclasses.replace(group, node_taints=rules.taints(value))
        case "node_count", None:
            raise Invalid(
                "The node_count of a node group is changed by the cluster's resize action.",
                field=attribute,
            )
        case _:
            raise Invalid(
                f"The attribute {rules.shown(attribute)} of a node group can't be changed; "
                f"{', '.join(CHANGEABLE)} can.",
                field=attribute,
            )


def _with_label(group: NodeGroup, key: str, operation: PatchOp) -> dict[str, str]:
    changed: dict[str, object] = dict(group.node_labels)
    if operation.op != "remove":
        changed[key] = operation.value
    elif changed.pop(key, None) is None:
        raise Invalid(f"There is no node label {rules.shown(key)} to remove.", field="node_labels")
    return rules.node_labels(changed)
