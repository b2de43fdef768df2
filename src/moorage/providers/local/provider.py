"""LocalProvider: the order in which a node is made and taken away.

Made:        directory -> slot -> marks -> network -> root -> runc create -> cgroup ->
             link -> port -> runc start
Taken away:  processes -> cgroups -> link -> root -> (the last node: network, slot; another
             master: its being one) -> marks -> directory

Killed after any arrow, the node is still listed by `observe` (as BROKEN or STOPPED),
and `ensure` or `delete` goes on from there; a node that runs has all that it needs, its
way in from outside included, for nobody ensures it again. Choosing a slot and an index, and closing
the network behind the last node, is done by one task a cluster at a time; the slow
rest runs side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

from moorage.model.errors import NoRoom, Refused, RetryLater
from moorage.model.node import NodeRef, NodeSpec, NodeState, ObservedNode, Role
from moorage.model.ports import NodeNetwork
from moorage.providers.local import bundle, cgroups, disk, remains, trees, userns
from moorage.providers.local.host import LocalHost
from moorage.providers.local.place import Marks, Place, Places, promised_mib
from moorage.providers.local.runtime import Init, Runc
from moorage.providers.local.slots import Slots, subid
from moorage.providers.local.watch import Watch
from moorage.threads import to_its_end

NODES_A_CLUSTER = 253
SPARE_DISK = 1 << 30
"""Bytes that stay free on the machine's disk whatever is asked."""


class LocalProvider:
    """Nodes on this machine, their directories in `nodes`.

    `install` names what belongs to this Moorage on it; `home` names the two of them among
    those that share a database.
    """

    name: ClassVar[str] = "local"

    def __init__(
        self,
        *,
        install: str,
        home: str = "",
        nodes: Path,
        network: NodeNetwork,
        slots: Slots,
        memory_mib: int,
    ) -> None:
        self.home = home or install
        self._install = install
        self._places = Places(nodes)
        self._network = network
        self._slots = slots
        self._memory_mib = memory_mib
        self._runc = Runc(install)
        self._watch = Watch()
        self._locks: WeakValueDictionary[NodeRef | str, asyncio.Lock] = WeakValueDictionary()
        self._opened: set[str] = set()
        """Clusters whose network this process has made or repaired; others may be half there."""
        self._masters: dict[str, tuple[str, ...]] = {}
        """By cluster: the addresses of its nodes that expose a port, as their marks said last.
        To them each look of the watch compares, for it can't read all marks each time."""
        self._promised = promised_mib(self._places)

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        place = self._places.of(NodeRef(spec.owner, spec.name))
        async with self._one_at_a_time(place.ref):
            async with self._one_at_a_time(spec.owner):
                marks = await self._renewed(place, spec) or self._settle(place, spec)
                await self._open(spec.owner, marks.slot)
            init = self._runc.init(place.container)
            if init is None or init.created_only:
                await self._boot(place, spec, marks)
            elif not self._network.attached(marks.slot, marks.index):
                await self._network.attach(spec.owner, marks.slot, spec.name, marks.index, init.pid)
        if spec.expose:
            await self._publish(place.ref.owner)
        return await self._look(place)

    async def observe(self, owner: str) -> list[ObservedNode]:
        self._note_masters(owner)
        return [await self._look(place, turn=True) for place in self._all(owner)]

    async def delete(self, ref: NodeRef) -> None:
        place = self._places.of(ref)
        async with self._one_at_a_time(ref):
            marks = await self._delete(place)
        if marks and marks.expose and place.home.exists():
            await self._publish(ref.owner)

    async def publish(self, ref: NodeRef) -> None:
        """Publishes."""
        async with self._one_at_a_time(ref.owner):
            for place, marks, port in self._note_masters(ref.owner):
                if place.ref == ref:
                    return await self._lead(ref.owner, marks, port)
        raise RetryLater(f"node {ref.name} is not there, and its cluster's port can't lead to it")

    def host(self, ref: NodeRef) -> LocalHost:
        return LocalHost(self._runc, self._places.of(ref).container, ref.name)

    async def room_for(self, specs: Iterable[NodeSpec]) -> None:
        """HasRoom: memory that is promised to nodes, and the disk that is free now."""
        asked = [spec for spec in specs if NodeRef(spec.owner, spec.name) not in self._promised]
        memory = sum(spec.flavor.memory_mib for spec in asked)
        left = self._memory_mib - sum(self._promised.values())
        if memory > left:
            raise NoRoom(
                f"{len(asked)} nodes of {memory} MiB in all were asked for, and of this "
                f"machine's {self._memory_mib} MiB only {max(left, 0)} MiB are not promised yet: "
                "delete a cluster, or ask for fewer or smaller nodes"
            )
        disk = sum(spec.flavor.disk_gib for spec in asked) << 30
        free = shutil.disk_usage(_existing(self._places.nodes)).free - SPARE_DISK
        if disk > free:
            raise NoRoom(
                f"{len(asked)} nodes of {disk >> 30} GiB of disk in all were asked for, and this "
                f"machine has {max(free, 0) >> 30} GiB left: free some, or ask for fewer nodes"
            )

    def changes(self) -> AsyncIterator[str]:
        """Watches: the owner of each node whose pid 1 ended, or whose disk is full, or no more.

        And of each whose network lost its guards.
        """
        return self._watch.changes()

    @property
    def addresses(self) -> list[IPv4Network]:
        """HasAddresses: the pool that each cluster has a part of, and the name servers."""
        return [self._network.pool, *bundle.name_servers(bundle.resolvers())]

    def refuse_other_pool(self) -> None:
        """Raises Refused where there are nodes whose addresses are not of the pool.

        Nothing could reach them, nor could they each other: engines know their members, and
        clusters their ranges, by the addresses that the nodes were made with.
        """
        for owner in self._places.owners():
            for place in self._places.all(owner):
                marks = place.marks()
                if marks and marks.address and marks.address != self._address_by_now(marks):
                    raise Refused(
                        f"node {place.ref.name} of cluster {owner} has the address "
                        f"{marks.address}, which it would not have in the pool "
                        f"{self._network.pool}: start with the former --pool (10.128.0.0/12, if "
                        "none was said), and change it when this machine's clusters are deleted"
                    )

    async def sweep(self) -> None:
        """Remove what is left when no node is: the empty directories of the install."""
        for owner in self.owners():
            await self.clear(owner)
        with contextlib.suppress(OSError):
            self._places.nodes.rmdir()

    def owners(self) -> list[str]:
        """Every cluster that has something on this machine."""
        homes = (home for home in self._slots.homes() if home.parent == self._places.nodes)
        found = {*self._places.owners(), *(home.name for home in homes)}
        return sorted(found | remains.owners(self._install, self._runc.root))

    async def owned(self) -> list[str]:
        """Traces: as `owners`."""
        return self.owners()

    async def traces(self, owner: str) -> list[str]:
        home = self._places.home(owner)
        found = [f"node {n.name}: {n.state}" for n in await self.observe(owner)]
        if home.exists():
            found.append(f"directory {home}")
        if (slot := self._slots.of(home)) is not None:
            network, port = self._network.address(slot, 0), self._network.endpoint(slot)
            found.append(f"slot {slot}: the network of {network}, published at {port}")
        return found

    async def clear(self, owner: str) -> None:
        async with self._one_at_a_time(owner):
            if self._all(owner):
                return
            home = self._places.home(owner)
            if (slot := self._slots.of(home)) is not None:
                self._opened.discard(owner)
                await self._network.close(slot)
                self._slots.release(slot, home)
            await to_its_end(remains.forget, self._runc.root, owner)
            with contextlib.suppress(OSError):
                home.rmdir()

    def _all(self, owner: str) -> list[Place]:
        """Its nodes, by their directories, and by their cgroups where those are gone."""
        found = {place.ref.name for place in self._places.all(owner)}
        names = found | remains.nodes(self._install, owner)
        return [self._places.of(NodeRef(owner, name)) for name in sorted(names)]

    def _one_at_a_time(self, what: NodeRef | str) -> asyncio.Lock:
        """The lock of a node, or of a cluster; a node's is taken first."""
        return self._locks.setdefault(what, asyncio.Lock())

    async def _renewed(self, place: Place, spec: NodeSpec) -> Marks | None:
        """What is written on the node, if anything: of another revision, it is written anew.

        The node ends first: its limits come from what is written, when it starts.
        """
        marks = place.marks()
        if marks is None:
            return None
        if spec.revision in {"", marks.revision}:
            return self._addressed(place, marks)
        self._refuse_memory(spec, spec.flavor.memory_mib - marks.memory_mib)
        await self._end(place)
        marks = self._marks(spec, marks.slot, marks.index)
        place.write(bundle.config(place, spec, marks))
        self._promised[place.ref] = marks.memory_mib
        return marks

    def _addressed(self, place: Place, marks: Marks) -> Marks:
        """The marks with the node's address, which those of before lack: written down by now."""
        if not marks.address:
            marks = replace(marks, address=self._address(marks))
            place.mark(marks)
        return marks

    def _refuse_memory(self, spec: NodeSpec, more: int) -> None:
        left = self._memory_mib - sum(self._promised.values())
        if more > left:
            raise NoRoom(
                f"node {spec.name} needs {more} MiB more of memory, and of this "
                f"machine's {self._memory_mib} MiB only {max(left, 0)} MiB are not promised yet"
            )

    def _settle(self, place: Place, spec: NodeSpec) -> Marks:
        """Choose the node's share of the machine and write it on the node."""
        self._places.nodes.mkdir(mode=0o711, parents=True, exist_ok=True)
        used = {marks.index for other in self._places.all(spec.owner) if (marks := other.marks())}
        index = next(index for index in range(len(used) + 1) if index not in used)
        if index >= NODES_A_CLUSTER:
            raise NoRoom(f"a cluster on one machine has {NODES_A_CLUSTER} nodes at the most")
        self._refuse_memory(spec, spec.flavor.memory_mib)
        place.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        slot = self._slots.claim(place.home)
        marks = self._marks(spec, slot, index)
        place.write(bundle.config(place, spec, marks))
        self._promised[place.ref] = marks.memory_mib
        return marks

    def _marks(self, spec: NodeSpec, slot: int, index: int) -> Marks:
        address = self._network.address(slot, index)
        return Marks.of(spec, install=self._install, slot=slot, index=index, address=address)

    async def _open(self, owner: str, slot: int) -> None:
        """Open the cluster's network, unless it is whole; what is there is asked, not remembered.

        The cluster's lock is held.
        """
        known = owner in self._opened and self._network.in_use(slot)
        if not known or await self._network.trouble(slot, None):
            await self._network.open(owner, slot)
            self._opened.add(owner)

    async def _boot(self, place: Place, spec: NodeSpec, marks: Marks) -> None:
        group = await self._end(place)  # what a reboot or a crash left of it
        if not place.root.exists():
            await trees.remove(place.draft)
        await to_its_end(bundle.lay_root, place, spec, marks, bundle.resolvers())
        async with userns.lent(place.userns, subid(marks.slot)):
            init = await self._runc.create(place.container, place.directory)
        cgroups.hand_over(group, subid(marks.slot))
        await self._network.attach(spec.owner, marks.slot, spec.name, marks.index, init.pid)
        if spec.expose:
            await self._publish(spec.owner, coming=place)
        await self._runc.start(place.container, place.directory)

    async def _delete(self, place: Place) -> Marks | None:
        """Delete it, and tell what was written on it."""
        ref, marks = place.ref, place.marks()
        await cgroups.remove(await self._end(place))
        if marks and self._slots.holds(marks.slot, place.home):
            await self._network.detach(marks.slot, marks.index)
        # Not its marks yet. It has no process left, so nothing is mounted; and half a root,
        # should this be cut off, is not called a root.
        await trees.remove(place.draft)
        with contextlib.suppress(FileNotFoundError):
            place.root.rename(place.draft)
        await trees.remove(place.draft)
        async with self._one_at_a_time(ref.owner):
            if all(other == place for other in self._all(ref.owner)):
                await self._leave(place, marks)
            elif marks and marks.expose and self._slots.holds(marks.slot, place.home):
                # While its index is not free yet: who gets it is no master by that.
                await self._network.dismiss(marks.slot, self._address(marks))
            place.config.unlink(missing_ok=True)
            if marks and marks.expose:
                self._note_masters(ref.owner)
            await trees.remove(place.directory)
            with contextlib.suppress(OSError):  # neighbours live there
                place.home.rmdir()
        self._promised.pop(ref, None)
        return marks

    async def _end(self, place: Place) -> str:
        """End all that runs of the node; its cgroup, which is still there."""
        await self._runc.destroy(place.container)
        group = cgroups.path(self._install, place.ref.owner, place.ref.name)
        await cgroups.clear(group)
        return group

    async def _leave(self, place: Place, marks: Marks | None) -> None:
        """Close what the cluster had on this machine, before its last node's marks go."""
        slot = marks.slot if marks else self._slots.of(place.home)
        if slot is not None and self._slots.holds(slot, place.home):
            self._opened.discard(place.ref.owner)
            self._masters.pop(place.ref.owner, None)
            await self._network.close(slot)
            self._slots.release(slot, place.home)

    async def _publish(self, owner: str, *, coming: Place | None = None) -> None:
        """Lead the cluster's port to where it leads, if that node runs; else to the first that
        runs and exposes one; where none does, to where it leads still, or to one that is `coming`.
        """
        async with self._one_at_a_time(owner):  # else it may name one that is deleted meanwhile
            masters = self._note_masters(owner)
            led = await self._network.led_to(masters[0][1].slot) if masters else ""
            up = [each for each in masters if _runs(self._runc.init(each[0].container))]
            first = [each for each in masters if self._address(each[1]) == led]
            usable = [each for each in first if each in up] or up or first
            if usable := usable or [each for each in masters if each[0] == coming]:
                await self._lead(owner, *usable[0][1:])

    async def _lead(self, owner: str, marks: Marks, port: int) -> None:
        address = self._address(marks)
        await self._network.publish(marks.slot, address, port, self._masters[owner])

    def _note_masters(self, owner: str) -> list[tuple[Place, Marks, int]]:
        """The cluster's nodes that expose a port, which are its masters to the network."""
        found = [
            (place, marks, marks.expose)
            for place in self._places.all(owner)
            if (marks := place.marks()) and marks.expose
        ]
        if found:
            self._masters[owner] = tuple(self._address(marks) for _, marks, _ in found)
        else:
            self._masters.pop(owner, None)
        return found

    async def _look(self, place: Place, *, turn: bool = False) -> ObservedNode:
        """`turn`: a turn will know of what is seen, so that only what differs is told."""
        marks = place.marks()
        if marks is None or not place.root.exists():
            half = "it was made or deleted half"
            role = marks.role if marks else Role.WORKER  # unknown, and of no account: it goes
            return ObservedNode(place.ref, role, NodeState.BROKEN, reason=half)
        init = self._runc.init(place.container)
        if init:
            self._watch.over(place.ref.owner, init, partial(self._troubles, place, marks))
        running, lost = _runs(init), ""
        if not running:
            reason = "its first process is gone"
        elif not self._network.attached(marks.slot, marks.index):
            reason = lost = "its network link is gone, down or not whole"
        else:
            lost, full = troubles = await self._troubles(place, marks)
            reason = lost or full
            if init and turn:
                self._watch.seen(init, troubles)
        return ObservedNode(
            place.ref,
            marks.role,
            NodeState.RUNNING if running else NodeState.STOPPED,
            address=self._address(marks),
            revision=marks.revision,
            endpoint=self._network.endpoint(marks.slot) if marks.expose else None,
            reason=reason,
            mendable=bool(lost),
            published=bool(marks.expose) and await self._is_published(marks),
        )

    async def _is_published(self, marks: Marks) -> bool:
        return await self._network.led_to(marks.slot) == self._address(marks)

    def _address(self, marks: Marks) -> str:
        return self._network.address(marks.slot, marks.index)

    def _address_by_now(self, marks: Marks) -> str:
        """Empty where the pool has no such slot."""
        try:
            return self._address(marks)
        except ValueError:
            return ""

    async def _troubles(self, place: Place, marks: Marks) -> tuple[str, str]:
        """What is wrong with a node that runs: with its network's guards, and with its disk."""
        masters = self._masters.get(place.ref.owner, ()) if marks.expose else ()
        lost = await self._network.trouble(marks.slot, marks.expose, masters)
        return lost, disk.trouble(place.root)


def _runs(init: Init | None) -> bool:
    return init is not None and not init.created_only


def _existing(path: Path) -> Path:
    """The nearest directory that is there already."""
    while not path.exists():
        path = path.parent
    return path
