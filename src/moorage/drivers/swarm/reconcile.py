"""The steps from what was seen to what is wanted. Pure.

Two things are decided here, and both can be read off the plan's text:

*Where the swarm is.* With a manager that tells its members, the swarm is there and every
node goes its own way. Without, the masters decide (`_swarm`): one whose disk may
hold the swarm is started, or waited for; where managers are lost for good and the rest
has no majority, one of the rest goes on alone; where no master can hold it any more, a
new swarm is made. What other nodes do with the swarm waits for these steps (the *gate*).

*What each node lacks*, by its Standing: node, engine, certificates, membership, role,
labels. Each is one step, which waits only for what it needs, so that from nothing to
everything is one plan: the engines of workers start while the first manager makes its
swarm.

Managers join one after the other, and leave so, since each changes the majority.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from moorage.clients.docker_wire import SwarmMember
from moorage.drivers.hostnames import node_of
from moorage.drivers.swarm import steps as verbs
from moorage.drivers.swarm.naming import DRAINED, OURS, node_specs
from moorage.drivers.swarm.seen import Standing, SwarmObserved
from moorage.model import plan
from moorage.model.cluster import ClusterSpec
from moorage.model.node import NodeSpec, Role
from moorage.model.plan import ENSURE_NODE, Step
from moorage.planning.nodes import delete_node, node_steps
from moorage.planning.publishing import published

GIVE_UP = 3
"""After so many strikes, an engine that does not come back is given up with its node; after so
many turns in a row, a swarm that does not come back."""
RESTART, PROOF = 3, 2
"""Strikes after which an engine that answers, and is of no use, is restarted (once); and so many
more after which it is given up, as a worker's. Two turns have waited for it by then, 30 s in all;
to restart it ends its containers, and members that lost their manager come back by themselves."""
REMOVALS = 50
"""Removed in one plan at the most: a list may be longer than its cluster ever was."""
AWAY_BY = frozenset({verbs.START_ENGINE})
AWAY = frozenset({Standing.STOPPED, Standing.SILENT, Standing.HUNG})
"""What such a node's disk holds, it will say when its engine is back."""


def reconcile(cluster: ClusterSpec, seen: SwarmObserved) -> list[Step]:
    """The whole plan; empty when every node is the member that it should be."""
    return _Plan(cluster, seen).all()


class _Plan:
    def __init__(self, cluster: ClusterSpec, seen: SwarmObserved) -> None:
        self.cluster = cluster
        self.seen = seen
        self.wanted = node_specs(cluster)
        self.masters = [spec.name for spec in self.wanted if spec.role is Role.MASTER]
        self.standing = {spec.name: seen.standing(spec.name) for spec in self.wanted}
        self.given_up = {spec.name for spec in self.wanted if self._is_given_up(spec)}
        self.steps: dict[str, Step] = {}
        self.founder: str | None = None
        """The master that makes a new swarm, of which no node is a member yet."""
        self.gate: set[str] = set()
        self.removals: defaultdict[str, set[str]] = defaultdict(set)
        """By node: the steps that take its predecessors off the swarm's list."""
        self.manager_turn: set[str] = set()
        """The last step so far that changes the set of managers."""
        self.renewing = cluster.renewing & self.standing.keys() - self.given_up
        self.tokens: set[str] = set()
        """The step that exchanges what members join with."""

    def all(self) -> list[Step]:
        self._nodes()
        for spec in self.wanted:
            self._engine(spec.name)
        self._swarm()
        self._credentials()
        self._stale_members()
        for spec in self.wanted:
            if spec.name not in self.given_up:
                self._membership(spec)
        self._back_with_their_manager()
        for name in sorted(self.seen.nodes.keys() - self.standing.keys()):
            self._surplus(name)
        active = [name for name in self.masters if self._is_active(name)]
        return published(list(self.steps.values()), self.seen.nodes, active, AWAY_BY, self.renewing)

    def _is_active(self, name: str) -> bool:
        in_swarm = self.standing[name] is Standing.IN_SWARM and self._state(name) == "active"
        return in_swarm and name not in self.given_up

    def _add(self, verb: str, node: str, after: Iterable[str] = (), **detail: str) -> str:
        return self._put(verbs.step(verb, node, after, **detail))

    def _put(self, step: Step) -> str:
        """Plan the step, to wait for those among `after` that are planned; return its key."""
        return self.steps.setdefault(
            step.key, replace(step, after=step.after & self.steps.keys())
        ).key

    # Nodes and engines

    def _nodes(self) -> None:
        present = {name: node for name, node in self.seen.nodes.items() if name in self.standing}
        drains = {name: self._empty(name) for name in self._in_order(self.renewing)}
        for step in node_steps(self.wanted, present, self.renewing):
            self._put(replace(step, after=step.after | drains.get(step.node, frozenset())))
        for name in sorted(self.given_up):
            self._put(delete_node(name))  # the next turn makes it anew

    def _in_order(self, names: Collection[str]) -> list[str]:
        return [spec.name for spec in self.wanted if spec.name in names]

    def _empty(self, name: str) -> frozenset[str]:
        """Have the tasks of a node go elsewhere, if there is an elsewhere, before it goes away."""
        member = self.seen.member(self.cluster.name, name)
        others = [m for m in self.seen.members or () if m.state == "ready" and m is not member]
        if member is None or not others:
            return frozenset()
        former = member.availability
        mark = {DRAINED: former} if former in {"active", "pause"} else {}
        return frozenset({self._add(verbs.DRAIN, name, id=member.id, **mark)})

    def _is_given_up(self, spec: NodeSpec) -> bool:
        """Whether to replace a node whose engine never comes: not the last copy of a swarm.

        Nor one whose trouble its provider knows: a full disk is its tenant's, and has data.
        """
        strikes, node = self._strikes(spec.name), self.seen.nodes.get(spec.name)
        if spec.role is Role.WORKER and self._is_stuck_though_restarted(spec.name):
            return True
        if self.standing[spec.name] is not Standing.SILENT or strikes < GIVE_UP:
            return False
        if node is not None and node.reason:
            return False
        others = set(self.masters) - {spec.name}
        return spec.role is Role.WORKER or any(
            self.standing[name] is Standing.IN_SWARM for name in others
        )

    def _engine(self, name: str) -> None:
        if name in self.given_up:
            return
        down = self.standing[name] in {Standing.ABSENT, Standing.STOPPED, Standing.SILENT}
        if down or name in self.renewing:
            self._add(verbs.START_ENGINE, name, {f"{ENSURE_NODE} {name}"})
        elif self._is_to_restart(name):
            self._add(verbs.START_ENGINE, name, **{plan.RESTART: "yes"})
        elif self.seen.info(name) and self._revision(name) != self.cluster.authority.revision:
            if self._revision(name):
                self._add(verbs.TRUST, name)
            else:  # made by a Moorage whose engines could not change their certificates
                self._add(verbs.START_ENGINE, name, **{plan.RESTART: "yes"})

    def _is_to_restart(self, name: str) -> bool:
        due = self._strikes(name) >= RESTART and name not in self.cluster.restarted
        return due and self._is_stuck_there(name)

    def _is_stuck_though_restarted(self, name: str) -> bool:
        at = self.cluster.restarted.get(name)
        return at is not None and self._strikes(name) >= at + PROOF and self._is_stuck_there(name)

    def _strikes(self, name: str) -> int:
        return self.cluster.strikes.get(name, 0)

    def _is_stuck_there(self, name: str) -> bool:
        """Whether its engine answers, and does not get back into the swarm that it is in."""
        if self.standing[name] is Standing.HUNG:
            return True
        member = self.seen.member(self.cluster.name, name)
        return (
            self.standing[name] is Standing.IN_SWARM
            and self._state(name) == "active"
            and member is not None
            and member.state != "ready"
        )

    def _revision(self, name: str) -> str:
        return self.seen.revision(name)

    def _up(self, name: str) -> set[str]:
        return {f"{verbs.START_ENGINE} {name}"}

    # The swarm

    def _swarm(self) -> None:
        holders = [name for name in self.masters if self.standing[name] is Standing.IN_SWARM]
        active = [name for name in holders if self._state(name) == "active"]
        away = [
            name
            for name in self.masters
            if self.standing[name] in AWAY and name not in self.given_up
        ]
        if self.seen.members is not None:
            if active and self._majority_is_lost(self.seen.members):
                self.gate = {self._add(verbs.FORCE_NEW_CLUSTER, active[0])}
        elif away:
            self.gate = {self._add(verbs.AWAIT_MEMBER, name, self._up(name)) for name in away}
        elif not holders:
            self.founder = self.masters[0]
            self.gate = {self._add(verbs.INIT_SWARM, self.founder, self._up(self.founder))}
        elif active and self._is_stuck(holders):
            # Whoever is not counted is out first: else there would be two swarms of one.
            out = {self._add(verbs.LEAVE, name) for name in holders if self._is_outside(name)}
            self.gate = {self._add(verbs.FORCE_NEW_CLUSTER, active[0], out)}
        else:
            self.gate = {self._add(verbs.AWAIT_MEMBER, holders[0])}

    def _majority_is_lost(self, members: Iterable[SwarmMember]) -> bool:
        """Whether the managers that are left can't be, or won't long be, a majority."""
        managers = {member.id for member in members if member.reachability}
        lost = {member.id for member in self.seen.stale(self.cluster.name)}
        return bool(managers) and 2 * len(managers - lost) <= len(managers)

    def _is_stuck(self, holders: list[str]) -> bool:
        """Whether a swarm without a leader won't find one again.

        To leave a majority that is there would make two swarms of one.
        """
        tried = self.cluster.attempts >= GIVE_UP
        if len(self.masters) == 1:
            return tried
        voters = [name for name in holders if not (tried and self._is_outside(name))]
        return 2 * len(voters) <= len(self.masters)

    def _is_outside(self, name: str) -> bool:
        """Whether its engine was on its way into a swarm and was never let in: it has no vote."""
        engine = self.seen.engines.get(name)
        return engine is not None and engine.joins

    def _state(self, name: str) -> str:
        info = self.seen.info(name)
        return info.state if info else ""

    def _credentials(self) -> None:
        """By the note in the swarm, for an exchange leaves no trace of its own."""
        done, wanted = self.seen.credentials(), self.cluster.credentials
        if done is not None and done < wanted:
            self.tokens = {self._add(verbs.ROTATE_TOKENS, "", self.gate, times=str(wanted))}

    def _stale_members(self) -> None:
        for member in self.seen.stale(self.cluster.name)[:REMOVALS]:
            name = node_of(self.cluster.name, member.hostname)
            after = self.manager_turn if member.role == "manager" else set()
            key = self._add(verbs.REMOVE_MEMBER, member.id, after | self.gate, host=member.hostname)
            self.removals[name or ""].add(key)
            if member.role == "manager":
                self.manager_turn = {key}

    # Members

    def _membership(self, spec: NodeSpec) -> None:
        name = spec.name
        standing = self.standing[name]
        member = self.seen.member(self.cluster.name, name)
        if name == self.founder:
            self._label(spec, self.gate)
            self._add(verbs.AWAIT_MEMBER, name, self.gate)
        elif standing in {Standing.ABSENT, Standing.BLANK}:
            self._join(spec, self._up(name))
        elif self.founder is not None:  # whatever swarm it was in is no more
            self._join(spec, {self._add(verbs.LEAVE, name, self._up(name))})
        elif standing in AWAY or name in self.renewing:
            if self.seen.members is not None and member is None:
                self._join(spec, self._up(name))
            else:
                after = self.gate - {f"{verbs.AWAIT_MEMBER} {name}"}
                back = self._add(verbs.AWAIT_MEMBER, name, self._up(name) | after)
                if member is not None and name in self.renewing:
                    self._activate(member, name, {back})
        elif self.seen.members is not None:
            self._settled(spec, member)

    def _settled(self, spec: NodeSpec, member: SwarmMember | None) -> None:
        """An engine that answers and says that it is in a swarm, which can be asked."""
        name, state = spec.name, self._state(spec.name)
        lasting = self._strikes(name) >= GIVE_UP and spec.role is Role.WORKER
        if member is None or (lasting and state in {"pending", "error"}):
            self._join(spec, {self._add(verbs.LEAVE, name)})
            return
        if spec.role is Role.MASTER and member.role != "manager":
            key = self._add(verbs.PROMOTE, name, self.manager_turn, id=member.id)
            self.manager_turn = {key}
        elif member.state != "ready" or state != "active" or member.reachability == "unreachable":
            self._add(verbs.AWAIT_MEMBER, name, self._up(name))
        elif DRAINED in member.labels:
            self._activate(member, name, ())
        self._label(spec, (), member)

    def _activate(self, member: SwarmMember, name: str, after: Iterable[str]) -> None:
        """What Moorage has drained, and nobody else: a tenant's own choice is left alone."""
        drain = self.steps.get(f"{verbs.DRAIN} {name}")
        marks = {**member.labels, **(drain.detail if drain else {})}
        if DRAINED in marks:
            to = {"to": "pause"} if marks[DRAINED] == "pause" else {}
            self._add(verbs.ACTIVATE, name, after, id=member.id, **to)

    def _join(self, spec: NodeSpec, after: set[str]) -> None:
        after = after | (self.removals[spec.name] or self.gate) | self.tokens
        if spec.role is Role.MASTER:
            after |= self.manager_turn
        key = self._put(verbs.join(spec.name, spec.role, after))
        if spec.role is Role.MASTER:
            self.manager_turn = {key}
        self._label(spec, {key})

    def _label(
        self, spec: NodeSpec, after: Iterable[str], member: SwarmMember | None = None
    ) -> None:
        if (
            member is None
            or not spec.labels.items() <= member.labels.items()
            or member.labels.get(OURS) != spec.labels.get(OURS)
        ):
            self._add(verbs.LABEL_NODE, spec.name, after, **spec.labels)

    def _back_with_their_manager(self) -> None:
        """A leader that goes away takes the sessions of all members along.

        They return by themselves within seconds. A plan that ends before that leaves nodes
        that look lost, and have nothing.
        """
        managers = self.renewing & set(self.masters)
        back = {f"{verbs.AWAIT_MEMBER} {name}" for name in managers} & self.steps.keys()
        if back:
            for spec in self.wanted:
                if self.standing[spec.name] is Standing.IN_SWARM:
                    self._add(verbs.AWAIT_MEMBER, spec.name, back)

    # Scaling down

    def _surplus(self, name: str) -> None:
        """A manager's last act is to stop being one, a member's to hand its tasks over."""
        after: set[str] = set()
        member = self.seen.member(self.cluster.name, name)
        if member is not None:
            if member.role == "manager":
                after = {self._add(verbs.DEMOTE, name, self.manager_turn, id=member.id)}
                self.manager_turn = after
            if self.seen.standing(name) is Standing.IN_SWARM:
                after = {self._add(verbs.DRAIN, name, after, id=member.id)}
                after = {self._add(verbs.LEAVE, name, after)}
            after = {self._add(verbs.REMOVE_MEMBER, member.id, after, host=member.hostname)}
        self._put(delete_node(name, after=frozenset(after)))
