"""The control plane of one master: the arguments of its four programs, and what they read. Pure.

What must stay true:

- etcd trusts a CA of its own (`Authority.inner`). Its clients are the API servers and the
  conductor; a tenant's certificate, good for the API, opens nothing there.
- What opens etcd's disk is never on it: the key that secrets are encrypted with is in memory,
  as all keys are.
- Nothing answers without TLS, nor strangers: every port is on loopback or asks for a
  certificate or token.
- The cluster's CA signs nothing in here, since its key is not in the node.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from moorage.drivers.kubernetes.naming import PORT
from moorage.drivers.kubernetes.place import DOMAIN, LOGS, Place, binary, secret
from moorage.drivers.kubernetes.service import Service
from moorage.drivers.kubernetes.versions import Fact
from moorage.model.sign_in import CACHE_SECONDS

ETCD, APISERVER = "etcd", "kube-apiserver"
CONTROLLERS, SCHEDULER = "kube-controller-manager", "kube-scheduler"
ETCD_PORT, PEER_PORT = 2379, 2380
ETCD_DATA = "/var/lib/etcd"
ETCD_CA, FRONT_CA = "etcd", "front-proxy"
"""The purposes of the two CAs beside the cluster's own (`Authority.inner`)."""
FORCE = secret("etcd-force")
"""Where this file is, the next start makes the member the only one of its cluster, once."""
INITIAL = secret("etcd-initial")
"""Shell variables that a member without data begins with: INITIAL, STATE."""

LOSS_SECONDS = 12
"""Without a sign of life for so long, a node is lost."""
EVICTION_SECONDS = 30
"""Pods that say nothing else stay so long on a node that is lost or not ready."""
WEBHOOK = secret("sign-in.conf")
"""Where tokens that are none of the cluster's own are asked about. The three flags are the same
from 1.20 on (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/)."""
AUDIT_MIB, AUDIT_FILES, AUDIT_DAYS = 10, 3, 30

AUDIT: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {  # the cluster's own programs asking how things are: most of all requests
            "level": "None",
            "users": [
                "system:kube-proxy",
                "system:kube-scheduler",
                "system:kube-controller-manager",
            ],
            "verbs": ["get", "list", "watch"],
        },
        {"level": "None", "userGroups": ["system:nodes"], "verbs": ["get", "list", "watch"]},
        {
            "level": "None",
            "verbs": ["get", "update", "patch"],
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
        },
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version"]},
        {"level": "None", "resources": [{"group": "", "resources": ["events"]}]},
        {"level": "Metadata"},  # who, what and when; never a body, which may be a secret
    ],
}


def etcd(place: Place) -> Service:
    """Patient beyond its defaults: a node shares its processors and its disk with others."""
    peer, client = f"https://{place.address}:{PEER_PORT}", f"https://{place.address}:{ETCD_PORT}"
    argv = (
        "/usr/bin/etcd",
        f"--name={place.hostname}",
        f"--data-dir={ETCD_DATA}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--listen-client-urls={client},https://127.0.0.1:{ETCD_PORT}",
        f"--advertise-client-urls={client}",
        f"--initial-cluster-token={place.cluster}",
        f"--cert-file={secret('etcd.crt')}",
        f"--key-file={secret('etcd.key')}",
        f"--trusted-ca-file={secret('etcd-ca.crt')}",
        "--client-cert-auth",
        f"--peer-cert-file={secret('etcd.crt')}",
        f"--peer-key-file={secret('etcd.key')}",
        f"--peer-trusted-ca-file={secret('etcd-ca.crt')}",
        "--peer-client-cert-auth",
        "--heartbeat-interval=250",
        "--election-timeout=2500",
        "--logger=zap",
        "--log-level=warn",
    )
    # What a member without data is told; one with data takes no notice of it.
    before = f"""
. {INITIAL}
export ETCD_INITIAL_CLUSTER="$INITIAL" ETCD_INITIAL_CLUSTER_STATE="$STATE"
[ "$(uname -m)" = x86_64 ] || export ETCD_UNSUPPORTED_ARCH="$(dpkg --print-architecture)"
mkdir -p -m 0700 {ETCD_DATA}
if [ -e {FORCE} ]; then
  rm {FORCE}
  export ETCD_FORCE_NEW_CLUSTER=true
fi
"""
    return Service(ETCD, argv, before)


def apiserver(place: Place) -> Service:
    argv: tuple[str, ...] = (
        binary(APISERVER),
        f"--advertise-address={place.address}",
        "--bind-address=0.0.0.0",
        f"--secure-port={PORT}",
        f"--tls-cert-file={secret('apiserver.crt')}",
        f"--tls-private-key-file={secret('apiserver.key')}",
        "--tls-min-version=VersionTLS12",
        f"--client-ca-file={secret('ca.crt')}",
        "--anonymous-auth=false",
        "--allow-privileged",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--profiling=false",
        f"--etcd-servers=https://127.0.0.1:{ETCD_PORT}",
        f"--etcd-cafile={secret('etcd-ca.crt')}",
        f"--etcd-certfile={secret('etcd-client.crt')}",
        f"--etcd-keyfile={secret('etcd-client.key')}",
        f"--encryption-provider-config={secret('encryption.json')}",
        f"--service-cluster-ip-range={place.ranges.services}",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={secret('service-accounts.key')}",
        f"--service-account-signing-key-file={secret('service-accounts.key')}",
        f"--kubelet-certificate-authority={secret('ca.crt')}",
        f"--kubelet-client-certificate={secret('kubelet-client.crt')}",
        f"--kubelet-client-key={secret('kubelet-client.key')}",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        f"--requestheader-client-ca-file={secret('front-proxy-ca.crt')}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={secret('front-proxy.crt')}",
        f"--proxy-client-key-file={secret('front-proxy.key')}",
        f"--default-not-ready-toleration-seconds={EVICTION_SECONDS}",
        f"--default-unreachable-toleration-seconds={EVICTION_SECONDS}",
        f"--audit-policy-file={secret('audit.json')}",
        f"--audit-log-path={LOGS}/audit/audit.log",
        f"--audit-log-maxsize={AUDIT_MIB}",
        f"--audit-log-maxbackup={AUDIT_FILES}",
        f"--audit-log-maxage={AUDIT_DAYS}",
    )
    if not place.runs_pods:
        argv += ("--enable-aggregator-routing=true",)  # to endpoints: no kube-proxy is here
    if Fact.WATCH_LIST.holds(place.version):
        argv += ("--feature-gates=WatchList=false",)
    reads: tuple[str, ...] = (secret("encryption.json"), secret("audit.json"))
    if place.sign_in:
        argv += (
            f"--authentication-token-webhook-config-file={WEBHOOK}",
            "--authentication-token-webhook-version=v1",
            f"--authentication-token-webhook-cache-ttl={CACHE_SECONDS}s",
        )
        reads += (WEBHOOK,)
    return Service(APISERVER, argv, f"mkdir -p -m 0700 {LOGS}/audit", reads)


def controllers(place: Place) -> Service:
    argv = (
        binary(CONTROLLERS),
        f"--kubeconfig={secret('controllers.conf')}",
        f"--authentication-kubeconfig={secret('controllers.conf')}",
        f"--authorization-kubeconfig={secret('controllers.conf')}",
        "--bind-address=127.0.0.1",
        *_without_insecure_port(place),
        "--profiling=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={secret('service-accounts.key')}",
        f"--root-ca-file={secret('ca.crt')}",
        f"--cluster-cidr={place.ranges.pods}",
        f"--service-cluster-ip-range={place.ranges.services}",
        "--allocate-node-cidrs=false",
        "--node-monitor-period=2s",
        f"--node-monitor-grace-period={LOSS_SECONDS}s",
        "--flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins",
    )
    return Service(CONTROLLERS, argv)


def scheduler(place: Place) -> Service:
    argv = (
        binary(SCHEDULER),
        f"--kubeconfig={secret('scheduler.conf')}",
        f"--authentication-kubeconfig={secret('scheduler.conf')}",
        f"--authorization-kubeconfig={secret('scheduler.conf')}",
        "--bind-address=127.0.0.1",
        *_without_insecure_port(place),
        "--profiling=false",
    )
    return Service(SCHEDULER, argv)


def files(encryption_key: bytes) -> dict[str, bytes]:
    """What they read besides certificates, by path. `encryption_key`: 32 bytes."""
    return {
        secret("encryption.json"): _json(encryption(encryption_key)),
        secret("audit.json"): _json(AUDIT),
    }


def encryption(key: bytes) -> dict[str, Any]:
    """Secrets are written encrypted; `identity` reads those that were there before.

    secretbox (XSalsa20 and Poly1305) is the one strong provider that every release from 1.20
    on has: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/#providers
    """
    keys = [{"name": "moorage-1", "secret": base64.b64encode(key).decode()}]
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["secrets"],
                "providers": [{"secretbox": {"keys": keys}}, {"identity": {}}],
            }
        ],
    }


def initial(members: Mapping[str, str], *, joining: bool) -> bytes:
    """The file INITIAL. `members`: all of them, by name, with the addresses of their peers."""
    told = ",".join(f"{name}=https://{address}:{PEER_PORT}" for name, address in members.items())
    return f"INITIAL='{told}'\nSTATE={'existing' if joining else 'new'}\n".encode()


def _without_insecure_port(place: Place) -> tuple[str, ...]:
    return ("--port=0",) if Fact.INSECURE_PORT.holds(place.version) else ()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
