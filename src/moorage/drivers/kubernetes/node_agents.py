"""What every node runs: containerd, kubelet, kube-proxy; and how pods get their addresses. Pure.

A node of provider `local` is in a user namespace. What the kernel refuses there is made
good by the script (`script.py`) and by these configurations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from moorage.drivers.kubernetes.naming import PORT, Marks
from moorage.drivers.kubernetes.place import (
    CONTAINERD,
    DOMAIN,
    FRONT_PORT,
    KUBELET_PORT,
    PAUSE,
    RUN,
    Place,
    binary,
    secret,
)
from moorage.drivers.kubernetes.service import Service
from moorage.drivers.kubernetes.versions import Fact

RUNTIME, KUBELET, PROXY, FRONT = "containerd", "kubelet", "kube-proxy", "front"
KEEPER = "pause-image"
NETWORK = "/etc/cni/net.d/10-moorage.conflist"
CNI = "/usr/lib/cni"
"""Where Debian's containernetworking-plugins are."""
LEASE_SECONDS = 12
"""A quarter of it, by the kubelet's own rule, lies between a node's signs of life."""
KEEP_SECONDS = 30
SYSTEM_MIB = 128
"""What of a node's memory is kept for what is no pod."""


def containerd() -> Service:
    config = secret("containerd.toml")
    return Service(RUNTIME, ("/usr/bin/containerd", f"--config={config}"), reads=(config,))


def containerd_config() -> str:
    """For containerd 1.6 and 1.7 (version 2 of its format; 2.x reads that too).

    `restrict_oom_score_adj`: in a user namespace no process may be made less likely to be
    killed than its parent. The other snapshotters only complain.
    """
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{CONTAINERD}"

[debug]
level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
discard_unpacked_layers = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"
"""


def pause_keeper() -> Service:
    """Makes the pause image anew where the kubelet has collected it (`Fact.PAUSE_FLAG`)."""
    loop = f"while :; do {RUN}/pause || :; sleep {KEEP_SECONDS}; done"
    return Service(KEEPER, ("/bin/sh", "-c", loop))


def network(place: Place) -> dict[str, Any]:
    """One address a pod, on a bridge of the node's own; what is given away is kept in memory.

    The pods of a node end with it, and their addresses with them.
    """
    return {
        "cniVersion": "0.4.0",
        "name": "moorage",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni/networks",
                    "ranges": [[{"subnet": str(place.pods)}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet(place: Place, marks: Marks) -> Service:
    """Before each start: how much of the machine is not this node's, and the pause image."""
    config = secret("kubelet.json")
    argv = [
        binary(KUBELET),
        f"--config={config}.now",
        f"--kubeconfig={secret('kubelet.conf')}",
        f"--hostname-override={place.hostname}",
        f"--node-ip={place.address}",
        "--root-dir=/var/lib/kubelet",
    ]
    if Fact.RUNTIME_FLAG.holds(place.version):
        argv.append("--container-runtime=remote")
    if Fact.RUNTIME_ENDPOINT_FLAG.holds(place.version):
        argv.append(f"--container-runtime-endpoint=unix://{CONTAINERD}")
    if Fact.PAUSE_FLAG.holds(place.version):
        argv.append(f"--pod-infra-container-image={PAUSE}")
    if marks.taints and Fact.TAINTS_FLAG.holds(place.version):
        told = ",".join(f"{t.key}={t.value}:{t.effect}" for t in marks.taints)
        argv.append(f"--register-with-taints={told}")
    before = f"""
memory=$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo)
memory=$((memory / 1024 - {place.memory_mib - SYSTEM_MIB}))
cpus=$(($(nproc) - {place.vcpus}))
sed -e "s/@memory@/$((memory > 0 ? memory : 0))/" -e "s/@cpus@/$((cpus > 0 ? cpus : 0))/" \\
  {config} > {config}.now
{RUN}/pause
"""
    return Service(KUBELET, tuple(argv), before, (config,))


def kubelet_config(place: Place, marks: Marks) -> dict[str, Any]:
    """KubeletConfiguration, kubelet.config.k8s.io/v1beta1 in every release."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",  # noqa: S104
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "30s"},
            "x509": {"clientCAFile": secret("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": secret("kubelet.crt"),
        "tlsPrivateKeyFile": secret("kubelet.key"),
        "tlsMinVersion": "VersionTLS12",
        "enableDebuggingHandlers": True,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "protectKernelDefaults": False,
        "clusterDomain": DOMAIN,
        "clusterDNS": [place.ranges.dns],
        "resolvConf": "/etc/resolv.conf",
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        # What has changed is told so soon; where nothing has, its lease is all that is renewed.
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "5m",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 3,
        # The kubelet sees the machine's memory and processors. What its node does not have of
        # them is kept from the pods as the system's; their own cgroup then holds them to it.
        "systemReserved": {"memory": "@memory@Mi", "cpu": "@cpus@"},
        # By how much of the machine's memory is free, nothing can be told here.
        "evictionHard": {
            "nodefs.available": "2%",
            "imagefs.available": "2%",
            "nodefs.inodesFree": "1%",
        },
    }
    if Fact.IN_USER_NAMESPACE.holds(place.version):
        config["featureGates"] = {"KubeletInUserNamespace": True}
    if Fact.FAIL_CGROUP_V1.holds(place.version):
        config["failCgroupV1"] = False
    if not Fact.RUNTIME_ENDPOINT_FLAG.holds(place.version):
        config["containerRuntimeEndpoint"] = f"unix://{CONTAINERD}"
    if marks.taints and not Fact.TAINTS_FLAG.holds(place.version):
        config["registerWithTaints"] = [
            {"key": t.key, "value": t.value, "effect": t.effect} for t in marks.taints
        ]
    return config


def proxy(place: Place) -> Service:
    config = secret("proxy.json")
    argv = (binary(PROXY), f"--config={config}", f"--hostname-override={place.hostname}")
    return Service(PROXY, argv, reads=(config,))


def proxy_config(place: Place) -> dict[str, Any]:
    """KubeProxyConfiguration, kubeproxy.config.k8s.io/v1alpha1 in every release.

    Zeros: the machine's table of connections is not the node's to size.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": secret("proxy.conf")},
        "hostnameOverride": place.hostname,
        "clusterCIDR": str(place.ranges.pods),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def front() -> Service:
    config = secret("front.cfg")
    return Service(FRONT, ("/usr/sbin/haproxy", "-db", "-f", config), reads=(config,))


def front_config(masters: Iterable[tuple[str, str]]) -> str:
    """HAProxy (2.4 and later) before the API servers, `(hostname, address)` each.

    TLS goes through it. An API server is asked over TLS whether it is ready, with the
    certificate of the node's kube-proxy, since it answers nobody else.
    """
    check = (
        f"check check-ssl inter 2s fall 2 rise 1 ca-file {secret('ca.crt')}"
        f" crt {secret('proxy.pem')} verify required"
    )
    servers = "\n".join(f"    server {name} {at}:{PORT} {check}" for name, at in masters)
    return f"""\
global
    maxconn 1000
    nbthread 1

listen api
    mode tcp
    bind 127.0.0.1:{FRONT_PORT}
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server on-marked-down shutdown-sessions
    timeout connect 3s
    timeout client 24h
    timeout server 24h
    timeout check 3s
    option clitcpka
    option srvtcpka
{servers}
"""


def as_json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
