"""Kubernetes with its control plane hosted, as a tenant has it, and its masters' losses."""

from __future__ import annotations

import asyncio
import base64
import logging
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from moorage.install import install_id
from moorage.providers.local.runtime import Runc, kill
from tests.real.clients import Shell
from tests.real.install import Install, Tenant
from tests.real.kubernetes import (
    HOSTED,
    ON_NODES,
    Kubectl,
    add_release,
    deployment,
    kubectl_of,
    load,
    pod,
    service,
)

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
log = logging.getLogger(__name__)
SERVE = ("/bin/sh", "-c", "mkdir /w; hostname > /w/index.html; exec busybox httpd -f -p 8080 -h /w")
WORKERS = ("worker-0", "worker-1")
MASTER_MIB = 1024
"""Flavor `small`: what docs/kubernetes.md says is enough."""

OWN_API = """
import http.server, json, ssl

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer({"kind": "APIResourceList", "apiVersion": "v1",
                     "groupVersion": "own.example.org/v1", "resources": []})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verdict = {"uid": asked["request"]["uid"], "allowed": False,
                   "status": {"message": "not on my watch"}}
        self.answer({"kind": "AdmissionReview", "apiVersion": asked["apiVersion"],
                     "response": verdict})

server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/own/tls.crt", "/own/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    add_release(install)
    return install.tenant("red")


@pytest.fixture(scope="module")
def shell(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tenant, tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def uuid(tenant: Tenant) -> str:
    template = tenant.make_template("hosted", **HOSTED)
    uuid = tenant.create("web", template=template, workers=2)
    tenant.until_complete(uuid, 120)
    return uuid


@pytest.fixture(scope="module")
def kubectl(
    install: Install, shell: Shell, uuid: str, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    asyncio.run(load(Runc(install_id(install.state)), uuid, *WORKERS))
    return kubectl_of(shell, "web", tmp_path_factory.mktemp("config"))


def processes(install: Install, uuid: str, node: str) -> list[psutil.Process]:
    """All that run in the node."""
    init = Runc(install_id(install.state)).init(f"{uuid}.{node}")
    assert init is not None, f"{node} does not run"
    first = psutil.Process(init.pid)
    return [first, *first.children(recursive=True)]


def test_only_workers_are_nodes(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    shown = tenant.cluster(uuid)
    assert (shown["coe_version"], shown["master_count"]) == ("v1.20.2", 1)
    assert len(shown["master_addresses"]) == 1
    nodes = {node["metadata"]["name"] for node in kubectl.get("nodes")["items"]}
    assert nodes == {"web-worker-0", "web-worker-1"}
    run = {process.name() for process in processes(install, uuid, "master-0")}
    assert {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} <= run
    assert not run & {"containerd", "kubelet", "kube-proxy", "haproxy"}


def test_its_memory_is_what_the_docs_say(install: Install, uuid: str, kubectl: Kubectl) -> None:
    used = {
        node: sum(p.memory_info().rss for p in processes(install, uuid, node)) >> 20
        for node in ("master-0", "worker-0")
    }
    log.info("resident, in MiB: %s", used)
    assert used["master-0"] < MASTER_MIB * 3 // 4, used


def test_pods_services_names_logs_and_exec(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("page", 4, *SERVE), service("page", 8080), pod("user"))
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    kubectl.run("wait", "--for=condition=Ready", "pod/user", "--timeout=60s")
    fetch = ("exec", "user", "--", "busybox", "wget", "-qO-")
    for each in kubectl.get("pods", "-l", "app=page")["items"]:
        told = kubectl.run(*fetch, f"http://{each['status']['podIP']}:8080")
        assert told.strip() == each["metadata"]["name"]
    address = kubectl.get("service", "page")["spec"]["clusterIP"]
    assert kubectl.run(*fetch, f"http://{address}:8080").startswith("page-")
    asked = ("exec", "user", "--", "busybox", "nslookup", "page.default.svc.cluster.local")
    kubectl.until(lambda: address in kubectl.run(*asked, code=None), 20)
    kubectl.apply(pod("talker", "/bin/sh", "-c", "echo said; exec sleep 1000"))
    kubectl.run("wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")
    assert kubectl.run("logs", "talker") == "said\n"


def test_the_api_server_reaches_pods_that_serve_it(kubectl: Kubectl, tmp_path: Path) -> None:
    """An aggregated API and an admission webhook, by the names of their service."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    words += ["-subj", "/CN=own", "-addext", "subjectAltName=DNS:own.default.svc"]
    words += ["-keyout", "tls.key", "-out", "tls.crt"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    files = {name: (tmp_path / name).read_text() for name in ("tls.key", "tls.crt")}
    ca = base64.b64encode(files["tls.crt"].encode()).decode()
    files["own.py"] = OWN_API
    ours = {"name": "own", "namespace": "default"}
    system = ("usr", "lib", "lib64")
    volumes: list[dict[str, Any]] = [{"name": "own", "configMap": {"name": "own"}}]
    volumes += [{"name": name, "hostPath": {"path": f"/{name}"}} for name in system]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("own", *system)]
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": ours, "data": files},
        pod(
            "own",
            *("/usr/bin/python3", "/own/own.py"),
            volumes=volumes,
            container={
                "volumeMounts": mounts,
                "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
            },
        ),
        service("own", 443, ports=[{"port": 443, "targetPort": 8443}]),
    )
    kubectl.run("wait", "--for=condition=Ready", "pod/own", "--timeout=60s")
    kubectl.apply(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1.own.example.org"},
            "spec": {
                "group": "own.example.org",
                "version": "v1",
                "service": ours,
                "caBundle": ca,
                "groupPriorityMinimum": 100,
                "versionPriority": 1,
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "own"},
            "webhooks": [
                {
                    "name": "own.example.org",
                    "clientConfig": {"service": ours, "caBundle": ca},
                    "rules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE"],
                            "resources": ["serviceaccounts"],
                        }
                    ],
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                }
            ],
        },
    )
    kubectl.run(
        "wait", "--for=condition=Available", "apiservice/v1.own.example.org", "--timeout=30s"
    )
    raw = ("get", "--raw", "/apis/own.example.org/v1")  # it is passed on a moment later
    kubectl.until(lambda: "own.example.org/v1" in kubectl.run(*raw, code=None), 20)
    refused = ("create", "serviceaccount", "unwanted", "--dry-run=server")
    kubectl.until(lambda: "not on my watch" in kubectl.run(*refused, code=None), 20)
    kubectl.run("delete", "validatingwebhookconfiguration/own", "apiservice/v1.own.example.org")


def test_no_pod_of_a_tenant_gets_to_the_control_plane(kubectl: Kubectl) -> None:
    """Neither on the master, whatever they say, nor to its keys by a node's root."""
    kubectl.apply(pod("intruder", nodeName="web-master-0", tolerations=[{"operator": "Exists"}]))
    kubectl.apply(
        pod(
            "root",
            volumes=[{"name": "host", "hostPath": {"path": "/"}}],
            container={
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "host", "mountPath": "/host"}],
            },
        )
    )
    kubectl.run("wait", "--for=condition=Ready", "pod/root", "--timeout=60s")
    keys = kubectl.run(
        "exec", "root", "--", "/bin/busybox", "find", "/host/run/moorage", "-name", "*.key"
    )
    assert {Path(line).name for line in keys.split()} == {"kubelet.key"}
    found = kubectl.run("get", "pod", "intruder", "-o", "jsonpath={.status.phase}", code=None)
    assert found == "Pending" or "NotFound" in found
    assert len(kubectl.get("nodes")["items"]) == 2


def test_programs_that_are_killed_run_again(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    kubectl.run("create", "configmap", "kept", "--from-literal=word=kept")
    for process in processes(install, uuid, "master-0"):
        if process.name() in {"etcd", "kube-apiserver", "kube-scheduler"}:
            process.kill()
    kubectl.until(lambda: "kept" in kubectl.run("get", "configmap", "kept", code=None), 60)
    kubectl.run("scale", "deployment/page", "--replicas=5")
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    tenant.until_complete(uuid, 60)


@pytest.mark.slow
def test_an_etcd_that_hangs_is_started_again(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    """The API server runs, and answers that it is not ready."""
    kubectl.run("create", "configmap", "hung", "--from-literal=word=kept")
    began = time.monotonic()
    for process in processes(install, uuid, "master-0"):
        if process.name() == "etcd":
            process.suspend()
    tenant.until(uuid, lambda c: "master-0" in c["health_status_reason"], 90)
    log.info("seen after %.1f s", time.monotonic() - began)
    tenant.until_complete(uuid, 300)
    log.info("whole after %.1f s", time.monotonic() - began)
    assert "hung" in kubectl.run("get", "configmap", "hung")


def test_a_master_that_is_stopped_comes_back_with_all_that_it_had(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl
) -> None:
    before = {each["metadata"]["uid"] for each in kubectl.get("pods")["items"]}
    init = Runc(install_id(install.state)).init(f"{uuid}.master-0")
    assert init is not None
    began = time.monotonic()
    asyncio.run(kill(init))
    kubectl.until(lambda: "kept" in kubectl.run("get", "configmap", "kept", code=None), 90)
    log.info("the API was away for %.1f s", time.monotonic() - began)
    tenant.until_complete(uuid, 60)
    after = {each["metadata"]["uid"] for each in kubectl.get("pods")["items"]}
    assert before <= after, "pods ran on meanwhile"


def test_workers_are_resized_and_drained(tenant: Tenant, uuid: str, kubectl: Kubectl) -> None:
    answer = tenant.ask("POST", f"/clusters/{uuid}/actions/resize", {"node_count": 1})
    assert answer.status == 202, answer
    tenant.until(uuid, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 1, 120)
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    assert [each["metadata"]["name"] for each in kubectl.get("nodes")["items"]] == ["web-worker-0"]


def test_the_kind_of_a_cluster_is_for_ever(tenant: Tenant, uuid: str) -> None:
    other = tenant.make_template(
        "nodes",
        **ON_NODES,
        labels={"control_plane": "nodes"},
    )
    answer = tenant.ask("POST", f"/clusters/{uuid}/actions/upgrade", {"cluster_template": other})
    assert answer.status == 400, answer
    assert "can't be changed from hosted to nodes" in str(answer.body)
