"""Who may do what in a cluster: kubeconfigs of its programs, and the objects that grant rights.

What Kubernetes grants by itself (https://kubernetes.io/docs/reference/access-authn-authz/rbac/)
covers its own programs. Moorage adds what tenants have by their role in the project, and
what the API servers may ask of kubelets. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from moorage.drivers.kubernetes.naming import PREFIX
from moorage.model.ports import KeyPair
from moorage.model.sign_in import SERVER, SignIn, path_of

MASTERS = "system:masters"
"""The group that may do everything, whatever the cluster's objects say: the conductor's alone."""
MEMBERS, READERS = "moorage:members", "moorage:readers"
"""The groups of the cluster's project: they may do all; see all but secrets."""
NODES = "system:nodes"
KUBELET_CLIENTS = "moorage:kubelet-clients"
"""The API servers, as kubelets see them."""
RESOLVERS = "moorage:resolvers"
"""What feeds the cluster's DNS, on each master."""
APPLIED = f"{PREFIX}applied"
"""Annotation of the first object: a digest of all of them."""
LABEL = ("app.kubernetes.io/managed-by", "moorage")
"""On each of the objects: what of them is there is listed by it."""
RBAC = "rbac.authorization.k8s.io"
BINDINGS = f"/apis/{RBAC}/v1/clusterrolebindings"
ROLES = f"/apis/{RBAC}/v1/clusterroles"


def kubeconfig(server: str, ca: bytes, pair: KeyPair) -> bytes:
    """A kubeconfig with one context, all within. It holds a private key."""
    user = {
        "client-certificate-data": _packed(pair.certificate),
        "client-key-data": _packed(pair.key),
    }
    return _config({"server": server, "certificate-authority-data": _packed(ca)}, user)


def webhook(sign_in: SignIn, cluster: str, credential: str) -> bytes:
    """How an API server asks about tokens, in the same form. It holds the credential."""
    server = {
        "server": f"{sign_in.url}{path_of(cluster)}",
        "certificate-authority-data": _packed(sign_in.ca),
        "tls-server-name": SERVER,
    }
    return _config(server, {"token": credential})


def _config(cluster: dict[str, str], user: dict[str, str]) -> bytes:
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "self", "user": user}],
        "contexts": [{"name": "self", "context": {"cluster": "cluster", "user": "self"}}],
        "current-context": "self",
    }
    return json.dumps(value, indent=1).encode() + b"\n"


def objects(resolver: str, masters: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What every cluster has, by path. The first one carries the digest of all of them.

    `resolver`: the address of the cluster's DNS; `masters`: those of the nodes where it is.
    """
    # What a binding of a name binds to can never be changed: another role needs another name.
    bound = {
        MEMBERS: "cluster-admin",
        READERS: "view",
        KUBELET_CLIENTS: "system:kubelet-api-admin",
        RESOLVERS: RESOLVERS,
    }
    made = {f"{BINDINGS}/{group}": _binding(group, role) for group, role in bound.items()}
    made[f"{ROLES}/{RESOLVERS}"] = _role(RESOLVERS)
    made |= _resolver(resolver, sorted(masters))
    for value in made.values():
        value["metadata"].setdefault("labels", {}).update([LABEL])
    first = made[f"{BINDINGS}/{MEMBERS}"]
    first["metadata"]["annotations"] = {APPLIED: digest(made)}
    return made


def digest(made: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def wanted(resolver: str, masters: Iterable[str]) -> str:
    """What APPLIED says where everything is as it should be."""
    first = objects(resolver, masters)[f"{BINDINGS}/{MEMBERS}"]
    told: str = first["metadata"]["annotations"][APPLIED]
    return told


@cache
def paths() -> frozenset[str]:
    """Where the objects are, whatever the cluster."""
    return frozenset(objects("", ()))


@cache
def collections() -> tuple[str, ...]:
    """What they are members of, by path."""
    return tuple(sorted({path.rpartition("/")[0] for path in paths()}))


def _resolver(address: str, masters: list[str]) -> dict[str, dict[str, Any]]:
    """The service that all pods ask for names. It chooses no pods: its endpoints are given."""
    ports = [{"name": f"dns-{p.lower()}", "port": 53, "protocol": p} for p in ("UDP", "TCP")]
    meta = {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    where = "/api/v1/namespaces/kube-system"
    return {
        f"{where}/services/kube-dns": {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"clusterIP": address, "ports": ports},
        },
        f"{where}/endpoints/kube-dns": {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": meta,
            "subsets": [{"addresses": [{"ip": ip} for ip in masters], "ports": ports}],
        },
    }


def _role(name: str) -> dict[str, Any]:
    """What CoreDNS asks for, and that is all that a resolver can need."""
    core, slices = ["endpoints", "services", "pods", "namespaces"], ["endpointslices"]
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [""], "resources": core, "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": slices, "verbs": ["list", "watch"]},
        ],
    }


def _binding(group: str, role: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": group},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
    }


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()
