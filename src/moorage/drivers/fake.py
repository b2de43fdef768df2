"""A cluster of nothing: every node carries a file that says that it has joined.

It works on any provider, since it asks of a host no more than `cat`. The other classes
are drivers that misbehave, named by how.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from moorage.model.cluster import ClusterSpec, Health, HealthStatus
from moorage.model.errors import Invalid, Refused, RetryLater
from moorage.model.node import NodeSpec, NodeState, ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import Members, Observed
from moorage.planning.nodes import node_steps

JOIN = "fake-join"
JOINED = "/var/lib/fake/joined"
PORT = 2376


@dataclass(frozen=True, slots=True)
class FakeSeen(Observed):
    """`joined`: the nodes that carry the file."""

    joined: frozenset[str] = field(default_factory=frozenset)


class FakeDriver:
    """Masters join first, then the workers, side by side."""

    coe: ClassVar[str] = "fake"

    def nodes(self, cluster: ClusterSpec) -> list[NodeSpec]:
        first = cluster.of(Role.MASTER)[0]
        return [
            NodeSpec(
                owner=cluster.uuid,
                name=name,
                role=group.role,
                flavor=group.flavor,
                hostname=name,
                expose=PORT if name == first else None,
                labels=group.labels,
                image=group.image,
                revision=group.revision,
            )
            for group in cluster.groups
            for name in group.nodes
        ]

    async def observe(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode], members: Members
    ) -> FakeSeen:
        async def has_joined(name: str) -> bool:
            done = await members[name].host.run(["cat", JOINED], timeout=5.0)
            return done.returncode == 0 and done.stdout.decode() == cluster.uuid

        names = sorted(members)
        answers = await asyncio.gather(*(has_joined(name) for name in names))
        joined = frozenset(name for name, yes in zip(names, answers, strict=True) if yes)
        missing = {
            spec.name: "not joined" for spec in self.nodes(cluster) if spec.name not in joined
        }
        status = HealthStatus.UNHEALTHY if missing else HealthStatus.HEALTHY
        master = nodes.get(cluster.of(Role.MASTER)[0])
        return FakeSeen(
            nodes=nodes,
            health=Health(status, missing),
            api_address=f"fake://{master.endpoint}" if master and master.endpoint else None,
            coe_version="1.0",
            joined=joined,
        )

    def plan(self, cluster: ClusterSpec, seen: FakeSeen) -> list[Step]:
        wanted = self.nodes(cluster)
        steps = node_steps(wanted, seen.nodes, cluster.renewing)
        masters = [spec.name for spec in wanted if spec.role is Role.MASTER]
        for spec in wanted:
            node = seen.nodes.get(spec.name)
            fresh = node is None or node.state is not NodeState.RUNNING
            fresh = fresh or spec.name in cluster.renewing
            if spec.name in seen.joined and not fresh:
                continue
            after = {f"ensure-node {spec.name}"}
            if spec.role is Role.WORKER:
                after |= {f"{JOIN} {master}" for master in masters}
            keys = {step.key for step in steps}
            steps.append(Step(JOIN, spec.name, after=frozenset(after & keys), timeout=10.0))
        return steps

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        if step.verb != JOIN:
            raise ValueError(f"not a step of this driver: {step}")
        await members[step.node].host.put(JOINED, cluster.uuid.encode(), mode=0o644)


class NeverJoins(FakeDriver):
    """Does its steps without a fault and without effect."""

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        pass


class JoinsLate(FakeDriver):
    """Fails the first `times` joins with a reason."""

    def __init__(self, *, times: int = 1, delay: float = 0.01) -> None:
        self.times = times
        self.delay = delay

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        if self.times > 0:
            self.times -= 1
            raise RetryLater("the engine is still starting", delay=self.delay)
        await super().perform(step, cluster, members)


class RefusesToJoin(FakeDriver):
    """Will not have `node`."""

    def __init__(self, node: str = "worker-0") -> None:
        self.node = node

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        if step.node == self.node:
            raise Refused(f"the engine will not have {step.node}")
        await super().perform(step, cluster, members)


class RefusesLabels(FakeDriver):
    """Checks: `wrong` is no value of its one label."""

    labels: ClassVar[frozenset[str]] = frozenset({"fake_tag"})

    def __init__(self, wrong: str = "v0") -> None:
        self.wrong = wrong

    def checked(self, labels: Mapping[str, str], *_: object, **__: object) -> Mapping[str, str]:
        self.check(labels)
        return {"fake_tag": "v1", **labels}

    def check(self, labels: Mapping[str, str], *_: object, **__: object) -> None:
        if labels.get("fake_tag", "v1") == self.wrong:
            raise Invalid(f"labels: there is no release {self.wrong}.", field="labels")


class HangsInJoin(FakeDriver):
    """Does not come back from a join before its step's `timeout` in seconds is over."""

    def __init__(self, *, timeout: float = 0.02) -> None:
        self.timeout = timeout

    def plan(self, cluster: ClusterSpec, seen: FakeSeen) -> list[Step]:
        return [
            Step(step.verb, step.node, step.after, step.detail, self.timeout)
            for step in super().plan(cluster, seen)
        ]

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        await asyncio.Event().wait()
        await super().perform(step, cluster, members)


class PlansInCircles(FakeDriver):
    """Has a bug: plans two steps that wait for each other."""

    def plan(self, cluster: ClusterSpec, seen: FakeSeen) -> list[Step]:
        return [
            *super().plan(cluster, seen),
            Step("go", "round", after=frozenset({"go about"})),
            Step("go", "about", after=frozenset({"go round"})),
        ]
