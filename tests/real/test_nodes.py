"""Nodes outlive Moorage, come back after the machine's reboot, and are replaced when lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from moorage.app import local_provider, lose_node
from moorage.install import install_id
from moorage.model.node import NodeRef
from moorage.providers.local.runtime import Runc
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    return install.tenant("red")


@pytest.fixture(scope="module")
def cluster(tenant: Tenant) -> str:
    uuid = tenant.create("fleet", template=tenant.make_template(), workers=2)
    tenant.until_complete(uuid)
    return uuid


@pytest.fixture(scope="module")
def environment(
    tenant: Tenant, cluster: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    return tenant.docker(cluster, tmp_path_factory.mktemp("red"))


def docker(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        ["docker", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def swarm(environment: dict[str, str]) -> list[dict[str, str]]:
    """The nodes as the Swarm itself lists them."""
    lines = docker(environment, "node", "ls", "--format", "{{json .}}").splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda node: str(node["Hostname"]))


def all_ready(environment: dict[str, str]) -> bool:
    """Whether the Swarm says so: while its manager is started, nobody says anything."""
    try:
        return all(node["Status"] == "Ready" for node in swarm(environment))
    except AssertionError as error:
        if "Cannot connect" in str(error):
            return False
        raise


def pids(install: Install, uuid: str) -> dict[str, int]:
    runc = Runc(install_id(install.state))
    names = [node.name for node in asyncio.run(local_provider(install.settings).observe(uuid))]
    inits = {name: runc.init(f"{uuid}.{name}") for name in names}
    return {name: init.pid for name, init in inits.items() if init}


def test_nodes_outlive_moorage(
    install: Install, tenant: Tenant, cluster: str, environment: dict[str, str]
) -> None:
    before = pids(install, cluster)
    assert len(before) == 3
    install.down()
    assert len(swarm(environment)) == 3  # with no Moorage there
    assert "start with the former --pool" in install.refusal("up", "--pool", "10.64.0.0/12")
    install.moorage("up", "--pool", "10.128.0.0/12", env=install.variables)
    tenant.until_complete(cluster)
    assert pids(install, cluster) == before


def test_everything_comes_back_after_a_reboot(
    install: Install, tenant: Tenant, cluster: str, environment: dict[str, str]
) -> None:
    """All that a power cut takes is taken: processes, links, rules, cgroups, and /run."""
    ids = [node["ID"] for node in swarm(environment)]
    install.kill()
    name = install_id(install.state)
    runc = Runc(name)
    for node in pids(install, cluster):
        asyncio.run(runc.destroy(f"{cluster}.{node}"))
    for link in Path("/sys/class/net").glob("mrg*"):
        with contextlib.suppress(OSError):  # a bridge's end may be gone already
            if name in (link / "ifalias").read_text():
                subprocess.run(["ip", "link", "del", link.name], check=False, capture_output=True)
    subprocess.run(["nft", "delete", "table", "inet", f"moorage_{name}"], check=True)
    shutil.rmtree(Path("/run/moorage") / name, ignore_errors=True)
    install.up()
    shown = tenant.until_complete(cluster)
    assert len(shown["node_addresses"]) == 2
    tenant.until(cluster, lambda _: all_ready(environment))
    assert [node["ID"] for node in swarm(environment)] == ids, "the same Swarm, the same members"


def test_a_killed_worker_is_started_again_on_its_disk(
    install: Install, tenant: Tenant, cluster: str, environment: dict[str, str]
) -> None:
    before = pids(install, cluster)
    ids = [node["ID"] for node in swarm(environment)]
    subprocess.run(["kill", "-9", str(before["worker-1"])], check=True)
    gone = (None, before["worker-1"])
    tenant.until(cluster, lambda _: pids(install, cluster).get("worker-1") not in gone)
    tenant.until_complete(cluster)
    after = pids(install, cluster)
    assert after["worker-1"] != before["worker-1"]
    assert after["worker-0"] == before["worker-0"]
    tenant.until(cluster, lambda _: all_ready(environment))
    assert [node["ID"] for node in swarm(environment)] == ids


def test_a_worker_that_is_lost_with_its_disk_is_replaced(
    install: Install, tenant: Tenant, cluster: str, environment: dict[str, str]
) -> None:
    before = {node["ID"] for node in swarm(environment)}
    asyncio.run(lose_node(install.settings, NodeRef(cluster, "worker-0")))

    def replaced(shown: dict[str, object]) -> bool:
        ready = {node["ID"] for node in swarm(environment) if node["Status"] == "Ready"}
        return len(ready) == 3 and len(ready - before) == 1 and shown["health_status"] == "HEALTHY"

    tenant.until(cluster, replaced)
    assert len(swarm(environment)) == 3, "the lost one is no member any more"


def test_an_engine_that_dies_is_started_again(
    install: Install, tenant: Tenant, cluster: str, environment: dict[str, str]
) -> None:
    def engine() -> str:
        root = f"/run/moorage/{install_id(install.state)}"
        argv = ["runc", "--root", root, "exec", f"{cluster}.worker-1", "pgrep", "-x", "dockerd"]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    def kill(pid: str) -> None:
        root = f"/run/moorage/{install_id(install.state)}"
        argv = ["runc", "--root", root, "exec", f"{cluster}.worker-1", "kill", "-9", pid]
        subprocess.run(argv, check=True)

    before = engine()
    kill(before)
    tenant.until(cluster, lambda _: engine() not in ("", before))
    tenant.until_complete(cluster)
    tenant.until(cluster, lambda _: all_ready(environment))


def test_node_count_up_and_down(tenant: Tenant, cluster: str, environment: dict[str, str]) -> None:
    for count in (3, 1):
        patch = [{"op": "replace", "path": "/node_count", "value": count}]
        assert tenant.ask("PATCH", f"/clusters/{cluster}", patch).status == 202
        done = tenant.until(cluster, lambda shown: shown["status"] == "UPDATE_COMPLETE")
        assert done["node_count"] == count
        assert len(swarm(environment)) == count + 1
