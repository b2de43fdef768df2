"""Scenes for the Kubernetes driver's pure parts: what was seen, in few words."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from moorage.clients.kubernetes_wire import EtcdMember, NodeObject
from moorage.drivers.hostnames import hostname
from moorage.drivers.kubernetes import access, hosting
from moorage.drivers.kubernetes.laying import digest
from moorage.drivers.kubernetes.naming import LAID, marks, node_specs
from moorage.drivers.kubernetes.place import Place, group_of, place_of
from moorage.drivers.kubernetes.reconcile import reconcile
from moorage.drivers.kubernetes.seen import KubeObserved, ServerSeen
from moorage.model.cluster import ClusterSpec, GroupSpec
from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import CaKeys
from moorage.trust import ClusterAuthority, new_ca
from tests import made

AUTHORITY = ClusterAuthority(CaKeys(new_ca("scene"), secret=b"s" * 32))
VERSION = "v1.20.2"
RELEASES = Path("/releases")
NOTHING = KubeObserved(nodes={})


def cluster(masters: int = 1, workers: int = 2, *more: GroupSpec, **fields: Any) -> ClusterSpec:
    labels = {"kube_tag": VERSION, **fields.pop("labels", {})}
    return made.spec(
        AUTHORITY, masters, workers, *more, **{"coe": "kubernetes", "labels": labels, **fields}
    )


def hosted(masters: int = 1, workers: int = 2, **fields: Any) -> ClusterSpec:
    """One whose masters are no nodes of Kubernetes."""
    return cluster(masters, workers, labels={"control_plane": "hosted"}, **fields)


def plan(spec: ClusterSpec, seen: KubeObserved) -> list[Step]:
    return reconcile(spec, node_specs(spec, RELEASES), seen)


def address(name: str) -> str:
    kind, _, number = name.rpartition("-")
    return f"10.128.0.{(2 if kind == 'master' else 20) + int(number)}"


def place(name: str, spec: ClusterSpec | None = None, version: str = VERSION) -> Place:
    spec = spec or cluster()
    names = [each for group in spec.groups for each in group.nodes]
    told = place_of(spec, {n: address(n) for n in names}, name, version, "192.0.2.1:20481")
    return dataclasses.replace(told, cluster="5f0c1c1e-0000-4000-8000-000000000000")


def node(name: str, state: NodeState = NodeState.RUNNING, **more: Any) -> ObservedNode:
    role = Role.MASTER if name.startswith("master") else Role.WORKER
    fields = {"revision": "r1", **more}
    return ObservedNode(NodeRef("c", name), role, state, address(name), None, **fields)


def object_of(of: ClusterSpec, name: str, **more: Any) -> NodeObject:
    """The node as Kubernetes has it, ready and marked as it should be."""
    given = marks(group_of(of, name), VERSION)
    laid = digest(place(name, of), given)
    value: dict[str, Any] = {
        "metadata": {
            "name": hostname(of.name, name),
            "labels": given.labels,
            "annotations": {**given.annotations, LAID: laid, **more.pop("annotations", {})},
        },
        "spec": {
            "taints": [{"key": t.key, "effect": t.effect} for t in given.taints],
            **more.pop("spec", {}),
        },
        "status": {
            "conditions": [{"type": "Ready", "status": more.pop("ready", "True")}],
            "nodeInfo": {"kubeletVersion": VERSION},
        },
    }
    return NodeObject.model_validate({**value, **more})


def member(spec: ClusterSpec, name: str, id: int | None = None, **more: Any) -> EtcdMember:
    told = {
        "ID": id or 100 + int(name.rpartition("-")[2]),
        "name": hostname(spec.name, name),
        "peerURLs": [f"https://{address(name)}:2380"],
        **more,
    }
    return EtcdMember.model_validate(told)


def whole(masters: int = 1, workers: int = 2, *more: GroupSpec) -> KubeObserved:
    """A cluster that is as it should be."""
    spec = cluster(masters, workers, *more)
    names = [each.name for each in node_specs(spec, RELEASES)]
    up = ServerSeen(revision=AUTHORITY.revision)
    return KubeObserved(
        nodes={name: node(name) for name in names},
        apis=dict.fromkeys(spec.of(Role.MASTER), up),
        kubelets=dict.fromkeys(names, up),
        members=tuple(member(spec, name) for name in spec.of(Role.MASTER)),
        objects=tuple(object_of(spec, name) for name in names),
        own=access.paths(),
        applied=access.wanted("10.254.0.10", [address(n) for n in spec.of(Role.MASTER)]),
    )


def whole_hosted(masters: int = 1, workers: int = 2) -> KubeObserved:
    """The same with its control plane hosted."""
    spec, seen = hosted(masters, workers), whole(masters, workers)
    names = spec.of(Role.MASTER)
    return dataclasses.replace(
        seen,
        kubelets={n: each for n, each in seen.kubelets.items() if n not in names},
        objects=tuple(object_of(spec, name) for name in spec.of(Role.WORKER)),
        notes={name: noted(spec, name) for name in names},
    )


def noted(spec: ClusterSpec, name: str) -> str:
    """What is noted of a hosted master that is as it should be."""
    return hosting.note(VERSION, digest(place(name, spec), marks(group_of(spec, name), VERSION)))


def without(seen: KubeObserved, *names: str) -> KubeObserved:
    """The nodes are gone; Kubernetes and etcd have them still."""
    return dataclasses.replace(
        seen,
        nodes={n: each for n, each in seen.nodes.items() if n not in names},
        apis={n: each for n, each in seen.apis.items() if n not in names},
        kubelets={n: each for n, each in seen.kubelets.items() if n not in names},
    )


def forgotten(seen: KubeObserved, *names: str) -> KubeObserved:
    """Kubernetes does not have these nodes."""
    gone = {hostname("web", name) for name in names}
    return dataclasses.replace(
        seen, objects=tuple(each for each in seen.objects or () if each.name not in gone)
    )


def stopped(seen: KubeObserved, *names: str) -> KubeObserved:
    gone = without(seen, *names)
    off = {n: node(n, NodeState.STOPPED, reason="its first process is gone") for n in names}
    return dataclasses.replace(gone, nodes={**gone.nodes, **off})


def silent(seen: KubeObserved, *names: str) -> KubeObserved:
    """Neither kubelet nor API server answers."""
    off = {name: ServerSeen(answers=False, trouble=f"{name} is off") for name in names}
    return dataclasses.replace(
        seen,
        kubelets={**seen.kubelets, **off},
        apis={n: off.get(n, each) for n, each in seen.apis.items()},
    )


def mute(seen: KubeObserved) -> KubeObserved:
    """No API server tells anything, nor etcd."""
    return dataclasses.replace(
        seen,
        objects=None,
        members=None,
        own=frozenset(),
        applied="",
        trouble="no API server answers",
    )


def with_objects(seen: KubeObserved, *objects: NodeObject) -> KubeObserved:
    """These replace those of the same name."""
    names = {each.name for each in objects}
    kept = tuple(each for each in seen.objects or () if each.name not in names)
    return dataclasses.replace(seen, objects=(*kept, *objects))
