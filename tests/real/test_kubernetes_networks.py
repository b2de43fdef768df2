"""Two tenants' Kubernetes beside each other, with the same ranges: what their pods may send.

The rules themselves are tried in `test_each_rule` and `test_forged_packets`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest

from moorage.install import install_id
from moorage.networks.layout import mac
from moorage.providers.local.runtime import Runc
from moorage.sign_in import public_address
from tests.real.clients import Shell
from tests.real.install import Install
from tests.real.kubernetes import HOSTED, Kubectl, add_release, kubectl_of, load, pod, service
from tests.real.topology import OUTSIDE, PATIENCE, PUBLIC, Place, neighbour, within

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]

PORT, OWN_PORT = 999, 4321
OUTGOING = 4
"""PACKET_OUTGOING of <linux/if_packet.h>."""
TWIN, RED_ALONE = "10.254.7.7", "10.254.7.8"
"""Services: both tenants have the one, the other is the first tenant's."""
ROOT_AND_NOT = pytest.mark.parametrize("sender", ["root", "plain"])

SEND = f"""
import json, socket, struct, sys
for source, target, port, word in json.loads(sys.argv[1]):
    udp = struct.pack("!HHHH", {OWN_PORT}, port, 8 + len(word), 0) + word.encode()
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    header += socket.inet_aton(source) + socket.inet_aton(target)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(header + udp, (target, port))
"""
ASK = f"""
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
    own.bind(("", {OWN_PORT}))
    own.settimeout(5)
    own.sendto(sys.argv[1].encode(), ("{OUTSIDE}", {PORT}))
    print(own.recv(99).decode())
"""
CONNECT = """
import json, socket, sys
for address, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((address, port), 0.5).close()
        print(address, port)
    except OSError:
        pass
"""
CLAIM = """
import socket, struct, sys
gateway, own, *claimed = sys.argv[1:]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind(("eth0", 0))
    own_mac = raw.getsockname()[4]
    for address in claimed:
        for kind in (1, 2):
            arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, kind) + own_mac
            arp += socket.inet_aton(address) + bytes(6) + socket.inet_aton(own)
            raw.send(bytes.fromhex(gateway.replace(":", "")) + own_mac + b"\\x08\\x06" + arp)
"""


@dataclass
class Side:
    """A tenant's cluster. Pods `root` (on the node's network, privileged) and `plain`, which
    serves its tenant's name, are on its first worker; `far`, if any, is on its second."""

    install: Install
    uuid: str
    kubectl: Kubectl
    api: str
    master: str
    workers: list[str]

    def python(self, sender: str, program: str, *words: str) -> str:
        return self.kubectl.run("exec", sender, "--", "/usr/bin/python3", "-c", program, *words)

    def ip(self, *words: str) -> None:
        self.kubectl.run("exec", "root", "--", "/usr/bin/ip", *words)

    def fetch(self, address: str, sender: str = "root") -> str:
        words = ("/usr/bin/timeout", "2", "/bin/busybox", "wget", "-qO-", f"http://{address}:8080")
        told = self.kubectl.run("exec", sender, "--", *words, code=None)
        return told.strip()

    def address(self, name: str) -> str:
        found: str = self.kubectl.get("pod", name)["status"]["podIP"]
        return found

    @property
    def gateway(self) -> str:
        return self.master.rpartition(".")[0] + ".1"

    def node(self, name: str) -> int:
        init = Runc(install_id(self.install.state)).init(f"{self.uuid}.{name}")
        assert init is not None
        return init.pid


@pytest.fixture(scope="module")
def sides(install: Install, tmp_path_factory: pytest.TempPathFactory) -> list[Side]:
    """Red has two workers, and blue one."""
    add_release(install)
    tenants = {name: install.tenant(name) for name in ("red", "blue")}
    uuids = {}
    for workers, (name, tenant) in zip((2, 1), tenants.items(), strict=True):
        template = tenant.make_template("hosted", **HOSTED)
        uuids[name] = tenant.create(name, template=template, workers=workers)
    made = []
    for name, tenant in tenants.items():
        shown = tenant.until_complete(uuids[name], 180)
        nodes = [f"worker-{number}" for number in range(shown["node_count"])]
        asyncio.run(load(Runc(install_id(install.state)), uuids[name], *nodes))
        directory = tmp_path_factory.mktemp(name)
        kubectl = kubectl_of(Shell(tenant, directory), name, directory)
        kubectl.apply(*pods(name), service("plain", 8080, clusterIP=TWIN))
        if name == "red":
            far = serving("far", name, "worker-1")
            kubectl.apply(far, service("far", 8080, clusterIP=RED_ALONE))
        made.append(
            Side(
                install,
                uuids[name],
                kubectl,
                shown["api_address"],
                shown["master_addresses"][0],
                sorted(shown["node_addresses"], key=lambda a: int(IPv4Address(a))),
            )
        )
    for side in made:
        words = ("--for=condition=Ready", "pod", "--all", "--timeout=90s")
        side.kubectl.run("wait", *words)
    return made


def pods(tenant: str) -> list[dict[str, Any]]:
    plain, root = serving("plain", tenant, "worker-0"), serving("root", tenant, "worker-0")
    root["spec"]["hostNetwork"] = True
    container = root["spec"]["containers"][0]
    container["securityContext"] = {"privileged": True}
    container["command"] = ["/bin/sleep", "1000000"]
    return [plain, root]


def serving(name: str, tenant: str, node: str) -> dict[str, Any]:
    """A pod that says its tenant's name at 8080, and has Python."""
    mounts = ("usr", "lib", "lib64")
    command = f"mkdir /w; echo {tenant} > /w/index.html; exec /bin/busybox httpd -f -p 8080 -h /w"
    return pod(
        name,
        *("/bin/sh", "-c", command),
        nodeName=f"{tenant}-{node}",
        volumes=[{"name": each, "hostPath": {"path": f"/{each}"}} for each in mounts],
        container={"volumeMounts": [{"name": each, "mountPath": f"/{each}"} for each in mounts]},
    )


@pytest.fixture(scope="module")
def red(sides: list[Side]) -> Side:
    return sides[0]


@pytest.fixture(scope="module")
def blue(sides: list[Side]) -> Side:
    return sides[1]


@pytest.fixture(scope="module")
def outside(install: Install) -> Iterator[Place]:
    """Another machine beside this one."""
    assert install.port
    with neighbour() as place:
        yield place


class Ear:
    """Hears our words at a place: all UDP that comes there, whatever becomes of it then.

    None: what programs of this machine get.
    """

    def __init__(self, pid: int | None) -> None:
        self._is_ours = pid is None
        if pid is None:
            self._inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._inbox.bind(("", PORT))
        else:
            self._inbox = within(pid, self._any_packet)
        self._inbox.setblocking(False)

    @staticmethod
    def _any_packet() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.close()

    def words(self) -> set[str]:
        found: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self._inbox.recvfrom(2000)
                # Not what a place sends itself, nor what is quoted by errors that come back to it.
                if not self._is_ours and (data[9] != socket.IPPROTO_UDP or sender[2] == OUTGOING):
                    continue
                found |= {word.decode() for word in re.findall(rb"hail<([ -~]*)>", data)}
        return found


def test_both_have_the_same_addresses_and_each_its_own_pods(red: Side, blue: Side) -> None:
    assert red.address("plain") == blue.address("plain")
    for side, name in ((red, "red"), (blue, "blue")):
        for address in (side.address("plain"), TWIN):
            assert side.fetch(address) == name
            assert side.fetch(address, "plain") == name
    assert red.fetch(red.address("far")) == red.fetch(RED_ALONE) == "red"


def test_answers_come_to_who_has_asked(red: Side, blue: Side, outside: Place) -> None:
    """From the same pod address and port, to the same one outside."""
    sides = {"red": red, "blue": blue}
    with outside.do(listening) as server, ThreadPoolExecutor(2) as threads:
        server.settimeout(10)
        told = {
            name: threads.submit(side.python, "plain", ASK, name) for name, side in sides.items()
        }
        came = [server.recvfrom(99) for _ in sides]
        assert len({address for _, address in came}) == 2
        assert {address[0] for _, address in came} == {PUBLIC}
        for word, address in came:
            server.sendto(b"answer to " + word, address)
        assert {name: each.result().strip() for name, each in told.items()} == {
            name: f"answer to {name}" for name in sides
        }


def listening() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("", PORT))
    return made


def test_no_route_that_a_tenant_lays_leads_to_another(red: Side, blue: Side) -> None:
    """By the other's node, wherever it is taken to be; and by the gateway."""
    far, node = red.address("far"), red.workers[1]
    assert red.fetch(far) == "red"
    with Ear(red.node("worker-0")) as first, Ear(red.node("worker-1")) as second:
        for lladdr in ("", mac(IPv4Address(blue.gateway)), mac(IPv4Address(node))):
            if lladdr:
                blue.ip("neigh", "replace", node, "lladdr", lladdr, "dev", "eth0")
            blue.ip("route", "replace", node, "dev", "eth0")
            for via in (node, blue.gateway):
                for goal in (f"{far}/32", f"{RED_ALONE}/32"):
                    blue.ip("route", "replace", goal, "via", via, "dev", "eth0", "onlink")
                words = json.dumps(
                    [
                        [blue.workers[0], goal, PORT, f"hail<{via} {goal}>"]
                        for goal in (far, RED_ALONE)
                    ]
                )
                blue.python("root", SEND, words)
                if lladdr == mac(IPv4Address(blue.gateway)):
                    assert "red" not in blue.fetch(far) + blue.fetch(RED_ALONE)
        blue.python("root", SEND, json.dumps([[blue.workers[0], node, PORT, "hail<node>"]]))
        time.sleep(PATIENCE)
        assert first.words() == second.words() == set()
    for goal in (node, far, RED_ALONE):
        blue.ip("route", "del", f"{goal}/32")
    assert red.fetch(far) == "red"


def test_what_becomes_of_a_forged_source(red: Side, blue: Side, outside: Place) -> None:
    """Root in a node sends what it likes; a pod has its node's kernel before it."""
    mate, own = red.workers[1], red.workers[0]
    sources = {
        "its own": own,
        "a mate": mate,
        "another tenant": blue.workers[0],
        "a pod": red.address("plain"),
        "a mate's pod": red.address("far"),
        "somebody": "203.0.113.9",
        "the outside": OUTSIDE,
        "this machine": public_address(),
        "the gateway": red.gateway,
    }
    targets = {
        "mate": mate,
        "outside": OUTSIDE,
        "blue": blue.workers[0],
        "blue's gateway": blue.gateway,
        "gateway": red.gateway,
        "machine": public_address(),
    }
    heard = {}
    for sender in ("root", "plain"):
        with (
            Ear(red.node("worker-1")) as near,
            Ear(outside.pid) as far,
            Ear(blue.node("worker-0")) as other,
            Ear(None) as machine,
        ):
            red.python(
                sender,
                SEND,
                json.dumps(
                    [
                        [source, address, PORT, f"hail<{name} to {target}>"]
                        for target, address in targets.items()
                        for name, source in sources.items()
                    ]
                ),
            )
            time.sleep(2 * PATIENCE)
            assert other.words() == machine.words() == set()
            heard[sender] = (near.words(), far.words())

    within_cluster = {"its own", "a mate", "another tenant", "a pod", "a mate's pod", "somebody"}
    near_words, far_words = heard["root"]
    # Between nodes of one cluster addresses prove nothing. Beyond they prove whose cluster it is,
    # and to pods' addresses the node gives its own.
    assert {f"{name} to mate" for name in within_cluster} <= near_words
    own_names = ("its own", "a mate", "a pod", "a mate's pod")
    assert far_words == {f"{name} to outside" for name in own_names}
    # Of its pods a node lets out what comes from their own range.
    near_words, far_words = heard["plain"]
    assert near_words == {"a pod to mate"}
    assert far_words == {"a pod to outside"}


def test_it_is_the_nodes_kernel_that_holds_its_pods_to_their_own(red: Side) -> None:
    setting = "/proc/sys/net/ipv4/conf/all/rp_filter"
    goal = json.dumps([["203.0.113.9", red.workers[1], PORT, "hail<forged>"]])

    def comes(strict: int) -> bool:
        words = ("exec", "root", "--", "/bin/sh", "-c", f"echo {strict} > {setting}")
        red.kubectl.run(*words)
        with Ear(red.node("worker-1")) as near:
            red.python("plain", SEND, goal)
            time.sleep(PATIENCE)
            return near.words() == {"forged"}

    assert comes(strict=0)
    assert not comes(strict=1)


@ROOT_AND_NOT
def test_nothing_of_this_machine_is_to_be_had(
    install: Install, red: Side, blue: Side, sender: str
) -> None:
    ports = [install.port, install.keystone_port, install.sign_in_port, install.metrics_port]
    published = [int(side.api.rpartition(":")[2]) for side in (red, blue)]
    with socket.create_server(("", 0)) as own:
        ports += [own.getsockname()[1], *published]
        addresses = (public_address(), PUBLIC, red.gateway, blue.gateway)
        assert own.getsockname()[1] in reached([(public_address(), ports[4])])
        goals = [[address, port] for address in addresses for port in ports]
        goals += [[blue.workers[0], 10250], [blue.master, 6443]]
        assert red.python(sender, CONNECT, json.dumps(goals)) == ""
        theirs = [[red.workers[1], 10250], [red.master, 6443]]
        assert len(red.python(sender, CONNECT, json.dumps(theirs)).splitlines()) == 2


def reached(goals: list[tuple[str, int]]) -> list[int]:
    """Ports of those that are open to this machine itself."""
    found = []
    for address, port in goals:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            found.append(port)
    return found


def test_a_worker_takes_nothing_that_the_world_sends_its_master(red: Side, blue: Side) -> None:
    """By answering for its address on the cluster's bridge; and for another cluster's."""
    gateway = mac(IPv4Address(red.gateway))
    claimed = (red.master, blue.master, blue.workers[0], blue.gateway, OUTSIDE)
    for _ in range(3):
        red.python("root", CLAIM, gateway, red.gateway, *claimed)
        for side in (red, blue):
            assert "default" in side.kubectl.run("get", "namespaces", "--request-timeout=5s")
