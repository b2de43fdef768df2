"""What a node's programs are told of their cluster, and where their files are. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from moorage.drivers.hostnames import hostname
from moorage.drivers.kubernetes.addresses import Ranges, ranges
from moorage.drivers.kubernetes.hosting import runs_pods
from moorage.drivers.kubernetes.naming import BINARIES, PORT
from moorage.model.cluster import ClusterSpec, GroupSpec
from moorage.model.node import Role
from moorage.model.sign_in import SignIn

RUN = "/run/moorage"
"""In memory: gone with the node's end, and laid anew by each start."""
SECRETS = f"{RUN}/kubernetes"
SERVICES = f"{RUN}/sv"
LOGS = "/var/log/kubernetes"
DOMAIN = "cluster.local"
DNS_TTL = 5
"""Seconds, as CoreDNS has it: what pods may go on believing after a change of names."""
FRONT_PORT = 6444
KUBELET_PORT = 10250
OWN_API = f"https://127.0.0.1:{PORT}"
"""Where a master's own programs find its API server."""
CONTAINERD = "/run/containerd/containerd.sock"
PAUSE = "moorage.local/pause:1"
"""The image of a pod's first container. Each node makes it of its own programs."""


@dataclass(frozen=True, slots=True)
class Given:
    """What this install gives to all of its clusters.

    `sign_in`: where API servers ask about tokens of Keystone's; None: they know none.
    `with_coredns`: the versions of which the release has a CoreDNS.
    """

    sign_in: SignIn | None = None
    with_coredns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """A node in its cluster. `masters`: the address of each, by the node's hostname."""

    cluster: str
    """The cluster's uuid."""
    hostname: str
    address: str
    role: Role
    version: str
    masters: Mapping[str, str]
    ranges: Ranges
    memory_mib: int
    vcpus: int
    runs_pods: bool = True
    """Whether it is a node of Kubernetes; not so, where it is a hosted master."""
    endpoint: str = ""
    """The `host:port` under which clients outside find the cluster's API; empty: nowhere."""
    sign_in: SignIn | None = None
    """As in Given; None in a worker."""
    has_coredns: bool = False

    @property
    def is_master(self) -> bool:
        return self.role is Role.MASTER

    @property
    def pods(self) -> IPv4Network:
        return self.ranges.pods_of(self.address)

    @property
    def has_front(self) -> bool:
        """Whether a proxy stands before several API servers."""
        return self.runs_pods and len(self.masters) > 1

    @property
    def api(self) -> str:
        """Where the node's own programs find the API."""
        if not self.runs_pods:
            return OWN_API
        if self.has_front:
            return f"https://127.0.0.1:{FRONT_PORT}"
        return f"https://{next(iter(self.masters.values()))}:{PORT}"


NOTHING = Given()


def binary(name: str) -> str:
    return f"{BINARIES}/{name}"


def secret(name: str) -> str:
    """The path of one of the files that are in memory only."""
    return f"{SECRETS}/{name}"


def place_of(
    cluster: ClusterSpec,
    addresses: Mapping[str, str],
    name: str,
    version: str,
    endpoint: str = "",
    *,
    given: Given = NOTHING,
) -> Place:
    """The place of a node. `addresses`: by name, of all nodes whose address is known."""
    group = group_of(cluster, name)
    masters = {
        hostname(cluster.name, each): addresses[each]
        for each in cluster.of(Role.MASTER)
        if each in addresses
    }
    return Place(
        cluster=cluster.uuid,
        hostname=hostname(cluster.name, name),
        address=addresses[name],
        role=group.role,
        version=version,
        masters=masters,
        ranges=ranges(cluster.labels),
        memory_mib=group.flavor.memory_mib,
        vcpus=group.flavor.vcpus,
        runs_pods=runs_pods(cluster, group.role),
        endpoint=endpoint,
        sign_in=given.sign_in if group.role is Role.MASTER else None,
        has_coredns=version in given.with_coredns,
    )


def group_of(cluster: ClusterSpec, name: str) -> GroupSpec:
    return next(group for group in cluster.groups if name in group.nodes)
