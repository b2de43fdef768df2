"""Driver `kubernetes` on real programs in local nodes: several masters, losses, another CA."""

from __future__ import annotations

import dataclasses
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from moorage.drivers.kubernetes import KubernetesDriver, access
from moorage.drivers.kubernetes.seen import KubeObserved
from moorage.model.cluster import HealthStatus, Rotation
from moorage.model.node import Flavor, NodeRef
from moorage.model.ports import CaKeys, Needs
from moorage.providers.local import cgroups
from moorage.releases import Releases
from moorage.trust import ClusterAuthority, new_ca
from tests import made
from tests.contract.cases import Yard, local
from tests.contract.test_drivers import Site, least_sized
from tests.real.kubernetes import Kubectl, built

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
OLD, NEW = new_ca("web"), new_ca("web")
SECRET = b"s" * 32
BEFORE = ClusterAuthority(CaKeys(OLD, secret=SECRET))
PHASES = [
    ClusterAuthority(CaKeys(OLD, NEW, Rotation.TRUST, SECRET)),
    ClusterAuthority(CaKeys(OLD, NEW, Rotation.SERVE, SECRET)),
    ClusterAuthority(CaKeys(NEW, secret=SECRET)),
]
WORKER = Flavor("small", vcpus=2, memory_mib=1024, disk_gib=1, pids=4096)
MASTER = Flavor("medium", vcpus=2, memory_mib=2048, disk_gib=1, pids=4096)


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    with tempfile.TemporaryDirectory(prefix="moorage-test-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)
        found = Releases(Path(directory))
        found.add(str(built()))
        yield found


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with local(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def site(yard: Yard, releases: Releases) -> AsyncIterator[Site]:
    driver = KubernetesDriver(releases)
    spec = made.spec(
        BEFORE, 1, 1, flavor=WORKER, master_flavor=MASTER, uuid=str(uuid.uuid4()), coe="kubernetes"
    )
    try:
        yield Site(driver, yard, spec)
    finally:
        await driver.aclose()


async def whole(site: Site) -> KubeObserved:
    seen = await site.converge()
    assert isinstance(seen, KubeObserved)
    assert seen.health.status is HealthStatus.HEALTHY, seen.health
    return seen


def voters(seen: KubeObserved) -> dict[str, int]:
    return {each.name: each.id for each in seen.members or () if not each.is_learner}


async def test_a_cluster_is_formed_and_every_step_may_be_done_twice(site: Site) -> None:
    site.twice = True
    seen = await whole(site)
    assert {each.name for each in seen.objects or ()} == {"web-master-0", "web-worker-0"}
    assert seen.api_address == f"https://{seen.nodes['master-0'].endpoint}"
    assert (seen.coe_version, bool(seen.container_version)) == ("v1.20.2", True)


@pytest.mark.slow
async def test_a_cluster_outlives_a_power_cut(site: Site) -> None:
    before = voters(await whole(site))
    for name in ("master-0", "worker-0"):
        site.yard.stop(NodeRef(site.cluster.uuid, name))
    assert voters(await whole(site)) == before


async def test_hosted_masters_replace_one_of_them_and_take_another_ca(site: Site) -> None:
    """Three of them, none a node of Kubernetes; every step is done twice."""
    labels = {**site.cluster.labels, "control_plane": "hosted"}
    site.cluster = dataclasses.replace(site.cluster, labels=labels)
    site.cluster = made.resized(site.cluster, masters=3, workers=1)
    site.twice = True
    seen = await whole(site)
    assert {each.name for each in seen.objects or ()} == {"web-worker-0"}
    assert (seen.coe_version, bool(seen.container_version)) == ("v1.20.2", True)
    before = voters(seen)
    assert len(before) == 3
    site.twice = False
    await site.yard.provider.delete(NodeRef(site.cluster.uuid, "master-1"))
    after = voters(await whole(site))
    assert len(after) == 3
    assert after["web-master-1"] != before["web-master-1"]
    site.cluster = made.resized(site.cluster, masters=1)
    assert set(voters(await whole(site))) == {"web-master-0"}
    for authority in PHASES:
        site.cluster = dataclasses.replace(site.cluster, authority=authority)
        _, steps = await site.look()
        assert {step.verb for step in steps} == {"trust"}
        seen = await whole(site)
        shown = {each.revision for each in (*seen.kubelets.values(), *seen.apis.values())}
        assert shown == {authority.revision}
        assert set(seen.kubelets) == {"worker-0"}


def has_lacked_memory(owner: str, name: str) -> bool:
    """Whether the kernel ended a process of the node's for it."""
    unified = cgroups.is_unified()
    top = cgroups.ROOT if unified else cgroups.ROOT / "memory"
    (group,) = (top / cgroups.TOP).glob(f"*/{owner}/{name}")
    told = (group / ("memory.events" if unified else "memory.oom_control")).read_text()
    return "oom_kill 0" not in told.splitlines()


@pytest.mark.parametrize("control_plane", ["nodes", "hosted"])
async def test_nodes_of_the_least_size_will_do(site: Site, control_plane: str) -> None:
    """And nothing was ended for want of memory on the way."""
    labels = {**site.cluster.labels, "control_plane": control_plane}
    site.cluster = dataclasses.replace(site.cluster, labels=labels)
    assert isinstance(site.driver, Needs)
    site.cluster = least_sized(site.driver, site.cluster)
    await whole(site)
    assert not [name for name in site.members if has_lacked_memory(site.cluster.uuid, name)]


def told(seen: KubeObserved, directory: Path, *words: str) -> list[str]:
    """What each master's own API server, or its refusal, says to kubectl, master by master."""
    said = []
    for _, node in sorted(seen.nodes.items()):
        pair = BEFORE.client("tester", [access.MASTERS])
        path = directory / "config"
        path.write_bytes(access.kubeconfig(f"https://{node.address}:6443", OLD.certificate, pair))
        said.append(Kubectl(built() / "kubectl", path).run(*words))
    return said


async def test_three_masters_replace_one_of_them_and_survive_two(
    site: Site, tmp_path: Path
) -> None:
    """With all that was written before, as it was: to each of them, whichever is asked."""
    site.cluster = made.resized(site.cluster, masters=3, workers=0)
    seen = await whole(site)
    before = voters(seen)
    assert len(before) == 3
    object_of = "jsonpath={.metadata.uid} {.metadata.resourceVersion} {.data.word}"
    ask = ("get", "configmap", "--ignore-not-found", "-o", object_of)
    written: dict[str, str] = {}

    def write(seen: KubeObserved, name: str) -> None:
        literal = f"--from-literal=word={name}"
        master = dataclasses.replace(seen, nodes={"master-2": seen.nodes["master-2"]})
        told(master, tmp_path, "create", "configmap", name, literal)
        (written[name],) = told(master, tmp_path, *ask, name)
        assert written[name].endswith(f" {name}")

    def assert_kept(seen: KubeObserved) -> None:
        for name, was in written.items():
            assert told(seen, tmp_path, *ask, name) == [was] * 3

    write(seen, "first")
    assert_kept(seen)
    await site.yard.provider.delete(NodeRef(site.cluster.uuid, "master-1"))
    seen = await whole(site)
    after = voters(seen)
    assert len(after) == 3
    assert after["web-master-0"] == before["web-master-0"]
    assert after["web-master-1"] != before["web-master-1"]
    assert_kept(seen)
    write(seen, "second")
    for name in ("master-1", "master-2"):
        await site.yard.provider.delete(NodeRef(site.cluster.uuid, name))
    seen = await whole(site)
    last = voters(seen)
    assert len(last) == 3
    assert last["web-master-0"] == before["web-master-0"]
    assert_kept(seen)
    write(seen, "third")
    assert_kept(seen)
    site.cluster = made.resized(site.cluster, masters=1)
    assert set(voters(await whole(site))) == {"web-master-0"}
    done = await site.members["master-0"].host.run(["pgrep", "-x", "haproxy"])
    assert done.stdout == b"", "there is nothing left to stand before"


async def test_another_ca_comes_in_three_phases(site: Site) -> None:
    await whole(site)
    for authority in PHASES:
        site.cluster = dataclasses.replace(site.cluster, authority=authority)
        _, steps = await site.look()
        assert {step.verb for step in steps} == {"trust"}
        seen = await whole(site)
        assert {each.revision for each in seen.kubelets.values()} == {authority.revision}
