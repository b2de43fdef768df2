"""Clusters and their groups as tests need them, in few words."""

from __future__ import annotations

import dataclasses
from typing import Any

from moorage.model.cluster import Cluster, ClusterSpec, ClusterStatus, GroupSpec
from moorage.model.node import Flavor, Role
from moorage.model.nodegroup import NodeGroup
from moorage.model.ports import Authority

TINY = Flavor("tiny", vcpus=1, memory_mib=512, disk_gib=2, pids=2048)


def group(name: str = "gpu", count: int = 1, **fields: Any) -> NodeGroup:
    """A node group; a default one by its name. Its uuid is `uuid-of-<name>`."""
    default = name.startswith("default-")
    word = name.removeprefix("default-")
    made = NodeGroup(
        uuid=f"uuid-of-{name}",
        name=name,
        prefix=word,
        role=word if default else "worker",
        flavor=TINY,
        ordinals=tuple(range(count)),
        template_uuid="t",
    )
    return dataclasses.replace(made, **fields)


def groups(masters: int = 1, workers: int = 2, **fields: Any) -> tuple[NodeGroup, ...]:
    """The two default groups."""
    return (
        group("default-master", masters, **fields),
        group("default-worker", workers, **fields),
    )


def cluster(masters: int = 1, workers: int = 2, *more: NodeGroup, **fields: Any) -> Cluster:
    """A cluster with the default groups, and `more`, all in its status."""
    status = ClusterStatus(fields.get("status", "CREATE_IN_PROGRESS"))
    made = Cluster(
        uuid="o",
        project_id="p",
        user_id="u",
        name="c",
        template_uuid="t",
        coe="fake",
        provider="fake",
        create_timeout=60,
        groups=(*groups(masters, workers, status=status), *more),
    )
    return dataclasses.replace(made, **{**fields, "status": status})


def spec(
    authority: Authority,
    masters: int = 1,
    workers: int = 2,
    *more: GroupSpec,
    flavor: Flavor = TINY,
    master_flavor: Flavor | None = None,
    **fields: Any,
) -> ClusterSpec:
    """What a driver is told of such a cluster. Its groups are of revision `r1`."""
    made = ClusterSpec(
        uuid="5f0c1c1e-0000-4000-8000-000000000000",
        name="web",
        coe="fake",
        groups=(
            spec_group("default-master", masters, master_flavor or flavor),
            spec_group("default-worker", workers, flavor),
            *more,
        ),
        authority=authority,
    )
    return dataclasses.replace(made, **fields)


def resized(of: ClusterSpec, **counts: int) -> ClusterSpec:
    """`masters`, `workers`: so many in the default group."""
    sizes = {f"default-{kind.removesuffix('s')}": count for kind, count in counts.items()}
    groups = (
        dataclasses.replace(group, nodes=spec_group(group.name, sizes[group.name]).nodes)
        if group.name in sizes
        else group
        for group in of.groups
    )
    return dataclasses.replace(of, groups=tuple(groups))


def spec_group(name: str, count: int, flavor: Flavor = TINY, **fields: Any) -> GroupSpec:
    prefix = name.removeprefix("default-")
    made = GroupSpec(
        name=name,
        role=Role.MASTER if name == "default-master" else Role.WORKER,
        flavor=flavor,
        nodes=tuple(f"{prefix}-{number}" for number in range(count)),
        revision="r1",
    )
    return dataclasses.replace(made, **fields)
