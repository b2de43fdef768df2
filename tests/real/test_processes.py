"""Two APIs and two conductors, each a process, on one PostgreSQL: `moorage serve --only`."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from moorage.identity.home import SERVICE_USER, KeystoneHome
from tests.postgres import private_server
from tests.real.install import Tenant
from tests.real.processes import Server, Site

pytestmark = pytest.mark.real
CLUSTERS = 12


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
