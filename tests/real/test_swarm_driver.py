"""Driver `swarm` on real engines in local nodes: forming, healing, shrinking, and who may talk."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from pathlib import Path

import pytest

from moorage.clients.docker import EnginePool, EngineSilent
from moorage.drivers.swarm.front import SERVER
from moorage.drivers.swarm.seen import SwarmObserved
from moorage.drivers.swarm.steps import START_ENGINE
from moorage.model.cluster import ClusterSpec
from moorage.model.errors import RetryLater
from moorage.model.node import NodeRef
from moorage.model.plan import ENSURE_NODE
from moorage.model.ports import CaKeys, KeyPair
from moorage.trust import ClusterAuthority, new_ca
from tests import made
from tests.contract.test_drivers import Site, wanted
from tests.real.swarm import shell, whole

pytestmark = pytest.mark.real

FRONT = "setsid haproxy -W -f /etc/docker/front.cfg </dev/null >/dev/null 2>&1"


@pytest.fixture
def spec() -> ClusterSpec:
    return wanted(name="Web Shop")


def member_ids(seen: SwarmObserved) -> dict[str, str]:
    return {name: engine.info.node_id for name, engine in seen.engines.items() if engine.info}


async def lose(site: Site, *nodes: str) -> None:
    for node in nodes:
        await site.yard.provider.delete(NodeRef(site.cluster.uuid, node))


async def test_a_cluster_is_formed_in_one_plan(site: Site) -> None:
    site.twice = True
    seen = await whole(site)
    assert {member.hostname for member in seen.members or ()} == {
        "web-shop-master-0",
        "web-shop-worker-0",
        "web-shop-worker-1",
    }
    assert {member.labels["moorage.group"] for member in seen.members or ()} == {
        "default-master",
        "default-worker",
    }
    assert seen.api_address == f"tcp://{seen.nodes['master-0'].endpoint}"
    assert seen.coe_version == seen.container_version != ""
    pool = await shell(site, "master-0", "docker info -f '{{.Swarm.Cluster.DefaultAddrPool}}'")
    assert pool == "[10.0.0.0/9]"


async def test_an_engine_that_was_killed_is_started_again_as_it_was(site: Site) -> None:
    before = member_ids(await whole(site))
    await shell(site, "worker-0", "pkill -KILL -x dockerd")
    seen, steps = await site.look()
    # A connection that was kept from the look before is found closed, a new one is refused.
    reason = seen.health.reasons["worker-0"]
    assert reason.startswith("engine of worker-0 at ")
    assert reason.endswith(("closed the connection", "refused the connection"))
    assert [step.key for step in steps] == ["start-engine worker-0", "await-member worker-0"]
    assert member_ids(await whole(site)) == before


async def test_an_engine_that_hangs_is_started_again(site: Site) -> None:
    before = member_ids(await whole(site))
    await shell(site, "worker-0", "pkill -STOP -x dockerd")
    seen, _ = await site.look()
    assert "did not answer within" in seen.health.reasons["worker-0"]
    assert member_ids(await whole(site)) == before


async def test_a_front_with_another_certificate_is_begun_anew(site: Site) -> None:
    """And one that was killed, or hangs. The engine behind it stays as it is."""
    before = member_ids(await whole(site))
    engine = await shell(site, "worker-0", "pgrep -o -x dockerd")
    other = ClusterAuthority(CaKeys(new_ca("other"))).server("localhost", ["127.0.0.1"])
    host = site.members["worker-0"].host
    await host.put(f"/{SERVER}", other.certificate + other.key)
    for harm, reason in (
        (f"pkill -KILL -x haproxy; {FRONT} &", "certificate that is not its own"),
        ("pkill -KILL -x haproxy", "refused the connection"),
        ("pkill -STOP -x haproxy", "did not answer within"),
    ):
        await shell(site, "worker-0", harm)
        for _ in range(100):
            seen, _ = await site.look()
            if reason in seen.health.reasons.get("worker-0", ""):
                break
            await asyncio.sleep(0.05)
        assert reason in seen.health.reasons["worker-0"]
        assert member_ids(await whole(site)) == before
        assert await shell(site, "worker-0", "pgrep -o -x dockerd") == engine


async def test_a_lost_worker_is_replaced_by_a_new_member(site: Site) -> None:
    before = member_ids(await whole(site))
    await lose(site, "worker-1")
    after = await whole(site)
    assert member_ids(after)["worker-1"] != before["worker-1"]
    assert len(after.members or ()) == 3


async def test_a_swarm_outlives_a_power_cut(site: Site) -> None:
    before = member_ids(await whole(site))
    for name in before:
        site.yard.stop(NodeRef(site.cluster.uuid, name))
    assert member_ids(await whole(site)) == before


async def test_a_swarm_that_is_lost_with_its_only_manager_is_made_anew(site: Site) -> None:
    before = member_ids(await whole(site))
    await lose(site, "master-0")
    seen, _ = await site.look()
    assert "its services have to be deployed again" in seen.health.reasons["swarm"]
    after = member_ids(await whole(site))
    assert not set(before.values()) & set(after.values())


async def test_scaling_down_moves_the_tasks_first(site: Site) -> None:
    await whole(site)
    for name in site.members:
        await shell(site, name, "tar -c -C /usr bin/busybox | docker import - page:1")
    await shell(
        site,
        "master-0",
        "docker service create -d --no-resolve-image --name page --replicas 6"
        " --stop-grace-period 1s page:1 /bin/busybox sleep 600",
    )
    running = (
        "docker service ps page -f desired-state=running --format '{{.Node}} {{.CurrentState}}'"
    )
    for _ in range(200):
        tasks = await shell(site, "master-0", running)
        if tasks.count("Running") == 6:
            break
        await asyncio.sleep(0.05)
    assert "web-shop-worker-1" in tasks

    site.cluster = made.resized(site.cluster, workers=1)
    _, steps = await site.look()
    assert [step.verb for step in steps] == ["drain", "leave", "remove-member", "delete-node"]
    seen = await whole(site)
    assert set(seen.nodes) == {"master-0", "worker-0"}
    assert len(seen.members or ()) == 2
    tasks = await shell(site, "master-0", running)
    assert "worker-1" not in tasks
    assert len(tasks.splitlines()) == 6


async def test_a_drain_of_the_tenant_s_is_left_alone(site: Site) -> None:
    await whole(site)
    await shell(site, "master-0", "docker node update --availability drain web-shop-worker-0")
    seen, steps = await site.look()
    assert (steps, seen.health.reasons) == ([], {})


async def test_three_managers_replace_one_of_them_and_survive_two(site: Site) -> None:
    site.cluster = made.resized(site.cluster, masters=3, workers=0)
    before = await whole(site)
    assert {member.reachability for member in before.members or ()} == {"reachable"}
    await shell(site, "master-0", "printf x | docker config create kept -")

    await lose(site, "master-1")
    after = await whole(site)
    assert member_ids(after)["master-0"] == member_ids(before)["master-0"]
    assert len(after.members or ()) == 3

    await lose(site, "master-1", "master-2")
    after = await whole(site)
    assert member_ids(after)["master-0"] == member_ids(before)["master-0"]
    assert [member.role for member in after.members or ()] == ["manager"] * 3
    assert await shell(site, "master-0", "docker config ls -q")


@pytest.mark.slow
async def test_a_manager_that_was_never_let_in_holds_nobody_up(site: Site) -> None:
    """Of three the second is lost while the first is being replaced."""
    site.cluster = made.resized(site.cluster, masters=3, workers=0)
    before = await whole(site)
    await shell(site, "master-0", "printf x | docker config create kept -")
    token = await shell(site, "master-0", "docker swarm join-token -q manager")
    await lose(site, "master-1", "master-2")
    _, steps = await site.look()
    for verb in (ENSURE_NODE, START_ENGINE):
        for step in steps:
            if step.verb == verb:
                await site.perform(step)
    address = before.nodes["master-0"].address
    await shell(site, "master-1", f"! docker swarm join --token {token} {address}:2377")
    seen, _ = await site.look()
    while seen.members is not None or not seen.engines["master-1"].joins:
        await asyncio.sleep(0.2)
        seen, _ = await site.look()

    site.cluster = dataclasses.replace(site.cluster, attempts=3)
    after = await whole(site)
    assert member_ids(after)["master-0"] == member_ids(before)["master-0"]
    assert [member.role for member in after.members or ()] == ["manager"] * 3
    assert await shell(site, "master-0", "docker config ls -q")


def client(ca: bytes, pair: KeyPair | None, tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.decode())
    if pair is not None:
        file = tmp_path / "client.pem"
        file.write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(file)
    return context


async def ask(address: str, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection(address, 2376, ssl=context)
    try:
        writer.write(b"GET /_ping HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(5.0):
            return await reader.read()
    finally:
        writer.close()


async def test_the_engine_talks_to_its_cluster_s_clients_only(site: Site, tmp_path: Path) -> None:
    site.cluster = made.resized(site.cluster, workers=0)
    seen = await whole(site)
    address = seen.nodes["master-0"].address
    assert address is not None
    authority = site.cluster.authority
    ca = authority.certificate
    host = site.members["master-0"].host
    stolen = KeyPair((await host.run(["cat", f"/{SERVER}"])).stdout, b"")
    assert b"OK" in await ask(address, client(ca, authority.client("tenant"), tmp_path))
    for pair in (None, ClusterAuthority(CaKeys(new_ca("other"))).client("tenant"), stolen):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(address, client(ca, pair, tmp_path))


async def test_we_talk_to_the_cluster_s_engines_only(site: Site) -> None:
    site.cluster = made.resized(site.cluster, workers=0)
    seen = await whole(site)
    pool = EnginePool()
    other = ClusterAuthority(CaKeys(new_ca("other")))
    engine = pool.engine("other", other, "master-0", seen.nodes["master-0"].address)
    with pytest.raises(EngineSilent, match="certificate that is not its own"):
        await engine.ping()
    await pool.aclose()


async def test_an_engine_that_does_not_start_says_why(site: Site) -> None:
    site.cluster = made.resized(site.cluster, workers=0)
    await whole(site)
    await shell(site, "master-0", "pkill -KILL -x dockerd; rm -rf /var/lib/docker/swarm")
    await shell(site, "master-0", "mkdir -p /var/lib/docker/swarm/docker-state.json")
    _, steps = await site.look()
    with pytest.raises(RetryLater, match="docker-state") as trouble:
        await site.perform(steps[0])
    assert "engine of master-0" in str(trouble.value)
    assert "\n" not in str(trouble.value)
