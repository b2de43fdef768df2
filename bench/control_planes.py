"""`python -m bench.control_planes`: both kinds of Kubernetes' control plane, side by side.

As root. Clusters with one master and two workers are made turn about, so that a busy machine
is busy for both; the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from tests.real.clients import Shell
from tests.real.install import Install, Tenant
from tests.real.kubernetes import Kubectl, built, pod

from bench.setup import Asker, opened
from moorage.drivers.kubernetes.hosting import HOSTED, NODES
from moorage.drivers.kubernetes.place import PAUSE
from moorage.install import install_id
from moorage.providers.local.runtime import Runc

POLL = 0.02
MASTERS = {NODES: "medium", HOSTED: "small"}
"""The flavor of the master that docs/kubernetes.md advises."""
console = Console(stderr=True)


@dataclass(frozen=True)
class Run:
    """Seconds; MiB that are resident in the processes of a node."""

    complete: float
    pod: float
    gone: float
    master: float
    worker: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.control_planes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds: int = parser.parse_args().rounds
    runs: dict[str, list[Run]] = {kind: [] for kind in MASTERS}
    with opened() as install:
        install.moorage("release", "add", "kubernetes", str(built()))
        tenant = install.tenant("bench")
        templates = {
            kind: tenant.make_template(
                kind,
                coe="kubernetes",
                flavor_id="small",
                master_flavor_id=flavor,
                labels={"control_plane": kind},
            )
            for kind, flavor in MASTERS.items()
        }
        for turn in range(rounds):
            for kind, template in templates.items():
                runs[kind].append(_run(install, tenant, template))
                console.log(f"round {turn + 1} of {rounds}, {kind}: {runs[kind][-1]}")
    table = Table("control plane", *Run.__dataclass_fields__)
    for kind, some in runs.items():
        medians = [statistics.median(getattr(r, f) for r in some) for f in Run.__dataclass_fields__]
        table.add_row(kind, *(f"{each:.1f}" for each in medians))
    Console().print(table)


def _run(install: Install, tenant: Tenant, template: str) -> Run:
    asker = Asker(tenant)
    began = time.monotonic()
    uuid = tenant.create("bench", template=template, workers=2)
    while (status := asker.get(f"/clusters/{uuid}")["status"]) != "CREATE_COMPLETE":
        if status == "CREATE_FAILED":
            raise RuntimeError(asker.get(f"/clusters/{uuid}")["status_reason"])
        time.sleep(POLL)
    complete = time.monotonic() - began
    with tempfile.TemporaryDirectory() as directory:
        first = _first_pod(_kubectl(tenant, uuid, Path(directory)))
    master, worker = (_resident(install, uuid, node) for node in ("master-0", "worker-0"))
    began = time.monotonic()
    tenant.ask("DELETE", f"/clusters/{uuid}")
    asker = Asker(tenant)  # the server ends connections that nobody uses
    while asker.get(f"/clusters/{uuid}") is not None:
        time.sleep(POLL)
    return Run(complete, complete + first, time.monotonic() - began, master, worker)


def _kubectl(tenant: Tenant, uuid: str, directory: Path) -> Kubectl:
    """What it takes to have it is the client's time, and not counted."""
    Shell(tenant, directory).coe("cluster", "config", uuid, "--dir", str(directory))
    return Kubectl(built() / "kubectl", directory / "config")


def _first_pod(kubectl: Kubectl) -> float:
    """From the request to a pod that is ready; every node has its image."""
    began = time.monotonic()
    kubectl.apply(pod("first", container={"image": PAUSE}))
    kubectl.run("wait", "--for=condition=Ready", "pod/first", "--timeout=60s")
    return time.monotonic() - began


def _resident(install: Install, uuid: str, node: str) -> float:
    init = Runc(install_id(install.state)).init(f"{uuid}.{node}")
    if init is None:
        raise RuntimeError(f"{node} does not run")
    every = [psutil.Process(init.pid), *psutil.Process(init.pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in every) / 2**20


if __name__ == "__main__":
    main()
