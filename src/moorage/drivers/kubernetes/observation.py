"""Looking at a cluster: every API server, kubelet and etcd at once, then what the API tells."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from moorage.clients.kubernetes import ApiServer, Way
from moorage.clients.kubernetes_wire import EtcdMember, NodeObject
from moorage.drivers.hostnames import hostname
from moorage.drivers.kubernetes import access, control_plane, script
from moorage.drivers.kubernetes.health import health
from moorage.drivers.kubernetes.hosting import is_hosted, notes, runs_pods
from moorage.drivers.kubernetes.naming import version
from moorage.drivers.kubernetes.seen import KubeObserved, ServerSeen
from moorage.model.cluster import ClusterSpec
from moorage.model.errors import Refused, RetryLater
from moorage.model.node import ObservedNode, Role
from moorage.model.ports import Member, Members

LOOK_SECONDS = 5.0
"""For a look into a node."""


async def look(
    way: Way, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode], members: Members
) -> KubeObserved:
    """What there is, and its health. Silence is a finding; nothing is raised for it."""
    masters = [name for name in sorted(members) if members[name].node.role is Role.MASTER]
    agents = [name for name in sorted(members) if runs_pods(cluster, members[name].node.role)]
    apis, kubelets, etcd = await asyncio.gather(
        asyncio.gather(*(_api(way, cluster, members[name]) for name in masters)),
        asyncio.gather(*(_kubelet(way, cluster, members[name]) for name in agents)),
        asyncio.gather(*(_etcd(way, cluster, members[name]) for name in masters)),
    )
    seen = KubeObserved(
        nodes=nodes,
        apis=dict(zip(masters, apis, strict=True)),
        kubelets=dict(zip(agents, kubelets, strict=True)),
        members=next((told for told in etcd if told is not None), None),
    )
    silent = [name for name in masters if not seen.apis[name].answers]
    data = await asyncio.gather(*(_has_data(members[name]) for name in silent))
    seen = replace(seen, has_data=dict(zip(silent, data, strict=True)))
    told = await _told(way, cluster, seen, members)
    seen = replace(
        seen,
        objects=told.objects,
        own=told.own,
        applied=told.noted.get(access.APPLIED, ""),
        notes=notes(told.noted),
        trouble=told.trouble,
        api_address=_api_address(cluster, nodes),
        coe_version=told.version or _version(cluster, told.objects),
        container_version=_runtime(told.objects),
    )
    return replace(seen, health=health(cluster, seen), failing=seen.useless(cluster))


async def _api(way: Way, cluster: ClusterSpec, member: Member) -> ServerSeen:
    try:
        server = _server(way, cluster, member)
        shown, trouble = await server.ready()
    except RetryLater as silence:
        return ServerSeen(answers=False, trouble=silence.reason)
    return ServerSeen(trouble=trouble, revision=shown)


async def _kubelet(way: Way, cluster: ClusterSpec, member: Member) -> ServerSeen:
    node = member.node
    try:
        server = way.kubelet(cluster.uuid, cluster.authority, node.name, node.address)
        return ServerSeen(revision=await server.ping())
    except RetryLater as silence:
        return ServerSeen(answers=False, trouble=silence.reason)


async def _etcd(way: Way, cluster: ClusterSpec, member: Member) -> tuple[EtcdMember, ...] | None:
    node = member.node
    try:
        inner = cluster.authority.inner(control_plane.ETCD_CA)
        return await way.etcd(cluster.uuid, inner, node.name, node.address).members()
    except (RetryLater, Refused):
        return None


async def _has_data(member: Member) -> bool:
    """Whether etcd has data there. Where nobody can tell, it may have."""
    try:
        done = await member.host.run(["/bin/sh", "-c", script.HAS_DATA], timeout=LOOK_SECONDS)
    except RetryLater:
        return True
    return done.returncode == 0


@dataclass(frozen=True, slots=True)
class _Told:
    """What an API server told: the nodes, which of Moorage's own objects there are, and what is
    noted of the cluster; else None, and why.

    `version`: its own, where no node tells it.
    """

    objects: tuple[NodeObject, ...] | None = None
    own: frozenset[str] = frozenset()
    noted: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    trouble: str = ""


async def _told(way: Way, cluster: ClusterSpec, seen: KubeObserved, members: Members) -> _Told:
    """By the first API server that is ready."""
    trouble = ""
    for name, api in seen.apis.items():
        if not api.answers or api.trouble:
            trouble = trouble or api.trouble
            continue
        server = _server(way, cluster, members[name])
        try:
            nodes, own = await asyncio.gather(server.nodes(), _own(server))
            first = f"{access.BINDINGS}/{access.MEMBERS}"
            noted = own[first] if first in own else await server.annotations(first)
            runs = await server.version() if is_hosted(cluster) else ""
        except RetryLater as refusal:
            trouble = refusal.reason
        else:
            return _Told(nodes, access.paths() & own.keys(), noted, runs)
    return _Told(trouble=trouble or "no API server of the cluster answers")


async def _own(server: ApiServer) -> dict[str, Mapping[str, str]]:
    """Moorage's own objects that are there: their annotations, by path.

    One from before they were labelled is missing here, as is one that a tenant took the label
    off: it gets it when all are made anew.
    """
    asked = (server.labelled(each, access.LABEL) for each in access.collections())
    found = await asyncio.gather(*asked)
    return {path: noted for some in found for path, noted in some.items()}


def _server(way: Way, cluster: ClusterSpec, member: Member) -> ApiServer:
    return way.api(cluster.uuid, cluster.authority, member.node.name, member.node.address)


def _api_address(cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]) -> str | None:
    """The first master's way in from outside."""
    for name in cluster.of(Role.MASTER):
        node = nodes.get(name)
        if node and node.endpoint:
            return f"https://{node.endpoint}"
    return None


def _version(cluster: ClusterSpec, objects: tuple[NodeObject, ...] | None) -> str | None:
    """The release of the first master that is a node; else the one that is wanted."""
    for name in cluster.of(Role.MASTER):
        for each in objects or ():
            if each.name == hostname(cluster.name, name):
                return each.release or None
    return version(cluster) or None


def _runtime(objects: tuple[NodeObject, ...] | None) -> str | None:
    """`containerd://1.6.20` as `1.6.20`."""
    told = (each.status.node_info.container_runtime_version for each in objects or ())
    return next((text.rpartition("/")[2] for text in told if text), None)
