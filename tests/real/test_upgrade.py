"""Real nodes are renewed a batch at a time: larger, on their disks, and while services run."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from moorage.conductor.execute import execute
from moorage.drivers.swarm import SwarmDriver
from moorage.drivers.swarm.seen import SwarmObserved
from moorage.model.cluster import HealthStatus
from moorage.model.errors import RetryLater
from moorage.model.node import NodeRef, NodeState
from moorage.model.plan import Step
from moorage.planning import rolling
from moorage.planning.outcomes import Kind, worst
from moorage.providers.local import LocalProvider, cgroups
from moorage.providers.local.place import Place
from moorage.providers.local.runtime import Runc
from tests import made
from tests.contract.cases import Yard
from tests.contract.test_drivers import FLAVOR, TURNS, Site, wanted
from tests.real.swarm import shell

pytestmark = pytest.mark.real

LARGER = dataclasses.replace(FLAVOR, name="larger", memory_mib=640, pids=3000)
SERVICE = (
    "docker service create -d --no-resolve-image --name page --stop-grace-period 1s"
    " --replicas {replicas} --constraint node.role==worker page:1 /bin/busybox sleep 600"
)
DRAINED = "docker node ls --format '{{.Hostname}} {{.Availability}}' | sed -n 's/ Drain$//p'"
TASKS = "docker ps -q --filter label=com.docker.swarm.service.name=page"
LOOK_EVERY = 0.15


def upgraded(site: Site, revision: str = "r2") -> None:
    """Wanted from now on: every node larger, of this revision."""
    groups = (
        dataclasses.replace(group, flavor=LARGER, revision=revision)
        for group in site.cluster.groups
    )
    site.cluster = dataclasses.replace(site.cluster, groups=tuple(groups))


async def roll(site: Site, *, batch: int) -> list[list[str]]:
    """Turn by turn, as the conductor does; what was renewed together."""
    batches: list[list[str]] = []
    last = ""
    for _ in range(TURNS):
        seen, _ = await site.look()
        strikes = {name: site.cluster.strikes.get(name, 0) + 1 for name in seen.failing}
        plain = dataclasses.replace(site.cluster, strikes=strikes)
        rolled = rolling.plan(site.driver, plain, seen, batch_size=batch)
        if not rolled.steps:
            assert rolled.old == ()
            return batches
        if rolled.cluster.renewing:
            batches.append(sorted(rolled.cluster.renewing))
        site.cluster = rolled.cluster
        try:
            outcomes = await execute(rolled.steps, site.perform, turn="upgrade")
        finally:
            site.cluster = plain
        # A member that takes its time to be back on a busy machine is waited for by the next turn.
        trouble, last = worst(outcomes), "\n".join(map(str, outcomes))
        assert trouble is None or trouble.kind is Kind.RETRY, [str(o) for o in outcomes]
    raise AssertionError(f"not upgraded after {TURNS} turns; the last one:\n{last}")


def limits(site: Site, node: str) -> tuple[int, int]:
    """What the kernel holds the node to: MiB of memory, and processes."""
    provider = site.yard.provider
    assert isinstance(provider, LocalProvider)
    group = cgroups.path(provider._install, site.cluster.uuid, node).lstrip("/")
    unified = cgroups.is_unified()
    memory = "memory.max" if unified else "memory.limit_in_bytes"
    of_memory, of_pids = ("", "") if unified else ("memory", "pids")
    return (
        int((cgroups.ROOT / of_memory / group / memory).read_text()) >> 20,
        int((cgroups.ROOT / of_pids / group / "pids.max").read_text()),
    )


@dataclasses.dataclass
class Watcher:
    """Who was away at each look, and how many tasks of the service ran on the others.

    Away is who is off, or is kept free of tasks.
    """

    site: Site
    away: list[set[str]] = dataclasses.field(default_factory=list)
    running: list[int] = dataclasses.field(default_factory=list)

    async def watch(self) -> None:
        while True:
            seen = await self.site.yard.provider.observe(self.site.cluster.uuid)
            up = [node.name for node in seen if node.state is NodeState.RUNNING]
            listed, *tasks = await asyncio.gather(
                self._said("master-0", DRAINED),
                *(self._said(name, TASKS) for name in up if name.startswith("worker")),
            )
            off = {node.name for node in seen} - set(up)
            self.away.append(off | {host.removeprefix("web-") for host in listed})
            self.running.append(sum(map(len, tasks)))
            await asyncio.sleep(LOOK_EVERY)

    async def _said(self, node: str, script: str) -> list[str]:
        """Nothing, where the node goes or its engine isn't back yet."""
        host = self.site.yard.provider.host(NodeRef(self.site.cluster.uuid, node))
        with contextlib.suppress(RetryLater):
            done = await host.run(["/bin/sh", "-c", script])
            return done.stdout.decode().split()
        return []


async def until(site: Site, node: str, script: str, count: int) -> None:
    for _ in range(200):
        if len((await shell(site, node, script)).splitlines()) == count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await shell(site, node, "docker service ps --no-trunc page"))


async def settled(site: Site) -> SwarmObserved:
    """Whole, every node of the new revision and size, and none kept free of tasks."""
    seen = await site.converge()
    assert isinstance(seen, SwarmObserved)
    assert seen.health.status is HealthStatus.HEALTHY
    revisions = {group.revision for group in site.cluster.groups if group.nodes}
    assert {node.revision for node in seen.nodes.values()} == revisions
    for name in seen.nodes:
        assert limits(site, name) == (LARGER.memory_mib, LARGER.pids)
    assert {member.availability for member in seen.members or ()} == {"active"}
    assert not any("moorage.drained" in member.labels for member in seen.members or ())
    return seen


@pytest.mark.parametrize(
    ("batch", "batches"),
    [
        (1, [["master-0"], ["worker-0"], ["worker-1"], ["worker-2"]]),
        pytest.param(
            *(2, [["master-0"], ["worker-0", "worker-1"], ["worker-2"]]), marks=pytest.mark.slow
        ),
    ],
)
async def test_a_batch_at_a_time(site: Site, batch: int, batches: list[list[str]]) -> None:
    site.cluster = made.resized(site.cluster, workers=3)
    before = await site.converge()
    for name in site.members:
        assert limits(site, name) == (FLAVOR.memory_mib, FLAVOR.pids)
        await shell(site, name, "tar -c -C /usr bin/busybox | docker import - page:1")
        write = "docker run --rm --net=none -v data:/data page:1 /bin/busybox sh -c"
        await shell(site, name, f"{write} 'echo {name} > /data/file'")
    await shell(site, "master-0", "printf x | docker config create kept -")
    running = (
        "docker service ps page -q --filter desired-state=running"
        " --format '{{.CurrentState}}' | grep Running || :"
    )
    replicas = 6
    await shell(site, "master-0", SERVICE.format(replicas=replicas))
    await until(site, "master-0", running, replicas)

    upgraded(site)
    _, steps = await site.look()
    assert steps == [], "nothing is renewed before its turn"
    watcher = Watcher(site)
    watching = asyncio.create_task(watcher.watch())
    try:
        assert await roll(site, batch=batch) == batches
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    away = [names for names in watcher.away if names]
    assert set().union(*away) == set(before.nodes)
    assert all(any(names <= set(batch) for batch in batches) for names in away), away
    # Swarm does not spread tasks again, and stops one before it starts the next: the last
    # batch of two has all of them.
    spread = [set(names) for names in (batches if batch == 1 else batches[:2])]
    looks = zip(watcher.away, watcher.running, strict=True)
    counts = [count for names, count in looks if any(names <= some for some in spread if names)]
    assert min(counts) > 0, list(zip(watcher.away, watcher.running, strict=True))
    after = await settled(site)
    assert isinstance(before, SwarmObserved)
    ids = {name: engine.info.node_id for name, engine in before.engines.items() if engine.info}
    assert {n: e.info.node_id for n, e in after.engines.items() if e.info} == ids
    assert {n: v.address for n, v in after.nodes.items()} == {
        n: v.address for n, v in before.nodes.items()
    }
    for name in site.members:
        volume = "docker run --rm --net=none -v data:/data page:1 /bin/busybox cat /data/file"
        assert await shell(site, name, volume) == name
    assert await shell(site, "master-0", "docker config ls -q")
    await until(site, "master-0", running, replicas)


async def test_managers_one_at_a_time_keep_their_swarm(site: Site) -> None:
    site.cluster = made.resized(site.cluster, masters=3, workers=0)
    before = await site.converge()
    assert isinstance(before, SwarmObserved)
    await shell(site, "master-0", "printf x | docker config create kept -")
    upgraded(site)
    assert await roll(site, batch=3) == [["master-0"], ["master-1"], ["master-2"]]
    after = await settled(site)
    assert {m.id for m in after.members or ()} == {m.id for m in before.members or ()}
    assert {m.reachability for m in after.members or ()} == {"reachable"}
    assert await shell(site, "master-2", "docker config ls -q")


async def test_a_renewal_goes_on_from_wherever_it_was_cut_off(site: Site) -> None:
    site.cluster = made.resized(site.cluster, workers=1)
    await site.converge()
    await site.members["worker-0"].host.put("/var/lib/mark", b"kept")
    cut = 0
    while True:
        upgraded(site, f"r{cut + 2}")
        seen, _ = await site.look()
        plain = site.cluster
        site.cluster = dataclasses.replace(plain, renewing=frozenset({"worker-0"}))
        steps: list[Step] = site.driver.plan(site.cluster, seen)
        for step in steps[:cut]:
            await site.perform(step)
        site.cluster = plain
        if cut == len(steps):
            break
        await roll(site, batch=1)
        await settled(site)
        cut += 1
    assert cut == 5
    assert (await site.members["worker-0"].host.run(["cat", "/var/lib/mark"])).stdout == b"kept"


@pytest.mark.parametrize("choice", ["pause", "drain"])
async def test_a_choice_of_the_tenant_s_outlives_a_renewal(site: Site, choice: str) -> None:
    await site.converge()
    await shell(site, "master-0", f"docker node update --availability {choice} web-worker-0")
    upgraded(site)
    await roll(site, batch=2)
    seen = await site.converge()
    assert isinstance(seen, SwarmObserved)
    assert {node.revision for node in seen.nodes.values()} == {"r2"}
    found = {member.hostname: member.availability for member in seen.members or ()}
    assert found == {"web-master-0": "active", "web-worker-0": choice, "web-worker-1": "active"}
    assert not any("moorage.drained" in member.labels for member in seen.members or ())


class Cut(Exception):
    """The server was killed here."""


ACTS: list[tuple[Any, str]] = [
    (Runc, "destroy"),
    (Place, "write"),
    (Runc, "create"),
    (cgroups, "hand_over"),
    (Runc, "start"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("where", "act"), ACTS, ids=[name for _, name in ACTS])
async def test_a_node_that_was_half_renewed_is_renewed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, where: Any, act: str, when: str
) -> None:
    cluster = wanted(masters=1, workers=0)
    (spec,) = SwarmDriver().nodes(cluster)
    first = await yard.provider.ensure(spec)
    await yard.provider.host(first.ref).put("/var/lib/mark", b"kept")
    new = dataclasses.replace(spec, flavor=LARGER, revision="r2")

    with monkeypatch.context() as patch:
        patch.setattr(where, act, cut_off(getattr(where, act), when))
        with pytest.raises(Cut):
            await yard.provider.ensure(new)

    (found,) = await yard.provider.observe(spec.owner)
    assert found.revision in {"r1", "r2"}
    assert (found.address, found.endpoint) == (first.address, first.endpoint)
    again = await yard.provider.ensure(new)
    assert again == dataclasses.replace(first, revision="r2")
    assert limits(Site(SwarmDriver(), yard, cluster), spec.name) == (640, 3000)
    done = await yard.provider.host(first.ref).run(["cat", "/var/lib/mark"])
    assert done.stdout == b"kept"


def cut_off(act: Callable[..., Any], when: str) -> Callable[..., Any]:
    async def awaited(*args: Any, **named: Any) -> None:
        if when == "after":
            await act(*args, **named)
        raise Cut

    def called(*args: Any, **named: Any) -> None:
        if when == "after":
            act(*args, **named)
        raise Cut

    return awaited if asyncio.iscoroutinefunction(act) else called
