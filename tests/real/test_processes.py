"""Two APIs and two conductors, each a process, on one PostgreSQL: `moorage serve --only`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from moorage.cli.daemon import probe
from moorage.identity.home import SERVICE_USER, KeystoneHome
from tests.postgres import PostgresServer, private_server
from tests.real.install import MOORAGE, Install, Tenant

pytestmark = pytest.mark.real
READY_SECONDS = 60.0
LEASE = 3
CLUSTERS = 12


@dataclass
class Server:
    """One process of Moorage. `install` knows its state directory and its port."""

    install: Install
    process: subprocess.Popen[bytes]
    log: Path

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            if probe("127.0.0.1", self.install.port)[0]:
                return
            time.sleep(0.05)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    @property
    def turns(self) -> int:
        """How many creates it has seen to their end."""
        return self.log.read_text().count('"created: ')


class Site:
    """What the processes share: a database, a key, a Keystone, and fake nodes as files."""

    def __init__(self, postgres: PostgresServer, name: str, directory: Path) -> None:
        self.postgres = postgres
        self.directory = directory
        self.nodes = directory / "nodes"
        self.variables = {
            "MOORAGE_DATABASE_URL": postgres.url(name),
            "MOORAGE_KEY_FILE": str(directory / "seal.key"),
            "MOORAGE_FAKES": "1",
            "MOORAGE_FAKE_NODES": str(self.nodes),
            "MOORAGE_PROVIDER": "fake",
            "MOORAGE_LEASE_SECONDS": str(LEASE),
            "MOORAGE_HEAL_SECONDS": "5",
            "MOORAGE_QUOTA_CLUSTERS": "100",
        }

    @contextmanager
    def serving(self, name: str, only: str, **variables: str) -> Iterator[Server]:
        install = Install(self.directory / name)
        log = self.directory / f"{name}.log"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MOORAGE_")},
            **self.variables,
            "MOORAGE_MACHINE": name,
            "MOORAGE_PORT": str(install.port),
            "MOORAGE_METRICS_PORT": str(install.metrics_port),
            "MOORAGE_SIGN_IN_PORT": str(install.sign_in_port),
            "MOORAGE_KEYSTONE_PORT": str(install.keystone_port),
            **variables,
        }
        words = ["serve", "--state", str(install.state), "--only", only]
        with log.open("ab") as stderr:
            process = subprocess.Popen([*MOORAGE, *words], env=environment, stderr=stderr)
        try:
            yield Server(install, process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def owners(self) -> dict[str, int]:
        """How many nodes each cluster has."""
        return {path.name: len(list(path.glob("*.json"))) for path in self.nodes.iterdir()}


@dataclass
class Cloud:
    site: Site
    apis: list[Tenant]
    """One tenant, at each of the APIs."""
    conductors: list[Server]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="moorage-processes-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgres = stack.enter_context(private_server())
        name = stack.enter_context(postgres.database())
        site = Site(postgres, name, directory)
        first = stack.enter_context(site.serving("api1", "api"))
        first.await_ready()  # it makes the key, the tables, and Keystone
        keystone = first.install.keystone_port
        second = stack.enter_context(
            site.serving(
                "api2",
                "api",
                MOORAGE_KEYSTONE=f"http://127.0.0.1:{keystone}/v3",
                MOORAGE_KEYSTONE_PASSWORD=KeystoneHome(first.install.state).password(SERVICE_USER),
            )
        )
        conductors = [
            stack.enter_context(site.serving(f"conductor{number}", "conductor"))
            for number in (1, 2)
        ]
        for server in (second, *conductors):
            server.await_ready()
        second.install.keystone_port = keystone
        tenant = first.install.tenant("processes")
        yield Cloud(site, [tenant, Tenant(second.install, tenant.credentials)], conductors)


def test_processes_beside_each_other(cloud: Cloud) -> None:
    template = cloud.apis[0].make_template("fake", coe="fake")
    _make_and_change(cloud, template)
    assert all(server.turns for server in cloud.conductors), "one of them did all"

    # What one API says is acted on by the one conductor that is left, long before its timer.
    first, second = cloud.conductors
    assert first.end(signal.SIGTERM) == 0
    delays = [_delay(cloud, template, number) for number in range(5)]
    assert median(delays) < 0.5, delays

    # PostgreSQL goes and comes: all go on by themselves, hints included.
    cloud.site.postgres.stop()
    cloud.site.postgres.start()
    uuid = _patient_create(cloud.apis[1], "after", template)
    cloud.apis[0].until_complete(uuid)

    # The last conductor dies in the middle of work: another one takes over.
    uuids = [cloud.apis[n % 2].create(f"late{n}", template=template) for n in range(6)]
    second.end(signal.SIGKILL)
    with cloud.site.serving("conductor3", "conductor") as third:
        for uuid in uuids:
            cloud.apis[0].until_complete(uuid)
        live = {c["uuid"] for c in cloud.apis[1].ask("GET", "/clusters").body["clusters"]}
        assert set(cloud.site.owners()) == live
        assert third.end(signal.SIGTERM) == 0

    # The one that died starts again, beside nobody, and leaves nothing when it ends.
    with cloud.site.serving("conductor2", "conductor") as again:
        again.await_ready()
        assert again.end(signal.SIGTERM) == 0


def _make_and_change(cloud: Cloud, template: str) -> None:
    """Many clusters through both APIs; each is resized or deleted by the other one."""
    one, two = cloud.apis
    uuids = [
        cloud.apis[n % 2].create(f"c{n}", template=template, workers=2) for n in range(CLUSTERS)
    ]
    for uuid in uuids:
        one.until_complete(uuid)
    resized, deleted = uuids[::2], uuids[1::2]
    for uuid in resized:
        body = [{"op": "replace", "path": "/node_count", "value": 4}]
        assert two.ask("PATCH", f"/clusters/{uuid}", body).status == 202
    for uuid in deleted:
        assert one.ask("DELETE", f"/clusters/{uuid}").status == 204
    for uuid in deleted:
        two.until_gone(uuid)
    for uuid in resized:
        one.until(uuid, lambda shown: shown["status"] == "UPDATE_COMPLETE")
    assert cloud.site.owners() == dict.fromkeys(resized, 5)


def _delay(cloud: Cloud, template: str, number: int) -> float:
    """Seconds from the answer to a create to its end, as the other API tells it."""
    one, two = cloud.apis
    two.ask("GET", "/clusters")
    uuid = one.create(f"quick{number}", template=template)
    began = time.monotonic()
    two.until_complete(uuid)
    return time.monotonic() - began


def _patient_create(tenant: Tenant, name: str, template: str) -> str:
    """As a client that asks again while it is told 503."""
    body = {"name": name, "cluster_template_id": template, "node_count": 1}
    deadline = time.monotonic() + 30
    while (answer := tenant.ask("POST", "/clusters", body)).status == 503:
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    assert answer.status == 202, answer
    return str(answer.body["uuid"])
