"""Doing one step of a Kubernetes plan. Every act may be done again, and after any interruption."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

from moorage.clients.docker_wire import plain
from moorage.clients.kubernetes import ApiRefused, ApiServer, ApiSilent, Etcd, Way
from moorage.clients.kubernetes_wire import EtcdMember, NodeObject
from moorage.drivers.hostnames import hostname
from moorage.drivers.kubernetes import (
    access,
    control_plane,
    hosting,
    laying,
    marking,
    script,
)
from moorage.drivers.kubernetes import steps as verbs
from moorage.drivers.kubernetes.addresses import ranges
from moorage.drivers.kubernetes.hosting import runs_pods
from moorage.drivers.kubernetes.naming import DRAINED, LAID, Marks, marks, version
from moorage.drivers.kubernetes.place import NOTHING, Given, Place, group_of, place_of
from moorage.drivers.kubernetes.versions import Fact
from moorage.model.cluster import ClusterSpec
from moorage.model.errors import RetryLater
from moorage.model.node import Role
from moorage.model.plan import RESTART, Step
from moorage.model.ports import Completed, Member, Members

S = TypeVar("S")
T = TypeVar("T")

SCRIPT_SECONDS = 40.0
API_SECONDS = 60.0
"""An API server answers 3 to 5 s after its start, on a machine that has nothing else to do."""
NODE_SECONDS = 40.0
BRIEF_SECONDS = 6.0
"""A kubelet that runit starts again answers within 3."""
ANSWER_SECONDS = 15.0
PROMOTE_SECONDS = 40.0
DRAIN_SECONDS = 60.0
"""After which a drain has had its time: most pods have 30 s to end."""
SHORT, LONG = 0.1, 0.5
"""Seconds between two questions."""


@dataclass(frozen=True, slots=True)
class Acts:
    """The acts on one cluster."""

    way: Way
    cluster: ClusterSpec
    members: Members
    given: Given = NOTHING

    async def perform(self, step: Step) -> None:
        """Raises RetryLater, with the cause; ValueError for a verb that is not ours."""
        if step.verb not in _ACTS:
            raise ValueError(f"not a step of this driver: {step}")
        await _ACTS[step.verb](self, step)

    # A node's programs

    async def _start(self, step: Step) -> None:
        name, etcd = step.node, step.detail.get("etcd", script.WAIT)
        place = self._place(name, step.detail["version"])
        purpose = script.RESTART if RESTART in step.detail else script.START
        await self._lay(place, name, purpose, etcd, {place.hostname: place.address})

    async def _trust(self, step: Step) -> None:
        await self._start(step)
        self.way.renew(self.cluster.uuid)
        role = self._member(step.node).node.role
        if runs_pods(self.cluster, role):
            await self._await_kubelet(step)
        if role is Role.MASTER:
            await self._await_api(step.node)

    async def _await_kubelet(self, step: Step) -> None:
        """Until it shows the certificate that it has by now."""
        kubelet = self.way.kubelet(
            self.cluster.uuid, self.cluster.authority, step.node, self._address(step.node)
        )
        end = monotonic() + NODE_SECONDS
        while True:
            reason = f"{kubelet} shows its former certificate still"
            try:
                if await kubelet.ping() == self.cluster.authority.revision:
                    break
            except ApiSilent as silence:
                reason = silence.reason
            if monotonic() > end:
                raise RetryLater(reason)
            self.way.renew(self.cluster.uuid)
            await asyncio.sleep(LONG)

    async def _lay(
        self,
        place: Place,
        name: str,
        purpose: str,
        etcd: str,
        initial: Mapping[str, str],
    ) -> None:
        laid = laying.lay(place, self._marks(name, place.version), self.cluster.authority)
        joining = etcd == script.FRESH
        files = {**laid.files, **script.extras(place)}
        if place.is_master:
            files[control_plane.INITIAL] = control_plane.initial(initial, joining=joining)
        done = await self._run(name, purpose, etcd, laid, place, stdin=laying.archive(files))
        self._refuse(name, done, "could not be started")

    async def _join(self, name: str, version: str) -> None:
        place = self._place(name, version)
        first, later = laying.services(place, self._marks(name, version))
        laid = laying.Laid({}, first, later)
        done = await self._run(name, script.JOIN, script.DATA, laid, place)
        self._refuse(name, done, "could not be joined")

    async def _run(
        self,
        name: str,
        purpose: str,
        etcd: str,
        laid: laying.Laid,
        place: Place,
        *,
        stdin: bytes = b"",
    ) -> Completed:
        lists = [" ".join(each.name for each in some) for some in (laid.first, laid.later)]
        lists += [script.needs(place), script.PODS if place.runs_pods else script.NO_PODS]
        lists.append(script.unfit(place))
        argv = ["/bin/sh", "-c", script.SCRIPT, "sh", purpose, etcd, *lists]
        return await self._member(name).host.run(argv, stdin=stdin, timeout=SCRIPT_SECONDS)

    def _refuse(self, name: str, done: Completed, what: str) -> None:
        if done.returncode:
            said = plain(done.stderr.decode(errors="replace"), 300)
            raise RetryLater(f"node {name} {what}: {said or 'no message'}")

    # Masters

    async def _await_api(self, name: str) -> None:
        server = self._api(name)
        self.way.renew(self.cluster.uuid)
        end = monotonic() + API_SECONDS
        while True:
            try:
                shown, trouble = await server.ready()
            except ApiSilent as silence:
                shown, trouble = "", silence.reason
            else:
                if not trouble and shown == self.cluster.authority.revision:
                    return
                if not trouble:
                    trouble = "it shows its former certificate still"
                    self.way.renew(self.cluster.uuid)
            if monotonic() > end:
                said = await self._last_words(name, ["etcd", "kube-apiserver"])
                raise RetryLater(f"{server}: {trouble}{said}")
            await asyncio.sleep(SHORT)

    async def _etcd_join(self, step: Step) -> None:
        """Learner, then member with a vote: one that never starts takes no majority along."""
        name = step.node
        place = self._place(name, version(self.cluster))
        peer = f"https://{place.address}:{control_plane.PEER_PORT}"
        others = await self._ask_etcd(Etcd.members, but=name)
        own = next((m for m in others if m.name == place.hostname or peer in m.peers), None)
        if own is not None and not own.name:  # added, and never started
            await self._remove_member(own.id, but=name)
            own = None
        if own is None:
            await self._ask_etcd(lambda etcd: etcd.add_learner(peer), but=name)
            told = {m.name: _peer(m) for m in others if m.name and m.name != place.hostname}
            told[place.hostname] = place.address
            await self._lay(place, name, script.START, script.FRESH, told)
        elif not own.is_learner:
            return
        await self._promote(place.hostname, name)

    async def _promote(self, host: str, name: str) -> None:
        end = monotonic() + PROMOTE_SECONDS
        while True:
            own = next(
                (m for m in await self._ask_etcd(Etcd.members, but=name) if m.name == host), None
            )
            reason = f"etcd of {name} has not begun yet"
            if own is not None:
                if not own.is_learner:
                    return
                try:
                    await self._ask_etcd(partial(Etcd.promote, id=own.id), but=name)
                except ApiRefused as refusal:
                    reason = refusal.reason
            if monotonic() > end:
                raise RetryLater(f"{reason}{await self._last_words(name, ['etcd'])}")
            await asyncio.sleep(SHORT)

    async def _remove_member(self, id: int, *, but: str = "") -> None:
        await self._ask_etcd(lambda etcd: etcd.remove(id), but=but)

    async def _last_words(self, name: str, services: Sequence[str]) -> str:
        argv = ["/bin/sh", "-c", script.last_words(services)]
        done = await self._member(name).host.run(argv, timeout=5.0)
        said = plain(done.stdout.decode(errors="replace")[-400:], 400)
        return f"; its log ends with: {said}" if said else ""

    # The cluster's objects

    async def _apply(self) -> None:
        """The one that notes all of them comes last."""
        names = self.cluster.of(Role.MASTER)
        masters = [self._address(name) for name in names if name in self.members]
        resolver = ranges(self.cluster.labels).dns
        first, *others = access.objects(resolver, masters).items()
        for path, value in [*others, first]:
            await self._ask_api(partial(ApiServer.put, path=path, value=value))

    async def _note(self, name: str, told: str) -> None:
        """Where there is no such object, the next turn makes it, and comes back to this."""
        digest = laying.digest(self._place(name, told), self._marks(name, told))
        noted = {hosting.annotation(name): hosting.note(told, digest)}
        await self._ask_api(lambda api: api.annotate(f"{access.BINDINGS}/{access.MEMBERS}", noted))

    async def _label(self, name: str) -> None:
        """A kubelet makes its node's object; what only an admin may write there, we add."""
        end = monotonic() + NODE_SECONDS
        while True:
            there = await self._ask_api(lambda api: api.node(self._host(name)))
            if there is not None and await self._mark(name, there):
                return
            if monotonic() > end:
                said = await self._last_words(name, ["kubelet"])
                raise RetryLater(f"the kubelet of {name} has not made itself known yet{said}")
            await asyncio.sleep(SHORT)

    async def _mark(self, name: str, there: NodeObject) -> bool:
        """Whether nobody else changed it at the same time."""
        told = there.release or version(self.cluster)
        place, wanted = self._place(name, told), self._marks(name, told)
        noted = {LAID: laying.digest(place, wanted)}
        patch = marking.change(there, wanted, noted, str(place.pods))
        try:
            await self._ask_api(lambda api: api.patch_node(there.name, patch))
        except ApiRefused as refusal:
            if refusal.status == 409:
                return False
            raise
        return True

    async def _await_node(self, name: str, seconds: float) -> None:
        end = monotonic() + seconds
        while True:
            there = await self._ask_api(lambda api: api.node(self._host(name)))
            if there is not None and there.is_ready:
                return
            if monotonic() > end:
                reason = there.trouble if there else "Kubernetes has no such node"
                raise RetryLater(f"{name} is not ready: {plain(reason, 300)}")
            await asyncio.sleep(SHORT)

    async def _drain(self, name: str) -> None:
        """Without such a node there is nothing to drain; after its time, what runs is stopped."""
        host = self._host(name)
        there = await self._ask_api(lambda api: api.node(host))
        if there is None:
            return
        if not there.spec.unschedulable:  # else it is the tenant's choice, and stays so
            change = {
                "metadata": {"annotations": {DRAINED: "yes"}},
                "spec": {"unschedulable": True},
            }
            await self._ask_api(lambda api: api.patch_node(host, change))
        is_v1 = Fact.EVICTION_V1.holds(version(self.cluster))
        api = "policy/v1" if is_v1 else "policy/v1beta1"
        end = monotonic() + DRAIN_SECONDS
        while monotonic() < end:
            pods = await self._ask_api(lambda api: api.pods_on(host))
            leaving = [pod for pod in pods if pod.is_to_leave]
            if not leaving:
                return
            for pod in leaving:
                await self._ask_api(partial(ApiServer.evict, pod=pod, version=api))
            await asyncio.sleep(LONG)

    async def _uncordon(self, name: str) -> None:
        change = {
            "metadata": {"annotations": {DRAINED: None}},
            "spec": {"unschedulable": None},
        }
        await self._ask_api(lambda api: api.patch_node(self._host(name), change))

    async def _remove_node(self, host: str) -> None:
        """With its pods, which run nowhere any more: others take their places elsewhere at once."""
        if await self._ask_api(lambda api: api.node(host)) is not None:
            await self._ask_api(lambda api: api.patch_node(host, {"spec": {"unschedulable": True}}))
        for pod in await self._ask_api(lambda api: api.pods_on(host)):
            await self._ask_api(partial(ApiServer.forget, pod=pod))
        await self._ask_api(lambda api: api.delete_node(host))

    # Whom to ask

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise RetryLater(f"node {name} is not running")
        return self.members[name]

    def _address(self, name: str) -> str:
        address = self._member(name).node.address
        if address is None:
            raise RetryLater(f"node {name} has no address")
        return address

    def _host(self, name: str) -> str:
        return hostname(self.cluster.name, name)

    def _place(self, name: str, told: str) -> Place:
        self._address(name)
        addresses = {n: m.node.address for n, m in self.members.items() if m.node.address}
        endpoint = self._member(name).node.endpoint or ""
        return place_of(self.cluster, addresses, name, told, endpoint, given=self.given)

    def _marks(self, name: str, told: str) -> Marks:
        return marks(group_of(self.cluster, name), told)

    def _api(self, name: str) -> ApiServer:
        return self.way.api(self.cluster.uuid, self.cluster.authority, name, self._address(name))

    def _masters(self, but: str = "") -> list[str]:
        running = [n for n, m in self.members.items() if m.node.role is Role.MASTER]
        return sorted(name for name in running if name != but)

    async def _ask_api(self, question: Callable[[ApiServer], Awaitable[T]]) -> T:
        """The answer of the first API server that has one; one that just started may need a
        while. A refusal for cause (HTTP 4xx) is an answer: it is raised."""
        return await _first([self._api(name) for name in self._masters()], question)

    async def _ask_etcd(self, question: Callable[[Etcd], Awaitable[T]], *, but: str = "") -> T:
        inner = self.cluster.authority.inner(control_plane.ETCD_CA)
        servers = [
            self.way.etcd(self.cluster.uuid, inner, name, self._address(name))
            for name in self._masters(but)
        ]
        return await _first(servers, question)


async def _first(servers: Sequence[S], question: Callable[[S], Awaitable[T]]) -> T:
    trouble = RetryLater("no master of the cluster is running")
    end = monotonic() + ANSWER_SECONDS
    while True:
        for server in servers:
            try:
                return await question(server)
            except ApiSilent as silence:
                trouble = silence
            except ApiRefused as refusal:
                if refusal.status < 500:
                    raise
                trouble = refusal
        if monotonic() > end or not servers:
            raise trouble
        await asyncio.sleep(LONG)


def _peer(member: EtcdMember) -> str:
    """The address of a member's first peer URL."""
    return next(iter(member.peers), "").removeprefix("https://").rpartition(":")[0]


_ACTS: Mapping[str, Callable[[Acts, Step], Awaitable[None]]] = {
    verbs.START_NODE: lambda acts, s: acts._start(s),
    verbs.TRUST: lambda acts, s: acts._trust(s),
    verbs.ETCD_JOIN: lambda acts, s: acts._etcd_join(s),
    verbs.ETCD_REMOVE: lambda acts, s: acts._remove_member(int(s.node), but=s.detail["host"]),
    verbs.AWAIT_API: lambda acts, s: acts._await_api(s.node),
    verbs.APPLY: lambda acts, _: acts._apply(),
    verbs.JOIN: lambda acts, s: acts._join(s.node, version(acts.cluster)),
    verbs.NOTE: lambda acts, s: acts._note(s.node, s.detail["version"]),
    verbs.LABEL_NODE: lambda acts, s: acts._label(s.node),
    verbs.AWAIT_NODE: lambda acts, s: acts._await_node(
        s.node, BRIEF_SECONDS if verbs.BRIEFLY in s.detail else NODE_SECONDS
    ),
    verbs.DRAIN: lambda acts, s: acts._drain(s.node),
    verbs.UNCORDON: lambda acts, s: acts._uncordon(s.node),
    verbs.REMOVE_NODE: lambda acts, s: acts._remove_node(s.node),
}
VERBS = frozenset(_ACTS)
"""Every verb that `perform` knows."""
