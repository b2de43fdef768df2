"""Nodes of one cluster that work together, and write what they like into their frames.

What must not come of it: a way to the machine, to its other guests, or to another cluster; and
a packet in the world without the machine's address.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.real.guarded import (
    ARP,
    DOOR_PORT,
    FIRST,
    GATEWAY,
    GUEST,
    IPV4,
    MATE,
    OPEN_PORT,
    OTHER,
    OTHER_GATEWAY,
    OWN_PORT,
    OWNERS,
    PORT,
    SLOT,
    STRANGER,
    Bed,
    guarded,
    heard,
    mac,
)
from tests.real.topology import OUTSIDE, PATIENCE, PUBLIC, checksum, datagram, reaches, sh

pytestmark = pytest.mark.real

EVERYONE = "ff:ff:ff:ff:ff:ff"


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with guarded(tmp_path / "ip_forward") as made:
        yield made


WAYS = pytest.mark.parametrize("by", [FIRST, GATEWAY], ids=["bridged", "routed"])


@WAYS
@pytest.mark.parametrize(
    ("target", "where"),
    [
        *((address, None) for address in (PUBLIC, GATEWAY, OTHER_GATEWAY)),
        (GUEST, "guest"),
        (STRANGER, "stranger"),
    ],
)
def test_a_made_up_connection_opens_no_way(
    bed: Bed, target: str, where: str | None, by: str
) -> None:
    """One node sends to another as if from the target, which then seems to be answered."""
    inbox = bed.hearing(getattr(bed, where) if where else None)
    bed.mate.send_frame(mac(by), IPV4, datagram(target, PORT, FIRST, OWN_PORT))
    bed.first.send_as(FIRST, target, PORT, OWN_PORT)
    assert heard(inbox) == ""


@pytest.mark.parametrize("target", [PUBLIC, GATEWAY])
def test_nor_does_one_of_tcp(bed: Bed, target: str) -> None:
    syn = struct.pack("!HHIIBBHHH", OPEN_PORT, OWN_PORT, 1, 0, 0x50, 2, 1000, 0, 0)
    addresses = socket.inet_aton(target) + socket.inet_aton(FIRST)
    total = checksum(addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(syn)) + syn)
    syn = syn[:16] + total + syn[18:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, socket.IPPROTO_TCP, 0)
    header = header[:10] + checksum(header + addresses) + addresses
    # To a hardware address that nobody has, lest the node's own kernel reset what it knows not of.
    bed.mate.send_frame(mac("0.0.0.1"), IPV4, header + syn)

    def connects() -> bool:
        try:
            socket.create_connection((target, OPEN_PORT), PATIENCE, ("", OWN_PORT)).close()
        except OSError:
            return False
        return True

    assert not bed.first.do(connects)


@pytest.mark.parametrize(
    "forged",
    [
        lambda bed: bed.first.send_frame(mac(MATE), IPV4, datagram(FIRST, OWN_PORT, OUTSIDE, PORT)),
        lambda bed: bed.mate.send_frame(mac(FIRST), IPV4, datagram(OUTSIDE, PORT, FIRST, OWN_PORT)),
        lambda bed: bed.mate.send_frame(
            mac(GATEWAY), IPV4, datagram(OUTSIDE, PORT, FIRST, OWN_PORT)
        ),
    ],
    ids=["from it", "to it", "to it, routed"],
)
def test_nothing_leaves_with_a_nodes_own_address(bed: Bed, forged: Callable[[Bed], None]) -> None:
    """The machine takes its first packet, which it has only bridged, for one that needs no NAT."""
    inbox = bed.hearing(bed.outside)
    forged(bed)
    for _ in range(2):
        bed.first.send_as(FIRST, OUTSIDE, PORT, OWN_PORT)
    assert {heard(inbox), heard(inbox)} <= {PUBLIC, ""}


def arp(kind: int, own: str, own_address: str, asked: str) -> bytes:
    """A request (1) or an answer (2)."""
    hardware = bytes.fromhex(own.replace(":", ""))
    return (
        struct.pack("!HHBBH", 1, IPV4, 6, 4, kind)
        + hardware
        + socket.inet_aton(own_address)
        + b"\0" * 6
        + socket.inet_aton(asked)
    )


def test_what_the_machine_sends_to_a_node_is_not_anothers_to_take(bed: Bed) -> None:
    """A worker's root must not come to a master's answers."""
    assert reaches(FIRST, OPEN_PORT)
    bed.mate.sh(f"ip addr add {FIRST}/32 dev eth0")
    for kind in (1, 2):
        for to in (EVERYONE, mac(GATEWAY)):
            bed.mate.send_frame(to, ARP, arp(kind, mac(MATE), FIRST, GATEWAY))
    assert reaches(FIRST, OPEN_PORT)
    sh("ip neigh flush dev mrg7")
    bed.first.sh("sysctl -qw net.ipv4.conf.eth0.arp_ignore=8")  # the other one alone answers
    assert reaches(FIRST, OPEN_PORT)


def test_no_worker_comes_to_the_door_as_a_master(bed: Bed) -> None:
    """It may send as the master, and answer for it; but the answers of the door aren't its own."""

    def comes() -> bool:
        try:
            socket.create_connection((PUBLIC, DOOR_PORT), PATIENCE, (FIRST, 0)).close()
        except OSError:
            return False
        return True

    assert bed.first.do(comes)
    bed.mate.sh(f"ip addr add {FIRST}/32 dev eth0")
    bed.first.sh("sysctl -qw net.ipv4.conf.eth0.arp_ignore=8")
    for kind in (1, 2):
        bed.mate.send_frame(mac(GATEWAY), ARP, arp(kind, mac(MATE), FIRST, GATEWAY))
    assert not bed.mate.do(comes)


def test_what_a_node_sends_to_the_machine_is_not_anothers_to_take(bed: Bed) -> None:
    assert bed.first.reaches(OUTSIDE, OPEN_PORT)
    for kind in (1, 2):
        bed.mate.send_frame(mac(FIRST), ARP, arp(kind, mac(MATE), GATEWAY, FIRST))
    assert bed.first.reaches(OUTSIDE, OPEN_PORT)


def test_a_flood_of_neighbours_cuts_nobody_off(bed: Bed) -> None:
    """The kernel has one table of neighbours for all, of a thousand and some."""
    for flush in (sh, bed.stranger.sh):
        flush("ip neigh flush all")
    assert bed.stranger.reaches(OUTSIDE, OPEN_PORT)  # the way beyond the machine is its own

    def flood() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            head = bytes.fromhex((mac(GATEWAY) + mac(MATE)).replace(":", ""))
            head += struct.pack("!H", ARP)
            for number in range(3000):
                source = f"11.0.{number >> 8}.{number & 0xFF}"
                raw.send(head + arp(1, mac(MATE), source, GATEWAY))

    bed.mate.do(flood)
    assert reaches(STRANGER, OPEN_PORT)
    assert bed.stranger.reaches(OUTSIDE, OPEN_PORT)


def test_the_machine_tells_no_node_which_addresses_it_has(bed: Bed) -> None:
    """Another cluster's gateway is there where the cluster is."""

    def answers(address: str) -> bool:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as raw:
            raw.bind(("eth0", ARP))
            raw.settimeout(PATIENCE)
            head = bytes.fromhex((EVERYONE + mac(FIRST)).replace(":", "")) + struct.pack("!H", ARP)
            raw.send(head + arp(1, mac(FIRST), FIRST, address))
            try:
                while True:
                    frame = raw.recv(99)
                    if frame[20:22] == b"\0\2" and frame[28:32] == socket.inet_aton(address):
                        return True
            except TimeoutError:
                return False

    assert bed.first.do(lambda: answers(GATEWAY))
    assert not bed.first.do(lambda: answers(OTHER_GATEWAY))
    assert not bed.first.do(lambda: answers(PUBLIC))


async def test_who_has_a_slot_next_gets_no_answers_to_its_former_owner(bed: Bed) -> None:
    """The kernel remembers a connection for days, and addresses go with the slot."""
    answering = bed.hearing(bed.outside)
    bed.first.send_as(FIRST, OUTSIDE, PORT, OWN_PORT)
    _, asker = answering.recvfrom(99)
    await bed.network.close(SLOT)
    bed.first.close()

    later = bed.machine.place()
    await bed.network.open(OWNERS[OTHER], SLOT)
    await bed.network.attach(OWNERS[OTHER], SLOT, "node-0", 0, later.pid)
    inbox = bed.hearing(later, OWN_PORT)
    answering.sendto(b"for the former one", asker)
    assert heard(inbox) == ""
