"""Node groups of a real swarm: their labels, their sizes, and what their nodes join with."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

import pytest

from moorage.drivers.swarm.seen import SwarmObserved
from moorage.model.nodegroup import Taint
from tests import made
from tests.contract.test_drivers import FLAVOR, Site
from tests.real.swarm import shell, whole

pytestmark = pytest.mark.real

MANAGED = 2377


async def refusal(site: Site, node: str, script: str) -> str:
    done = await site.members[node].host.run(["/bin/sh", "-c", script])
    assert done.returncode != 0, done.stdout.decode()
    return done.stderr.decode()


async def with_images(site: Site) -> None:
    for name in site.members:
        await shell(site, name, "tar -c -C /usr bin/busybox | docker import - page:1")


async def serve(site: Site, name: str, constraint: str, replicas: int) -> None:
    await shell(
        site,
        "master-0",
        f"docker service create -d --no-resolve-image --name {name} --replicas {replicas}"
        f" --stop-grace-period 1s --constraint '{constraint}' page:1 /bin/busybox sleep 600",
    )


async def hosts(site: Site, service: str, replicas: int) -> set[str]:
    """Where its tasks run, once they do."""
    tasks = (
        f"docker service ps {service} -f desired-state=running"
        " --format '{{.Node}} {{.CurrentState}}' | sed -n 's/ Running.*//p'"
    )
    for _ in range(200):
        found = (await shell(site, "master-0", tasks)).split()
        if len(found) == replicas:
            return set(found)
        await asyncio.sleep(0.05)
    raise AssertionError(await shell(site, "master-0", f"docker service ps --no-trunc {service}"))


def labels(seen: SwarmObserved, node: str) -> Mapping[str, str]:
    (member,) = [m for m in seen.members or () if m.hostname == f"web-{node}"]
    return {k: v for k, v in member.labels.items() if k not in {"moorage.role", "moorage.group"}}


def ids(seen: SwarmObserved) -> dict[str, str]:
    return {name: engine.info.node_id for name, engine in seen.engines.items() if engine.info}


async def test_services_are_placed_by_a_groups_labels_and_taints(site: Site) -> None:
    plain = made.resized(site.cluster, workers=1)
    gpu = made.spec_group(
        "gpu",
        2,
        FLAVOR,
        labels={"disk": "ssd", "zone": "a"},
        taints=(Taint("dedicated", "NoSchedule", "ml"),),
    )
    site.cluster = dataclasses.replace(plain, groups=(*plain.groups, gpu))
    before = await whole(site)
    await with_images(site)
    await serve(site, "fast", "node.labels.disk==ssd", 4)
    assert await hosts(site, "fast", 4) == {"web-gpu-0", "web-gpu-1"}
    tainted = "node.labels.moorage.taint.dedicated.NoSchedule"
    await serve(site, "other", f"{tainted}!=ml", 4)
    assert await hosts(site, "other", 4) == {"web-master-0", "web-worker-0"}
    await serve(site, "grouped", "node.labels.moorage.group==gpu", 1)
    assert await hosts(site, "grouped", 1) <= {"web-gpu-0", "web-gpu-1"}

    # The tenant's own labels are left alone, and so is what stands on them.
    await shell(site, "master-0", "docker node update --label-add mine=1 web-gpu-0")
    assert (await site.look())[1] == []

    changed = dataclasses.replace(gpu, labels={"disk": "hdd"}, taints=())
    site.cluster = dataclasses.replace(plain, groups=(*plain.groups, changed))
    _, steps = await site.look()
    assert [step.key for step in steps] == ["label-node gpu-0", "label-node gpu-1"]
    seen = await whole(site)
    assert labels(seen, "gpu-0") == {"disk": "hdd", "mine": "1", "moorage.labels": "disk"}
    assert labels(seen, "gpu-1") == {"disk": "hdd", "moorage.labels": "disk"}

    bare = dataclasses.replace(gpu, labels={}, taints=())
    site.cluster = dataclasses.replace(plain, groups=(*plain.groups, bare))
    seen = await whole(site)
    assert (labels(seen, "gpu-0"), labels(seen, "gpu-1")) == ({"mine": "1"}, {})
    assert ids(seen) == ids(before)

    site.cluster = plain
    seen = await whole(site)
    assert set(seen.nodes) == {"master-0", "worker-0"}
    assert len(seen.members or ()) == 2


async def test_a_node_from_the_middle_then_all_then_some_again(site: Site) -> None:
    site.cluster = made.resized(site.cluster, workers=3)
    before = await whole(site)
    await with_images(site)
    await serve(site, "page", "node.role==worker", 3)
    await hosts(site, "page", 3)

    default = made.spec_group("default-worker", 0, FLAVOR, nodes=("worker-0", "worker-2"))
    site.cluster = dataclasses.replace(site.cluster, groups=(site.cluster.groups[0], default))
    seen = await whole(site)
    assert set(seen.nodes) == {"master-0", "worker-0", "worker-2"}
    assert ids(seen) == {name: id for name, id in ids(before).items() if name != "worker-1"}
    assert await hosts(site, "page", 3) == {"web-worker-0", "web-worker-2"}

    site.cluster = made.resized(site.cluster, workers=0)
    seen = await whole(site)
    assert [member.hostname for member in seen.members or ()] == ["web-master-0"]

    site.cluster = made.resized(site.cluster, workers=1)
    seen = await whole(site)
    assert set(seen.nodes) == {"master-0", "worker-0"}
    await with_images(site)
    assert await hosts(site, "page", 3) == {"web-worker-0"}


async def test_nobody_joins_by_former_credentials(site: Site) -> None:
    site.cluster = made.resized(site.cluster, workers=1)
    before = await whole(site)
    tokens = "docker swarm join-token -q worker; docker swarm join-token -q manager"
    old = (await shell(site, "master-0", tokens)).split()
    master = before.nodes["master-0"].address

    site.cluster = dataclasses.replace(site.cluster, credentials=1)
    _, steps = await site.look()
    assert [str(step) for step in steps] == ["rotate-tokens times=1"]
    site.twice = True
    seen = await whole(site)
    assert ids(seen) == ids(before), "members stay members"
    new = (await shell(site, "master-0", tokens)).split()
    assert not set(old) & set(new)

    await shell(site, "worker-0", "docker swarm leave")
    for token in old:
        said = await refusal(
            site, "worker-0", f"timeout 20 docker swarm join --token {token} {master}:{MANAGED}"
        )
        assert "A valid join token is necessary" in said
    await shell(site, "worker-0", f"docker swarm join --token {new[0]} {master}:{MANAGED}")
    await whole(site)
    assert (await shell(site, "master-0", tokens)).split() == new, "exchanged once"

    # Whoever joins in the plan that exchanges them has the newest; a tenant's label stays.
    await shell(site, "master-0", "docker node update --label-add mine=1 web-worker-0")
    site.cluster = dataclasses.replace(made.resized(site.cluster, workers=2), credentials=3)
    seen = await whole(site)
    assert seen.credentials() == 3
    assert set(seen.nodes) == {"master-0", "worker-0", "worker-1"}
    assert not set((await shell(site, "master-0", tokens)).split()) & set(old + new)
