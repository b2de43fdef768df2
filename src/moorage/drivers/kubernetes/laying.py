"""All that a node is given at its start: certificates, configurations, programs to supervise.

Made anew each time, and of one cast. What runs already is started again only where its
script has changed (`service.py`).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from moorage.drivers.kubernetes import access, control_plane, dns, node_agents
from moorage.drivers.kubernetes.naming import Marks
from moorage.drivers.kubernetes.place import (
    DOMAIN,
    OWN_API,
    SECRETS,
    SERVICES,
    Place,
    secret,
)
from moorage.drivers.kubernetes.service import Service, log_run
from moorage.drivers.kubernetes.versions import Fact
from moorage.model.ports import Authority, KeyPair
from moorage.model.sign_in import credential_of

NEW = "run/moorage/new"
"""Where files wait until all of them are there; below it they lie as below /."""
UNTOUCHED = frozenset({node_agents.RUNTIME, control_plane.ETCD, dns.DNS})
"""What has no certificate of the cluster's CA."""
AGENTS = frozenset({node_agents.KUBELET, node_agents.PROXY})
"""What has a kubeconfig that leads elsewhere when there are more masters, or other ones."""


@dataclass(frozen=True, slots=True)
class Laid:
    """`first` run as soon as they can, `later` once the cluster's API answers."""

    files: Mapping[str, bytes]
    first: tuple[Service, ...]
    later: tuple[Service, ...]

    @property
    def services(self) -> tuple[Service, ...]:
        return self.first + self.later


def services(place: Place, marks: Marks) -> tuple[tuple[Service, ...], tuple[Service, ...]]:
    """Those that run as soon as they can, and those that wait for the API."""
    first: list[Service] = []
    later: list[Service] = []
    if place.runs_pods:
        first.append(node_agents.containerd())
        if not Fact.PAUSE_FLAG.holds(place.version):
            first.append(node_agents.pause_keeper())
        later += [node_agents.kubelet(place, marks), node_agents.proxy(place)]
    if place.has_front:
        first.append(node_agents.front())
    if place.is_master:
        first += [control_plane.etcd(place), control_plane.apiserver(place)]
        later += [control_plane.controllers(place), control_plane.scheduler(place)]
        later += dns.services(place)
    return tuple(first), tuple(later)


def lay(place: Place, marks: Marks, authority: Authority) -> Laid:
    """It holds private keys. Their programs are started again when `authority.revision` is
    another one; not containerd and etcd, which don't depend on it."""
    first, later = services(place, marks)
    files = {**configs(place, marks), **_certificates(place, authority)}
    if place.is_master:
        files |= {**control_plane.files(authority.secret("encryption")), **dns.files(place)}
    if place.sign_in:
        credential = credential_of(authority)
        files[control_plane.WEBHOOK] = access.webhook(place.sign_in, place.cluster, credential)
    for service in first + later:
        trust = "" if service.name in UNTOUCHED else authority.revision
        trust += place.api if service.name in AGENTS else ""
        files[f"{SERVICES}/{service.name}/run"] = service.run(files, trust).encode()
        files[f"{SERVICES}/{service.name}/log/run"] = log_run(service.name).encode()
    return Laid(files, first, later)


def configs(place: Place, marks: Marks) -> dict[str, bytes]:
    """The configurations that hold no secret, by path."""
    if not place.runs_pods:
        return {}
    files = {
        secret("containerd.toml"): node_agents.containerd_config().encode(),
        secret("kubelet.json"): node_agents.as_json(node_agents.kubelet_config(place, marks)),
        secret("proxy.json"): node_agents.as_json(node_agents.proxy_config(place)),
        node_agents.NETWORK: node_agents.as_json(node_agents.network(place)),
    }
    if place.has_front:
        files[secret("front.cfg")] = node_agents.front_config(
            sorted(place.masters.items())
        ).encode()
    return files


def digest(place: Place, marks: Marks) -> str:
    """What a node's programs are started with: another one means to start some again.

    Not what they trust, which a node's certificate tells.
    """
    first, later = services(place, marks)
    told = hashlib.sha256(place.api.encode())
    if place.sign_in:
        told.update(place.sign_in.url.encode() + b"\0" + place.sign_in.ca)
    for path, data in sorted(configs(place, marks).items()):
        told.update(path.encode() + b"\0" + data + b"\0")
    for service in first + later:
        told.update(repr((service.name, service.argv, service.before)).encode())
    return told.hexdigest()[:16]


def _certificates(place: Place, authority: Authority) -> dict[str, bytes]:
    files = {secret("ca.crt"): authority.certificate}
    if place.runs_pods:
        files |= _of_agents(place, authority)
    if place.is_master:
        files |= _of_master(place, authority)
    return files


def _of_agents(place: Place, authority: Authority) -> dict[str, bytes]:
    ca = authority.certificate
    kubelet = authority.client(f"system:node:{place.hostname}", [access.NODES], lasting=True)
    proxy = authority.client("system:kube-proxy", lasting=True)
    files = {
        secret("kubelet.conf"): access.kubeconfig(place.api, ca, kubelet),
        secret("proxy.conf"): access.kubeconfig(place.api, ca, proxy),
        **_pair("kubelet", authority.server(place.hostname, [place.address])),
    }
    if place.has_front:
        files[secret("proxy.pem")] = proxy.certificate + proxy.key
    return files


def _of_master(place: Place, authority: Authority) -> dict[str, bytes]:
    ca = authority.certificate
    outside = [place.endpoint.rpartition(":")[0]] if place.endpoint else []
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += [f"kubernetes.default.svc.{DOMAIN}", "localhost", "127.0.0.1"]
    names += [place.address, place.ranges.api, *outside]
    etcd = authority.inner(control_plane.ETCD_CA)
    front = authority.inner(control_plane.FRONT_CA)
    asking = authority.client("kube-apiserver", [access.KUBELET_CLIENTS], lasting=True)
    asking_names = authority.client(access.RESOLVERS, [access.RESOLVERS], lasting=True)
    return {
        **_pair("dns", asking_names),
        secret("dns.conf"): access.kubeconfig(OWN_API, ca, asking_names),
        **_pair("apiserver", authority.server(place.hostname, names)),
        **_pair("kubelet-client", asking),
        **_pair("etcd", etcd.peer(place.hostname, ["localhost", "127.0.0.1", place.address])),
        **_pair("etcd-client", etcd.client("kube-apiserver", lasting=True)),
        **_pair("front-proxy", front.client("front-proxy", lasting=True)),
        secret("etcd-ca.crt"): etcd.certificate,
        secret("front-proxy-ca.crt"): front.certificate,
        secret("service-accounts.key"): authority.signing_key("service accounts"),
        secret("controllers.conf"): access.kubeconfig(
            OWN_API, ca, authority.client("system:kube-controller-manager", lasting=True)
        ),
        secret("scheduler.conf"): access.kubeconfig(
            OWN_API, ca, authority.client("system:kube-scheduler", lasting=True)
        ),
    }


def _pair(name: str, pair: KeyPair) -> dict[str, bytes]:
    return {secret(f"{name}.crt"): pair.certificate, secret(f"{name}.key"): pair.key}


def archive(files: Mapping[str, bytes]) -> bytes:
    """The files in NEW, as a tar archive to be unpacked at /."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in files.items():
            file = tarfile.TarInfo(f"{NEW}{path}")
            file.size = len(data)
            file.mode = 0o700 if data.startswith(b"#!") else 0o600
            tar.addfile(file, io.BytesIO(data))
    return packed.getvalue()


__all__ = ["NEW", "SECRETS", "Laid", "archive", "configs", "digest", "lay", "services"]
