"""Kubernetes as a tenant has it: through OpenStack's API, with unmodified kubectl."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from moorage.app import lose_node
from moorage.install import install_id
from moorage.model.node import NodeRef
from moorage.providers.local.runtime import Runc
from tests.real.clients import Shell
from tests.real.conftest import fresh_install
from tests.real.install import Install, Tenant
from tests.real.kubernetes import (
    ON_NODES,
    SERVE,
    Kubectl,
    add_release,
    ask,
    deployment,
    kubectl_of,
    load,
    pod,
    service,
)
from tests.real.power import cut
from tests.real.topology import Place, sh
from tests.unit.trust.requests import request

pytestmark = pytest.mark.real
WORKERS = ("worker-0", "worker-1")
HEAL_SECONDS = 600
"""Longer than any of these tests waits: nothing here is seen by the timer."""


@pytest.fixture(scope="module")
def install() -> Iterator[Install]:
    with fresh_install() as made:
        made.variables["MOORAGE_HEAL_SECONDS"] = str(HEAL_SECONDS)
        made.up()
        yield made


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    add_release(install)
    return install.tenant("red")


@pytest.fixture(scope="module")
def shell(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tenant, tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def uuid(tenant: Tenant) -> str:
    template = tenant.make_template("k8s", **ON_NODES)
    uuid = tenant.create("web", template=template, workers=2)
    tenant.until_complete(uuid, 120)
    return uuid


@pytest.fixture(scope="module")
def kubectl(
    install: Install, shell: Shell, uuid: str, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    asyncio.run(load(Runc(install_id(install.state)), uuid, "master-0", *WORKERS))
    return kubectl_of(shell, "web", tmp_path_factory.mktemp("config"))


def test_the_cluster_is_as_the_api_says(tenant: Tenant, uuid: str, kubectl: Kubectl) -> None:
    shown = tenant.cluster(uuid)
    assert shown["coe_version"] == "v1.20.2"
    assert shown["api_address"].startswith("https://")
    nodes = {node["metadata"]["name"]: node for node in kubectl.get("nodes")["items"]}
    assert set(nodes) == {"web-master-0", "web-worker-0", "web-worker-1"}
    assert "node-role.kubernetes.io/master" in nodes["web-master-0"]["metadata"]["labels"]
    allocatable = nodes["web-worker-0"]["status"]["allocatable"]["memory"]
    assert int(allocatable.removesuffix("Ki")) < 1024 * 1024


def test_pods_and_services(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("page", 4, *SERVE), service("page", 8080), pod("user"))
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    kubectl.run("wait", "--for=condition=Ready", "pod/user", "--timeout=60s")
    pods = kubectl.get("pods", "-l", "app=page")["items"]
    nodes = {each["metadata"]["name"]: each["spec"]["nodeName"] for each in pods}
    assert set(nodes.values()) == {"web-worker-0", "web-worker-1"}
    user = kubectl.get("pod", "user")["status"]["podIP"]
    for each in pods:  # on both nodes, each by its own address
        said = ask(kubectl, "user", each["status"]["podIP"])
        assert (said.pod, said.peer) == (each["metadata"]["name"], user), "there is NAT between"
    address = kubectl.get("service", "page")["spec"]["clusterIP"]
    seen: set[str] = set()

    def all_nodes_answered() -> bool:
        said = ask(kubectl, "user", address)
        assert said.peer == user, "there is more NAT than the service's own address"
        seen.add(nodes[said.pod])
        return seen == set(nodes.values())

    kubectl.until(all_nodes_answered)


def test_the_kubeconfig_works_on_another_machine(kubectl: Kubectl) -> None:
    there = Place()
    try:
        sh(f"ip link add far0 type veth peer name far1 netns {there.pid}")
        sh("ip address add 198.51.100.1/24 dev far0; ip link set far0 up")
        there.sh("ip address add 198.51.100.2/24 dev far1; ip link set far1 up")
        there.sh("ip route add default via 198.51.100.1")
        told = there.sh(f"{kubectl.program} --kubeconfig {kubectl.kubeconfig} get nodes")
        assert "web-master-0" in told
    finally:
        subprocess.run(["ip", "link", "delete", "far0"], check=False)
        there.close()


def test_node_ports(kubectl: Kubectl) -> None:
    """A kube-proxy of 1.20 listens on the port before its rules are there, and answers nobody."""
    kubectl.apply(service("open", 8080, selector={"app": "page"}, type="NodePort"))
    port = kubectl.get("service", "open")["spec"]["ports"][0]["nodePort"]

    def answers(address: str) -> bool:
        fetch = f"exec busybox timeout 1 wget -qO- http://{address}:{port}"
        told = kubectl.run("exec", "user", "--", "busybox", "sh", "-c", fetch, code=None)
        return told.startswith("page-")

    for node in kubectl.get("nodes")["items"]:
        kubectl.until(partial(answers, node["status"]["addresses"][0]["address"]))


def test_logs_exec_scale_and_rolling_update(kubectl: Kubectl) -> None:
    kubectl.apply(pod("talker", "/bin/sh", "-c", "echo said; exec sleep 1000"))
    kubectl.run("wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")
    assert kubectl.run("logs", "talker") == "said\n"
    assert kubectl.run("exec", "talker", "--", "busybox", "id", "-u") == "0\n"

    def rounds() -> list[str]:
        return [ask(kubectl, "user", each["status"]["podIP"]).round for each in pods_on(kubectl)]

    assert rounds() == ["1"] * 4
    kubectl.run("scale", "deployment/page", "--replicas=2")
    kubectl.until(lambda: len(pods_on(kubectl)) == 2)
    for words, told in ((("set", "env", "ROUND=2"), "2"), (("rollout", "undo"), "1")):
        kubectl.run(*words[:2], "deployment/page", *words[2:])
        kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
        assert rounds() == [told] * 2, words


def test_a_privileged_pod_sees_its_node_and_not_this_machine(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    mark.write_text("of this machine")
    root = {"name": "host", "hostPath": {"path": "/"}}
    kubectl.apply(
        pod(
            "root",
            volumes=[root],
            container={
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "host", "mountPath": "/host"}],
            },
        )
    )
    kubectl.run("wait", "--for=condition=Ready", "pod/root", "--timeout=60s")
    run = ("exec", "root", "--", "/bin/busybox")
    node = kubectl.get("pod", "root")["spec"]["nodeName"]
    assert kubectl.run(*run, "cat", "/host/etc/hostname") == f"{node}\n"
    for path in ("/etc/shadow", mark):
        assert "No such file" in kubectl.run(*run, "cat", f"/host{path}", code=1)
    for words in (
        ("mknod", "/disk", "b", "8", "0"),
        ("dmesg",),
        ("sh", "-c", "echo 1 > /proc/sys/kernel/panic_on_warn"),
        ("touch", "/host/usr/x"),
    ):
        said = kubectl.run(*run, *words, code=None)
        assert "not permitted" in said or "denied" in said or "Read-only" in said, (words, said)


def test_metrics_of_the_programs_and_of_each_node_s_pods(
    install: Install, kubectl: Kubectl, tmp_path: Path
) -> None:
    assert "apiserver_request_total{" in kubectl.run("get", "--raw", "/metrics")
    nodes = [f"/api/v1/nodes/web-{node}/proxy/metrics" for node in ("master-0", *WORKERS)]
    for of_node in nodes:
        assert "kubelet_running_pods" in kubectl.run("get", "--raw", of_node)
        told = kubectl.run("get", "--raw", f"{of_node}/resource")
        assert "node_memory_working_set_bytes" in told

    def of_pods() -> str:
        return "".join(kubectl.run("get", "--raw", f"{of_node}/cadvisor") for of_node in nodes)

    kubectl.until(lambda: 'pod="user"' in of_pods())  # kubelets look at them every ten seconds
    reader = kubectl_of(Shell(install.tenant("red", role="reader"), tmp_path), "web", tmp_path)
    assert "forbidden" in reader.run("get", "--raw", "/metrics", code=1)


def test_secrets_are_encrypted_where_they_lie(
    kubectl: Kubectl, install: Install, uuid: str
) -> None:
    kubectl.run("create", "secret", "generic", "hidden", "--from-literal=word=never-to-be-read")
    root = install.settings.nodes_directory / uuid / "master-0" / "root"
    files = [path for path in (root / "var/lib/etcd").rglob("*") if path.is_file()]
    assert files
    data = b"".join(path.read_bytes() for path in files)
    assert b"k8s:enc:secretbox:v1:" in data
    assert b"never-to-be-read" not in data


def test_roles_decide_what_a_certificate_may_do(
    install: Install, kubectl: Kubectl, tmp_path: Path
) -> None:
    (tmp_path / "reader").mkdir()
    shell = Shell(install.tenant("red", role="reader"), tmp_path / "reader")
    reader = kubectl_of(shell, "web", tmp_path)
    assert "user" in reader.run("get", "pods")
    assert "forbidden" in reader.run("delete", "pod", "user", code=1)
    assert "forbidden" in reader.run("get", "secrets", code=1)
    assert "yes" in kubectl.run("auth", "can-i", "*", "*", "--all-namespaces")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"kube_tag": "v1.19.9"}, "no release v1.19.9 of Kubernetes here; there is v1.20.2"),
        ({"kube_tag": "newest"}, "is no version: write it as v1.20.2"),
        ({"kube_tag": "v1.20.2/../../x"}, "is no version"),
        ({"control_plane": "elsewhere"}, "control_plane must be hosted or nodes"),
        ({"service_cluster_ip_range": "10.100.4.0/22"}, "overlap: choose others"),
        ({"flannel_network_cidr": "10.128.0.0/16"}, "10.128.0.0/12, overlap: choose another"),
        ({"flannel_network_cidr": "8.0.0.0/8"}, "must be private, within one of 10.0.0.0/8"),
        ({"service_cluster_ip_range": "10.254.0.0/16; reboot"}, "must be an IPv4 network"),
    ],
)
def test_labels_that_can_t_be(
    tenant: Tenant, uuid: str, labels: dict[str, str], reason: str
) -> None:
    body = {"name": "bad", "cluster_template_id": "k8s", "labels": labels}
    answer = tenant.ask("POST", "/clusters", body)
    assert answer.status == 400, answer
    assert reason in answer.body["errors"][0]["detail"]
    assert tenant.ask("GET", "/clusters/bad").status == 404
    template = {"name": "bad", "coe": "kubernetes", "labels": labels}
    answer = tenant.ask("POST", "/clustertemplates", template)
    assert answer.status == 400, answer
    assert reason in answer.body["errors"][0]["detail"]


def test_labels_of_a_cluster_that_is_there_stay(tenant: Tenant, uuid: str) -> None:
    patch = [{"op": "add", "path": "/labels/kube_tag", "value": "v1.20.2"}]
    before = tenant.cluster(uuid)
    assert tenant.ask("PATCH", f"/clusters/{uuid}", patch).status == 400
    assert tenant.cluster(uuid) == before


@pytest.mark.parametrize(
    "subject",
    [
        ((NameOID.COMMON_NAME, "system:node:web-worker-0"),),
        ((NameOID.COMMON_NAME, "me"), (NameOID.ORGANIZATION_NAME, "system:nodes")),
        ((NameOID.COMMON_NAME, "system:kube-controller-manager"),),
    ],
    ids=["a node", "of the nodes", "a program"],
)
def test_certificates_of_kubernetes_own_are_not_to_be_had(
    tenant: Tenant, uuid: str, subject: Any
) -> None:
    body = {"cluster_uuid": uuid, "csr": request(subject=subject).decode()}
    answer = tenant.ask("POST", "/certificates", body)
    assert answer.status == 400, answer
    assert "system:" in answer.body["errors"][0]["detail"]


def test_trouble_is_heard(install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl) -> None:
    """A kubelet that hangs: told as soon as Kubernetes knows of it, and restarted where it is."""
    before = kubectl.get("node", "web-worker-0")["metadata"]["uid"]
    runc = Runc(install_id(install.state))
    hang = runc.run(f"{uuid}.worker-0", ["pkill", "-STOP", "-x", "kubelet"], stdin=b"", timeout=10)
    assert asyncio.run(hang).returncode == 0
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    known = kubectl.until(lambda: kubectl.run("get", "node", "web-worker-0", "-o", ready) != "True")

    def told(shown: dict[str, Any]) -> bool:
        assert known  # Kubernetes' own time to see it: no sign of life for 12 s
        return "worker-0" in shown["health_status_reason"]

    began = time.monotonic()
    tenant.until(uuid, told, 5)
    heard = time.monotonic() - began
    tenant.until_complete(uuid, 120)
    whole = time.monotonic() - began
    sys.stdout.write(f"known {known:.1f} s, told {heard:.1f} s, whole {whole:.1f} s later\n")
    node = kubectl.get("node", "web-worker-0")
    assert node["metadata"]["uid"] == before, "its disk was thrown away"
    assert whole < 40


def test_a_lost_node_s_pods_run_elsewhere(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    """At once, where Kubernetes by itself would wait for 42 s; and not on the new node.

    That may be there as soon, but lacks what the tenant has labelled the former one with.
    """
    kubectl.run("label", "node", "web-worker-0", "web-worker-1", "kept=1")
    kubectl.run("scale", "deployment/page", "--replicas=4")
    there = {"spec": {"template": {"spec": {"nodeSelector": {"kept": "1"}}}}}
    kubectl.run("patch", "deployment", "page", "-p", json.dumps(there))
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    lost = {each["metadata"]["uid"] for each in pods_on(kubectl, "web-worker-1")}
    assert lost
    node = kubectl.get("node", "web-worker-1")["metadata"]["uid"]
    asyncio.run(lose_node(install.settings, NodeRef(uuid, "worker-1")))

    def run_on_the_other() -> bool:
        pods = [each for each in pods_on(kubectl, "web-worker-0") if is_ready(each)]
        return len(pods) == 4 and not lost & {each["metadata"]["uid"] for each in pods}

    took = kubectl.until(run_on_the_other, 30)
    sys.stdout.write(f"{len(lost)} pods run elsewhere {took:.1f} s after the loss\n")
    assert not pods_on(kubectl, "web-worker-1"), "none was sent to who is gone"
    tenant.until_complete(uuid, 120)
    assert kubectl.get("node", "web-worker-1")["metadata"]["uid"] != node
    asyncio.run(load(Runc(install_id(install.state)), uuid, "worker-1"))
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")


def is_served(kubectl: Kubectl) -> bool:
    """Whether a pod gets an answer from the service."""
    url = f"http://{kubectl.get('service', 'page')['spec']['clusterIP']}:8080"
    words = ("exec", "deployment/page", "--", "busybox", "wget", "-qO-", url)
    return kubectl.run(*words, code=None).startswith("page-")


def pods_on(kubectl: Kubectl, node: str = "") -> list[Any]:
    """The page's, but those that are ending."""
    pods = kubectl.get("pods", "-l", "app=page")["items"]
    there = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
    return [each for each in there if node in {"", each["spec"].get("nodeName")}]


def is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def test_a_power_cut_takes_nothing(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    """Everything ends at once, right after a tenant has written something."""
    pods = {each["metadata"]["uid"] for each in pods_on(kubectl)}
    kubectl.run("create", "secret", "generic", "last", "--from-literal=word=last")
    cut(install)
    began = time.monotonic()
    install.up()
    tenant.token = ""
    tenant.until_complete(uuid, 120)
    whole = time.monotonic() - began
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    kubectl.until(lambda: is_served(kubectl))
    served = time.monotonic() - began
    sys.stdout.write(f"whole {whole:.1f} s, serving {served:.1f} s after power on\n")
    assert kubectl.get("secret", "last")["data"] == {"word": "bGFzdA=="}
    assert {each["metadata"]["uid"] for each in pods_on(kubectl)} == pods, "they are the same"


def test_resize_drains_what_goes(
    tenant: Tenant, uuid: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    """A Deployment whose pods are all on what goes keeps the one that its budget asks for.

    Were the node only deleted, both would be gone at once; drained, they go one by one.
    """
    budget = {
        "apiVersion": "policy/v1beta1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "kept"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}},
    }
    kubectl.run("cordon", "web-worker-0")
    kubectl.apply(deployment("kept", 2, *SERVE), budget)
    kubectl.run("rollout", "status", "deployment/kept", "--timeout=60s")
    kubectl.run("uncordon", "web-worker-0")
    kubectl.until(lambda: kubectl.get("pdb", "kept")["status"].get("disruptionsAllowed") == 1)

    with watched(kubectl, "kept", tmp_path / "seen") as seen:
        answer = tenant.ask("POST", f"/clusters/{uuid}/actions/resize", {"node_count": 1})
        assert answer.status == 202, answer
        tenant.until(uuid, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 1, 120)
        for name in ("page", "kept"):
            kubectl.run("rollout", "status", f"deployment/{name}", "--timeout=60s")
        kubectl.until(lambda: seen()[-1] == 2)
    assert min(seen()) == 1, seen()
    pods = kubectl.get("pods", "-l", "app in (page, kept)")["items"]
    assert {each["spec"]["nodeName"] for each in pods} == {"web-worker-0"}
    assert len(kubectl.get("nodes")["items"]) == 2


@contextmanager
def watched(kubectl: Kubectl, name: str, path: Path) -> Iterator[Callable[[], list[int]]]:
    """How many pods of a Deployment were available meanwhile: each state that its API told."""
    template = "go-template={{println (or .status.availableReplicas 0)}}"
    words = [str(kubectl.program), "--kubeconfig", str(kubectl.kubeconfig), "get", "deployment"]

    def seen() -> list[int]:
        return [int(line) for line in path.read_text().split()]

    with path.open("w") as file:
        watch = subprocess.Popen([*words, name, "--watch", "-o", template], stdout=file)
        try:
            kubectl.until(lambda: bool(seen()))
            yield seen
            assert watch.poll() is None, "the watch ended too early"
        finally:
            watch.kill()
            watch.wait()
