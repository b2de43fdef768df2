"""What a request makes wanted: pure functions from a cluster to the cluster as it is wanted.

They run within the transaction that writes the wish down, so each sees what was wished
before it: two changes of one cluster come one after the other, and the conductor goes for
what is wanted last. Only a cluster that is being deleted takes no wish any more.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from moorage.model.cluster import Cluster, Rotation
from moorage.model.errors import Conflict, Invalid, NotFound
from moorage.model.node import Flavor, Role
from moorage.model.nodegroup import NodeGroup
from moorage.model.status import ClusterStatus
from moorage.model.template import ClusterTemplate
from moorage.services import rules

MOST_GROUPS = 50
"""Of one cluster, the default ones and those that are being deleted included."""


def group_of(cluster: Cluster, ident: str | None) -> NodeGroup:
    """The group with that uuid or name; None: the default workers. Raises NotFound."""
    if ident is None:
        return cluster.default_worker
    for group in cluster.groups:
        if ident in {group.uuid, group.name}:
            return group
    raise NotFound(f"Cluster {cluster.name} has no node group {rules.shown(ident)}.")


def changed(cluster: Cluster, what: str) -> Cluster:
    """The cluster on its way to something else; `what` says to what, in one sentence.

    Raises Conflict once it is being deleted.
    """
    refuse_deleting(cluster)
    return replace(
        cluster,
        status=_under_way(cluster.status),
        status_reason=what,
        deadline=deadline(cluster.create_timeout),
    )


def refuse_deleting(cluster: Cluster) -> None:
    """Raises Conflict."""
    if cluster.status.deleting:
        raise Conflict(f"Cluster {cluster.name} is being deleted.")


def _under_way(status: ClusterStatus) -> ClusterStatus:
    """What was never whole is still being created."""
    created = status.verb != "CREATE" or status.complete
    return ClusterStatus.UPDATE_IN_PROGRESS if created else ClusterStatus.CREATE_IN_PROGRESS


def deleted(cluster: Cluster, forced_by: str | None = None) -> Cluster:
    """Always possible, and asking again changes nothing.

    `forced_by`: an admin who has it end also where something can't be removed.
    """
    forced_by = cluster.forced_by or forced_by
    if cluster.status is ClusterStatus.DELETE_IN_PROGRESS and forced_by == cluster.forced_by:
        return cluster
    return replace(
        cluster,
        forced_by=forced_by,
        status=ClusterStatus.DELETE_IN_PROGRESS,
        status_reason="delete" if forced_by is None else "delete by force",
        deadline=deadline(cluster.create_timeout),
    )


def with_way_back(before: Cluster, after: Cluster, *, rollback: bool) -> Cluster:
    """`after`, with what to go back to where it can't be had: what `before` wanted, or nothing.

    A wish that leaves the groups alone leaves a way back that was asked for before, too.
    """
    if after.groups == before.groups or after.status.deleting:
        return after
    return replace(after, fallback=before.groups if rollback else None)


def resized(cluster: Cluster, ident: str | None, count: int, remove: Sequence[str] = ()) -> Cluster:
    """A group with `count` nodes, those in `remove` (names or addresses) not among them.

    Where fewer are wanted than are left, the youngest go too; where more, new ones come,
    with numbers that no node of the group has, nor one that was removed and may be there
    still. Raises NotFound, Invalid, or Conflict beyond the group's own bounds.
    """
    refuse_deleting(cluster)
    group = group_of(cluster, ident)
    _refuse_out_of_bounds(group, count)
    gone = {_number_of(group, node) for node in remove}
    kept = tuple(number for number in group.ordinals if number not in gone)
    if len(group.ordinals) == count and not gone and not cluster.status.failed:
        return cluster
    removed = tuple(sorted({*group.removed, *gone}))
    if len(kept) < count:
        kept += _free_numbers({*group.ordinals, *removed}, count - len(kept))
    after = _touched(group, ordinals=kept[:count], removed=removed)
    named = [f"{group.prefix}-{number}" for number in sorted(gone)]
    without = f", without {', '.join(named)}" if named else ""
    what = f"resize: {group.name} from {group.node_count} to {count}{without}"
    return replace(changed(cluster, what), groups=_with(cluster, after))


def _refuse_out_of_bounds(group: NodeGroup, count: int) -> None:
    if group.status.deleting:
        raise Conflict(f"Node group {group.name} is being deleted.")
    if group.kind is Role.MASTER:
        rules.master_count(count)
    most = group.max_node_count
    if count < group.min_node_count or (most is not None and count > most):
        raise Conflict(
            f"Node group {group.name} can't have {count} nodes: min_node_count is "
            f"{group.min_node_count}, max_node_count {'not set' if most is None else most}."
        )


def _number_of(group: NodeGroup, node: str) -> int:
    for number, name in zip(group.ordinals, group.nodes, strict=True):
        if node in {name, group.addresses.get(name)}:
            return number
    known = ", ".join(group.nodes) or "none"
    raise Invalid(
        f"Node group {group.name} has no node {rules.shown(node)}; it has: {known}.",
        field="nodes_to_remove",
    )


def _free_numbers(taken: Collection[int], count: int) -> tuple[int, ...]:
    """The lowest ones."""
    free = (number for number in range(len(taken) + count) if number not in taken)
    return tuple(sorted(free)[:count])


def with_group(cluster: Cluster, group: NodeGroup) -> Cluster:
    """The cluster with one more group. Raises Conflict where its name is taken, or it has many."""
    if len(cluster.groups) >= MOST_GROUPS:
        raise Conflict(
            f"Cluster {cluster.name} has {len(cluster.groups)} node groups, and {MOST_GROUPS} are "
            "the most: delete one first, or resize one."
        )
    for other in cluster.groups:
        if other.name == group.name:
            raise Conflict(
                f"Cluster {cluster.name} has a node group {group.name} ({other.status})."
            )
    wanted = changed(
        cluster, f"add node group {group.name}: {group.node_count} {group.flavor.name}"
    )
    return replace(wanted, groups=(*cluster.groups, group))


def without_group(cluster: Cluster, ident: str) -> Cluster:
    """The cluster without it; it goes when its nodes are gone. Invalid for a default group."""
    refuse_deleting(cluster)
    group = group_of(cluster, ident)
    if group.is_default:
        raise Invalid(
            f"{group.name} is a default node group: it goes with its cluster, and not alone.",
            field="nodegroup",
        )
    if group.status.deleting and not cluster.status.failed:
        return cluster
    gone = replace(group, status=ClusterStatus.DELETE_IN_PROGRESS, updated_at=_now())
    wanted = changed(cluster, f"delete node group {group.name}")
    return replace(wanted, groups=_with(cluster, gone))


def with_changed_group(cluster: Cluster, ident: str, after: NodeGroup) -> Cluster:
    """The cluster with `after` in place of a group: bounds, node labels and taints change."""
    refuse_deleting(cluster)
    group = group_of(cluster, ident)
    if after == group:
        return cluster
    _refuse_out_of_bounds(after, after.node_count)
    return replace(
        changed(cluster, f"update node group {group.name}"),
        groups=_with(cluster, _touched(after)),
    )


class Overtaken(Exception):
    """The cluster has come from a template that was not read beforehand: read again."""


Formers = Mapping[str, ClusterTemplate | None]
"""The templates that a cluster and its groups are of, by uuid; None: it is gone."""


def upgraded(
    cluster: Cluster,
    template: ClusterTemplate,
    formers: Formers,
    flavors: Mapping[str, Flavor],
    *,
    ident: str | None = None,
    batch_size: int = 1,
) -> Cluster:
    """The cluster by another template, its nodes renewed a batch at a time.

    As upstream: the default groups go together; another group follows alone, to the
    cluster's own template. What a group had from its former template it has from this
    one; what it had been given itself stays. Asking again for what is wanted already
    goes on with what is on hold. `flavors`: what the provider has, by name. Raises
    Conflict for another COE, or a template that a group can't go to; Invalid for a flavor
    that is not there; Overtaken.
    """
    refuse_deleting(cluster)
    if template.coe != cluster.coe:
        raise Conflict(
            f"Cluster {cluster.name} is of {cluster.coe}, and the template of {template.coe}."
        )
    one = group_of(cluster, ident)
    if not one.is_default and template.uuid != cluster.template_uuid:
        raise Conflict(
            f"Node group {one.name} can be upgraded only to its cluster's own template, "
            f"{cluster.template_uuid}: upgrade the cluster first."
        )
    if one.status.deleting:
        raise Conflict(f"Node group {one.name} is being deleted.")
    chosen = [group for group in cluster.groups if group.is_default] if one.is_default else [one]
    if not {cluster.template_uuid, *(group.template_uuid for group in chosen)} <= formers.keys():
        raise Overtaken
    wanted = changed(cluster, f"upgrade: {_names(chosen)} to template {_called(template)}")
    groups = cluster.groups
    for group in chosen:
        groups = _put(groups, _by_template(group, template, formers, flavors))
    if one.is_default:
        labels = _upgraded_labels(cluster.labels, template, formers[cluster.template_uuid])
        wanted = replace(wanted, template_uuid=template.uuid, labels=labels)
    return replace(wanted, groups=groups, batch_size=batch_size)


def _by_template(
    group: NodeGroup,
    template: ClusterTemplate,
    formers: Formers,
    flavors: Mapping[str, Flavor],
) -> NodeGroup:
    former = formers[group.template_uuid]
    master = group.kind is Role.MASTER
    flavor, image = group.flavor, group.image_id
    given = template.master_flavor_id if master else template.flavor_id
    if former is not None:
        had = former.master_flavor_id if master else former.flavor_id
        if flavor.name == had:
            flavor = _flavor(given, flavor, flavors)
        if image == former.options.get("image_id"):
            offered = template.options.get("image_id")
            image = str(offered) if offered is not None else None
    labels = _upgraded_labels(group.labels, template, former)
    before = group.former_uuid or group.template_uuid
    return _touched(
        group,
        template_uuid=template.uuid,
        former_uuid=None if before == template.uuid else before,
        held=False,
        flavor=flavor,
        image_id=image,
        labels=labels,
    )


def _flavor(name: str, now: Flavor, flavors: Mapping[str, Flavor]) -> Flavor:
    """What is in use stays as it is also where an admin has taken it from the catalogue."""
    if name not in flavors and name != now.name:
        known = ", ".join(sorted(flavors))
        raise Invalid(f"There is no flavor {name}; there is: {known}.", field="flavor_id")
    return flavors.get(name, now)


def _upgraded_labels(
    labels: Mapping[str, str], template: ClusterTemplate, former: ClusterTemplate | None
) -> dict[str, str]:
    old = former.labels if former is not None else {}
    own = {key: value for key, value in labels.items() if old.get(key) != value}
    skipped = old.keys() - labels.keys()
    offered = {key: value for key, value in template.labels.items() if key not in skipped}
    return {**offered, **own}


def rotating_ca(cluster: Cluster) -> Cluster:
    """The cluster on its way to another CA; one that is being exchanged goes on as it is."""
    refuse_deleting(cluster)
    if cluster.rotation is not None and not cluster.status.failed:
        return cluster
    return replace(changed(cluster, "rotate the CA"), rotation=cluster.rotation or Rotation.TRUST)


def with_new_credentials(cluster: Cluster) -> Cluster:
    """What members join with is exchanged."""
    return replace(changed(cluster, "rotate credentials"), credentials=cluster.credentials + 1)


def deadline(minutes: int) -> datetime.datetime:
    return _now() + datetime.timedelta(minutes=minutes)


def _touched(group: NodeGroup, **values: object) -> NodeGroup:
    return replace(
        group,
        status=_under_way(group.status),
        status_reason=None,
        updated_at=_now(),
        **values,  # type: ignore[arg-type]
    )


def _with(cluster: Cluster, after: NodeGroup) -> tuple[NodeGroup, ...]:
    return _put(cluster.groups, after)


def _put(groups: Collection[NodeGroup], after: NodeGroup) -> tuple[NodeGroup, ...]:
    return tuple(after if group.uuid == after.uuid else group for group in groups)


def _names(groups: Sequence[NodeGroup]) -> str:
    return " and ".join(group.name for group in groups)


def _called(template: ClusterTemplate) -> str:
    return template.name or template.uuid


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
