"""What every driver keeps to, on every provider that it is paired with here."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from moorage.conductor.execute import execute
from moorage.drivers.fake import FakeDriver
from moorage.model import plan
from moorage.model.cluster import ClusterSpec, HealthStatus
from moorage.model.node import Flavor, NodeRef, NodeState, Role
from moorage.model.plan import Step, as_text
from moorage.model.ports import AnyDriver, CaKeys, Member, Needs, Observed, Publishes
from moorage.planning.order import ordered
from moorage.planning.outcomes import Kind
from moorage.settings import FLAVORS
from moorage.trust import ClusterAuthority, new_ca
from tests import made
from tests.contract.cases import DRIVERS, PAIRS, OpenYard, Yard

FLAVOR = Flavor("tiny", vcpus=1, memory_mib=512, disk_gib=1, pids=2048)
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TURNS = 30
"""After so many turns a cluster must be whole."""


def wanted(*, masters: int = 1, workers: int = 2, name: str = "c") -> ClusterSpec:
    return made.spec(
        ClusterAuthority(CaKeys(new_ca("contract"))),
        masters,
        workers,
        flavor=FLAVOR,
        master_flavor=dataclasses.replace(FLAVOR, name="master"),
        uuid=str(uuid.uuid4()),
        name=name,
    )


def least_sized(driver: Needs, cluster: ClusterSpec) -> ClusterSpec:
    """The cluster with nodes that have what its driver says that they take, and no more."""
    groups = []
    for group in cluster.groups:
        least = driver.least(group.role, cluster.labels)
        flavor = dataclasses.replace(group.flavor, **dataclasses.asdict(least))
        groups.append(dataclasses.replace(group, flavor=flavor))
    return dataclasses.replace(cluster, groups=tuple(groups))


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> AnyDriver:
    make: Callable[[], AnyDriver] = request.param
    return make()


@pytest.mark.parametrize(("masters", "workers"), [(1, 0), (1, 2), (3, 12)])
def test_nodes_are_named_and_sized(driver: AnyDriver, masters: int, workers: int) -> None:
    cluster = wanted(masters=masters, workers=workers)
    nodes = driver.nodes(cluster)
    assert nodes == driver.nodes(cluster)
    assert len({node.name for node in nodes}) == len(nodes) == masters + workers
    assert len({node.hostname for node in nodes}) == len(nodes)
    for node in nodes:
        assert node.owner == cluster.uuid
        assert LABEL.fullmatch(node.name)
        assert LABEL.fullmatch(node.hostname)
        assert node.flavor.name == ("master" if node.role is Role.MASTER else "tiny")
    assert sum(node.role is Role.MASTER for node in nodes) == masters


def test_growing_keeps_the_nodes_that_are_there(driver: AnyDriver) -> None:
    small = wanted(workers=1)
    large = made.resized(small, workers=3)
    grown = driver.nodes(large)
    assert all(node in grown for node in driver.nodes(small))


@pytest.mark.parametrize("labels", [{}, {"any": "other"}, {"control_plane": "hosted"}])
def test_what_a_node_takes_is_known_beforehand(driver: AnyDriver, labels: dict[str, str]) -> None:
    """And some built-in flavor has so much."""
    if not isinstance(driver, Needs):
        assert isinstance(driver, FakeDriver), "a real COE runs something"
        return
    for role in Role:
        least = driver.least(role, labels)
        assert least == driver.least(role, labels)
        assert least.memory_mib > 0
        assert least.pids > 0
        assert any(least.fits(flavor) for flavor in FLAVORS)


@pytest.mark.parametrize("name", ["x" * 200, "Ünïcode", "a_b.c d", "-"])
def test_any_name_of_a_cluster_makes_good_names_of_nodes(driver: AnyDriver, name: str) -> None:
    for node in driver.nodes(wanted(name=name)):
        assert LABEL.fullmatch(node.name)
        assert LABEL.fullmatch(node.hostname)


@dataclasses.dataclass
class Site:
    """One cluster, converged by hand: the conductor's turn without a store."""

    driver: AnyDriver
    yard: Yard
    cluster: ClusterSpec
    twice: bool = False
    members: dict[str, Member] = dataclasses.field(default_factory=dict)

    async def look(self) -> tuple[Any, list[Step]]:
        nodes = {n.name: n for n in await self.yard.provider.observe(self.cluster.uuid)}
        self.members = {
            name: Member(node, self.yard.provider.host(node.ref))
            for name, node in nodes.items()
            if node.state is NodeState.RUNNING
        }
        seen = await self.driver.observe(self.cluster, nodes, self.members)
        steps = self.driver.plan(self.cluster, seen)
        assert as_text(steps) == as_text(self.driver.plan(self.cluster, seen)), "plan is not pure"
        ordered(steps)
        return seen, steps

    async def perform(self, step: Step) -> None:
        for _ in range(2 if self.twice else 1):
            match step.verb:
                case plan.ENSURE_NODE:
                    specs = {spec.name: spec for spec in self.driver.nodes(self.cluster)}
                    node = await self.yard.provider.ensure(specs[step.node])
                    self.members[step.node] = Member(node, self.yard.provider.host(node.ref))
                case plan.DELETE_NODE:
                    self.members.pop(step.node, None)
                    await self.yard.provider.delete(NodeRef(self.cluster.uuid, step.node))
                case plan.PUBLISH:
                    assert isinstance(self.yard.provider, Publishes)
                    await self.yard.provider.publish(NodeRef(self.cluster.uuid, step.node))
                case _:
                    await self.driver.perform(step, self.cluster, self.members)

    async def converge(self) -> Observed:
        """Turn by turn until nothing is left to do; what must be retried, is."""
        last = ""
        for _ in range(TURNS):
            seen, steps = await self.look()
            if not steps:
                assert isinstance(seen, Observed)
                return seen
            outcomes = await execute(steps, self.perform, turn="contract")
            troubles = [outcome.trouble for outcome in outcomes if outcome.trouble]
            assert all(trouble.kind is Kind.RETRY for trouble in troubles), troubles
            last = "\n".join(map(str, outcomes))
            if troubles:
                await asyncio.sleep(max(trouble.delay for trouble in troubles))
        raise AssertionError(f"not whole after {TURNS} turns; the last one:\n{last}")


@pytest_asyncio.fixture(params=PAIRS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    make: Callable[[], AnyDriver]
    opened: OpenYard
    make, opened = request.param
    async with opened(tmp_path) as yard:
        yield Site(make(), yard, wanted())


async def test_from_nothing_to_whole(site: Site) -> None:
    _, steps = await site.look()
    ensured = {step.node for step in steps if step.verb == plan.ENSURE_NODE}
    assert ensured == {spec.name for spec in site.driver.nodes(site.cluster)}
    seen = await site.converge()
    assert seen.health.status is HealthStatus.HEALTHY
    assert seen.health.reasons == {}
    assert seen.api_address
    assert set(seen.nodes) == ensured


async def test_nodes_of_the_least_size_will_do(site: Site) -> None:
    if isinstance(site.driver, Needs):
        site.cluster = least_sized(site.driver, site.cluster)
    seen = await site.converge()
    assert seen.health.status is HealthStatus.HEALTHY


async def test_every_step_twice_does_no_harm(site: Site) -> None:
    site.twice = True
    seen = await site.converge()
    assert seen.health.status is HealthStatus.HEALTHY


async def test_a_lost_worker_is_made_again(site: Site) -> None:
    await site.converge()
    await site.yard.provider.delete(NodeRef(site.cluster.uuid, "worker-1"))
    seen, steps = await site.look()
    assert seen.health.status is HealthStatus.UNHEALTHY
    assert seen.health.reasons
    assert "ensure-node worker-1" in [step.key for step in steps]
    seen = await site.converge()
    assert seen.health.status is HealthStatus.HEALTHY


async def test_a_stopped_node_comes_back(site: Site) -> None:
    await site.converge()
    site.yard.stop(NodeRef(site.cluster.uuid, "worker-0"))
    seen = await site.converge()
    assert seen.health.status is HealthStatus.HEALTHY


async def test_up_and_down(site: Site) -> None:
    await site.converge()
    site.cluster = made.resized(site.cluster, workers=3)
    assert len((await site.converge()).nodes) == 4
    site.cluster = made.resized(site.cluster, workers=0)
    seen = await site.converge()
    assert len(seen.nodes) == 1
    assert seen.health.status is HealthStatus.HEALTHY


async def test_nodes_are_renewed_where_they_are(site: Site) -> None:
    """Another revision: the same disk and address, another size, and in the cluster again."""
    before = (await site.converge()).nodes
    host = site.members["worker-1"].host
    await host.put("/var/lib/mark", b"kept")
    larger = dataclasses.replace(FLAVOR, name="larger", memory_mib=640)
    groups = [
        dataclasses.replace(group, flavor=larger, revision="r2") if index else group
        for index, group in enumerate(site.cluster.groups)
    ]
    site.cluster = dataclasses.replace(site.cluster, groups=tuple(groups))
    _, steps = await site.look()
    assert as_text(steps) == "", "an old node is left alone until it is its turn"
    for name in ("worker-0", "worker-1"):
        site.cluster = dataclasses.replace(site.cluster, renewing=frozenset({name}))
        _, steps = await site.look()
        assert {step.node for step in steps} == {name}
        outcomes = await execute(steps, site.perform, turn="renewal")
        assert all(outcome.done for outcome in outcomes), [str(o) for o in outcomes]
        site.cluster = dataclasses.replace(site.cluster, renewing=frozenset())
        seen = await site.converge()
        assert seen.nodes[name].revision == "r2"
        assert seen.nodes[name].address == before[name].address
        assert seen.health.status is HealthStatus.HEALTHY
    done = await site.members["worker-1"].host.run(["cat", "/var/lib/mark"])
    assert done.stdout == b"kept"


async def test_a_group_joins_and_leaves(site: Site) -> None:
    await site.converge()
    plain = site.cluster
    more = made.spec_group("gpu", 1, FLAVOR, labels={"disk": "ssd"})
    site.cluster = dataclasses.replace(plain, groups=(*plain.groups, more))
    seen = await site.converge()
    assert set(seen.nodes) == {"master-0", "worker-0", "worker-1", "gpu-0"}
    site.cluster = plain
    assert set((await site.converge()).nodes) == {"master-0", "worker-0", "worker-1"}
