"""Kubernetes: the server killed before and after the steps of its driver goes on, as with a swarm.

What belongs to no driver is `test_crash.py`'s.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.real.crash import Crash, Killed, ask, before_and_after, kill_at_each, last_event, there
from tests.real.kubernetes import ON_NODES, add_release

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
CLUSTER = "crash"


@pytest.fixture(scope="module", autouse=True)
def release(crash: Crash) -> None:
    add_release(crash.install)
    for name, kind in (("one", "nodes"), ("two", "nodes"), ("hosted", "hosted")):
        crash.tenant.make_template(
            name,
            **ON_NODES,
            labels={"control_plane": kind},
        )


def cluster(crash: Crash) -> str:
    """The cluster that the operations work on, made with nobody killed."""
    found = there(crash, CLUSTER)
    uuid = found["uuid"] if found else crash.tenant.create(CLUSTER, template="one")
    crash.complete(uuid)
    return str(uuid)


def create(crash: Crash) -> None:
    delete_now(crash)
    wanted = {"name": CLUSTER, "cluster_template_id": "one", "node_count": 1}
    crash.strike()
    ask(crash, "POST", "/clusters", wanted, lambda: there(crash, CLUSTER) is not None)
    crash.complete(there(crash, CLUSTER)["uuid"])


def delete_now(crash: Crash) -> None:
    if found := there(crash, CLUSTER):
        crash.tenant.ask("DELETE", f"/clusters/{CLUSTER}")
        crash.tenant.until_gone(found["uuid"])


def change(crash: Crash, uuid: str, method: str, path: str, body: Any = None) -> None:
    since = last_event(crash, uuid)
    ask(crash, method, path, body)
    crash.complete(uuid, since)


def resize(crash: Crash) -> None:
    """Up, and down again."""
    uuid = cluster(crash)
    crash.strike()
    for count in (2, 1):
        patch = [{"op": "replace", "path": "/node_count", "value": count}]
        change(crash, uuid, "PATCH", f"/clusters/{uuid}", patch)
    assert crash.shown(uuid)["node_count"] == 1


def upgrade(crash: Crash) -> None:
    """To a template that differs by its name alone: each node is renewed."""
    uuid = cluster(crash)
    used = crash.tenant.ask("GET", "/clustertemplates/one").body["uuid"]
    other = "two" if crash.shown(uuid)["cluster_template_id"] == used else "one"
    crash.strike()
    change(crash, uuid, "POST", f"/clusters/{uuid}/actions/upgrade", {"cluster_template": other})


def rotate(crash: Crash) -> None:
    uuid = cluster(crash)
    crash.strike()
    change(crash, uuid, "PATCH", f"/certificates/{uuid}")


def delete(crash: Crash) -> None:
    uuid = cluster(crash)
    crash.strike()
    ask(crash, "DELETE", f"/clusters/{uuid}", None, lambda: there(crash, CLUSTER) is None)
    crash.attend(
        lambda: crash.tenant.ask("GET", f"/clusters/{uuid}").status == 404, f"gone: {uuid}"
    )
    crash.check(uuid)


def hosted(crash: Crash) -> None:
    """Masters that are no nodes of Kubernetes."""
    delete_now(crash)
    body = {"name": CLUSTER, "cluster_template_id": "hosted", "node_count": 1}
    crash.strike()
    ask(crash, "POST", "/clusters", body, lambda: there(crash, CLUSTER) is not None)
    crash.complete(there(crash, CLUSTER)["uuid"])
    crash.disarm()
    delete_now(crash)


def masters(crash: Crash) -> None:
    """Three, and one again."""
    uuid = cluster(crash)
    crash.strike()
    for count in (3, 1):
        body = {"node_count": count, "nodegroup": "default-master"}
        change(crash, uuid, "POST", f"/clusters/{uuid}/actions/resize", body)
    assert crash.shown(uuid)["master_count"] == 1


OPERATIONS = (
    Killed(
        create,
        "driver.start-node driver.await-api driver.apply-objects driver.join driver.label-node"
        " driver.await-node",
    ),
    Killed(resize, "driver.drain provider.delete driver.remove-node"),
    Killed(upgrade, "driver.uncordon", slow=True),
    Killed(rotate, "driver.trust", slow=True),
    Killed(masters, "driver.etcd-join driver.etcd-remove", slow=True),
    Killed(delete, "network.close claims.remove"),
    Killed(hosted, "driver.note-start", slow=True),
)


@before_and_after(OPERATIONS)
def test_killed_at_each_step(crash: Crash, killed: Killed, when: str) -> None:
    kill_at_each(crash, killed, when)
