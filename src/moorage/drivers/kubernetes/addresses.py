"""Who has which addresses in a cluster, from its labels and its nodes' own addresses. Pure.

The pods of a node have a /24 of the cluster's range, chosen by the last byte of the node's
address in its network: so it is known wherever the node's address is, never shared, and
written down nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from moorage.model.errors import Invalid

SERVICES, PODS = "service_cluster_ip_range", "flannel_network_cidr"
"""The labels, as Magnum has them, and what it takes where they are not given."""
DEFAULTS = {SERVICES: "10.254.0.0/16", PODS: "10.100.0.0/16"}
NODE_PREFIX = 24
API, DNS = 1, 10
"""The addresses in the services' range of the API itself, and of the cluster's DNS."""
PRIVATE = tuple(IPv4Network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
"""Of RFC 1918. What else nobody routes (loopback, link-local, 240/4 …) a kernel treats apart."""


@dataclass(frozen=True, slots=True)
class Ranges:
    services: IPv4Network
    pods: IPv4Network

    @property
    def api(self) -> str:
        return str(self.services[API])

    @property
    def dns(self) -> str:
        return str(self.services[DNS])

    def pods_of(self, node: str) -> IPv4Network:
        """The pods' addresses of the node with this address."""
        number = int(IPv4Address(node)) & 0xFF
        base = int(self.pods.network_address) + (number << (32 - NODE_PREFIX))
        return IPv4Network((base, NODE_PREFIX))


def ranges(labels: Mapping[str, str]) -> Ranges:
    """Raises Invalid (field `labels`) for what can't be, wherever the nodes are."""
    services = _network(SERVICES, labels.get(SERVICES, DEFAULTS[SERVICES]), 12, 24)
    pods = _network(PODS, labels.get(PODS, DEFAULTS[PODS]), 8, 16)
    if services.overlaps(pods):
        raise _bad(f"{SERVICES}, {services}, and {PODS}, {pods}, overlap: choose others")
    return Ranges(services, pods)


def refuse_unfit(chosen: Ranges, nodes: Iterable[IPv4Network]) -> None:
    """Raises Invalid (field `labels`) for what a new cluster can't have here.

    A range that is not private, or has addresses that `nodes` may get or must reach: in a node
    they lead to pods and services, and to nobody else.
    """
    taken = list(nodes)
    for label, one in ((SERVICES, chosen.services), (PODS, chosen.pods)):
        if not any(one.subnet_of(network) for network in PRIVATE):
            there = ", ".join(str(network) for network in PRIVATE)
            raise _bad(f"{label}, {one}, must be private, within one of {there}")
        for network in taken:
            if one.overlaps(network):
                raise _bad(
                    f"{label}, {one}, and addresses that the nodes have or need, {network}, "
                    f"overlap: choose another {label}"
                )


def _network(label: str, text: str, shortest: int, longest: int) -> IPv4Network:
    """An API server does not start with more than 2**20 addresses for services."""
    try:
        network = IPv4Network(text)
    except ValueError:
        raise _bad(f"{label} must be an IPv4 network such as {DEFAULTS[label]}") from None
    if not shortest <= network.prefixlen <= longest:
        raise _bad(f"{label} must be a network from /{shortest} to /{longest}")
    return network


def _bad(what: str) -> Invalid:
    return Invalid(f"labels: {what}.", field="labels")
