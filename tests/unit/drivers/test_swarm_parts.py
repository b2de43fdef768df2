"""The swarm driver's names, health, and what it puts on a node."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from moorage.drivers.hostnames import hostname, node_of
from moorage.drivers.swarm import engine, front
from moorage.drivers.swarm.health import health
from moorage.drivers.swarm.naming import node_specs
from moorage.model.cluster import HealthStatus, Rotation
from moorage.model.node import Role
from moorage.model.ports import CaKeys, KeyPair
from moorage.trust import ClusterAuthority, new_ca
from tests.unit.drivers.swarm_scene import (
    cluster,
    leaderless,
    member,
    node,
    silent,
    stopped,
    whole,
    with_engine,
    with_members,
    without,
)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("web", "web-worker-0"),
        ("Web Shop.2", "web-shop-2-worker-0"),
        ("-", "cluster-worker-0"),
        ("Ü", "cluster-worker-0"),
        ("x" * 200, "x" * 54 + "-worker-0"),
    ],
)
def test_a_host_is_called_after_its_cluster_and_node(name: str, host: str) -> None:
    assert hostname(name, "worker-0") == host
    assert len(host) <= 63
    assert node_of(name, host) == "worker-0"


@pytest.mark.parametrize("host", ["web-worker-", "laptop", "web-worker-x", "other-worker-0", ""])
def test_a_foreign_host_is_no_node(host: str) -> None:
    assert node_of("web", host) is None


def test_only_masters_can_be_reached_from_outside() -> None:
    for spec in node_specs(cluster(3, 2)):
        assert spec.expose == (2376 if spec.role is Role.MASTER else None)


def test_a_whole_cluster_is_healthy() -> None:
    assert health(cluster(3, 2), whole(3, 2)).status is HealthStatus.HEALTHY
    assert health(cluster(3, 2), whole(3, 2)).reasons == {}


def test_every_node_says_what_it_lacks() -> None:
    seen = stopped(silent(without(whole(1, 6), "worker-0"), "worker-1"), "worker-2")
    seen = with_engine(seen, "worker-3", "active", node_id="elsewhere")
    seen = with_engine(seen, "worker-4", "error", error="certificate has expired")
    seen = with_members(seen, member("worker-5", state="down", message="heartbeat failure"))
    found = health(cluster(1, 6), seen)
    assert found.status is HealthStatus.UNHEALTHY
    assert found.reasons == {
        "worker-0": "missing",
        "worker-1": "engine of worker-1 is off",
        "worker-2": "stopped: its first process is gone",
        "worker-3": "its engine is in another swarm",
        "worker-4": "its engine is error in the swarm: certificate has expired",
        "worker-5": "down in the swarm: heartbeat failure",
    }


def test_a_swarm_without_a_leader_is_one_reason() -> None:
    assert health(cluster(3, 1), leaderless(whole(3, 1))).reasons == {
        "swarm": "the swarm does not have a leader"
    }


def test_a_lost_swarm_is_told() -> None:
    seen = leaderless(without(whole(1, 1), "master-0"))
    reason = health(cluster(1, 1), seen).reasons["swarm"]
    assert "its services have to be deployed again" in reason
    fresh = with_engine(dataclasses.replace(seen, engines={}), "worker-0", "inactive")
    assert "deployed again" not in health(cluster(1, 1), fresh).reasons["swarm"]


@pytest.mark.parametrize("script", [engine.SCRIPT, engine.LOOK])
def test_the_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["/bin/sh", "-n", "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_engine_is_reached_through_its_front_only() -> None:
    config = engine.config({"moorage.role": "worker"})
    assert config["hosts"] == ["unix:///run/docker.sock"]
    assert config["labels"] == ["moorage.role=worker"]


def test_the_front_asks_every_client_for_a_certificate() -> None:
    lines = [line.split() for line in front.config().decode().splitlines()]
    (bind,) = (line for line in lines if line[:1] == ["bind"])
    assert bind[1:3] == ["0.0.0.0:2376", "ssl"]
    assert " ".join(bind[3:]) == (
        "crt /etc/docker/tls/server.pem ca-file /etc/docker/tls/ca.pem verify required "
        "ssl-min-ver TLSv1.2 no-tls-tickets"
    )


@pytest.mark.real
def test_haproxy_takes_the_configuration(tmp_path: Path) -> None:
    authority = ClusterAuthority(CaKeys(new_ca("one"), new_ca("one"), Rotation.SERVE))
    files = front.files(authority.certificate, authority.server("master-0", []))
    for path, data in files.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.replace(b" /etc/docker/", f" {tmp_path}/etc/docker/".encode()))
    done = subprocess.run(
        ["/usr/sbin/haproxy", "-c", "-f", str(tmp_path / front.CONFIG)],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_archive_holds_what_is_installed_for_root_only() -> None:
    packed = engine.archive(b"ca", KeyPair(b"certificate\n", b"key\n"), {})
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = {f"/{file.name}": file for file in tar}
        assert {file.mode for file in files.values()} == {0o600}
        for name, data in (("ca.pem", b"ca"), ("server.pem", b"certificate\nkey\n")):
            read = tar.extractfile(files[f"/etc/docker/new/{name}"])
            assert read is not None
            assert read.read() == data
        read = tar.extractfile(files["/etc/docker/new/daemon.json"])
        assert read is not None
        assert json.load(read) == engine.config({})
    assert all(f"mv -f {path} " in engine.SCRIPT for path in files)


def test_what_a_provider_knows_of_a_node_that_runs_is_told() -> None:
    full = dataclasses.replace(node("worker-0"), reason="its disk is full: 0 MiB of 9 are left")
    well = whole(1, 1)
    seen = dataclasses.replace(well, nodes={**well.nodes, "worker-0": full})
    assert health(cluster(1, 1), seen).reasons == {
        "worker-0": "its disk is full: 0 MiB of 9 are left"
    }
    off = silent(seen, "worker-0")
    assert health(cluster(1, 1), off).reasons == {
        "worker-0": "its disk is full: 0 MiB of 9 are left; engine of worker-0 is off"
    }
