"""What tenants do with their Kubernetes, with clients that we didn't write.

kubectl 1.20.0 and helm as upstream built them, the newest kubectl, and the library for Python.
The newest two are out of what upstream supports with a server of 1.20: tried all the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from moorage.install import install_id
from moorage.providers.local.runtime import Runc
from tests.real.clients import NEWEST_KUBECTL, Shell, of_1_20, python_kubernetes
from tests.real.install import Install, Tenant
from tests.real.kubernetes import (
    IMAGE,
    ON_NODES,
    SERVE,
    Kubectl,
    add_release,
    deployment,
    kubectl_of,
    load,
    pod,
    service,
)

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
WORKERS = ("worker-0", "worker-1")
WAIT = "--timeout=60s"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_1_20(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    add_release(install)
    return install.tenant("red")


@pytest.fixture(scope="module")
def uuid(tenant: Tenant) -> str:
    template = tenant.make_template("k8s", **ON_NODES)
    uuid = tenant.create("web", template=template, workers=2)
    tenant.until_complete(uuid, 120)
    return uuid


@pytest.fixture(scope="module")
def kubectl(install: Install, tenant: Tenant, uuid: str, home: Path, programs: Path) -> Kubectl:
    """And a CronJob, which takes its minute while other tests run."""
    asyncio.run(load(Runc(install_id(install.state)), uuid, *WORKERS))
    kubectl = kubectl_of(Shell(tenant, home), "web", home, programs / "kubectl")
    assert "v1.20.0" in kubectl.run("version", "--client")
    template = job("each-minute", "echo", "a minute")
    kubectl.apply(
        {
            "apiVersion": "batch/v1beta1",
            "kind": "CronJob",
            "metadata": {"name": "each-minute"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": template["spec"]}},
        }
    )
    return kubectl


def job(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    made = pod(name, "/bin/busybox", *command, restartPolicy="Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {**spec, "template": {"metadata": made["metadata"], "spec": made["spec"]}},
    }


def names(kubectl: Kubectl, selector: str) -> set[str]:
    found = kubectl.get("pods", "-l", selector)["items"]
    return {each["metadata"]["name"] for each in found if is_running(each)}


def is_running(pod: dict[str, Any]) -> bool:
    return pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def forwarded(kubectl: Kubectl, what: str, port: int) -> Iterator[str]:
    """`kubectl port-forward`, and the address at which it listens."""
    argv = [str(kubectl.program), "--kubeconfig", str(kubectl.kubeconfig)]
    with subprocess.Popen(
        [*argv, "port-forward", what, f":{port}"], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            found = re.search(r"127\.0\.0\.1:\d+", running.stdout.readline())
            assert found, "it forwards nothing"
            yield f"http://{found[0]}/"
        finally:
            running.terminate()


def fetched(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as said:
        body: bytes = said.read()
    return body.decode().strip()


def test_ports_are_forwarded(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("page", 2, *SERVE), service("page", 8080))
    kubectl.run("rollout", "status", "deployment/page", WAIT)
    for what in (f"pod/{min(names(kubectl, 'app=page'))}", "service/page"):
        with forwarded(kubectl, what, 8080) as url:
            assert fetched(url).startswith("page-")


def test_jobs_run_to_their_end(kubectl: Kubectl) -> None:
    kubectl.apply(job("sum", "sh", "-c", "echo $((6 * 7))", completions=3, parallelism=2))
    kubectl.run("wait", "--for=condition=Complete", "job/sum", WAIT)
    assert kubectl.run("logs", "-l", "job-name=sum").split() == ["42"] * 3
    kubectl.run("create", "job", "at-once", "--from=cronjob/each-minute")
    kubectl.run("wait", "--for=condition=Complete", "job/at-once", WAIT)
    kubectl.apply(job("failing", "false", backoffLimit=0))
    kubectl.run("wait", "--for=condition=Failed", "job/failing", WAIT)


def test_a_replication_controller_keeps_its_number(kubectl: Kubectl) -> None:
    made = deployment("rc", 2)
    spec = made["spec"] | {"selector": {"app": "rc"}}
    kubectl.apply(made | {"apiVersion": "v1", "kind": "ReplicationController", "spec": spec})
    kubectl.until(lambda: len(names(kubectl, "app=rc")) == 2)
    gone = min(names(kubectl, "app=rc"))
    kubectl.run("delete", "pod", gone, "--wait=false")
    kubectl.until(lambda: len(names(kubectl, "app=rc") - {gone}) == 2)
    kubectl.run("scale", "rc/rc", "--replicas=1")
    kubectl.until(lambda: len(names(kubectl, "app=rc")) == 1)


def test_pods_are_told_by_configmaps_and_secrets(kubectl: Kubectl) -> None:
    kubectl.run("create", "configmap", "told", "--from-literal=word=plain")
    kubectl.run("create", "secret", "generic", "told", "--from-literal=word=hidden")
    key = {"name": "told", "key": "word"}
    kubectl.apply(
        pod(
            "reader",
            volumes=[
                {"name": "config", "configMap": {"name": "told"}},
                {"name": "secret", "secret": {"secretName": "told", "defaultMode": 0o400}},
            ],
            container={
                "env": [
                    {"name": "PLAIN", "valueFrom": {"configMapKeyRef": key}},
                    {"name": "HIDDEN", "valueFrom": {"secretKeyRef": key}},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "volumeMounts": [
                    {"name": "config", "mountPath": "/config"},
                    {"name": "secret", "mountPath": "/secret"},
                ],
            },
        )
    )
    kubectl.run("wait", "--for=condition=Ready", "pod/reader", WAIT)
    script = "echo $PLAIN $HIDDEN $NODE; busybox cat /config/word /secret/word"
    said = kubectl.run("exec", "reader", "--", "sh", "-c", script)
    assert re.fullmatch(r"plain hidden web-worker-[01]\nplainhidden", said)
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    assert kubectl.run("exec", "reader", "--", "busybox", "cat", token).count(".") == 2


def test_labels_choose_pods_and_nodes(kubectl: Kubectl) -> None:
    kubectl.run("label", "node", "web-worker-1", "disk=fast")
    kubectl.apply(pod("chosen", nodeSelector={"disk": "fast"}))
    kubectl.apply(pod("grouped", nodeSelector={"magnum.openstack.org/role": "worker"}))
    kubectl.run("wait", "--for=condition=Ready", "pod/chosen", "pod/grouped", WAIT)
    assert kubectl.get("pod", "chosen")["spec"]["nodeName"] == "web-worker-1"
    kubectl.run("label", "pods", "chosen", "grouped", "tier=back")
    assert names(kubectl, "tier in (back),app notin (grouped)") == {"chosen"}
    kubectl.run("delete", "pods", "-l", "tier=back", "--wait=false")
    kubectl.until(lambda: names(kubectl, "tier") == set())


def test_volumes_of_the_node(kubectl: Kubectl) -> None:
    """emptyDir is shared by a pod's containers, and a hostPath outlives its pod."""
    shared = [{"name": "shared", "mountPath": "/shared"}]
    both = pod(
        "pair",
        *("/bin/sh", "-c", "echo from the first > /shared/file; exec sleep 1000"),
        volumes=[{"name": "shared", "emptyDir": {}}],
        container={"volumeMounts": shared},
    )
    other = {"name": "other", "image": IMAGE, "imagePullPolicy": "Never", "volumeMounts": shared}
    both["spec"]["containers"].append(other)
    kept = {"name": "kept", "hostPath": {"path": "/srv/kept", "type": "DirectoryOrCreate"}}
    mounted = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    where = {"nodeName": "web-worker-0", "volumes": [kept]}
    kubectl.apply(both, pod("writer", container=dict(mounted), **where))
    kubectl.run("wait", "--for=condition=Ready", "pod/pair", "pod/writer", WAIT)
    said = kubectl.run("exec", "pair", "-c", "other", "--", "busybox", "cat", "/shared/file")
    assert said == "from the first\n"
    kubectl.run("exec", "writer", "--", "sh", "-c", "echo kept > /kept/file")
    kubectl.run("delete", "pod", "writer", "--wait=false")
    kubectl.apply(pod("finder", container=dict(mounted), **where))
    kubectl.run("wait", "--for=condition=Ready", "pod/finder", WAIT)
    assert kubectl.run("exec", "finder", "--", "busybox", "cat", "/kept/file") == "kept\n"


def test_stateful_pods_have_names(kubectl: Kubectl) -> None:
    made = deployment("db", 2)
    made["spec"]["serviceName"] = "db"
    kubectl.apply(made | {"kind": "StatefulSet"}, service("db", 8080, clusterIP="None"))
    kubectl.run("rollout", "status", "statefulset/db", WAIT)
    pods = {p["metadata"]["name"]: p for p in kubectl.get("pods", "-l", "app=db")["items"]}
    assert set(pods) == {"db-0", "db-1"}
    kubectl.run("wait", "--for=condition=Ready", "pod/reader", WAIT)
    addresses = {pods[name]["status"]["podIP"] for name in pods}
    kubectl.until(lambda: addresses <= resolved(kubectl, "db.default.svc.cluster.local"))
    for name, each in pods.items():
        found = resolved(kubectl, f"{name}.db.default.svc.cluster.local")
        assert each["status"]["podIP"] in found
    ip = kubectl.get("service", "page")["spec"]["clusterIP"]
    assert ip in resolved(kubectl, "page.default.svc.cluster.local")


def test_names_are_as_kubernetes_has_them(kubectl: Kubectl) -> None:
    """By the specification of its DNS: SRV records, other names, and names by address."""
    domain = "default.svc.cluster.local"
    other = {"type": "ExternalName", "externalName": f"page.{domain}"}
    kubectl.apply(service("elsewhere", 80, **other))
    kubectl.run("wait", "--for=condition=Ready", "pod/reader", WAIT)
    page = kubectl.get("service", "page")["spec"]["clusterIP"]
    kubectl.until(lambda: page in resolved(kubectl, f"elsewhere.{domain}"))
    assert f"0 100 8080 page.{domain}" in asking(kubectl, "srv", f"_http._tcp.page.{domain}")
    pods = asking(kubectl, "srv", f"_http._tcp.db.{domain}")
    assert f"0 100 8080 db-0.db.{domain}" in pods
    assert f"0 100 8080 db-1.db.{domain}" in pods
    assert f"name = page.{domain}" in asking(kubectl, "ptr", ip_address(page).reverse_pointer)
    first = kubectl.get("pod", "db-0")["status"]["podIP"]
    assert f"name = db-0.db.{domain}" in asking(kubectl, "ptr", ip_address(first).reverse_pointer)
    assert "NXDOMAIN" in asking(kubectl, "a", f"nobody.{domain}")
    # One tenant's services may be odd, and are none of another's, nor an end of all names.
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "red"}})
    odd = service("odd", 80, externalName="x\nservice default forged ClusterIP 6.6.6.6 -\n")
    odd["spec"]["ports"][0]["name"] = "p" * 63
    long = service("long", 80, type="ExternalName", externalName=f"{'a' * 64}.example.com")
    for each in (odd, long):
        each["metadata"]["namespace"] = "red"
    kubectl.apply(odd, long, service("later", 80))
    kubectl.until(lambda: resolved(kubectl, f"later.{domain}") != set())
    assert resolved(kubectl, "odd.red.svc.cluster.local") != set()
    assert "NXDOMAIN" in asking(kubectl, "a", f"forged.{domain}")
    kubectl.run("delete", "service", "elsewhere")
    kubectl.until(lambda: "NXDOMAIN" in asking(kubectl, "a", f"elsewhere.{domain}"))


def asking(kubectl: Kubectl, kind: str, name: str) -> str:
    """What a pod is told of a name."""
    command = f"busybox nslookup -type={kind} {name} || true"
    return " ".join(kubectl.run("exec", "reader", "--", "sh", "-c", command).split())


def resolved(kubectl: Kubectl, name: str) -> set[str]:
    """The addresses that a pod is told of."""
    told = asking(kubectl, "a", name)
    return set(re.findall(r"Address(?: \d+)?: ([0-9.]+)(?![0-9.:])", told))


def test_files_and_streams(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "sent").write_text("there and back\n" * 1000)
    kubectl.run("exec", "reader", "--", "busybox", "ln", "-sf", "busybox", "/bin/tar")
    kubectl.run("cp", str(tmp_path / "sent"), "reader:/tmp-sent")
    kubectl.run("cp", "reader:/tmp-sent", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == (tmp_path / "sent").read_text()
    said = kubectl.run(
        *("run", "asker", f"--image={IMAGE}", "--image-pull-policy=Never", "--restart=Never"),
        *("-i", "--rm", "--command", "--", "sh", "-c", "read word; echo heard $word"),
        stdin="something\n",
    )
    assert "heard something" in said


def test_helm(kubectl: Kubectl, programs: Path, tmp_path: Path) -> None:
    """A chart is installed, upgraded, rolled back and removed."""
    chart = tmp_path / "page"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: page\nversion: 0.1.0\n")
    (chart / "values.yaml").write_text("word: first\n")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}"}}
    config["data"] = {"word": "{{ .Values.word }}"}
    made = deployment("charted", 1)
    (chart / "templates" / "all.yaml").write_text(f"{json.dumps(config)}\n---\n{json.dumps(made)}")

    def helm(*words: str) -> str:
        return Kubectl(programs / "helm", kubectl.kubeconfig).run(*words)

    def word() -> str:
        said: str = kubectl.get("configmap", "mine")["data"]["word"]
        return said

    helm("install", "mine", str(chart), "--wait", "--timeout", "60s")
    assert word() == "first"
    helm("upgrade", "mine", str(chart), "--set", "word=second", "--wait", "--timeout", "60s")
    assert word() == "second"
    helm("rollback", "mine", "1", "--wait", "--timeout", "60s")
    assert word() == "first"
    (listed,) = json.loads(helm("list", "-o", "json"))
    assert (listed["revision"], listed["status"]) == ("3", "deployed")
    helm("uninstall", "mine")
    assert "not found" in kubectl.run("get", "configmap", "mine", code=1)


def test_the_newest_kubectl(kubectl: Kubectl) -> None:
    """17 minor versions ahead: warned about by itself, and of use."""
    newest = Kubectl(NEWEST_KUBECTL, kubectl.kubeconfig)
    assert newest.run("auth", "whoami", code=None)  # 1.20 has no such question
    newest.apply(deployment("new", 1, *SERVE))
    newest.run("rollout", "status", "deployment/new", WAIT)
    (name,) = names(newest, "app=new")
    assert newest.run("exec", name, "--", "busybox", "hostname").strip() == name
    assert newest.run("logs", name) == ""
    with forwarded(newest, "deployment/new", 8080) as url:
        assert fetched(url) == name
    newest.run("delete", "deployment", "new")


PYTHON = """
import json, sys
from kubernetes import client, config, watch
from kubernetes.stream import stream
config.load_kube_config(sys.argv[1])
core, apps = client.CoreV1Api(), client.AppsV1Api()
told = {"nodes": sorted(node.metadata.name for node in core.list_node().items)}
core.create_namespace({"metadata": {"name": "python"}})
apps.create_namespaced_deployment("python", json.loads(sys.argv[2]))
for event in watch.Watch().stream(core.list_namespaced_pod, "python", timeout_seconds=60):
    pod = event["object"]
    if pod.status.phase == "Running":
        break
told["said"] = stream(
    core.connect_get_namespaced_pod_exec, pod.metadata.name, "python",
    command=["/bin/busybox", "hostname"], stdout=True, stderr=True, stdin=False, tty=False,
)
told["pod"] = pod.metadata.name
apps.patch_namespaced_deployment_scale("snake", "python", {"spec": {"replicas": 2}})
# One that is not there yet when its namespace ends waits minutes for its volume, and ends then.
for event in watch.Watch().stream(
    apps.list_namespaced_deployment, "python", timeout_seconds=60
):
    if event["object"].status.ready_replicas == 2:
        break
told["replicas"] = apps.read_namespaced_deployment("snake", "python").status.ready_replicas
try:
    core.read_namespaced_secret("none", "python")
except client.ApiException as missing:
    told["missing"] = missing.status
core.delete_namespace("python")
print(json.dumps(told))
"""


def test_the_library_for_python(kubectl: Kubectl, uuid: str) -> None:
    wanted = json.dumps(deployment("snake", 1))
    told = python_kubernetes(PYTHON, str(kubectl.kubeconfig), wanted)
    assert told["nodes"] == ["web-master-0", "web-worker-0", "web-worker-1"]
    assert told["said"].strip() == told["pod"]
    assert (told["replicas"], told["missing"]) == (2, 404)


def test_kubectl_drains_a_node_and_it_stays_so(tenant: Tenant, uuid: str, kubectl: Kubectl) -> None:
    """Moorage leaves a tenant's own choice alone; and a daemon's pod stays."""
    made = deployment("daemon", 1)
    del made["spec"]["replicas"]
    kubectl.apply(made | {"kind": "DaemonSet"})
    kubectl.run("rollout", "status", "daemonset/daemon", WAIT)
    kubectl.run(
        *("drain", "web-worker-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force"), WAIT
    )
    kubectl.run("rollout", "status", "deployment/page", WAIT)
    on_it = kubectl.get("pods", "-A", "--field-selector=spec.nodeName=web-worker-1")["items"]
    assert {p["metadata"]["labels"].get("app") for p in on_it if is_running(p)} == {"daemon"}
    turns = "/clusters/{}/events?limit=1000"
    before = tenant.ask("GET", turns.format(uuid)).body["events"]
    kubectl.run("annotate", "node", "web-worker-1", "touched=yes")
    tenant.until_complete(uuid, 30)
    node = kubectl.get("node", "web-worker-1")
    assert node["spec"]["unschedulable"]
    assert tenant.ask("GET", turns.format(uuid)).body["events"] == before, "there is nothing to do"
    kubectl.run("uncordon", "web-worker-1")


def test_a_cron_job_comes_by_itself(kubectl: Kubectl) -> None:
    def done() -> bool:
        jobs = kubectl.get("jobs")["items"]
        return any(
            each["metadata"]["name"].startswith("each-minute-") and each["status"].get("succeeded")
            for each in jobs
        )

    sys.stdout.write(f"waited for {kubectl.until(done, 90):.1f} s\n")
