"""A cluster goes from one release of Kubernetes to the next, as its tenant asks for it.

The other releases are the one that is built, with programs that tell of another version.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moorage.cli.failure import Code
from moorage.install import install_id
from moorage.providers.local.runtime import Runc
from moorage.releases import Releases
from tests.real.clients import Shell
from tests.real.install import Install
from tests.real.kubernetes import (
    HOSTED,
    ON_NODES,
    RELEASE,
    SERVE,
    Kubectl,
    built,
    deployment,
    kubectl_of,
    load,
    published,
    renamed,
    service,
)

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
MINOR, PATCH, TWO_MINORS = "v1.21.0", "v1.21.1", "v1.22.0"
MASTER, WORKERS = "master-0", ("worker-0", "worker-1")
SECONDS = 240
FORMAT = (
    "go-template={{range .items}}{{.metadata.name}}"
    ' {{.status.nodeInfo.kubeletVersion}}{{"\\n"}}{{end}}'
)
LONGEST_GAP = 10.0
"""Seconds without an answer of a service whose pods are moved two at a time."""


@pytest.fixture(scope="module")
def shell(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(install.tenant("red"), tmp_path_factory.mktemp("user"))
    for version in (RELEASE, MINOR, TWO_MINORS):
        offer(shell, version)
    return shell


def offer(shell: Shell, version: str) -> None:
    """The release, out of an archive as upstream's, and templates that ask for it by its name."""
    with archived(version) as archive:
        shell.tenant.install.moorage("release", "add", "kubernetes", str(archive))
    shell.tenant.make_template(version, **ON_NODES, labels={"kube_tag": version})
    labels = {"control_plane": "hosted", "kube_tag": version}
    shell.tenant.make_template(f"hosted-{version}", **(HOSTED | {"labels": labels}))


@contextmanager
def archived(version: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        programs = built() if version == RELEASE else renamed(version, home)
        yield published(programs, home / "kubernetes-server-linux-amd64.tar.gz")


def test_an_archive_that_is_not_what_was_published_leaves_nothing(shell: Shell) -> None:
    """Whole as it is: nothing but its sum tells."""
    install = shell.tenant.install
    there = Releases(install.state).directory
    before = install.moorage("release", "list"), sorted(there.iterdir())
    with archived(PATCH) as archive:
        other = hashlib.sha512(b"another one").hexdigest()
        beside = archive.with_name(f"{archive.name}.sha512")
        beside.write_text(other)
        for words in ((), ("--sha512", other)):
            said = install.refusal("release", "add", "kubernetes", str(archive), *words)
            assert "is not what was published: its SHA-512 is" in said
        beside.unlink()
        install.moorage("release", "add", "kubernetes", str(archive), code=Code.NOT_FOUND)
    assert (install.moorage("release", "list"), sorted(there.iterdir())) == before


@pytest.fixture(scope="module")
def uuid(shell: Shell) -> str:
    uuid = shell.tenant.create("web", template=RELEASE, workers=2)
    shell.tenant.until_complete(uuid, 120)
    return uuid


@pytest.fixture(scope="module")
def kubectl(
    install: Install, shell: Shell, uuid: str, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    """Of a cluster in which a service runs that wants two of its four pods at any time."""
    asyncio.run(load(Runc(install_id(install.state)), uuid, MASTER, *WORKERS))
    kubectl = kubectl_of(shell, "web", tmp_path_factory.mktemp("config"))
    serve(kubectl)
    return kubectl


def serve(kubectl: Kubectl) -> None:
    budget = {
        "apiVersion": "policy/v1beta1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "page"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "page"}}},
    }
    kubectl.apply(deployment("page", 4, *SERVE), service("page", 8080), budget)
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    kubectl.run("create", "secret", "generic", "kept", "--from-literal=word=kept")


def versions(kubectl: Kubectl) -> dict[str, str]:
    """What Kubernetes says its nodes run."""
    nodes = kubectl.get("nodes")["items"]
    return {
        node["metadata"]["name"].partition("-")[2]: node["status"]["nodeInfo"]["kubeletVersion"]
        for node in nodes
    }


@dataclass
class Watch:
    """What is seen while an upgrade goes on: each state of the nodes' versions, in order, and
    how long the service was without an answer at a time."""

    install: Install
    uuid: str
    address: str
    is_hosted: bool = False
    """Of a master that is no node of Kubernetes its API server tells."""
    states: list[dict[str, str]] = field(default_factory=list)
    gap: float = 0.0

    def look(self, kubectl: Kubectl) -> None:
        told = kubectl.run("get", "nodes", "-o", FORMAT, code=None)
        rows = [line.split() for line in told.splitlines() if " v1." in line]
        state = {name.partition("-")[2]: version for name, version in rows}
        if self.is_hosted:
            api = kubectl.run("get", "--raw", "/version", code=None)
            state |= {MASTER: json.loads(api)["gitVersion"]} if api.startswith("{") else {}
        if len(state) == 1 + len(WORKERS) and state not in self.states[-1:]:
            self.states.append(state)

    def ask(self) -> bool:
        """Whether the service answers one of the workers."""
        for worker in WORKERS:
            root = f"/run/moorage/{install_id(self.install.state)}"
            argv = ["runc", "--root", root, "exec", f"{self.uuid}.{worker}"]
            argv += ["curl", "-s", "-m", "1", f"http://{self.address}:8080/"]
            done = subprocess.run(argv, capture_output=True, check=False)
            if done.stdout.startswith(b"page-"):
                return True
        return False

    @contextmanager
    def asking(self) -> Iterator[None]:
        over = threading.Event()

        def ask() -> None:
            answered = time.monotonic()
            while not over.is_set():
                if self.ask():
                    answered = time.monotonic()
                self.gap = max(self.gap, time.monotonic() - answered)
                over.wait(0.1)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_refused_upgrades_change_nothing(shell: Shell, uuid: str, kubectl: Kubectl) -> None:
    before = shell.tenant.cluster(uuid)
    said = shell.coe("cluster", "upgrade", "web", TWO_MINORS, code=1)
    assert "one minor version at a time, to 1.21 first" in said
    assert shell.tenant.cluster(uuid) == before
    assert set(versions(kubectl).values()) == {RELEASE}


def test_to_a_minor_version_masters_first_and_pods_run_on(
    install: Install, shell: Shell, uuid: str, kubectl: Kubectl
) -> None:
    address = kubectl.get("service", "page")["spec"]["clusterIP"]
    follow_to_minor(shell, kubectl, Watch(install, uuid, address), "web", MINOR)
    assert_whole(shell, uuid, kubectl, MINOR)


def test_a_hosted_one_masters_first_and_pods_run_on(
    install: Install, shell: Shell, tmp_path: Path
) -> None:
    tenant = shell.tenant
    uuid = tenant.create("hosted", template=f"hosted-{RELEASE}", workers=2)
    tenant.until_complete(uuid, 120)
    asyncio.run(load(Runc(install_id(install.state)), uuid, *WORKERS))
    kubectl = kubectl_of(shell, "hosted", tmp_path)
    serve(kubectl)
    address = kubectl.get("service", "page")["spec"]["clusterIP"]
    watch = Watch(install, uuid, address, is_hosted=True)
    follow_to_minor(shell, kubectl, watch, "hosted", f"hosted-{MINOR}")
    assert_whole(shell, uuid, kubectl, MINOR, WORKERS)
    tenant.ask("DELETE", f"/clusters/{uuid}")
    tenant.until_gone(uuid)


def follow_to_minor(
    shell: Shell, kubectl: Kubectl, watch: Watch, cluster: str, template: str
) -> None:
    """One after the other takes the other release, and the service is there all the while."""
    uuid = watch.uuid
    watch.look(kubectl)
    began = time.monotonic()
    with watch.asking():
        shell.coe("cluster", "upgrade", cluster, template, "--max-batch-size", "1")
        while not is_upgraded(shell.tenant.cluster(uuid)):
            assert time.monotonic() < began + SECONDS, shell.tenant.cluster(uuid)
            watch.look(kubectl)
            time.sleep(0.2)
    took = time.monotonic() - began
    sys.stdout.write(f"upgraded in {took:.1f} s, without an answer for {watch.gap:.1f} s\n")
    watch.look(kubectl)
    old, new = RELEASE, MINOR
    steps = [(old, old, old), (new, old, old), (new, new, old), (new, new, new)]
    seen = [tuple(state[name] for name in (MASTER, *WORKERS)) for state in watch.states]
    assert seen == steps
    assert watch.gap < LONGEST_GAP


def test_there_is_no_way_back(shell: Shell, uuid: str, kubectl: Kubectl) -> None:
    before = shell.tenant.cluster(uuid)
    said = shell.coe("cluster", "upgrade", "web", RELEASE, code=1)
    assert "one minor version at a time, not back" in said
    assert shell.tenant.cluster(uuid) == before
    assert set(versions(kubectl).values()) == {MINOR}


@pytest.mark.slow
def test_to_a_patch_release_and_killed_meanwhile(
    install: Install, shell: Shell, uuid: str, kubectl: Kubectl
) -> None:
    """Killed while the master is away, and while a worker is drained."""
    offer(shell, PATCH)
    shell.coe("cluster", "upgrade", "web", PATCH, "--max-batch-size", "1")
    for is_time in (is_away, is_drained):
        kubectl.until(lambda now=is_time: now(kubectl), SECONDS)  # type: ignore[misc]
        install.kill()
        install.up()
        shell.tenant.token = ""
    shell.tenant.until(uuid, is_upgraded, SECONDS)
    assert_whole(shell, uuid, kubectl, PATCH)


@pytest.mark.slow
def test_three_masters_one_after_the_other(install: Install, shell: Shell, tmp_path: Path) -> None:
    """Two of them are there at any time, and know what was written before and meanwhile."""
    tenant = shell.tenant
    uuid = tenant.create("three", template=RELEASE, workers=0, masters=3)
    tenant.until_complete(uuid, 240)
    masters = [f"master-{number}" for number in range(3)]
    kubectl = kubectl_of(shell, "three", tmp_path)
    kubectl.run("create", "configmap", "before", "--from-literal=word=kept")
    shell.coe("cluster", "upgrade", "three", MINOR)
    away: set[frozenset[str]] = set()
    deadline = time.monotonic() + 2 * SECONDS
    while not is_upgraded(tenant.cluster(uuid)):
        away.add(frozenset(name for name in masters if not is_serving(install, uuid, name)))
        assert time.monotonic() < deadline, tenant.cluster(uuid)
    assert {len(some) for some in away} <= {0, 1}, away
    assert frozenset().union(*away) == set(masters)
    assert set(versions(kubectl).values()) == {MINOR}
    assert kubectl.get("configmap", "before")["data"] == {"word": "kept"}
    tenant.ask("DELETE", f"/clusters/{uuid}")
    tenant.until_gone(uuid)


def is_serving(install: Install, uuid: str, node: str) -> bool:
    """Whether the master's own API server answers, though it lets nobody in."""
    root = f"/run/moorage/{install_id(install.state)}"
    ask = ["curl", "-sk", "-m", "2", "https://127.0.0.1:6443/version"]
    argv = ["runc", "--root", root, "exec", f"{uuid}.{node}", *ask]
    done = subprocess.run(argv, capture_output=True, check=False)
    return b"Unauthorized" in done.stdout


def is_away(kubectl: Kubectl) -> bool:
    return not kubectl.run("get", "--raw", "/version", code=None).startswith("{")


def is_drained(kubectl: Kubectl) -> bool:
    said = kubectl.run("get", "nodes", "--field-selector=spec.unschedulable=true", code=None)
    return "web-worker" in said


def is_upgraded(shown: dict[str, Any]) -> bool:
    assert not shown["status"].endswith("_FAILED"), shown
    return bool(shown["status"] == "UPDATE_COMPLETE" and shown["health_status"] == "HEALTHY")


def assert_whole(
    shell: Shell,
    uuid: str,
    kubectl: Kubectl,
    version: str,
    nodes: tuple[str, ...] = (MASTER, *WORKERS),
) -> None:
    shown = shell.tenant.cluster(uuid)
    assert shown["coe_version"] == version
    assert shown["labels"]["kube_tag"] == version
    assert versions(kubectl) == dict.fromkeys(nodes, version)
    items = kubectl.get("nodes")["items"]
    assert not any(node["spec"].get("unschedulable") for node in items)
    kubectl.run("rollout", "status", "deployment/page", "--timeout=60s")
    assert kubectl.get("secret", "kept")["data"] == {"word": "a2VwdA=="}
    assert json.loads(kubectl.run("get", "--raw", "/version"))["gitVersion"] == version
