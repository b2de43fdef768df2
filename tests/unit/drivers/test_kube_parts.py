"""The Kubernetes driver's pure parts: what programs are told, and who may do what."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import subprocess
import tarfile
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cryptography import x509
from inline_snapshot import snapshot

from moorage.drivers.hostnames import hostname, node_of
from moorage.drivers.kubernetes import (
    KubernetesDriver,
    access,
    addresses,
    control_plane,
    installed,
    laying,
    marking,
    node_agents,
    script,
    sizes,
    zones,
)
from moorage.drivers.kubernetes.naming import OURS, marks, node_specs
from moorage.drivers.kubernetes.place import SERVICES, Given, group_of, place_of
from moorage.drivers.kubernetes.versions import Fact, minor
from moorage.model.errors import Invalid, NotFound
from moorage.model.node import Role
from moorage.model.nodegroup import Taint
from moorage.model.ports import CaKeys
from moorage.model.sign_in import SERVER, SignIn, credential_of
from moorage.releases import Release, Releases, Version
from moorage.settings import FLAVORS
from moorage.trust import ClusterAuthority, new_ca
from tests import made
from tests.unit.drivers.kube_scene import AUTHORITY, RELEASES, cluster, object_of, place

MASTER, WORKER = place("master-0"), place("worker-0")
OF_MASTER = marks(group_of(cluster(), "master-0"), "v1.20.2")
OF_WORKER = marks(group_of(cluster(), "worker-0"), "v1.20.2")


def test_a_version_has_a_minor_one() -> None:
    assert minor("v1.20.2") == 20
    assert minor("v1.37.0-rc.1") == 37
    for text in ("", "1.20.2", "v2.0.0", "v1.20", "v1.x.1"):
        with pytest.raises(ValueError, match="no version of Kubernetes"):
            minor(text)


def test_what_differs_between_releases() -> None:
    seen = {
        version: [fact.name for fact in Fact if fact.holds(version)]
        for version in ("v1.20.2", "v1.24.0", "v1.37.0")
    }
    assert seen == snapshot(
        {
            "v1.20.2": [
                "INSECURE_PORT",
                "RUNTIME_ENDPOINT_FLAG",
                "TAINTS_FLAG",
                "PAUSE_FLAG",
                "MASTER_LABEL",
            ],
            "v1.24.0": [
                "RUNTIME_ENDPOINT_FLAG",
                "PAUSE_FLAG",
                "IN_USER_NAMESPACE",
                "CRI_V1",
                "CONTROL_PLANE_TAINT",
                "EVICTION_V1",
            ],
            "v1.37.0": [
                "IN_USER_NAMESPACE",
                "FAIL_CGROUP_V1",
                "CRI_V1",
                "CRI_V1_ONLY",
                "CONTROL_PLANE_TAINT",
                "EVICTION_V1",
                "WATCH_LIST",
            ],
        }
    )
    assert all(fact.value.source.startswith("https://") for fact in Fact)


def test_lists_as_watches_are_off_where_an_old_etcd_would_have_them_refused() -> None:
    off = {
        version: "--feature-gates=WatchList=false" in control_plane.apiserver(of).argv
        for version in ("v1.20.2", "v1.31.9", "v1.32.0", "v1.36.4", "v1.37.0")
        for of in [dataclasses.replace(MASTER, version=version)]
    }
    assert off == snapshot(
        {"v1.20.2": False, "v1.31.9": False, "v1.32.0": True, "v1.36.4": True, "v1.37.0": True}
    )


def test_the_etcd_of_a_master() -> None:
    assert control_plane.etcd(MASTER).run({}, "") == snapshot("""\
#!/bin/sh
# e3b0c44298fc1c14
set -e
umask 022
exec 2>&1
. /run/moorage/kubernetes/etcd-initial
export ETCD_INITIAL_CLUSTER="$INITIAL" ETCD_INITIAL_CLUSTER_STATE="$STATE"
[ "$(uname -m)" = x86_64 ] || export ETCD_UNSUPPORTED_ARCH="$(dpkg --print-architecture)"
mkdir -p -m 0700 /var/lib/etcd
if [ -e /run/moorage/kubernetes/etcd-force ]; then
  rm /run/moorage/kubernetes/etcd-force
  export ETCD_FORCE_NEW_CLUSTER=true
fi
exec /usr/bin/etcd \\
  --name=web-master-0 \\
  --data-dir=/var/lib/etcd \\
  --listen-peer-urls=https://10.128.0.2:2380 \\
  --initial-advertise-peer-urls=https://10.128.0.2:2380 \\
  --listen-client-urls=https://10.128.0.2:2379,https://127.0.0.1:2379 \\
  --advertise-client-urls=https://10.128.0.2:2379 \\
  --initial-cluster-token=5f0c1c1e-0000-4000-8000-000000000000 \\
  --cert-file=/run/moorage/kubernetes/etcd.crt \\
  --key-file=/run/moorage/kubernetes/etcd.key \\
  --trusted-ca-file=/run/moorage/kubernetes/etcd-ca.crt \\
  --client-cert-auth \\
  --peer-cert-file=/run/moorage/kubernetes/etcd.crt \\
  --peer-key-file=/run/moorage/kubernetes/etcd.key \\
  --peer-trusted-ca-file=/run/moorage/kubernetes/etcd-ca.crt \\
  --peer-client-cert-auth \\
  --heartbeat-interval=250 \\
  --election-timeout=2500 \\
  --logger=zap \\
  --log-level=warn
""")


def test_the_api_server_of_a_master() -> None:
    assert "\n".join(control_plane.apiserver(MASTER).argv) == snapshot("""\
/opt/kubernetes/kube-apiserver
--advertise-address=10.128.0.2
--bind-address=0.0.0.0
--secure-port=6443
--tls-cert-file=/run/moorage/kubernetes/apiserver.crt
--tls-private-key-file=/run/moorage/kubernetes/apiserver.key
--tls-min-version=VersionTLS12
--client-ca-file=/run/moorage/kubernetes/ca.crt
--anonymous-auth=false
--allow-privileged
--authorization-mode=Node,RBAC
--enable-admission-plugins=NodeRestriction
--profiling=false
--etcd-servers=https://127.0.0.1:2379
--etcd-cafile=/run/moorage/kubernetes/etcd-ca.crt
--etcd-certfile=/run/moorage/kubernetes/etcd-client.crt
--etcd-keyfile=/run/moorage/kubernetes/etcd-client.key
--encryption-provider-config=/run/moorage/kubernetes/encryption.json
--service-cluster-ip-range=10.254.0.0/16
--service-account-issuer=https://kubernetes.default.svc.cluster.local
--service-account-key-file=/run/moorage/kubernetes/service-accounts.key
--service-account-signing-key-file=/run/moorage/kubernetes/service-accounts.key
--kubelet-certificate-authority=/run/moorage/kubernetes/ca.crt
--kubelet-client-certificate=/run/moorage/kubernetes/kubelet-client.crt
--kubelet-client-key=/run/moorage/kubernetes/kubelet-client.key
--kubelet-preferred-address-types=InternalIP,Hostname
--requestheader-client-ca-file=/run/moorage/kubernetes/front-proxy-ca.crt
--requestheader-allowed-names=front-proxy
--requestheader-username-headers=X-Remote-User
--requestheader-group-headers=X-Remote-Group
--requestheader-extra-headers-prefix=X-Remote-Extra-
--proxy-client-cert-file=/run/moorage/kubernetes/front-proxy.crt
--proxy-client-key-file=/run/moorage/kubernetes/front-proxy.key
--default-not-ready-toleration-seconds=30
--default-unreachable-toleration-seconds=30
--audit-policy-file=/run/moorage/kubernetes/audit.json
--audit-log-path=/var/log/kubernetes/audit/audit.log
--audit-log-maxsize=10
--audit-log-maxbackup=3
--audit-log-maxage=30\
""")


def test_controllers_and_scheduler() -> None:
    both = control_plane.controllers(MASTER).argv + control_plane.scheduler(MASTER).argv
    assert "\n".join(both) == snapshot("""\
/opt/kubernetes/kube-controller-manager
--kubeconfig=/run/moorage/kubernetes/controllers.conf
--authentication-kubeconfig=/run/moorage/kubernetes/controllers.conf
--authorization-kubeconfig=/run/moorage/kubernetes/controllers.conf
--bind-address=127.0.0.1
--port=0
--profiling=false
--use-service-account-credentials
--service-account-private-key-file=/run/moorage/kubernetes/service-accounts.key
--root-ca-file=/run/moorage/kubernetes/ca.crt
--cluster-cidr=10.100.0.0/16
--service-cluster-ip-range=10.254.0.0/16
--allocate-node-cidrs=false
--node-monitor-period=2s
--node-monitor-grace-period=12s
--flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins
/opt/kubernetes/kube-scheduler
--kubeconfig=/run/moorage/kubernetes/scheduler.conf
--authentication-kubeconfig=/run/moorage/kubernetes/scheduler.conf
--authorization-kubeconfig=/run/moorage/kubernetes/scheduler.conf
--bind-address=127.0.0.1
--port=0
--profiling=false\
""")
    newer = dataclasses.replace(MASTER, version="v1.24.0")
    assert "--port=0" not in control_plane.controllers(newer).argv


def test_the_kubelet_of_a_worker() -> None:
    assert node_agents.kubelet(WORKER, OF_WORKER).run(
        laying.configs(WORKER, OF_WORKER), ""
    ) == snapshot("""\
#!/bin/sh
# 31645ac1a270ad22
set -e
umask 022
exec 2>&1
memory=$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo)
memory=$((memory / 1024 - 384))
cpus=$(($(nproc) - 1))
sed -e "s/@memory@/$((memory > 0 ? memory : 0))/" -e "s/@cpus@/$((cpus > 0 ? cpus : 0))/" \\
  /run/moorage/kubernetes/kubelet.json > /run/moorage/kubernetes/kubelet.json.now
/run/moorage/pause
exec /opt/kubernetes/kubelet \\
  --config=/run/moorage/kubernetes/kubelet.json.now \\
  --kubeconfig=/run/moorage/kubernetes/kubelet.conf \\
  --hostname-override=web-worker-0 \\
  --node-ip=10.128.0.20 \\
  --root-dir=/var/lib/kubelet \\
  --container-runtime=remote \\
  --container-runtime-endpoint=unix:///run/containerd/containerd.sock \\
  --pod-infra-container-image=moorage.local/pause:1
""")
    newest = dataclasses.replace(WORKER, version="v1.37.0")
    assert "container-runtime" not in " ".join(node_agents.kubelet(newest, OF_WORKER).argv)
    config = node_agents.kubelet_config(newest, OF_WORKER)
    assert config["containerRuntimeEndpoint"] == "unix:///run/containerd/containerd.sock"
    assert config["failCgroupV1"] is False
    assert config["featureGates"] == {"KubeletInUserNamespace": True}
    assert [each.name for each in laying.services(newest, OF_WORKER)[0]] == [
        "containerd",
        "pause-image",
    ]
    assert (
        node_agents.pause_keeper()
        .run({}, "")
        .endswith(
            "exec /bin/sh \\\n  -c \\\n  'while :; do /run/moorage/pause || :; sleep 30; done'\n"
        )
    )


@pytest.mark.parametrize(
    ("version", "containerd", "serves"),
    [
        ("v1.20.2", "1.6.20~ds1", True),
        ("v1.22.17", "v2.1.4", False),
        ("v1.23.0", "v2.1.4", True),
        ("v1.25.0", "1.5.9", True),
        ("v1.26.0", "1.5.9", False),
        ("v1.26.0", "1.6.20~ds1", True),
        ("v1.37.0", "v1.10.2", True),
    ],
)
def test_a_runtime_that_can_t_serve_the_release_is_told_of(
    tmp_path: Path, version: str, containerd: str, serves: bool
) -> None:
    fake = tmp_path / "containerd"
    fake.write_text(f"#!/bin/sh\necho containerd github.com/containerd/containerd {containerd} x\n")
    fake.chmod(0o755)
    unfit = script.unfit(dataclasses.replace(WORKER, version=version))
    done = subprocess.run(
        ["/bin/sh", "-euc", f"unfit=$1\n{script.RUNTIME_CHECK}echo goes on", "sh", unfit],
        check=False,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == ((0, "goes on\n") if serves else (1, ""))
    assert serves or f"containerd {containerd} can't serve this release" in done.stderr


def test_a_master_s_taint_is_there_from_its_first_moment() -> None:
    old = " ".join(node_agents.kubelet(MASTER, OF_MASTER).argv)
    assert "--register-with-taints=node-role.kubernetes.io/master=:NoSchedule" in old
    newer = dataclasses.replace(MASTER, version="v1.30.0")
    told = marks(group_of(cluster(), "master-0"), "v1.30.0")
    config = node_agents.kubelet_config(newer, told)
    assert config["registerWithTaints"] == [
        {"key": "node-role.kubernetes.io/control-plane", "value": "", "effect": "NoSchedule"}
    ]


def test_pods_addresses_follow_from_the_node_s() -> None:
    told = addresses.ranges({})
    assert (told.api, told.dns) == ("10.254.0.1", "10.254.0.10")
    assert str(told.pods_of("10.128.7.2")) == "10.100.2.0/24"
    assert str(told.pods_of("10.128.7.254")) == "10.100.254.0/24"
    routes = script.routes(WORKER).splitlines()
    assert len(routes) == 253
    assert routes[1] == "route replace 10.100.2.0/24 via 10.128.0.2"
    assert not any("10.100.20.0" in line for line in routes)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"service_cluster_ip_range": "x"}, "must be an IPv4 network"),
        ({"service_cluster_ip_range": "10.100.0.0/20"}, "10.100.0.0/20, .* 10.100.0.0/16, overlap"),
        ({"service_cluster_ip_range": "10.0.0.0/11"}, "from /12 to /24"),
        ({"flannel_network_cidr": "10.99.0.0/24"}, "from /8 to /16"),
    ],
)
def test_ranges_that_cannot_be(labels: dict[str, str], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        addresses.ranges(labels)


@pytest.mark.parametrize(
    ("labels", "nodes", "why"),
    [
        ({"flannel_network_cidr": "10.130.0.0/16"}, "10.128.0.0/12", "flannel_.* 10.130.0.0/16"),
        ({"service_cluster_ip_range": "10.64.0.0/16"}, "10.64.0.0/12", "10.64.0.0/16, .* overlap"),
        ({}, "10.96.0.0/12", "flannel_network_cidr, 10.100.0.0/16, .* have or need, 10.96.0.0/12,"),
        ({}, "10.254.128.0/20", "choose another service_cluster_ip_range"),
        ({}, "10.100.7.53/32", "flannel_.* need, 10.100.7.53/32, overlap: choose another flannel_"),
    ],
)
def test_ranges_that_the_nodes_have_or_need(labels: dict[str, str], nodes: str, why: str) -> None:
    """Whichever pool the operator chose, and where nobody named a range too."""
    with pytest.raises(Invalid, match=why) as refused:
        installed.checked(RELEASED, labels, None, nodes=[IPv4Network(nodes)])
    assert refused.value.field == "labels"


@pytest.mark.parametrize("label", [addresses.SERVICES, addresses.PODS])
@pytest.mark.parametrize(
    ("range", "fits"),
    [
        ("10.64.0.0/16", True),
        ("172.31.0.0/16", True),
        ("192.168.0.0/16", True),
        ("8.8.0.0/16", False),
        ("0.0.0.0/16", False),
        ("100.64.0.0/16", False),
        ("127.5.0.0/16", False),
        ("169.254.0.0/16", False),
        ("172.32.0.0/16", False),
        ("198.18.0.0/16", False),
        ("224.0.0.0/16", False),
        ("240.0.0.0/16", False),
        ("192.168.0.0/15", False),
    ],
)
def test_ranges_are_of_those_that_anybody_may_use(label: str, range: str, fits: bool) -> None:
    labels = {label: range}
    if fits:
        assert installed.checked(RELEASED, labels, None)[label] == range
        return
    why = "must be private, within one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16|from /"
    for refuse in (installed.check, partial(installed.checked, former=None)):
        with pytest.raises(Invalid, match=why):
            refuse(RELEASED, labels)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://10.100.3.4:9513", "10.100.0.0/16, .* need, 10.100.3.4/32, overlap"),
        ("https://10.254.9.9", "10.254.0.0/16, .* need, 10.254.9.9/32, overlap"),
        ("https://10.101.3.4:9513", ""),
        ("https://cloud.example.org:9513", ""),
        ("", ""),
    ],
)
async def test_a_range_does_not_hide_who_is_asked_about_tokens(url: str, refused: str) -> None:
    """Masters would ask a pod, or nobody: every token would be refused."""
    driver = KubernetesDriver(RELEASED, SignIn(url, b"") if url else None)
    for refuse in (driver.checked, driver.check):
        if refused:
            with pytest.raises(Invalid, match=refused):
                refuse({}, nodes=[IPv4Network("10.128.0.0/12")])
        else:
            refuse({}, nodes=[IPv4Network("10.128.0.0/12")])
    await driver.aclose()


def test_ranges_of_the_usual_pool_are_free_under_another_one() -> None:
    labels = {"flannel_network_cidr": "10.130.0.0/16"}
    chosen = installed.checked(RELEASED, labels, None, nodes=[IPv4Network("10.64.0.0/12")])
    assert chosen["flannel_network_cidr"] == "10.130.0.0/16"


def test_a_cluster_keeps_ranges_that_would_be_refused_by_now() -> None:
    nodes = [IPv4Network("10.128.0.0/12")]
    for pods in ("10.130.0.0/16", "198.18.0.0/16"):
        had = {"kube_tag": "v1.21.14", "flannel_network_cidr": pods}
        wanted = {**had, "kube_tag": "v1.22.1"}
        assert installed.checked(RELEASED, wanted, had, "v1.21.14", nodes) == wanted


def test_scripts_are_shell() -> None:
    texts = [
        zones.SCRIPT,
        script.SCRIPT,
        script.PAUSE_IMAGE,
        script.last_words(["etcd"]),
        script.HAS_DATA,
    ]
    laid = laying.lay(MASTER, OF_MASTER, AUTHORITY)
    texts += [data.decode() for path, data in laid.files.items() if path.endswith("/run")]
    assert len(texts) > 10
    for text in texts:
        done = subprocess.run(
            ["/bin/sh", "-n"], check=False, input=text.encode(), capture_output=True
        )
        assert done.stderr == b""


def test_secrets_are_laid_in_memory_only() -> None:
    laid = laying.lay(MASTER, OF_MASTER, AUTHORITY)
    disk = {path for path in laid.files if not path.startswith("/run/")}
    assert disk == {"/etc/cni/net.d/10-moorage.conflist"}
    with tarfile.open(fileobj=io.BytesIO(laying.archive(laid.files))) as packed:
        files = packed.getmembers()
    assert {file.mode & 0o077 for file in files} == {0}
    assert all(file.name.startswith("run/moorage/new/") for file in files)


def test_a_program_starts_again_for_what_it_is_told_and_not_for_a_new_key() -> None:
    once, again = (laying.lay(MASTER, OF_MASTER, AUTHORITY) for _ in range(2))
    runs = {path for path in once.files if path.endswith("/run")}
    assert {path for path in runs if once.files[path] != again.files[path]} == set()
    assert once.files != again.files
    other = laying.lay(place("master-0", cluster(3, 0)), OF_MASTER, AUTHORITY)
    changed = {path for path in runs if once.files[path] != other.files.get(path)}
    assert {Path(path).parent.name for path in changed} == {"kubelet", "kube-proxy"}


def test_etcd_trusts_nobody_whom_the_cluster_s_ca_has_signed() -> None:
    files = laying.lay(MASTER, OF_MASTER, AUTHORITY).files
    directory = "/run/moorage/kubernetes"
    own = x509.load_pem_x509_certificate(files[f"{directory}/etcd-ca.crt"])
    cluster_ca = x509.load_pem_x509_certificate(AUTHORITY.certificate)
    assert own.public_key() != cluster_ca.public_key()
    again = AUTHORITY.inner(control_plane.ETCD_CA)
    assert again.certificate == files[f"{directory}/etcd-ca.crt"]
    front = x509.load_pem_x509_certificate(files[f"{directory}/front-proxy-ca.crt"])
    assert front.public_key() != own.public_key()


def test_no_key_of_a_ca_is_in_a_node() -> None:
    files = laying.lay(MASTER, OF_MASTER, AUTHORITY).files
    for purpose in (control_plane.ETCD_CA, control_plane.FRONT_CA):
        inner = AUTHORITY.inner(purpose)
        assert not any(inner._keys.current.key in data for data in files.values())
    assert not any(AUTHORITY._keys.current.key in data for data in files.values())


def test_a_worker_has_nothing_of_a_master_s() -> None:
    names = {Path(path).name for path in laying.lay(WORKER, OF_WORKER, AUTHORITY).files}
    assert names == snapshot(
        {
            "10-moorage.conflist",
            "ca.crt",
            "containerd.toml",
            "kubelet.conf",
            "kubelet.crt",
            "kubelet.json",
            "kubelet.key",
            "proxy.conf",
            "proxy.json",
            "run",
        }
    )


def test_secrets_are_encrypted_and_audit_has_no_body() -> None:
    told = control_plane.encryption(b"k" * 32)
    assert list(told["resources"][0]["providers"][0]) == ["secretbox"]
    assert {rule["level"] for rule in control_plane.AUDIT["rules"]} == {"None", "Metadata"}


def test_who_may_do_what() -> None:
    made_of = access.objects("10.254.0.10", ["10.128.0.2"]).values()
    told = {
        value["subjects"][0]["name"]: value["roleRef"]["name"]
        for value in made_of
        if "subjects" in value
    }
    assert told == {
        "moorage:members": "cluster-admin",
        "moorage:readers": "view",
        "moorage:kubelet-clients": "system:kubelet-api-admin",
        "moorage:resolvers": "moorage:resolvers",
    }
    digests = {access.wanted("10.254.0.10", at) for at in (["10.128.0.2"], ["10.128.0.3"])}
    assert {len(each) for each in digests} == {16}
    assert len(digests) == 2


def test_names() -> None:
    assert hostname("Web Shop", "worker-0") == "web-shop-worker-0"
    assert node_of("Web Shop", "web-shop-gpu-x-12") == "gpu-x-12"
    assert node_of("other", "web-shop-worker-0") is None
    specs = node_specs(cluster(), RELEASES)
    assert [spec.expose for spec in specs] == [6443, None, None]
    assert specs[0].shares == {"/opt/kubernetes": "/releases/v1.20.2"}


def test_a_tenant_s_marks_are_left_alone() -> None:
    group = made.spec_group("gpu", 1, labels={"disk": "ssd"}, taints=(Taint("gpu", "NoSchedule"),))
    spec = cluster(1, 0, group)
    theirs = {"key": "mine", "effect": "NoExecute", "value": "x"}
    there = object_of(
        cluster(1, 0, dataclasses.replace(group, labels={"former": "x"}, taints=())),
        "gpu-0",
        spec={"taints": [theirs], "podCIDR": "10.100.20.0/24"},
    )
    patch = marking.change(there, marks(group, "v1.20.2"), {}, "10.100.20.0/24")
    assert patch["spec"] == {"taints": [theirs, {"key": "gpu", "effect": "NoSchedule"}]}
    labels = patch["metadata"]["labels"]
    assert (labels["disk"], labels["former"]) == ("ssd", None)
    assert OURS in patch["metadata"]["annotations"]
    assert not marking.are_marked(there, marks(group, "v1.20.2"))
    assert spec.of(group.role) == ["gpu-0"]


class FewReleases(Releases):
    """Those of these versions, without a file of any."""

    def __init__(self, *versions: str) -> None:
        super().__init__(Path("/nowhere"))
        self._versions = versions

    def list(self) -> list[Release]:
        found = [Version.parse(text) for text in self._versions]
        return [
            Release(each, Path("/nowhere"), {}, "amd64", "", None, "")
            for each in sorted(found, reverse=True)
        ]

    def get(self, version: Version) -> Release:
        for each in self.list():
            if each.version == version:
                return each
        there = ", ".join(str(each.version) for each in self.list())
        raise NotFound(f"There is no release {version} of Kubernetes here; there is {there}.")


RELEASED = FewReleases("v1.20.2", "v1.22.1", "v1.21.14")


def test_the_newest_release_is_taken_where_none_is_named() -> None:
    assert installed.checked(RELEASED, {}, None)["kube_tag"] == "v1.22.1"
    assert installed.checked(RELEASED, {"kube_tag": "v1.20.2"}, None)["kube_tag"] == "v1.20.2"
    assert installed.checked(RELEASED, {}, {"kube_tag": "v1.20.2"})["kube_tag"] == "v1.20.2"


@pytest.mark.parametrize(
    ("labels", "former", "why"),
    [
        ({"kube_tag": "v1.9.0"}, None, r"no release v1.9.0 of Kubernetes here; there is v1.22.1"),
        ({"kube_tag": "../x"}, None, "is no version"),
        ({"kube_tag": "v1.22.1"}, {"kube_tag": "v1.20.2"}, "one minor version at a time, to 1.21"),
        ({"kube_tag": "v1.20.2"}, {"kube_tag": "v1.21.14"}, "not back"),
        ({"control_plane": "elsewhere"}, None, "control_plane must be hosted or nodes"),
        (
            {"control_plane": "hosted"},
            {"kube_tag": "v1.22.1"},
            "can't be changed from nodes to hosted: .* Create another cluster",
        ),
        (
            {"control_plane": "nodes"},
            {"kube_tag": "v1.22.1", "control_plane": "hosted"},
            "can't be changed from hosted to nodes",
        ),
        (
            {"flannel_network_cidr": "10.96.0.0/16"},
            {"kube_tag": "v1.22.1"},
            "can't be changed",
        ),
    ],
)
def test_labels_that_cannot_be(
    labels: dict[str, str], former: dict[str, str] | None, why: str
) -> None:
    with pytest.raises(Invalid, match=why):
        installed.checked(RELEASED, labels, former)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"kube_tag": "v1.9.0"}, "no release v1.9.0 of Kubernetes here; there is .* can add one"),
        ({"kube_tag": "latest"}, "is no version"),
        ({"control_plane": "elsewhere"}, "control_plane must be hosted or nodes"),
        ({"service_cluster_ip_range": "10.100.0.0/20"}, "overlap"),
        ({"flannel_network_cidr": "10.130.0.0/16"}, "have or need, 10.128.0.0/12, overlap"),
    ],
)
def test_a_template_is_refused_what_its_clusters_would_be(labels: dict[str, str], why: str) -> None:
    nodes = [IPv4Network("10.128.0.0/12")]
    for refuse in (installed.check, partial(installed.checked, former=None)):
        with pytest.raises(Invalid, match=why):
            refuse(RELEASED, labels, nodes=nodes)


def test_a_template_that_names_no_release_waits_for_one(tmp_path: Path) -> None:
    installed.check(Releases(tmp_path), {"control_plane": "hosted", "any": "other"})


LARGER = {"small", "medium", "large", "m1.small", "m1.medium"}


@pytest.mark.parametrize(
    ("role", "labels", "good"),
    [
        (Role.MASTER, {}, LARGER),
        (Role.MASTER, {"control_plane": "nodes"}, LARGER),
        (Role.MASTER, {"control_plane": "hosted"}, LARGER),
        (Role.WORKER, {}, {"tiny", *LARGER}),
        (Role.WORKER, {"control_plane": "hosted"}, {"tiny", *LARGER}),
    ],
)
def test_which_flavors_will_do(role: Role, labels: dict[str, str], good: set[str]) -> None:
    least = sizes.least(role, labels)
    assert {flavor.name for flavor in FLAVORS if least.fits(flavor)} == good


def test_a_hosted_master_takes_less() -> None:
    hosted_one = sizes.least(Role.MASTER, {"control_plane": "hosted"})
    assert hosted_one.memory_mib < sizes.least(Role.MASTER, {}).memory_mib


def test_without_a_release_there_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="An operator can add one: moorage release add kubernetes"):
        installed.checked(Releases(tmp_path), {}, None)


def test_the_front_asks_every_api_server() -> None:
    three = place("worker-0", cluster(3, 1))
    text = node_agents.front_config(sorted(three.masters.items()))
    assert text.count("check-ssl") == 3
    assert three.api == "https://127.0.0.1:6444"
    assert json.loads(node_agents.as_json(node_agents.network(three)))["name"] == "moorage"


SIGN_IN = SignIn("https://192.0.2.1:9513", b"-----CA-----\n")
ASKING = dataclasses.replace(MASTER, sign_in=SIGN_IN)


def test_an_api_server_asks_about_tokens_with_its_own_clusters_credential() -> None:
    laid = laying.lay(ASKING, OF_MASTER, AUTHORITY)
    value = json.loads(laid.files[control_plane.WEBHOOK])
    asked = value["clusters"][0]["cluster"]
    assert asked["server"] == f"https://192.0.2.1:9513/clusters/{MASTER.cluster}/token-reviews"
    assert asked["tls-server-name"] == SERVER
    assert base64.b64decode(asked["certificate-authority-data"]) == SIGN_IN.ca
    credential = value["users"][0]["user"]["token"]
    assert credential == credential_of(AUTHORITY)
    other = ClusterAuthority(CaKeys(new_ca("other"), secret=b"o" * 32))
    assert credential != credential_of(other)
    others = [data for path, data in laid.files.items() if path != control_plane.WEBHOOK]
    assert not [data for data in others if credential.encode() in data]
    assert control_plane.WEBHOOK.startswith("/run/"), "in memory only"
    flags = control_plane.apiserver(ASKING).argv
    assert f"--authentication-token-webhook-config-file={control_plane.WEBHOOK}" in flags
    assert "--authentication-token-webhook-version=v1" in flags
    assert "--authentication-token-webhook-cache-ttl=10s" in flags


def test_where_nobody_is_to_be_asked_nobody_is() -> None:
    laid = laying.lay(MASTER, OF_MASTER, AUTHORITY)
    assert control_plane.WEBHOOK not in laid.files
    assert not [flag for flag in control_plane.apiserver(MASTER).argv if "webhook" in flag]


def test_a_masters_api_server_starts_again_where_another_is_to_be_asked() -> None:
    moved = dataclasses.replace(MASTER, sign_in=SignIn("https://192.0.2.9:9513", SIGN_IN.ca))
    renewed = dataclasses.replace(MASTER, sign_in=SignIn(SIGN_IN.url, b"another"))
    digests = {laying.digest(each, OF_MASTER) for each in (MASTER, ASKING, moved, renewed)}
    assert len(digests) == 4
    run = f"{SERVICES}/kube-apiserver/run"
    runs = {laying.lay(each, OF_MASTER, AUTHORITY).files[run] for each in (ASKING, moved, renewed)}
    assert len(runs) == 3


def test_workers_are_told_nothing_of_it() -> None:
    spec = cluster()
    told = place_of(
        spec,
        {"master-0": "10.128.0.2", "worker-0": "10.128.0.20"},
        "worker-0",
        "v1.20.2",
        given=Given(SIGN_IN),
    )
    assert told.sign_in is None
