"""Clusters' networks on a machine to try what their nodes may send: see `topology`."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from moorage.networks import Door, LocalNetwork, layout
from tests.real.topology import PATIENCE, PUBLIC, Machine, Place, new_machine, sh

SLOT, OTHER = 7, 4001
OWNERS = {
    SLOT: "aaaaaaaa-0000-4000-8000-000000000001",
    OTHER: "bbbbbbbb-0000-4000-8000-000000000002",
}
FIRST, MATE, GATEWAY = "10.128.7.2", "10.128.7.3", "10.128.7.1"
STRANGER, OTHER_GATEWAY = "10.143.161.2", "10.143.161.1"
GUEST = "172.17.0.2"
PORT, OWN_PORT, OPEN_PORT, DOOR_PORT = 999, 4321, 8080, 9513
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
INSTALL = "one"


def mac(address: str) -> str:
    return layout.mac(IPv4Address(address))


class Bed:
    """A cluster of two nodes, another's node, another guest of the machine, and the outside.

    All of them listen on OPEN_PORT. The first node is the cluster's master: its port is published.
    """

    def __init__(self, machine: Machine, memory: Path) -> None:
        self.machine = machine
        self.first, self.mate, self.stranger = (machine.place() for _ in range(3))
        self.guest, self.outside = machine.place(), machine.outside
        self.network = network_of(memory, PUBLIC)

    async def make(self) -> None:
        network = self.network
        for slot, places in ((SLOT, (self.first, self.mate)), (OTHER, (self.stranger,))):
            await network.open(OWNERS[slot], slot)
            for index, place in enumerate(places):
                await network.attach(OWNERS[slot], slot, f"node-{index}", index, place.pid)
        await network.publish(SLOT, FIRST, OPEN_PORT)
        sh(
            "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0;"
            "ip link set docker0 up; ip link add v0 master docker0 type veth peer name eth0 netns "
            f"{self.guest.pid}; ip link set v0 up"
        )
        self.guest.sh(
            f"ip addr add {GUEST}/16 dev eth0; ip link set eth0 up;"
            "ip route add default via 172.17.0.1"
        )
        for place in (self.first, self.mate, self.stranger, self.guest, self.outside):
            place.listen(OPEN_PORT)
        self.machine.listen(OPEN_PORT)
        for each in (self.machine, self.outside):
            each.listen(DOOR_PORT)

    def hearing(self, where: Place | None, port: int = PORT) -> socket.socket:
        """Hears what is sent to the UDP port there; None: on the machine itself."""

        def bound() -> socket.socket:
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            made.bind(("", port))
            made.settimeout(PATIENCE)
            return made

        made = where.do(bound) if where else bound()
        self.machine.sockets.append(made)
        return made


def network_of(memory: Path, door: str) -> LocalNetwork:
    return LocalNetwork(
        install=INSTALL,
        pool=IPv4Network("10.128.0.0/12"),
        public_address=PUBLIC,
        door=Door(IPv4Address(door), DOOR_PORT),
        memory=memory,
    )


@asynccontextmanager
async def guarded(memory: Path) -> AsyncIterator[Bed]:
    with new_machine() as machine:
        made = Bed(machine, memory)
        await made.make()
        yield made


def heard(inbox: socket.socket) -> str:
    """From where something comes; empty where nothing does."""
    try:
        source: str = inbox.recvfrom(99)[1][0]
    except TimeoutError:
        return ""
    return source.removeprefix("::ffff:")
