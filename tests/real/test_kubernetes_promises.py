"""What docs/kubernetes.md promises of node groups, of a node's own rights and of the audit log.

One cluster: a master, a worker, and a node of a group with labels and taints of its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moorage.drivers.kubernetes.place import LOGS, secret
from moorage.install import install_id
from moorage.providers.local.runtime import Runc
from tests.real.clients import Shell
from tests.real.install import Install, Tenant
from tests.real.kubernetes import ON_NODES, Kubectl, add_release, kubectl_of, load, pod

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
HERE, THERE = "web-worker-0", "web-gpu-0"
WAIT = "--timeout=60s"
VALUE = "never-to-be-noted"
GROUP = {
    "name": "gpu",
    "node_count": 1,
    "node_labels": {"disk": "ssd", "zone": "a"},
    "node_taints": [{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}],
}
TOLERATION = {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    add_release(install)
    return install.tenant("red")


@pytest.fixture(scope="module")
def uuid(tenant: Tenant) -> str:
    uuid = tenant.create("web", template=tenant.make_template("k8s", **ON_NODES), workers=1)
    tenant.until_complete(uuid, 120)
    answer = tenant.ask("POST", f"/clusters/{uuid}/nodegroups", GROUP)
    assert answer.status == 202, answer
    tenant.until(uuid, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 2, 120)
    return uuid


@pytest.fixture(scope="module")
def kubectl(
    install: Install, tenant: Tenant, uuid: str, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    asyncio.run(load(Runc(install_id(install.state)), uuid, "worker-0", "gpu-0"))
    home = tmp_path_factory.mktemp("user")
    return kubectl_of(Shell(tenant, home), "web", home)


@pytest.fixture(scope="module")
def kubelet(
    install: Install,
    tenant: Tenant,
    uuid: str,
    kubectl: Kubectl,
    tmp_path_factory: pytest.TempPathFactory,
) -> Kubectl:
    """With the certificate and key of worker-0's own kubelet, as root in there reads them."""
    read = ("cat", secret("kubelet.conf"))
    run = Runc(install_id(install.state)).run(f"{uuid}.worker-0", read, stdin=b"", timeout=10.0)
    config = json.loads(asyncio.run(run).stdout)
    config["clusters"][0]["cluster"]["server"] = tenant.cluster(uuid)["api_address"]
    path = tmp_path_factory.mktemp("kubelet") / "config"
    path.write_text(json.dumps(config))
    return replace(kubectl, kubeconfig=path)


def change_group(tenant: Tenant, uuid: str, field: str, value: Any) -> None:
    patch = [{"op": "replace", "path": f"/{field}", "value": value}]
    answer = tenant.ask("PATCH", f"/clusters/{uuid}/nodegroups/gpu", patch)
    assert answer.status == 202, answer


def test_a_group_s_labels_and_taints_say_what_runs_there(
    tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    """And change on nodes that are there, with what the tenant gave them left alone."""
    there = kubectl.get("node", THERE)
    own = {"magnum.openstack.org/nodegroup": "gpu", "magnum.openstack.org/role": "worker"}
    assert {"disk": "ssd", "zone": "a", **own}.items() <= there["metadata"]["labels"].items()
    assert there["spec"]["taints"] == GROUP["node_taints"]
    here = kubectl.get("node", HERE)
    assert not {"disk", "zone"} & here["metadata"]["labels"].keys()
    assert "taints" not in here["spec"]

    fast = {"nodeSelector": {"disk": "ssd"}}
    kubectl.apply(pod("trainer", **fast, tolerations=[TOLERATION]), pod("stranger", **fast))
    kubectl.run("wait", "--for=condition=Ready", "pod/trainer", WAIT)
    assert kubectl.get("pod", "trainer")["spec"]["nodeName"] == THERE
    kubectl.run("wait", "--for=condition=PodScheduled=false", "pod/stranger", WAIT)
    (condition,) = kubectl.get("pod", "stranger")["status"]["conditions"]
    assert "had taint {dedicated: ml}" in condition["message"]

    kubectl.run("label", "node", THERE, "mine=1")
    kubectl.run("taint", "node", THERE, "mine=1:PreferNoSchedule")
    change_group(tenant, uuid, "node_taints", [])
    kubectl.run("wait", "--for=condition=Ready", "pod/stranger", WAIT)
    assert kubectl.get("pod", "stranger")["spec"]["nodeName"] == THERE
    change_group(tenant, uuid, "node_labels", {"disk": "hdd"})

    def labels() -> Any:
        return kubectl.get("node", THERE)["metadata"]["labels"]

    kubectl.until(lambda: labels()["disk"] == "hdd")
    assert labels()["mine"] == "1"
    assert "zone" not in labels()
    kept = [{"key": "mine", "value": "1", "effect": "PreferNoSchedule"}]
    assert kubectl.get("node", THERE)["spec"]["taints"] == kept


@pytest.fixture
def secrets(kubectl: Kubectl) -> Iterator[None]:
    """A pod on either node, each with a secret of its own."""
    pods = []
    for name, node in (("near", HERE), ("far", THERE)):
        kubectl.run("create", "secret", "generic", name, "--from-literal=word=read")
        word = {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": name, "key": "word"}}}
        pods.append(pod(name, nodeName=node, container={"env": [word]}))
    kubectl.apply(*pods)
    kubectl.run("wait", "--for=condition=Ready", "pod/near", "pod/far", WAIT)
    yield
    kubectl.run("delete", "pod/near", "pod/far", "secret/near", "secret/far")


@pytest.mark.usefixtures("secrets")
def test_a_node_sees_and_changes_what_is_its_own(kubectl: Kubectl, kubelet: Kubectl) -> None:
    """Node authorisation and NodeRestriction: whoever is root in a node has its kubelet's key."""
    assert "near" in kubelet.run("get", "secret", "near")
    said = kubelet.run("get", "secret", "far", code=1)
    assert f'User "system:node:{HERE}" cannot get resource "secrets"' in said
    assert "forbidden" in kubelet.run("get", "secrets", "-A", code=1)
    assert "forbidden" in kubelet.run("create", "configmap", "mine", code=1)

    kubelet.run("label", "node", HERE, "said=here")
    labels = kubectl.get("node", HERE)["metadata"]["labels"]
    assert labels["said"] == "here"
    foreign = f'node "{HERE}" is not allowed to modify node "{THERE}"'
    assert foreign in kubelet.run("label", "node", THERE, "said=here", code=1)
    patch = '{"spec": {"unschedulable": true}}'
    assert foreign in kubelet.run("patch", "node", THERE, "-p", patch, code=1)
    kept = "node-restriction.kubernetes.io/kept=1"
    assert "is not allowed" in kubelet.run("label", "node", HERE, kept, code=1)
    assert "only delete pods" in kubelet.run("delete", "pod", "far", "--wait=false", code=1)
    there = kubectl.get("node", THERE)
    assert "said" not in there["metadata"]["labels"]
    assert "unschedulable" not in there["spec"]


def test_changes_are_noted_without_their_contents(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    kubectl.run("create", "secret", "generic", "noted", f"--from-literal=word={VALUE}")
    change = json.dumps({"stringData": {"word": f"{VALUE}-2"}})
    kubectl.run("patch", "secret", "noted", "-p", change)
    kubectl.run("get", "secret", "noted", "-o", "json")
    kubectl.run("delete", "secret", "noted")
    root = install.settings.nodes_directory / uuid / "master-0" / "root"
    directory = root / LOGS.removeprefix("/") / "audit"

    def verbs() -> list[str]:
        """What was done to the secret, and by the tenant's own user."""
        lines = map(json.loads, written(directory).splitlines(keepends=True))
        about = {"resource": "secrets", "namespace": "default", "name": "noted"}
        user = tenant.cluster(uuid)["user_id"]
        return [
            line["verb"]
            for line in lines
            if about.items() <= line.get("objectRef", {}).items()
            and line["user"]["username"] == user
        ]

    # A line is written once its answer is sent.
    kubectl.until(lambda: {"create", "patch", "delete"} <= set(verbs()))
    data = written(directory)
    for value in (VALUE, f"{VALUE}-2"):
        assert value.encode() not in data
        assert base64.b64encode(value.encode()) not in data


def written(directory: Path) -> bytes:
    """All whole lines of the audit log."""
    data = b"".join(path.read_bytes() for path in sorted(directory.iterdir()))
    return data[: data.rfind(b"\n") + 1]


def test_a_group_goes_with_its_nodes(tenant: Tenant, uuid: str, kubectl: Kubectl) -> None:
    answer = tenant.ask("DELETE", f"/clusters/{uuid}/nodegroups/gpu")
    assert answer.status == 204, answer
    tenant.until(uuid, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 1, 120)
    nodes = {node["metadata"]["name"] for node in kubectl.get("nodes")["items"]}
    assert nodes == {"web-master-0", HERE}
