"""Kubernetes as a tenant has it: through OpenStack's API, with unmodified kubectl."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from moorage.app import lose_node
from moorage.install import install_id
from moorage.model.node import NodeRef
from moorage.providers.local.runtime import Runc
from tests.real.clients import Shell
from tests.real.install import Install, Tenant
from tests.real.kubernetes import SERVE, Kubectl, built, deployment, kubectl_of, load, pod, service

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
WORKERS = ("worker-0", "worker-1")


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    install.moorage("release", "add", "kubernetes", str(built()))
    return install.tenant("red")


@pytest.fixture(scope="module")
def shell(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tenant, tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def uuid(tenant: Tenant) -> str:
    template = tenant.make_template(
        "k8s", coe="kubernetes", flavor_id="small", master_flavor_id="medium"
    )
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
    kubectl.run("wait", "--for=condition=Available", "deployment/page", "--timeout=60s")
    kubectl.run("wait", "--for=condition=Ready", "pod/user", "--timeout=60s")
    pods = kubectl.get("pods", "-l", "app=page")["items"]
    assert {each["spec"]["nodeName"] for each in pods} == {"web-worker-0", "web-worker-1"}
    for each in pods:  # from node to node by the pod's own address, without NAT
        address = each["status"]["podIP"]
        told = kubectl.run(
            "exec", "user", "--", "busybox", "wget", "-qO-", f"http://{address}:8080"
        )
        assert told.strip() == each["metadata"]["name"]
    address = kubectl.get("service", "page")["spec"]["clusterIP"]
    seen = {
        kubectl.run("exec", "user", "--", "busybox", "wget", "-qO-", f"http://{address}:8080")
        for _ in range(20)
    }
    assert len(seen) > 1


def test_node_ports(kubectl: Kubectl, install: Install, uuid: str) -> None:
    kubectl.apply(service("open", 8080, selector={"app": "page"}, type="NodePort"))
    port = kubectl.get("service", "open")["spec"]["ports"][0]["nodePort"]
    for node in kubectl.get("nodes")["items"]:
        address = node["status"]["addresses"][0]["address"]
        told = kubectl.run(
            "exec", "user", "--", "busybox", "wget", "-qO-", f"http://{address}:{port}"
        )
        assert told.startswith("page-")


def test_logs_exec_scale_and_rolling_update(kubectl: Kubectl) -> None:
    kubectl.apply(pod("talker", "/bin/sh", "-c", "echo said; exec sleep 1000"))
    kubectl.run("wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")
    assert kubectl.run("logs", "talker") == "said\n"
    assert kubectl.run("exec", "talker", "--", "busybox", "id", "-u") == "0\n"
    kubectl.run("scale", "deployment/page", "--replicas=2")
    kubectl.run("set", "env", "deployment/page", "ROUND=2")
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    kubectl.run("rollout", "undo", "deployment/page")
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")


def test_a_privileged_pod_sees_its_node_and_not_this_machine(kubectl: Kubectl) -> None:
    mark = Path("/etc/shadow").read_text().splitlines()[0].split(":")[0]
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
    assert "No such file" in kubectl.run(*run, "cat", "/host/etc/shadow", code=None)
    assert mark
    for words in (
        ("mknod", "/disk", "b", "8", "0"),
        ("dmesg",),
        ("sh", "-c", "echo 1 > /proc/sys/kernel/panic_on_warn"),
        ("touch", "/host/usr/x"),
    ):
        said = kubectl.run(*run, *words, code=None)
        assert "not permitted" in said or "denied" in said or "Read-only" in said, (words, said)


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


def test_a_lost_node_s_pods_run_elsewhere(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    """Its node comes back by itself; meanwhile the others have what it had."""
    kubectl.run("scale", "deployment/page", "--replicas=4")
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    lost = {each["metadata"]["uid"] for each in pods_on(kubectl, "web-worker-1")}
    assert lost
    asyncio.run(lose_node(install.settings, NodeRef(uuid, "worker-1")))
    kubectl.until(lambda: not lost & {e["metadata"]["uid"] for e in pods_on(kubectl)})
    tenant.until_complete(uuid, 120)
    asyncio.run(load(Runc(install_id(install.state)), uuid, "worker-1"))
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")


def pods_on(kubectl: Kubectl, node: str = "") -> list[Any]:
    pods = kubectl.get("pods", "-l", "app=page")["items"]
    return [each for each in pods if node in {"", each["spec"].get("nodeName")}]


def test_resize_drains_what_goes(tenant: Tenant, uuid: str, kubectl: Kubectl) -> None:
    answer = tenant.ask("POST", f"/clusters/{uuid}/actions/resize", {"node_count": 1})
    assert answer.status == 202, answer
    tenant.until(uuid, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 1, 120)
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    nodes = {p["spec"]["nodeName"] for p in kubectl.get("pods", "-l", "app=page")["items"]}
    assert nodes == {"web-worker-0"}
    assert len(kubectl.get("nodes")["items"]) == 2
