"""What follows from a slot number: names, addresses and the port of a cluster's segment."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

PREFIX = "mrg"
"""Begins the name of every link that any install of Moorage makes on a machine."""
SLOTS = 4096
NODES = 253
FIRST_PORT = 20480
"""Below Linux's ephemeral ports, which begin at 32768."""
_LENGTH = 24


@dataclass(frozen=True, slots=True)
class Segment:
    """The link layer and subnet of one cluster. Names fit in the kernel's 15 characters."""

    slot: int
    network: IPv4Network

    @classmethod
    def of(cls, pool: IPv4Network, slot: int) -> Segment:
        """The slot-th /24 of the pool; ValueError where the pool has no such."""
        room = min(SLOTS, pool.num_addresses >> (32 - _LENGTH))
        if not 0 <= slot < room:
            raise ValueError(f"{pool} has the slots 0 to {room - 1}, not {slot}")
        first = pool.network_address + slot * (1 << (32 - _LENGTH))
        return cls(slot, IPv4Network((first, _LENGTH)))

    @property
    def bridge(self) -> str:
        return f"{PREFIX}{self.slot}"

    @property
    def gateway(self) -> IPv4Address:
        return self.network[1]

    @property
    def port(self) -> int:
        """The TCP port of this machine that leads to the cluster."""
        return FIRST_PORT + self.slot

    def address(self, index: int) -> IPv4Address:
        if not 0 <= index < NODES:
            raise ValueError(f"a segment has the nodes 0 to {NODES - 1}, not {index}")
        return self.network[index + 2]

    def link(self, index: int) -> str:
        """The host's end of the node's link."""
        return f"{self.bridge}n{index}"

    def has(self, link: str) -> bool:
        """Whether the link is of this segment, by its name."""
        bridge, _, index = link.partition("n")
        return bridge == self.bridge and (link == bridge or index.isdecimal())


def mac(address: IPv4Address) -> str:
    """The (locally administered) hardware address that goes with an address.

    It must stay the same when a node is made again and when the bridge gets other
    ports, or else the neighbours would talk to the old one until their caches expire.
    """
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x6D, *address.packed))


def alias(install: str, owner: str = "", node: str = "") -> str:
    """The mark on a link: whose it is, readable by `ip link`."""
    return " ".join(filter(None, ("moorage", install, owner, node)))
