"""Clusters of Kubernetes: beside a plain script, both kinds of control plane, and memory.

Clusters with one master and two workers are made turn about with the script's, so that a busy
machine is busy for all; the figures are medians.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from tests.real.clients import Shell
from tests.real.install import Install, Tenant
from tests.real.kubernetes import Kubectl, built

from bench.floor_kubernetes import POLL, first_pod
from bench.line import Line
from bench.setup import delete, opened, until_made
from moorage.drivers.kubernetes.hosting import HOSTED, NODES
from moorage.install import install_id
from moorage.providers.local.runtime import Runc

MASTERS = {NODES: "medium", HOSTED: "small"}
"""The flavor of the master that docs/kubernetes.md advises."""
LIMIT, BESIDE = 1.2, 1.05
MIB = 2**20
console = Console(stderr=True)


@dataclass(frozen=True)
class Run:
    """Seconds from the request; MiB that are resident, by node and program."""

    create: float
    pod: float
    memory: dict[str, Counter[str]]


def kubernetes(rounds: int) -> list[Line]:
    runs: dict[str, list[Run]] = {kind: [] for kind in MASTERS}
    floor: list[dict[str, float]] = []
    with opened() as install:
        install.moorage("release", "add", "kubernetes", str(built()))
        tenant = install.tenant("bench")
        templates = {kind: _template(tenant, kind) for kind in MASTERS}
        for turn in range(min(rounds, 3)):
            floor.append(_floor())
            for kind, template in templates.items():
                console.log(f"Kubernetes, {kind}, round {turn + 1} of {min(rounds, 3)}")
                uuid, run = _run(install, tenant, template)
                runs[kind].append(run)
                delete(tenant, uuid, POLL)
        second = _second(install, tenant, templates[NODES])
    lines = [
        _compared(f"POST to {what}, Kubernetes 1+2", _of(runs[NODES], field),
                  "script", [each[field] for each in floor], LIMIT)
        for field, what in (("create", "CREATE_COMPLETE"), ("pod", "the first pod"))
    ]  # fmt: skip
    lines += [
        _compared(f"POST to {what}, hosted control plane and 2", _of(runs[HOSTED], field),
                  "masters as nodes", _of(runs[NODES], field), 1.0)
        for field, what in (("create", "CREATE_COMPLETE"), ("pod", "the first pod"))
    ]  # fmt: skip
    lines += [_memory(kind, node, runs[kind][-1].memory[node]) for kind in MASTERS
              for node in ("master-0", "worker-0")]  # fmt: skip
    return [*lines, second]


def _template(tenant: Tenant, kind: str) -> str:
    return tenant.make_template(
        kind,
        coe="kubernetes",
        flavor_id="small",
        master_flavor_id=MASTERS[kind],
        labels={"control_plane": kind},
    )


def _floor() -> dict[str, float]:
    argv = [sys.executable, "-m", "bench.floor_kubernetes", str(built())]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _run(install: Install, tenant: Tenant, template: str, name: str = "bench") -> tuple[str, Run]:
    began = time.monotonic()
    uuid = tenant.create(name, template=template, workers=2)
    until_made(tenant, uuid, POLL)
    complete = time.monotonic() - began
    with tempfile.TemporaryDirectory() as directory:
        # What it takes to have a kubeconfig is the client's time, and not counted.
        Shell(tenant, Path(directory)).coe("cluster", "config", uuid, "--dir", directory)
        first = first_pod(Kubectl(built() / "kubectl", Path(directory) / "config"))
    return uuid, Run(complete, complete + first, _resident(install, uuid))


def _resident(install: Install, uuid: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for node in ("master-0", "worker-0", "worker-1"):
        init = Runc(install_id(install.state)).init(f"{uuid}.{node}")
        if init is None:
            raise RuntimeError(f"{node} does not run")
        every = [psutil.Process(init.pid), *psutil.Process(init.pid).children(recursive=True)]
        found[node] = Counter()
        for process in every:
            found[node][process.name()] += process.memory_info().rss
    return found


def _second(install: Install, tenant: Tenant, template: str) -> Line:
    """What a cluster takes beside one that is there, and Moorage's own process with it."""
    own = psutil.Process(install.server_pid())
    clusters, took = [], []
    for name in ("first", "second"):
        before = own.memory_info().rss
        uuid, run = _run(install, tenant, template, name)
        clusters.append(uuid)
        grown = own.memory_info().rss - before
        took.append((sum(node.total() for node in run.memory.values()) + grown) / MIB)
    for uuid in clusters:
        delete(tenant, uuid, POLL)
    first, second = took
    return Line(
        "memory (RSS) of a second cluster of Kubernetes 1+2",
        f"{second:.0f} MiB",
        f"the first {first:.0f} MiB: {second / first:.2f} times",
        f"{BESIDE} times",
        second <= BESIDE * first,
    )


def _compared(
    what: str, mine: Sequence[float], beside: str, others: Sequence[float], limit: float
) -> Line:
    ours, theirs = statistics.median(mine), statistics.median(others)
    return Line(
        what,
        f"{ours:.1f} s",
        f"{beside} {theirs:.1f} s: {ours / theirs:.2f} times",
        f"{limit:g} times",
        ours <= limit * theirs,
    )


def _memory(kind: str, node: str, programs: Counter[str]) -> Line:
    parts = ", ".join(f"{name} {rss / MIB:.0f}" for name, rss in programs.most_common(8))
    name = f"memory (RSS) of {node}, control plane {kind}"
    return Line(name, f"{programs.total() / MIB:.0f} MiB", parts, "", holds=True)


def _of(runs: Sequence[Run], field: str) -> list[float]:
    return [getattr(run, field) for run in runs]
