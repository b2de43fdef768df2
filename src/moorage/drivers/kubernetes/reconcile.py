"""The steps from what was seen to what is wanted. Pure.

Two things are decided here, and both can be read off the plan's text:

*Where the cluster is.* With an API server that is ready, it is there and every node goes
its own way. Without, the masters decide (`_masters`): one whose disk may hold etcd's data is
started, or waited for; where no master can hold any, the first one founds a cluster. What
other nodes do with the API waits for that (the *gate*).

*What each node lacks*: node, files and programs, its place in Kubernetes, labels, readiness.
Each is one step, which waits only for what it needs, so that from nothing to everything is
one plan: the workers' programs start while the first master makes its cluster.

Members of etcd come one after the other, and leave so, since each changes the majority.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from moorage.clients.kubernetes_wire import NodeObject
from moorage.drivers.hostnames import hostname, node_of
from moorage.drivers.kubernetes import access
from moorage.drivers.kubernetes import steps as verbs
from moorage.drivers.kubernetes.addresses import ranges
from moorage.drivers.kubernetes.hosting import note, noted_version, runs_pods
from moorage.drivers.kubernetes.laying import digest
from moorage.drivers.kubernetes.marking import are_marked
from moorage.drivers.kubernetes.naming import DRAINED, LAID, marks, version
from moorage.drivers.kubernetes.place import NOTHING, Given, group_of, place_of
from moorage.drivers.kubernetes.seen import KubeObserved, Standing
from moorage.drivers.kubernetes.steps import step
from moorage.model import plan
from moorage.model.cluster import ClusterSpec, GroupSpec
from moorage.model.node import NodeSpec, Role
from moorage.model.plan import ENSURE_NODE, Step
from moorage.planning.nodes import delete_node, node_steps
from moorage.planning.publishing import published

RESTART, PROOF = 3, 2
"""Strikes after which a node that answers, and is of no use, has its programs restarted (once);
and so many more after which it is given up."""
GIVE_UP = 5
"""Strikes after which a node that does not answer, though it was started, is given up."""
REMOVALS = 50
"""Nodes that are no more, removed in one plan at the most."""
AWAY = frozenset({verbs.START_NODE, verbs.TRUST})
EMPTY = frozenset({Standing.ABSENT, Standing.BLANK})
"""Standings of a master that has no data of etcd."""


def reconcile(
    cluster: ClusterSpec,
    wanted: list[NodeSpec],
    seen: KubeObserved,
    given: Given = NOTHING,
) -> list[Step]:
    """The whole plan; empty when every node is as it should be."""
    return _Plan(cluster, wanted, seen, given).all()


class _Plan:
    def __init__(
        self,
        cluster: ClusterSpec,
        wanted: list[NodeSpec],
        seen: KubeObserved,
        given: Given,
    ) -> None:
        self.cluster = cluster
        self.given = given
        self.seen = seen
        self.wanted = wanted
        self.masters = [spec.name for spec in wanted if spec.role is Role.MASTER]
        self.up = {name: seen.standing(name, master=True) for name in self.masters}
        self.podless = {s.name for s in wanted if not runs_pods(cluster, s.role)}
        """The hosted masters, whose API server is all that they are."""
        self.standing = {
            spec.name: seen.standing(spec.name, master=spec.name in self.podless) for spec in wanted
        }
        self.given_up = {spec.name for spec in wanted if self._is_given_up(spec)}
        self.renewing = cluster.renewing & self.standing.keys() - self.given_up
        self.steps: dict[str, Step] = {}
        self.gate: set[str] = set()
        """The steps after which there is an API to be asked."""
        self.member_turn: set[str] = set()
        """The last step so far by which there is a master more, or less."""

    def all(self) -> list[Step]:
        self._nodes()
        self._masters()
        self._objects()
        for spec in self.wanted:
            if spec.name in self.podless - self.given_up:
                self._hosted(spec.name)
            elif spec.name not in self.given_up:
                self._agent(spec)
        for name in sorted(self.seen.nodes.keys() - self.standing.keys()):
            self._surplus(name)
        self._strangers()
        ready = [n for n in self.masters if self.seen.is_ready(n) and n not in self.given_up]
        return published(list(self.steps.values()), self.seen.nodes, ready, AWAY, self.renewing)

    def _add(self, verb: str, node: str, after: Iterable[str] = (), **detail: str) -> str:
        return self._put(step(verb, node, after, **detail))

    def _put(self, made: Step) -> str:
        """Plan the step, to wait for those among `after` that are planned; return its key."""
        return self.steps.setdefault(
            made.key, replace(made, after=made.after & self.steps.keys())
        ).key

    # Nodes

    def _nodes(self) -> None:
        present = {name: node for name, node in self.seen.nodes.items() if name in self.standing}
        drains = {name: self._empty(name) for name in self._in_order(self.renewing)}
        for each in node_steps(self.wanted, present, self.renewing):
            self._put(replace(each, after=each.after | drains.get(each.node, frozenset())))
        for name in sorted(self.given_up):
            self._put(delete_node(name))  # the next turn makes it anew

    def _in_order(self, names: Collection[str]) -> list[str]:
        return [spec.name for spec in self.wanted if spec.name in names]

    def _empty(self, name: str) -> frozenset[str]:
        """Have the pods of a node go elsewhere, if there is an elsewhere, before it goes away."""
        there = self._object(name)
        alive = self.seen.standing(name) is Standing.UP
        if there is None or not alive or name in self.masters or not self._has_elsewhere(there):
            return frozenset()
        return frozenset({self._add(verbs.DRAIN, name)})

    def _has_elsewhere(self, there: NodeObject) -> bool:
        """Whether the pods of a node can go to another: one that stays, and keeps none of them
        out. They tolerate what their own node is tainted with, and nothing else is known."""
        leaving = (self.seen.nodes.keys() - self.standing.keys()) | self.renewing
        going = {hostname(self.cluster.name, name) for name in leaving}
        return any(
            each.is_ready
            and not each.spec.unschedulable
            and each.keeps_out <= there.keeps_out
            and each.name not in going | {there.name}
            for each in self.seen.objects or ()
        )

    def _is_given_up(self, spec: NodeSpec) -> bool:
        """Whether to replace a node that never comes: not the last copy of a cluster.

        Nor one whose trouble its provider knows: a full disk is its tenant's, and has data.
        """
        strikes, node = self._strikes(spec.name), self.seen.nodes.get(spec.name)
        if node is None or node.reason or strikes < GIVE_UP:
            return False
        if spec.role is Role.MASTER:
            others = [name for name in self.masters if name != spec.name]
            ready = [name for name in others if self.seen.is_ready(name)]
            return 2 * len(ready) > len(self.masters)
        if self.standing[spec.name] is Standing.SILENT:
            return True
        tried = self.cluster.restarted.get(spec.name)
        return tried is not None and strikes >= tried + PROOF

    def _strikes(self, name: str) -> int:
        return self.cluster.strikes.get(name, 0)

    def _is_stuck(self, name: str, standing: Standing) -> bool:
        """Whether its programs run, and have been silent for so long that they are ended first:
        to start what runs does nothing."""
        silent = standing is Standing.SILENT and name not in self.renewing
        return silent and self._is_to_restart(name)

    def _is_to_restart(self, name: str) -> bool:
        return self._strikes(name) >= RESTART and name not in self.cluster.restarted

    # Masters

    def _masters(self) -> None:
        here = [name for name in self.masters if name not in self.given_up]
        if set(self.up.values()) <= EMPTY and self.seen.members is None:
            self._start(here[0], etcd="found")
            self.gate = {self._add(verbs.AWAIT_API, here[0], self._started(here[0]))}
        elif last := self._last_member():
            self._start(last, etcd="alone")
            self.gate = {self._add(verbs.AWAIT_API, last, self._started(last))}
            return  # the next turn sees who is a member then
        else:
            holders = [name for name in here if self.up[name] not in EMPTY]
            for name in holders:
                self._holder(name)
            ready = [n for n in holders if self.seen.is_ready(n) and n not in self.renewing]
            if holders and not ready:
                self.gate = {f"{verbs.AWAIT_API} {holders[0]}"} & self.steps.keys()
        for name in here:
            if self.up[name] in EMPTY and f"{verbs.START_NODE} {name}" not in self.steps:
                self._start(name, etcd="wait")
                self._join_etcd(name, self._remove_former(name))

    def _last_member(self) -> str | None:
        """Who goes on alone, where most members' data is lost, so that there is no majority."""
        voters = [each for each in self.seen.members or () if not each.is_learner]
        names = [node_of(self.cluster.name, each.name) for each in voters]
        there = [name for name in names if name is not None and name in self.seen.nodes]
        kept = [n for n in there if self.seen.standing(n, master=True) not in EMPTY]
        left = [n for n in kept if n in self.up and self.up[n] is not Standing.STOPPED]
        return left[0] if left and 2 * len(kept) <= len(voters) else None

    def _holder(self, name: str) -> None:
        """A master that has, or may have, etcd's data."""
        member = self.seen.member(self.cluster.name, name)
        if self.up[name] is not Standing.UP or name in self.renewing:
            self._start(name, etcd="data", restart=self._is_stuck(name, self.up[name]))
        elif self._is_to_restart(name):
            self._start(name, etcd="data", restart=True)
        if self.seen.members is not None and (member is None or member.is_learner):
            self._join_etcd(name, ())
        elif f"{verbs.START_NODE} {name}" in self.steps or not self.seen.is_ready(name):
            self._add(verbs.AWAIT_API, name, self._started(name))

    def _remove_former(self, name: str) -> set[str]:
        """Take the member that was in its place off etcd's list: its data is gone."""
        former = self.seen.member(self.cluster.name, name)
        if former is None:
            return set()
        after = self.gate | self.member_turn
        self.member_turn = {self._add(verbs.ETCD_REMOVE, str(former.id), after, host=name)}
        return self.member_turn

    def _join_etcd(self, name: str, after: Iterable[str]) -> None:
        after = {*after, *self.gate, *self.member_turn, *self._started(name)}
        joined = self._add(verbs.ETCD_JOIN, name, after)
        self.member_turn = {self._add(verbs.AWAIT_API, name, {joined})}

    def _objects(self) -> None:
        known = self.seen.objects is not None
        founds = any(s.detail.get("etcd") == "found" for s in self.steps.values())
        lacks = bool(access.paths() - self.seen.own)  # who is an admin there may delete them
        if founds or (known and (lacks or self.seen.applied != self._applied())):
            self._add(verbs.APPLY, "", self.gate)

    def _applied(self) -> str:
        """What is to be noted of the cluster's objects; while masters lack, what is."""
        nodes = [self.seen.nodes.get(name) for name in self.masters]
        addresses = [node.address for node in nodes if node is not None and node.address]
        if len(addresses) < len(self.masters):
            return self.seen.applied
        return access.wanted(ranges(self.cluster.labels).dns, addresses)

    # Every node

    def _start(
        self, name: str, after: Iterable[str] = (), *, etcd: str = "", restart: bool = False
    ) -> None:
        """What the others must be known by comes first: where the masters are."""
        after = {*after, *(f"{ENSURE_NODE} {each}" for each in (name, *self.masters))}
        detail = {"version": self._version(name)}
        if etcd:
            detail["etcd"] = etcd
        if restart:
            detail[plan.RESTART] = "yes"
        self._add(verbs.START_NODE, name, after, **detail)

    def _started(self, name: str) -> set[str]:
        return {f"{verbs.START_NODE} {name}"}

    def _version(self, name: str) -> str:
        """The release that the node has: until it is renewed, that of its own revision."""
        node, there, had = self.seen.nodes.get(name), self._object(name), ""
        old = node is not None and node.revision not in {"", self._group(name).revision}
        if not old or f"{ENSURE_NODE} {name}" in self.steps:
            return version(self.cluster)
        if name in self.podless:
            had = noted_version(self.seen.notes.get(name, ""))
        elif there is not None:
            had = there.release
        return had or version(self.cluster)

    def _programs(self, name: str, etcd: str, *, otherwise: bool) -> bool:
        """Start what the node lacks, or has `otherwise` than it should; whether it was down."""
        down = self.standing[name] is not Standing.UP or name in self.renewing
        if down:
            self._start(name, etcd=etcd, restart=self._is_stuck(name, self.standing[name]))
        elif self._revision(name) != self.cluster.authority.revision:
            self._trust(name, etcd)
        elif self._is_to_restart(name):
            self._start(name, etcd=etcd, restart=True)
        elif otherwise and etcd:
            self._start(name, self.member_turn, etcd=etcd)
            self.member_turn = {self._add(verbs.AWAIT_API, name, self._started(name))}
        elif otherwise:
            self._start(name)
        return down

    def _hosted(self, name: str) -> None:
        """A master that is no node of Kubernetes: its programs, and what is noted of them."""
        told, laid = self._version(name), self._laid(name)
        wanted = note(told, laid) if laid else self.seen.notes.get(name, "")
        known = self.seen.objects is not None
        self._programs(name, "data", otherwise=known and wanted != self.seen.notes.get(name, ""))
        if f"{verbs.START_NODE} {name}" in self.steps:
            after = self._started(name) | self.gate | {f"{verbs.AWAIT_API} {name}"}
            joined = self._add(verbs.JOIN, name, after)
            self._add(verbs.NOTE, name, {joined, verbs.APPLY}, version=told)

    def _agent(self, spec: NodeSpec) -> None:
        name, there = spec.name, self._object(spec.name)
        etcd = "data" if spec.role is Role.MASTER else ""
        otherwise = there is not None and self._is_laid_otherwise(name, there)
        down = self._programs(name, etcd, otherwise=otherwise)
        touched = f"{verbs.START_NODE} {name}" in self.steps
        after = self._started(name) | self.gate | {f"{verbs.AWAIT_API} {name}"}
        if touched and self.standing[name] is Standing.ABSENT and there is not None:
            gone = self._add(verbs.REMOVE_NODE, there.name, self.gate)
            after, there = after | {gone}, None
        if touched:
            after = {self._add(verbs.JOIN, name, after)}
        if touched or (self.seen.objects is not None and not self._is_marked(name, there)):
            after = {self._add(verbs.LABEL_NODE, name, after)}
        if down or (self.seen.objects is not None and (there is None or not there.is_ready)):
            detail = {verbs.BRIEFLY: "yes"} if self._hangs(name, there) else {}
            after = {self._add(verbs.AWAIT_NODE, name, after, **detail)}
        drained = there is not None and DRAINED in there.metadata.annotations
        if drained or f"{verbs.DRAIN} {name}" in self.steps:
            self._add(verbs.UNCORDON, name, after)

    def _hangs(self, name: str, there: NodeObject | None) -> bool:
        """Whether a worker's kubelet, which was there, is silent, and was not restarted yet: to
        wait long for it only puts that off."""
        if there is None or name in self.masters or self.standing[name] is not Standing.SILENT:
            return False
        return name not in self.cluster.restarted and not self._is_to_restart(name)

    def _trust(self, name: str, etcd: str) -> None:
        """A master's programs start again for it: of several, one after the other."""
        detail = {"version": self._version(name)}
        if not etcd:
            self._add(verbs.TRUST, name, **detail)
            return
        self.member_turn = {self._add(verbs.TRUST, name, self.member_turn, etcd=etcd, **detail)}

    def _is_laid_otherwise(self, name: str, there: NodeObject) -> bool:
        """Whether its programs were started with something else than they would be now."""
        noted = there.metadata.annotations.get(LAID)
        return noted is not None and self._laid(name) not in {"", noted}

    def _is_marked(self, name: str, there: NodeObject | None) -> bool:
        if there is None:
            return False
        wanted = marks(self._group(name), self._version(name))
        noted, laid = there.metadata.annotations.get(LAID), self._laid(name)
        return are_marked(there, wanted) and (noted == laid or not laid)

    def _laid(self, name: str) -> str:
        """The digest of what its programs are to be started with; empty: not known yet."""
        addresses = {n: node.address for n, node in self.seen.nodes.items() if node.address}
        if {name, *self.masters} - addresses.keys():
            return ""
        told = self._version(name)
        place = place_of(self.cluster, addresses, name, told, given=self.given)
        return digest(place, marks(self._group(name), told))

    def _revision(self, name: str) -> str:
        """What the node shows by now: a master by both of its servers."""
        seen = [self.seen.kubelets.get(name), self.seen.apis.get(name)]
        shown = {each.revision for each in seen if each is not None and each.answers}
        return shown.pop() if len(shown) == 1 else ""

    def _object(self, name: str) -> NodeObject | None:
        return self.seen.object(self.cluster.name, name)

    def _group(self, name: str) -> GroupSpec:
        return group_of(self.cluster, name)

    # Scaling down

    def _surplus(self, name: str) -> None:
        """First its pods leave, then its vote, then it, and last what is known of it."""
        after = set(self._empty(name))
        member = self.seen.member(self.cluster.name, name)
        if member is not None:
            after |= self.gate | self.member_turn
            after = {self._add(verbs.ETCD_REMOVE, str(member.id), after, host=name)}
            self.member_turn = after
        gone = self._put(delete_node(name, after=frozenset(after & self.steps.keys())))
        if (there := self._object(name)) is not None:
            self._add(verbs.REMOVE_NODE, there.name, {gone})

    def _strangers(self) -> None:
        known = frozenset(self.standing) | frozenset(self.seen.nodes)
        for each in self.seen.strangers(self.cluster.name, known)[:REMOVALS]:
            self._add(verbs.REMOVE_NODE, each.name, self.gate)
        ours = {hostname(self.cluster.name, name) for name in known}
        planned = {s.node for s in self.steps.values() if s.verb == verbs.ETCD_REMOVE}
        for member in self.seen.members or ():
            if member.name and member.name not in ours and str(member.id) not in planned:
                after = self.gate | self.member_turn
                key = self._add(verbs.ETCD_REMOVE, str(member.id), after, host=member.name)
                self.member_turn = {key}
