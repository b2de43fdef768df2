"""Flavors that are too small for what a COE itself runs on a node, before its tenant does.

Its driver knows how much that is (`Needs`). A node that has less starts all the same, and is
short of it later: its programs are ended, or never get ready. So it is refused beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator

from moorage.model.cluster import Cluster
from moorage.model.errors import Invalid
from moorage.model.node import Flavor, Least, Role
from moorage.model.nodegroup import NodeGroup
from moorage.services.offers import Shelf

FIELDS = {Role.MASTER: "master_flavor_id", Role.WORKER: "flavor_id"}
"""The API's field that names the flavor of each."""


def refuse_small(coe: str, role: Role, least: Least, flavor: Flavor, shelf: Shelf) -> None:
    """Raises Invalid, with what it needs, what the flavor has, and which ones will do."""
    if least.fits(flavor):
        return
    good = ", ".join(name for name, each in shelf.flavors().items() if least.fits(each))
    raise Invalid(
        f"A {coe} {role} takes {least.memory_mib} MiB of memory and {least.pids} processes, and "
        f"flavor {flavor.name} has {flavor.memory_mib} MiB and {flavor.pids}: "
        + (f"choose one of {good}." if good else "an admin has to add a larger one."),
        field=FIELDS[role],
    )


def changed(before: Cluster | None, after: Cluster) -> Iterator[NodeGroup]:
    """The groups that are to get nodes, or nodes of another flavor.

    What is there already was accepted once, and may be all that its tenant needs. So is what a
    group goes back to while nodes of its former template may be left.
    """
    there = {group.uuid: group for group in before.groups} if before else {}
    for group in after.groups:
        had = there.get(group.uuid)
        same = had and (
            (had.flavor == group.flavor or had.former_uuid == group.template_uuid)
            and set(group.nodes) <= set(had.nodes)
        )
        if group.nodes and not same:
            yield group
