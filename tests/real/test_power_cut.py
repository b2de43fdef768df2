"""After a power cut everything comes back by itself: clusters, their Swarms, and what ran in them.

The cut comes at a random moment while clusters are changed and the API is asked. The seed
stands in the output of a test that fails; MOORAGE_SEED repeats it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from moorage.install import install_id
from tests.real.books import contradictions, imbalance, known, unsound
from tests.real.install import Install, Tenant
from tests.real.power import cut

pytestmark = pytest.mark.real
SEED = int(os.environ.get("MOORAGE_SEED") or random.randrange(10**9))
ROUNDS, USUAL = 20, 1
LONGEST = 3.0
"""Seconds of load before the cut: a change is under way for all of them."""
REPLICAS = 3
BACK_SECONDS = 90.0
IMAGE = "tar -c -C /usr bin/busybox | docker import - page:1 >/dev/null"
SERVICE = (
    f"docker service create -d --no-resolve-image --name page --replicas {REPLICAS}"
    " --stop-grace-period 1s page:1 /bin/busybox sleep 1000000"
)
TASKS = "docker ps -q --filter label=com.docker.swarm.service.name=page"


@dataclass
class Fleet:
    """The clusters of one tenant; `swarms` are those with a service, by their Swarm's id."""

    install: Install
    tenant: Tenant
    templates: list[str]
    swarms: dict[str, str]

    def shell(self, uuid: str, node: str, script: str) -> str:
        root = f"/run/moorage/{install_id(self.install.state)}"
        argv = ["runc", "--root", root, "exec", f"{uuid}.{node}", "sh", "-c", script]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout.strip()

    def swarm(self, uuid: str) -> str:
        return self.shell(uuid, "master-0", "docker info -f '{{.Swarm.Cluster.ID}}'")

    def nodes(self, uuid: str) -> list[str]:
        (cluster,) = [c for c in known(self.install) if c.uuid == uuid]
        return [node for group in cluster.groups for node in group.nodes]

    def serves(self, uuid: str) -> bool:
        """Whether the service runs on real nodes as often as it is to, and the Swarm says so."""
        said = self.shell(uuid, "master-0", "docker service ls --format '{{.Replicas}}'")
        running = [len(self.shell(uuid, n, TASKS).split()) for n in self.nodes(uuid)]
        return said == f"{REPLICAS}/{REPLICAS}" and sum(running) == REPLICAS


@pytest.fixture(scope="module")
def fleet(install: Install) -> Fleet:
    tenant = install.tenant("red")
    templates = [tenant.make_template(name) for name in ("one", "two")]
    made = Fleet(install, tenant, templates, {})
    for name in ("north", "south"):
        uuid = tenant.create(name, template=templates[0], workers=1)
        tenant.until_complete(uuid)
        for node in made.nodes(uuid):
            made.shell(uuid, node, IMAGE)
        made.shell(uuid, "master-0", SERVICE)
        tenant.until(uuid, lambda _, uuid=uuid: made.serves(uuid))  # type: ignore[misc]
        made.swarms[uuid] = made.swarm(uuid)
    return made


@contextlib.contextmanager
def asking(tenant: Tenant) -> Iterator[None]:
    """Requests under way, one after the other, whatever comes of them."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, AssertionError, ValueError):
                tenant.ask("GET", "/clusters/detail")
                tenant.ask("POST", "/clustertemplates", {"name": "no coe"})

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def resize(fleet: Fleet, uuid: str, chance: random.Random) -> None:
    """Of the workers: their tasks go where there is room, and have the image there."""
    patch = [{"op": "replace", "path": "/node_count", "value": chance.choice((1, 2))}]
    fleet.tenant.ask("PATCH", f"/clusters/{uuid}", patch)


def upgrade(fleet: Fleet, uuid: str, chance: random.Random) -> None:
    body = {"cluster_template": chance.choice(fleet.templates)}
    fleet.tenant.ask("POST", f"/clusters/{uuid}/actions/upgrade", body)


def rotate(fleet: Fleet, uuid: str, chance: random.Random) -> None:
    fleet.tenant.ask("PATCH", f"/{chance.choice(('certificates', 'credentials'))}/{uuid}")


def create(fleet: Fleet, uuid: str, chance: random.Random) -> None:
    body = {"name": "third", "cluster_template_id": fleet.templates[0], "node_count": 1}
    fleet.tenant.ask("POST", "/clusters", body)


def delete(fleet: Fleet, uuid: str, chance: random.Random) -> None:
    fleet.tenant.ask("DELETE", "/clusters/third")


CHANGES: tuple[Callable[[Fleet, str, random.Random], None], ...] = (
    create,
    resize,
    upgrade,
    rotate,
    delete,
)


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=[pytest.mark.slow] if n >= USUAL else []) for n in range(ROUNDS)],
)
def test_everything_comes_back(fleet: Fleet, number: int) -> None:
    chance = random.Random(f"{SEED} {number}")
    change = CHANGES[number % len(CHANGES)]
    uuid, moment = chance.choice(sorted(fleet.swarms)), chance.uniform(0, LONGEST)
    tell(f"MOORAGE_SEED={SEED}: cut {moment:.2f} s after {change.__name__} of {uuid}")
    with asking(fleet.tenant):
        change(fleet, uuid, chance)
        time.sleep(moment)  # the moment is the subject of the test
        cut(fleet.install)
    began = time.monotonic()
    fleet.install.up()
    up = time.monotonic() - began
    fleet.tenant.token = ""
    wait_until(fleet, "whole", whole)
    for swarm in fleet.swarms:
        for node in fleet.nodes(swarm):  # those that came with this change have it not yet
            if not fleet.shell(swarm, node, "docker images -q page:1"):
                fleet.shell(swarm, node, IMAGE)
    wait_until(fleet, "serving", lambda fleet: all(map(fleet.serves, fleet.swarms)))
    tell(f"up after {up:.1f} s, all of it back {time.monotonic() - began:.1f} s after power on")
    assert {uuid: fleet.swarm(uuid) for uuid in fleet.swarms} == fleet.swarms
    assert unsound(fleet.install) == []
    for cluster in known(fleet.install):
        path = f"/clusters/{cluster.uuid}/events?limit=1000"
        assert contradictions(fleet.tenant.ask("GET", path).body["events"]) == []


def tell(line: str) -> None:
    """Into the output of the test, which pytest shows where it fails."""
    sys.stdout.write(f"{line}\n")


def whole(fleet: Fleet) -> bool:
    shown = fleet.tenant.ask("GET", "/clusters/detail").body["clusters"]
    states = {(c["status"].rpartition("_")[2], c["health_status"]) for c in shown}
    return states == {("COMPLETE", "HEALTHY")} and imbalance(fleet.install) == []


def wait_until(fleet: Fleet, what: str, done: Callable[[Fleet], bool]) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not done(fleet):
        if time.monotonic() > deadline:
            shown = fleet.tenant.ask("GET", "/clusters/detail").body["clusters"]
            said = {
                swarm: fleet.shell(swarm, "master-0", "docker node ls; docker service ps page")
                for swarm in fleet.swarms
            }
            raise AssertionError(
                f"not {what} after {BACK_SECONDS} s (MOORAGE_SEED={SEED}): "
                f"{json.dumps([[c['name'], c['status'], c['status_reason']] for c in shown])}\n"
                f"{imbalance(fleet.install)}\n{said}\n{fleet.install.log()[-3000:]}"
            )
        time.sleep(0.2)
