"""LocalNetwork with real packets, between network namespaces. What must not pass, does not."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from moorage.clients import nft
from moorage.model.errors import Refused, RetryLater
from moorage.networks import Door, LocalNetwork, links
from moorage.networks.local import LOOK_SECONDS
from tests.real.topology import OUTSIDE, PATIENCE, PUBLIC, Machine, Place, new_machine, reaches, sh

pytestmark = pytest.mark.real

A, B = 7, 4001
OWNERS = {A: "aaaaaaaa-0000-4000-8000-000000000001", B: "bbbbbbbb-0000-4000-8000-000000000002"}
HOST_PORT, NODE_PORT = 8080, 2376


@dataclass
class Bed:
    """A machine and the networks of two installs on it."""

    machine: Machine
    one: LocalNetwork
    two: LocalNetwork
    memory: Path

    def state(self) -> dict[str, str]:
        return {**self.machine.state(), "remembered": str(self.memory.exists())}

    async def node(self, slot: int, index: int, network: LocalNetwork | None = None) -> Place:
        place = self.machine.place()
        network = network or self.one
        await network.open(OWNERS[slot], slot)
        await network.attach(OWNERS[slot], slot, f"node-{index}", index, place.pid)
        place.listen(NODE_PORT)
        return place


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    memory = tmp_path / "ip_forward"

    def network(install: str) -> LocalNetwork:
        return LocalNetwork(
            install=install,
            pool=IPv4Network("10.128.0.0/12"),
            public_address=PUBLIC,
            memory=memory,
        )

    with new_machine() as machine:
        yield Bed(machine, network("one"), network("two"), memory)


def none_of(*attempts: Callable[[], bool]) -> bool:
    """Try all at once: each would wait for its timeout."""
    with ThreadPoolExecutor(len(attempts)) as threads:
        return not any(threads.map(lambda attempt: attempt(), attempts))


@pytest.mark.parametrize("second", ["one", "two"])
async def test_a_cluster_reaches_itself_and_no_other(bed: Bed, second: str) -> None:
    other = bed.two if second == "two" else bed.one
    first, mate = await bed.node(A, 0), await bed.node(A, 1)
    stranger = await bed.node(B, 0, other)
    await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    await other.publish(B, other.address(B, 0), NODE_PORT)

    assert first.reaches(bed.one.address(A, 1), NODE_PORT)
    assert mate.reaches(bed.one.address(A, 0), NODE_PORT)
    assert none_of(
        lambda: first.reaches(other.address(B, 0), NODE_PORT),
        lambda: stranger.reaches(bed.one.address(A, 0), NODE_PORT),
        lambda: stranger.reaches(bed.one.address(A, 1), NODE_PORT),
        lambda: stranger.reaches(PUBLIC, 20480 + A),
        lambda: first.reaches(PUBLIC, 20480 + B),
        lambda: first.reaches("10.128.7.1", 20480 + B),
    )


async def test_a_neighbour_that_takes_the_gateways_place_reaches_no_other_cluster(bed: Bed) -> None:
    """Root in a node may set any address and route."""
    first, stranger = await bed.node(A, 0), await bed.node(B, 0)
    address = bed.one.address(A, 0)
    stranger.sh(
        f"ip addr add {address}/32 dev eth0; ip addr del {bed.one.address(B, 0)}/24 dev eth0;"
        "ip addr add 10.128.7.99/24 dev eth0; ip route replace default dev eth0"
    )
    assert none_of(
        lambda: stranger.reaches(address.replace(".2", ".1"), HOST_PORT),
        lambda: stranger.reaches(OUTSIDE, NODE_PORT),
        lambda: first.reaches("10.128.7.99", NODE_PORT),
    )


async def test_the_machine_answers_no_node(bed: Bed) -> None:
    bed.machine.listen(HOST_PORT)
    node, _ = await bed.node(A, 0), await bed.node(B, 0)
    await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    link_locals = [_link_local(mac) for mac in re.findall(r"ether (\S+)", sh("ip link"))]

    assert reaches(PUBLIC, HOST_PORT)
    assert bed.machine.outside.reaches(PUBLIC, HOST_PORT)
    assert reaches(bed.one.address(A, 0), NODE_PORT)
    assert "inet6" not in sh("ip addr show mrg7; ip addr show mrg7n0")
    assert none_of(
        *(
            lambda address=address: node.reaches(address, HOST_PORT)
            for address in ("10.128.7.1", PUBLIC, "10.143.161.1", *link_locals)
        ),
        lambda: node.reaches("10.128.7.1", 20480 + A),
        lambda: node.reaches(PUBLIC, 20480 + A),
    )


def with_door(bed: Bed) -> LocalNetwork:
    """Of an install whose masters may come to a port of this machine."""
    return LocalNetwork(
        install="door",
        pool=IPv4Network("10.128.0.0/12"),
        public_address=PUBLIC,
        door=Door(IPv4Address(PUBLIC), HOST_PORT),
        memory=bed.memory,
    )


async def test_masters_alone_come_to_the_one_door(bed: Bed) -> None:
    for port in (HOST_PORT, HOST_PORT + 1):
        bed.machine.listen(port)
    network = with_door(bed)
    master, worker = await bed.node(A, 0, network), await bed.node(A, 1, network)
    stranger = await bed.node(B, 0)
    first, second = network.address(A, 0), network.address(A, 1)
    await network.publish(A, first, NODE_PORT)
    await bed.one.publish(B, bed.one.address(B, 0), NODE_PORT)

    assert master.reaches(PUBLIC, HOST_PORT)
    assert none_of(
        lambda: worker.reaches(PUBLIC, HOST_PORT),
        lambda: stranger.reaches(PUBLIC, HOST_PORT),
        lambda: master.reaches(PUBLIC, HOST_PORT + 1),
        lambda: master.reaches("10.128.7.1", HOST_PORT),
    )
    await network.publish(A, first, NODE_PORT, [first, second])
    assert worker.reaches(PUBLIC, HOST_PORT)
    await network.publish(A, first, NODE_PORT)
    assert not worker.reaches(PUBLIC, HOST_PORT)
    assert await network.trouble(A, NODE_PORT) == ""
    sh(f"nft delete element inet moorage_door masters {{ mrg7 . {first} }}")
    await asyncio.sleep(LOOK_SECONDS)
    assert "masters" in await network.trouble(A, NODE_PORT)
    await network.publish(A, first, NODE_PORT)
    assert await network.trouble(A, NODE_PORT) == ""
    await network.close(A)
    assert "moorage_door" not in sh("nft list tables")


async def test_one_master_that_the_door_lost_or_one_too_many_is_told_and_mended(bed: Bed) -> None:
    bed.machine.listen(HOST_PORT)
    network = with_door(bed)
    await bed.node(A, 0, network)
    second, worker = await bed.node(A, 1, network), await bed.node(A, 2, network)
    first, *_ = masters = [network.address(A, 0), network.address(A, 1)]

    async def told() -> str:
        await asyncio.sleep(LOOK_SECONDS)
        return await network.trouble(A, NODE_PORT, masters)

    await network.publish(A, first, NODE_PORT, masters)
    assert await told() == ""
    sh(f"nft delete element inet moorage_door masters {{ mrg7 . {masters[1]} }}")
    assert not second.reaches(PUBLIC, HOST_PORT)
    assert "lost masters" in await told()
    await network.publish(A, first, NODE_PORT, masters)
    assert await network.trouble(A, NODE_PORT, masters) == ""
    assert second.reaches(PUBLIC, HOST_PORT)
    sh(f"nft add element inet moorage_door masters {{ mrg7 . {network.address(A, 2)} }}")
    assert worker.reaches(PUBLIC, HOST_PORT)
    assert "takes others" in await told()
    await network.publish(A, first, NODE_PORT, masters)
    assert await network.trouble(A, NODE_PORT, masters) == ""
    assert not worker.reaches(PUBLIC, HOST_PORT)
    for _ in range(2):
        await network.dismiss(A, masters[1])
        assert not second.reaches(PUBLIC, HOST_PORT)
    assert await network.trouble(A, NODE_PORT, masters[:1]) == ""
    await network.close(A)


def _link_local(mac: str) -> str:
    octets = [int(octet, 16) for octet in mac.split(":")]
    octets[0] ^= 2
    a, b, c, d, e, f = octets
    return f"fe80::{a:02x}{b:02x}:{c:02x}ff:fe{d:02x}:{e:02x}{f:02x}%eth0"


async def test_a_forged_source_goes_nowhere(bed: Bed) -> None:
    node, victim = await bed.node(A, 0), await bed.node(B, 0)
    inbox = bed.machine.outside.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inbox, own:
        for each in (inbox, own):
            each.bind(("", 999))
            each.settimeout(PATIENCE)
        for source in (bed.one.address(B, 0), OUTSIDE, PUBLIC, "203.0.113.9"):
            node.send_as(source, OUTSIDE, 999)
            node.send_as(source, PUBLIC, 999)
        # A connection of the victim is there to be written into: the same five-tuple.
        victim.send_as(bed.one.address(B, 0), OUTSIDE, 999)
        assert inbox.recvfrom(99)[1][0] == PUBLIC
        node.send_as(bed.one.address(B, 0), OUTSIDE, 999)
        with pytest.raises(TimeoutError):
            inbox.recv(99)
        with pytest.raises(TimeoutError):
            own.recv(99)
        node.send_as(bed.one.address(A, 0), OUTSIDE, 999)
        assert inbox.recvfrom(99)[1][0] == PUBLIC
        # So is one between the machine itself and the victim.
        gateway = "10.143.161.1"
        own.sendto(b"hello", (bed.one.address(B, 0), 4321))
        victim.send_as(bed.one.address(B, 0), gateway, 999)
        assert own.recvfrom(99)[1][0] == bed.one.address(B, 0)
        node.send_as(bed.one.address(B, 0), gateway, 999)
        with pytest.raises(TimeoutError):
            own.recv(99)


async def test_a_published_port_is_reached_from_outside_and_from_the_machine(bed: Bed) -> None:
    first, second = await bed.node(A, 0), await bed.node(A, 1)
    second.listen(2377)
    host, port = bed.one.endpoint(A).split(":")
    assert (host, port) == (PUBLIC, str(20480 + A))
    assert not reaches(PUBLIC, int(port))

    await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    assert bed.machine.outside.reaches(PUBLIC, int(port))
    assert reaches(PUBLIC, int(port))
    assert not reaches("127.0.0.1", int(port))
    assert none_of(
        lambda: bed.machine.outside.reaches(bed.one.address(A, 0), NODE_PORT),  # by a route to it
        lambda: bed.machine.outside.reaches(bed.one.address(A, 1), NODE_PORT),
    )

    await bed.one.publish(A, bed.one.address(A, 1), 2377)
    first.close()
    assert bed.machine.outside.reaches(PUBLIC, int(port))


async def test_no_dnat_of_the_machines_leads_from_one_cluster_into_another(bed: Bed) -> None:
    _, stranger = await bed.node(A, 0), await bed.node(B, 0)
    sh(
        "nft 'add table ip admin;"
        "add chain ip admin pre { type nat hook prerouting priority -90; };"
        f"add rule ip admin pre tcp dport 999 dnat to {bed.one.address(A, 0)}:{NODE_PORT}'"
    )
    assert bed.machine.outside.reaches(PUBLIC, 999)
    assert not stranger.reaches(PUBLIC, 999)


async def test_no_node_speaks_ipv6_beyond_its_cluster_even_if_the_machine_would(bed: Bed) -> None:
    node, mate = await bed.node(A, 0), await bed.node(A, 1)
    outside = bed.machine.outside
    outside.listen(443)
    sh(
        "sysctl -qw net.ipv6.conf.mrg7.disable_ipv6=0 net.ipv6.conf.all.forwarding=1;"
        "ip addr add fd00:7::1/64 dev mrg7 nodad; ip addr add fd00:1::1/64 dev up0 nodad"
    )
    outside.sh("ip addr add fd00:1::2/64 dev up1 nodad; ip route add default via fd00:1::1")
    for place, number in ((node, 2), (mate, 3)):
        place.sh(f"ip addr add fd00:7::{number}/64 dev eth0 nodad")
        place.sh("ip route add default via fd00:7::1")
        # Else neighbour discovery, which our input chain drops, would hide the rest from us.
        place.sh("ip neigh add fd00:7::1 lladdr 02:6d:0a:80:07:01 dev eth0")
        sh(f"ip neigh add fd00:7::{number} lladdr 02:6d:0a:80:07:0{number} dev mrg7")
    bed.machine.listen(HOST_PORT)
    assert node.reaches("fd00:7::3", NODE_PORT)
    assert outside.reaches("fd00:1::1", HOST_PORT)
    assert none_of(
        lambda: node.reaches("fd00:1::2", 443),
        lambda: node.reaches("fd00:1::1", HOST_PORT),
        lambda: node.reaches("fd00:7::1", HOST_PORT),
        lambda: outside.reaches("fd00:7::2", NODE_PORT),
    )


async def test_nodes_reach_out_under_the_machines_address(bed: Bed) -> None:
    node = await bed.node(A, 0)
    listener = bed.machine.outside.listen(443)
    listener.settimeout(PATIENCE)
    assert node.reaches(OUTSIDE, 443)
    connection, address = listener.accept()
    connection.close()
    assert address[0] == f"::ffff:{PUBLIC}"
    assert "mtu 1450" in node.sh("ip link show eth0")
    assert "mtu 1450" in sh("ip link show mrg7")


async def test_nodes_stay_out_of_other_guests_bridges(bed: Bed) -> None:
    """A container behind docker0 trusts a policy that we have softened."""
    guest = bed.machine.place()
    sh(
        "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0;"
        f"ip link set docker0 up; ip link add v0 master docker0 type veth peer name eth0 netns "
        f"{guest.pid}; ip link set v0 up; iptables-nft -P FORWARD DROP"
    )
    guest.sh(
        "ip addr add 172.17.0.2/16 dev eth0; ip link set eth0 up; ip route add default via "
        "172.17.0.1"
    )
    guest.listen(80)
    node = await bed.node(A, 0)
    await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    assert reaches("172.17.0.2", 80)
    assert not node.reaches("172.17.0.2", 80)
    assert guest.reaches(PUBLIC, 20480 + A)
    assert not guest.reaches(bed.one.address(A, 0), NODE_PORT)


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("docker", [False, True])
async def test_a_firewall_that_drops_what_is_forwarded_lets_clusters_through(
    bed: Bed, backend: str, docker: bool
) -> None:
    sh(f"{backend} -P FORWARD DROP")
    if docker:
        sh(
            f"{backend} -N DOCKER-USER; {backend} -A DOCKER-USER -j RETURN;"
            f"{backend} -I FORWARD -j DOCKER-USER"
        )
    before = bed.state()
    first, _ = await bed.node(A, 0), await bed.node(A, 1)
    stranger = await bed.node(B, 0, bed.two)
    await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    bed.machine.outside.listen(443)

    assert first.reaches(bed.one.address(A, 1), NODE_PORT)
    assert first.reaches(OUTSIDE, 443)
    assert bed.machine.outside.reaches(PUBLIC, 20480 + A)
    assert not stranger.reaches(bed.one.address(A, 0), NODE_PORT)
    chain = "DOCKER-USER" if docker else "FORWARD"
    assert sh(f"{backend} -S {chain}").count("--comment moorage") == 2

    await bed.one.close(A)
    assert stranger.reaches(OUTSIDE, 443)
    await bed.two.close(B)
    assert bed.state() == before


async def test_close_leaves_nothing(bed: Bed) -> None:
    before = bed.state()
    for slot in (A, B):
        await bed.node(slot, 0)
        await bed.node(slot, 1)
        await bed.one.publish(slot, bed.one.address(slot, 0), NODE_PORT)
    assert sh("sysctl -n net.ipv4.ip_forward") == "1\n"
    assert await bed.one.leftovers() == [
        *(f"link {name}" for name in ("mrg4001", "mrg4001n0", "mrg4001n1")),
        *(f"link {name}" for name in ("mrg7", "mrg7n0", "mrg7n1")),
        "table inet moorage_one",
    ]
    assert f"alias moorage one {OWNERS[A]} node-1" in sh("ip link show mrg7n1")
    assert bed.one.in_use(A)

    await bed.one.detach(A, 1)
    await bed.one.detach(A, 1)
    assert "link mrg7n1" not in await bed.one.leftovers()
    await bed.one.close(A)
    await bed.one.close(A)
    assert not bed.one.in_use(A)
    assert bed.machine.outside.reaches(PUBLIC, 20480 + B)
    await bed.one.close(B)
    assert await bed.one.leftovers() == []
    assert bed.state() == before


async def test_installs_keep_out_of_each_others_way(bed: Bed) -> None:
    before = bed.state()
    await bed.node(A, 0)
    await bed.node(B, 0, bed.two)
    await bed.two.publish(B, bed.two.address(B, 0), NODE_PORT)
    with pytest.raises(Refused, match="mrg7"):
        await bed.two.open(OWNERS[B], A)
    with pytest.raises(Refused, match="mrg7"):
        await bed.two.close(A)
    await bed.one.close(A)
    assert sh("sysctl -n net.ipv4.ip_forward") == "1\n"
    assert bed.machine.outside.reaches(PUBLIC, 20480 + B)
    assert await bed.one.leftovers() == []
    await bed.two.close(B)
    assert bed.state() == before


async def test_forwarding_stays_on_while_another_may_count_on_it(bed: Bed) -> None:
    await bed.node(A, 0)
    sh("ip link add docker0 type bridge; ip link set docker0 up")
    await bed.one.close(A)
    assert sh("sysctl -n net.ipv4.ip_forward") == "1\n"


async def test_what_is_half_there_is_made_whole_and_what_is_whole_is_kept(bed: Bed) -> None:
    node, mate = await bed.node(A, 0), await bed.node(A, 1)
    sh("ip addr flush dev mrg7; ip link set mrg7 down; ip link set mrg7n0 nomaster down")
    node.sh("ip addr flush dev eth0; ip link set lo down")
    sh("nft flush chain inet moorage_one forward")
    sh("sysctl -qw net.ipv4.ip_forward=0")
    index = sh("ip -o link show mrg7n0").split(":")[0]
    for _ in range(2):
        await bed.one.open(OWNERS[A], A)
        await bed.one.attach(OWNERS[A], A, "node-0", 0, node.pid)
        await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    assert sh("ip -o link show mrg7n0").split(":")[0] == index
    bed.machine.outside.listen(443)
    assert mate.reaches(bed.one.address(A, 0), NODE_PORT)
    assert node.reaches(OUTSIDE, 443)
    assert bed.machine.outside.reaches(PUBLIC, 20480 + A)
    assert "drop" in sh("nft list chain inet moorage_one forward")

    again = bed.machine.place()  # the node was made anew while its old namespace lives on
    again.listen(NODE_PORT)
    await bed.one.attach(OWNERS[A], A, "node-0", 0, again.pid)
    assert mate.reaches(bed.one.address(A, 0), NODE_PORT)
    assert "eth0" not in node.sh("ip -o link")


async def test_a_link_of_before_is_told_and_gets_its_neighbours_while_it_is_up(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "carries", lambda *_: True)  # /sys is of another namespace
    node = await bed.node(A, 0)
    address, link = bed.one.address(A, 0), sh("ip -o link show mrg7n0").split(":")[0]
    assert bed.one.attached(A, 0)
    sh(f"ip neigh replace {address} lladdr 02:00:00:00:00:01 nud reachable dev mrg7")
    node.sh("ip neigh del 10.128.7.1 dev eth0")
    bed.one._acquainted = None
    assert not bed.one.attached(A, 0)
    await bed.one.attach(OWNERS[A], A, "node-0", 0, node.pid)
    assert bed.one.attached(A, 0)
    assert "PERMANENT" in sh(f"ip neigh show {address} dev mrg7")
    assert "PERMANENT" in node.sh("ip neigh show 10.128.7.1 dev eth0")
    assert sh("ip -o link show mrg7n0").split(":")[0] == link
    assert reaches(address, NODE_PORT)


async def _told(network: LocalNetwork, slot: int, port: int | None = NODE_PORT) -> str:
    """What is lost, by a look of its own: the last one may be a second old."""
    network._looked = None
    return await network.trouble(slot, port)


LOST = {
    "delete table inet moorage_one": "the packet filter lost its rules",
    "flush table inet moorage_one": "the packet filter lost its rules",
    "flush ruleset": "the packet filter lost its rules",  # of this test's own namespace
    "flush chain inet moorage_one input": "not all of its rules",
    "flush set inet moorage_one bridges": "lost its cluster's rules",
    "flush set inet moorage_one sources": "lost its cluster's rules",
    "flush set inet moorage_one nets": "lost its cluster's rules",
    "flush map inet moorage_one ports": "its published port leads nowhere",
    "flush map inet moorage_one hosts": "its published port leads nowhere",
}


@pytest.mark.parametrize("how", LOST)
async def test_guards_that_others_took_away_are_told_and_made_again(bed: Bed, how: str) -> None:
    """Isolation, NAT and published ports, as they were, with no node's link touched."""
    first, stranger = await bed.node(A, 0), await bed.node(B, 0)
    bed.machine.listen(HOST_PORT)
    bed.machine.outside.listen(443)
    for slot in (A, B):
        await bed.one.publish(slot, bed.one.address(slot, 0), NODE_PORT)
        assert await _told(bed.one, slot) == ""
    links = sh("ip -o link | sed s/.*qlen.*//")

    sh(f"nft {how}")
    if LOST[how] == "the packet filter lost its rules":
        assert stranger.reaches(bed.one.address(A, 0), NODE_PORT), "this is what is to be seen"
        assert stranger.reaches("10.128.7.1", HOST_PORT)
    for slot in (A, B):
        assert LOST[how] in await _told(bed.one, slot)

    await bed.one.open(OWNERS[A], A)
    assert "rules" not in await _told(bed.one, B) or "set" in how, "one guards all"
    await bed.one.open(OWNERS[B], B)
    for slot in (A, B):
        await bed.one.publish(slot, bed.one.address(slot, 0), NODE_PORT)
        assert await _told(bed.one, slot) == ""
    assert first.reaches(OUTSIDE, 443)
    assert bed.machine.outside.reaches(PUBLIC, 20480 + A)
    assert bed.machine.outside.reaches(PUBLIC, 20480 + B)
    assert none_of(
        lambda: first.reaches(bed.one.address(B, 0), NODE_PORT),
        lambda: stranger.reaches(bed.one.address(A, 0), NODE_PORT),
        lambda: first.reaches("10.128.7.1", HOST_PORT),
        lambda: stranger.reaches(PUBLIC, HOST_PORT),
        lambda: bed.machine.outside.reaches(bed.one.address(A, 0), NODE_PORT),
    )
    assert sh("ip -o link | sed s/.*qlen.*//") == links
    await bed.one.close(A)
    await bed.one.close(B)
    assert await bed.one.leftovers() == []


async def test_what_lost_its_table_is_not_published_and_can_be_closed(bed: Bed) -> None:
    before = bed.state()
    await bed.node(A, 0)
    await bed.node(B, 0)
    sh("nft delete table inet moorage_one")
    with pytest.raises(RetryLater, match="lost"):
        await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    await bed.one.close(A)
    await bed.one.open(OWNERS[B], B)
    sh("nft flush set inet moorage_one same")
    await bed.one.close(B)
    assert bed.state() == before


async def test_what_others_wrote_into_our_table_is_a_finding_and_no_failure(bed: Bed) -> None:
    await bed.node(A, 0)
    sh("nft add element inet moorage_one bridges { eth9 comment hello }")
    assert "can't be asked" in await _told(bed.one, A)


@pytest.mark.parametrize("how", ["iptables-nft -D FORWARD 1", "sysctl -qw net.ipv4.ip_forward=0"])
async def test_what_all_installs_share_is_told_and_made_again(bed: Bed, how: str) -> None:
    sh("iptables-nft -P FORWARD DROP")
    node = await bed.node(A, 0)
    bed.machine.outside.listen(443)
    assert await _told(bed.one, A, None) == ""
    sh(how)
    assert "forward" in (await _told(bed.one, A, None)).lower()
    await bed.one.open(OWNERS[A], A)
    assert await _told(bed.one, A, None) == ""
    assert node.reaches(OUTSIDE, 443)


async def test_many_looks_are_one_listing(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    listing = nft.table

    async def table(family: str, name: str) -> list[nft.Listed] | None:
        asked.append(name)
        return await listing(family, name)

    monkeypatch.setattr(nft, "table", table)
    began = time.monotonic()
    await asyncio.gather(*(bed.one.trouble(slot, NODE_PORT) for slot in range(1000)))
    assert len(asked) <= 1 + time.monotonic() - began
    await bed.node(A, 0)
    assert await bed.one.trouble(A, None) == "", "what we do ourselves is seen at once"


async def test_a_packet_filter_that_cannot_be_asked_is_a_finding_and_no_failure(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks, and deletes with them, must not fail of it."""

    async def table(family: str, name: str) -> list[nft.Listed] | None:
        raise nft.NftError("Operation not permitted")

    monkeypatch.setattr(nft, "table", table)
    assert "can't be asked: Operation not" in await bed.one.trouble(A, None)


async def test_a_slot_that_a_cluster_left_half_serves_the_next(bed: Bed) -> None:
    await bed.node(A, 0)
    await bed.one.open(OWNERS[B], A)
    assert "mrg7n0" not in sh("ip -o link")
    assert OWNERS[B] in sh("ip link show mrg7")


async def test_a_process_that_is_gone_or_on_the_machines_own_network_is_not_attached(
    bed: Bed,
) -> None:
    gone = await bed.node(A, 0)
    gone.close()
    with pytest.raises(RetryLater):
        await bed.one.attach(OWNERS[A], A, "node-0", 0, gone.pid)
    with pytest.raises(RuntimeError):
        await bed.one.attach(OWNERS[A], A, "node-0", 0, os.getpid())
    assert "up0" in sh("ip -o link")


async def test_a_transaction_that_fails_leaves_nothing_in_force(bed: Bed) -> None:
    table = {"family": "inet", "name": "moorage_three"}
    with pytest.raises(nft.NftError, match="No such file"):
        await nft.apply([{"add": {"table": table}}, {"delete": {"table": {**table, "name": "no"}}}])
    assert await nft.table("inet", "moorage_three") is None


async def test_it_is_quick(bed: Bed) -> None:
    """Generous bounds: this finds a wait of some kind, not a slow machine."""
    places = [bed.machine.place() for _ in range(3)]
    began = time.perf_counter()
    for index, place in enumerate(places):
        await bed.one.open(OWNERS[A], A)
        await bed.one.attach(OWNERS[A], A, f"node-{index}", index, place.pid)
    await bed.one.publish(A, bed.one.address(A, 0), NODE_PORT)
    made = time.perf_counter()
    await bed.one.close(A)
    assert made - began < 1
    assert time.perf_counter() - made < 1
