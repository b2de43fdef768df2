"""Trouble of every kind, made on real nodes: seen, named with its cause, and healed or told.

How soon, is in the log (`pytest -o log_cli=true -o log_cli_level=info`), and in docs/healing.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.app import local_provider, lose_node
from moorage.install import install_id
from moorage.model.node import NodeRef, NodeState
from tests.real.conftest import fresh_install
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real
log = logging.getLogger(__name__)

HEAL_SECONDS = 120
"""Longer than any of these tests waits: nothing here is seen by the timer."""
WINDOW_SECONDS = 30
VOLUME = 8 << 30
"""The size of the file system that the nodes of this install are on. It is sparse."""


@pytest.fixture(scope="module")
def install() -> Iterator[Install]:
    with fresh_install() as made, _volume(made.state):
        made.variables |= {
            "MOORAGE_HEAL_SECONDS": str(HEAL_SECONDS),
            "MOORAGE_HEAL_REPLACEMENTS": "1",
            "MOORAGE_HEAL_WINDOW_SECONDS": str(WINDOW_SECONDS),
        }
        made.up()
        try:
            yield made
        finally:
            made.moorage("down", "--purge", "--yes")


@contextlib.contextmanager
def _volume(state: Path) -> Iterator[None]:
    """A file system of its own under the nodes, for them to fill."""
    image, nodes = state.with_name("volume"), state / "nodes"
    with image.open("wb") as file:
        file.truncate(VOLUME)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    state.mkdir(mode=0o711)
    nodes.mkdir(mode=0o711)
    subprocess.run(["mount", "-o", "loop", image, nodes], check=True)
    try:
        (nodes / "lost+found").rmdir()
        nodes.chmod(0o711)
        yield
    finally:
        subprocess.run(["umount", nodes], check=True)


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    return install.tenant("red")


@pytest.fixture(scope="module")
def cluster(tenant: Tenant) -> str:
    uuid = tenant.create("web", template=tenant.make_template(), workers=2)
    tenant.until_complete(uuid)
    return uuid


class Node:
    """A node, as one who has power over the machine gets at it."""

    def __init__(self, install: Install, cluster: str, name: str) -> None:
        self.runc = ["runc", "--root", f"/run/moorage/{install_id(install.state)}"]
        self.container = f"{cluster}.{name}"

    def sh(self, script: str, *words: str) -> str:
        argv = [*self.runc, "exec", self.container, "/bin/sh", "-c", script, "sh", *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def start(self, *argv: str) -> None:
        subprocess.run([*self.runc, "exec", "-d", self.container, *argv], check=True)

    def pid(self) -> int:
        argv = [*self.runc, "ps", "-f", "json", self.container]
        pids = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return min(int(pid) for pid in pids.strip("[]\n").split(","))

    def link(self) -> str:
        """The machine's end of its link, by the peer's index."""
        index = self.sh("cat /sys/class/net/eth0/iflink")
        links = Path("/sys/class/net").glob("mrg*")
        return next(link.name for link in links if _read(link / "ifindex") == index)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):  # other installs' links come and go
        return path.read_text().strip()
    return ""


def seen(tenant: Tenant, cluster: str, name: str, *causes: str, within: float) -> str:
    """What the health says of the node, once it is one of these causes."""

    def told(shown: dict[str, Any]) -> bool:
        reason = shown["health_status_reason"].get(name, "")
        return shown["health_status"] == "UNHEALTHY" and any(cause in reason for cause in causes)

    began = time.monotonic()
    shown = tenant.until(cluster, told, within)
    reason: str = shown["health_status_reason"][name]
    log.info("seen after %.1f s: %s: %s", time.monotonic() - began, name, reason)
    return reason


def healed(tenant: Tenant, cluster: str, seconds: float = 60) -> None:
    began = time.monotonic()
    tenant.until_complete(cluster, seconds)
    log.info("healed after %.1f s more", time.monotonic() - began)


def test_a_node_that_dies(install: Install, tenant: Tenant, cluster: str) -> None:
    os.kill(Node(install, cluster, "worker-1").pid(), 9)
    assert "stopped: its first process is gone" in seen(
        tenant, cluster, "worker-1", "stopped", within=5
    )
    healed(tenant, cluster)


def test_an_engine_that_hangs(install: Install, tenant: Tenant, cluster: str) -> None:
    node = Node(install, cluster, "worker-1")
    node.sh("kill -STOP $(pgrep -x dockerd)")
    assert "did not answer within" in seen(tenant, cluster, "worker-1", "did not answer", within=15)
    healed(tenant, cluster)


def test_the_only_manager_s_engine_hangs(install: Install, tenant: Tenant, cluster: str) -> None:
    """Nobody else could tell of it: its own stream of events falls silent."""
    Node(install, cluster, "master-0").sh("kill -STOP $(pgrep -x dockerd)")
    assert "did not answer within" in seen(tenant, cluster, "master-0", "did not answer", within=35)
    healed(tenant, cluster)


def test_an_engine_that_dies(install: Install, tenant: Tenant, cluster: str) -> None:
    Node(install, cluster, "worker-0").sh("kill -KILL $(pgrep -x dockerd)")
    seen(tenant, cluster, "worker-0", "closed the connection", "down in the swarm", within=15)
    healed(tenant, cluster)


@pytest.mark.parametrize("how", ["set {link} down", "del {link}"])
def test_a_node_that_loses_its_network(
    install: Install, tenant: Tenant, cluster: str, how: str
) -> None:
    link = Node(install, cluster, "worker-1").link()
    before = Node(install, cluster, "worker-1").pid()
    subprocess.run(["ip", "link", *how.format(link=link).split()], check=True)
    assert "its network link is gone, down or not whole" in seen(
        tenant, cluster, "worker-1", "network link", within=15
    )
    healed(tenant, cluster)
    assert Node(install, cluster, "worker-1").pid() == before, "it went on running"


REACHES = """
import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)
except OSError: sys.exit("no way")
"""


def reaches(node: Node, address: str, port: int) -> bool:
    argv = [*node.runc, "exec", node.container, "python3", "-c", REACHES, address, str(port)]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("also_stopped", [False, True])
def test_the_packet_filter_is_flushed(
    install: Install, tenant: Tenant, cluster: str, also_stopped: bool
) -> None:
    """As by a reload of Debian's nftables.service, but of our own table only."""
    other = tenant.create(
        "other", template=tenant.make_template(f"other-{also_stopped}"), workers=0
    )
    tenant.until_complete(other)
    nodes = {name: Node(install, cluster, name) for name in ("master-0", "worker-0", "worker-1")}
    before = {name: node.pid() for name, node in nodes.items()}
    provider = local_provider(install.settings)
    (stranger,) = asyncio.run(provider.observe(other))
    gateway = str(stranger.address).rpartition(".")[0] + ".1"
    published = tenant.cluster(cluster)["api_address"].rpartition(":")[2]
    ways = [(str(stranger.address), 2376)]
    with socket.create_server(("0.0.0.0", 0)) as machine:
        ways.append((gateway, machine.getsockname()[1]))
        assert not any(reaches(nodes["worker-0"], *way) for way in ways)

        table = f"moorage_{install_id(install.state)}"
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)
        if also_stopped:
            os.kill(before["master-0"], 9)
        assert "the packet filter lost its rules" in seen(
            tenant, cluster, "worker-0", "packet filter", within=10
        )
        healed(tenant, cluster)
        healed(tenant, other)
        assert not any(reaches(nodes["worker-0"], *way) for way in ways)
    assert reaches(nodes["worker-0"], str(_address(install, cluster, "master-0")), 2376)
    with socket.create_connection((_host(tenant, cluster), int(published)), 5):
        pass
    after = {name: node.pid() for name, node in nodes.items()}
    if also_stopped:
        assert after.pop("master-0") != before.pop("master-0"), "it could be started again"
    assert after == before, "what ran went on running"
    assert tenant.ask("DELETE", f"/clusters/{other}").status == 204
    tenant.until_gone(other)


def _address(install: Install, cluster: str, name: str) -> str | None:
    nodes = asyncio.run(local_provider(install.settings).observe(cluster))
    return next(node.address for node in nodes if node.name == name)


def _host(tenant: Tenant, cluster: str) -> str:
    address: str = tenant.cluster(cluster)["api_address"]
    return address.removeprefix("tcp://").rpartition(":")[0]


GARBAGE = """
import os, socket
try: os.unlink("/run/docker.sock")
except FileNotFoundError: pass
s = socket.socket(socket.AF_UNIX)
s.bind("/run/docker.sock")
s.listen(64)
while True:
    c, _ = s.accept()
    c.sendall(b"\\x00\\xff HELO 250 what? {[}\\r\\n" * 3)
    c.close()
"""


def test_an_engine_that_answers_nonsense(install: Install, tenant: Tenant, cluster: str) -> None:
    node = Node(install, cluster, "worker-0")
    node.sh("kill -KILL $(pgrep -x dockerd)")
    node.start("/usr/bin/python3", "-c", GARBAGE)
    seen(
        tenant,
        cluster,
        "worker-0",
        "can't be understood",
        "as a Docker Engine does",
        "down",
        within=15,
    )
    healed(tenant, cluster)


def test_a_node_that_fills_its_disk(install: Install, tenant: Tenant, cluster: str) -> None:
    """Told, and left alone: what fills it is its tenant's."""
    node = Node(install, cluster, "worker-0")
    before = node.pid()
    node.sh(
        f"cd /var/tmp; fallocate -l {VOLUME - (1 << 30)} big; fallocate -l {1 << 30} more;"
        "dd if=/dev/zero of=rest bs=1M 2>&1 | grep 'No space left'"
    )
    assert "its disk is full" in seen(tenant, cluster, "worker-0", "disk is full", within=15)
    assert node.pid() == before
    node.sh("rm -f /var/tmp/big /var/tmp/more /var/tmp/rest")
    healed(tenant, cluster)


def test_a_storm_of_losses_is_healed_up_to_the_limit_and_goes_on_by_itself(
    install: Install, tenant: Tenant, cluster: str
) -> None:
    """Two workers lose their disks in one window of time, in which one may be replaced."""
    lose(install, cluster, "worker-1")
    tenant.until(cluster, lambda shown: "worker-1" in shown["health_status_reason"], 15)
    healed(tenant, cluster)
    lose(install, cluster, "worker-0")
    held = tenant.until(cluster, lambda shown: "healing" in shown["health_status_reason"], 15)
    assert re.fullmatch(
        r"on hold until .* UTC: at most 1 are replaced in 0\.5 min; next: worker-0",
        held["health_status_reason"]["healing"],
    )
    assert running(install, cluster) == {"master-0", "worker-1"}
    healed(tenant, cluster, 2 * WINDOW_SECONDS)
    assert running(install, cluster) == {"master-0", "worker-0", "worker-1"}


def lose(install: Install, cluster: str, name: str) -> None:
    asyncio.run(lose_node(install.settings, NodeRef(cluster, name)))


def running(install: Install, cluster: str) -> set[str]:
    nodes = asyncio.run(local_provider(install.settings).observe(cluster))
    return {node.ref.name for node in nodes if node.state is NodeState.RUNNING}


def test_where_healing_is_off_trouble_is_told_and_nothing_is_done(
    install: Install, tenant: Tenant
) -> None:
    template = tenant.make_template("alone", labels={"auto_healing_enabled": "false"})
    uuid = tenant.create("alone", template=template, workers=1)
    tenant.until_complete(uuid)
    node = Node(install, uuid, "worker-0")
    os.kill(node.pid(), 9)
    seen(tenant, uuid, "worker-0", "stopped", within=5)
    shown = tenant.cluster(uuid)
    said = shown["health_status_reason"]["healing"]
    assert said == (
        "off (auto_healing_enabled is false); it would do: ensure-node, start-engine, await-member"
    )
    assert shown["status"] == "CREATE_COMPLETE"
    assert tenant.ask("DELETE", f"/clusters/{uuid}").status == 204
    tenant.until_gone(uuid)


def test_a_server_that_starts_looks_before_anything_is_due(
    install: Install, tenant: Tenant, cluster: str
) -> None:
    """All nodes died while it was away, and by its timer it would look in two minutes."""
    install.kill()
    for name in ("master-0", "worker-0", "worker-1"):
        os.kill(Node(install, cluster, name).pid(), 9)
    install.up()
    healed(tenant, cluster, HEAL_SECONDS / 2)

    events = tenant.ask("GET", f"/clusters/{cluster}/events?sort_key=id&sort_dir=desc").body
    said = [event["what"] for event in events["events"]]
    assert any(what.startswith("seen: master-0: stopped") for what in said), said[:20]
