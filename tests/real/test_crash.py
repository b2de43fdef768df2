"""The server killed before and after every act: it goes on, and every book balances.

Each operation names the acts at which it is killed, so that together they are all acts that
there are (`tests/unit/test_failpoints.py` holds it to that, and this module to reaching
each). An operation is killed at its acts one after the other, in the order in which they are
passed: killed, started, killed at the next. What is left of them is tried with the operation
begun anew. Once before each act; once after each, which is most often before the next one, and
therefore slow.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import Any

import pytest

from moorage.app import lose_node
from moorage.install import install_id
from moorage.model.node import NodeRef
from moorage.networks.layout import FIRST_PORT
from moorage.providers.local.runtime import Runc
from tests.real.books import known
from tests.real.crash import Crash, Killed, ask, before_and_after, kill_at_each, last_event, there
from tests.unit.trust.requests import request

pytestmark = pytest.mark.real
CLUSTER = "crash"


def template(crash: Crash, name: str, coe: str = "swarm") -> str:
    answer = crash.tenant.ask("GET", f"/clustertemplates/{name}")
    return (
        answer.body["uuid"] if answer.status == 200 else crash.tenant.make_template(name, coe=coe)
    )


def cluster(crash: Crash, *, masters: int = 1) -> str:
    """The cluster that the operations work on, made with nobody killed."""
    answer = crash.tenant.ask("GET", f"/clusters/{CLUSTER}")
    if answer.status == 404:
        uuid = crash.tenant.create(
            CLUSTER, template=template(crash, "one"), workers=1, masters=masters
        )
    else:
        uuid = answer.body["uuid"]
    crash.complete(uuid)
    return uuid


def create(crash: Crash) -> None:
    delete_now(crash)
    wanted = {"name": CLUSTER, "cluster_template_id": template(crash, "one"), "node_count": 1}
    crash.strike()
    ask(crash, "POST", "/clusters", wanted, lambda: there(crash, CLUSTER) is not None)
    crash.complete(crash.got(crash.tenant, f"/clusters/{CLUSTER}")["uuid"])


def delete_now(crash: Crash) -> None:
    answer = crash.tenant.ask("GET", f"/clusters/{CLUSTER}")
    if answer.status == 200:
        crash.tenant.ask("DELETE", f"/clusters/{CLUSTER}")
        crash.tenant.until_gone(answer.body["uuid"])


def delete(crash: Crash) -> None:
    uuid = cluster(crash)
    crash.strike()
    ask(crash, "DELETE", f"/clusters/{uuid}", None, lambda: there(crash, CLUSTER) is None)
    crash.attend(
        lambda: crash.tenant.ask("GET", f"/clusters/{uuid}").status == 404, f"gone: {uuid}"
    )
    crash.check(uuid)


def delete_masters(crash: Crash) -> None:
    """Two of them at least are not the last node, and leave others that are masters still."""
    delete_now(crash)
    cluster(crash, masters=3)
    delete(crash)


def abandon(crash: Crash) -> None:
    """Somebody else's link keeps the network from going, until an admin has had enough."""
    uuid = cluster(crash)
    slot = int(crash.shown(uuid)["api_address"].rpartition(":")[2]) - FIRST_PORT
    link = f"mrg{slot}n99"
    subprocess.run(["ip", "link", "add", link, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "link", "set", link, "alias", "moorage another"], check=True)
        crash.strike()
        crash.ask(crash.admin, "DELETE", f"/clusters/{uuid}?force=true")
        crash.attend(
            lambda: crash.tenant.ask("GET", f"/clusters/{uuid}").status == 404, f"gone: {uuid}"
        )
    finally:
        subprocess.run(["ip", "link", "del", link], check=True)

    def removed() -> bool:
        return bool(crash.got(crash.admin, "/orphans") == {"orphans": []})

    assert not removed()
    crash.ask(crash.admin, "DELETE", f"/orphans/{uuid}", None, done=removed)
    assert removed()
    crash.check(uuid)


def resize(crash: Crash) -> None:
    """Up, and down again."""
    uuid = cluster(crash)
    crash.strike()
    for count in (2, 1):
        since = last_event(crash, uuid)
        patch = [{"op": "replace", "path": "/node_count", "value": count}]
        ask(crash, "PATCH", f"/clusters/{uuid}", patch)
        crash.complete(uuid, since)
    assert crash.shown(uuid)["node_count"] == 1


def upgrade(crash: Crash) -> None:
    uuid = cluster(crash)
    crash.strike()
    renew(crash, uuid)


def renew(crash: Crash, uuid: str) -> None:
    """Upgrade it to the other one of two templates."""
    templates = [template(crash, name) for name in ("one", "two")]
    templates.remove(crash.shown(uuid)["cluster_template_id"])
    since = last_event(crash, uuid)
    ask(crash, "POST", f"/clusters/{uuid}/actions/upgrade", {"cluster_template": templates[0]})
    crash.complete(uuid, since)
    assert crash.shown(uuid)["cluster_template_id"] == templates[0]


def heal(crash: Crash) -> None:
    """A worker that stops, and one that is lost with its disk."""
    uuid = cluster(crash)
    crash.strike()
    since = last_event(crash, uuid)
    init = Runc(install_id(crash.install.state)).init(f"{uuid}.worker-0")
    assert init
    os.kill(init.pid, signal.SIGKILL)
    crash.complete(uuid, since)
    since = last_event(crash, uuid)
    asyncio.run(lose_node(crash.install.settings, NodeRef(uuid, "worker-0")))
    crash.complete(uuid, since)


def rotate(crash: Crash) -> None:
    uuid = cluster(crash)
    crash.strike()
    body = {"cluster_uuid": uuid, "csr": request().decode()}
    signed = crash.ask(crash.tenant, "POST", "/certificates", body)
    assert signed is not None
    assert signed.status == 201, signed
    since = last_event(crash, uuid)
    ask(crash, "PATCH", f"/certificates/{uuid}")
    crash.complete(uuid, since)
    since = last_event(crash, uuid)
    (before,) = known(crash.install)
    ask(
        *(crash, "PATCH", f"/credentials/{uuid}", None),
        lambda: known(crash.install)[0].credentials > before.credentials,
    )
    crash.complete(uuid, since)


def managers(crash: Crash) -> None:
    """What a tenant does to its managers: one master demoted, one worker promoted, and gone."""
    uuid = cluster(crash)
    patch = [{"op": "replace", "path": "/node_count", "value": 2}]
    crash.tenant.ask("PATCH", f"/clusters/{uuid}", patch)
    crash.complete(uuid, crash.last_event(uuid))
    host = f"{CLUSTER}-"
    crash.runc(uuid, "master-0", "docker", "node", "promote", f"{host}worker-1")
    crash.strike()
    since = last_event(crash, uuid)
    demote = f"until docker node demote {host}master-0; do sleep 0.1; done"  # it takes its time
    crash.runc(uuid, "worker-1", "timeout", "180", "sh", "-c", demote)
    crash.complete(uuid, since)
    since = last_event(crash, uuid)
    patch = [{"op": "replace", "path": "/node_count", "value": 1}]
    ask(crash, "PATCH", f"/clusters/{uuid}", patch)
    crash.complete(uuid, since)


def quorum(crash: Crash) -> None:
    """Two of three masters are lost with their disks: the other can't decide alone.

    Then all are renewed, and the cluster's address leads past each.
    """
    delete_now(crash)
    uuid = cluster(crash, masters=3)
    crash.strike()
    since = last_event(crash, uuid)
    for master in ("master-1", "master-2"):
        asyncio.run(lose_node(crash.install.settings, NodeRef(uuid, master)))
    crash.complete(uuid, since)
    renew(crash, uuid)
    crash.disarm()
    crash.check()
    delete_now(crash)


def hang(crash: Crash) -> None:
    """A turn that lasts, because an engine does not answer: its lease is renewed."""
    uuid = cluster(crash)
    crash.strike()
    since = last_event(crash, uuid)
    hold_engine(crash, uuid)
    crash.complete(uuid, since)


def stop(crash: Crash) -> None:
    """Moorage is stopped while a turn lasts: its claim is given back."""
    uuid = cluster(crash)
    crash.strike()
    since = last_event(crash, uuid)
    hold_engine(crash, uuid)
    crash.attend(lambda: "before driver.start-engine" in crash.passed(), "healing", 60)
    crash.stop()
    crash.complete(uuid, since)


def hold_engine(crash: Crash, uuid: str) -> None:
    pid = crash.runc(uuid, "worker-0", "pgrep", "-x", "dockerd")
    crash.runc(uuid, "worker-0", "kill", "-STOP", pid)


def files(crash: Crash) -> None:
    """Of the fake COE, which puts files on its nodes: the swarm driver's come with its scripts."""
    body = {"name": "fake", "cluster_template_id": template(crash, "fake", "fake"), "node_count": 1}
    crash.strike()
    ask(crash, "POST", "/clusters", body, lambda: there(crash, "fake") is not None)
    uuid = there(crash, "fake")["uuid"]
    crash.complete(uuid)
    crash.disarm()
    crash.tenant.ask("DELETE", f"/clusters/{uuid}")
    crash.tenant.until_gone(uuid)
    crash.check(uuid)


def administer(crash: Crash) -> None:
    """What is written without a cluster: once, whether the server died before it or after."""
    crash.strike()
    admin = crash.admin

    def change(method: str, path: str, body: Any, shows: str, what: Any) -> None:
        """Ask for it, once it is done; `shows` is the path that shows `what` then."""

        def done() -> bool:
            return bool(what(crash.got(admin, shows)))

        answer = crash.ask(admin, method, path, body, done=done)
        assert answer is None or answer.status < 300, answer
        assert done(), (method, path)

    path = f"/quotas/{'a' * 32}/Node"
    quota = {"project_id": "a" * 32, "resource": "Node", "hard_limit": 3}
    change("POST", "/quotas", quota, path, lambda seen: seen["hard_limit"] == 3)
    change("PATCH", path, {"hard_limit": 4}, path, lambda seen: seen["hard_limit"] == 4)
    change("DELETE", path, None, path, lambda seen: seen["id"] is None)

    def offered(seen: Any) -> bool:
        return any(each["name"] == "mine" for each in seen["catalogue"])

    offers = "/catalogue?kind=keypair"
    offer = {"kind": "keypair", "name": "mine"}
    change("POST", "/catalogue", offer, offers, offered)
    change("DELETE", "/catalogue/keypair/mine", None, offers, lambda seen: not offered(seen))

    path = "/clustertemplates/brief"
    made = {"name": "brief", "coe": "swarm", "flavor_id": "tiny", "master_flavor_id": "tiny"}
    labelled = [{"op": "replace", "path": "/labels", "value": {"a": "b"}}]
    change("POST", "/clustertemplates", made, path, lambda seen: seen)
    change("PATCH", path, labelled, path, lambda seen: seen["labels"] == {"a": "b"})
    change("DELETE", path, None, path, lambda seen: seen is None)


OPERATIONS = (
    Killed(
        administer,
        "audit.add claims.break_all claims.hasten_all claims.recall heartbeats.beat"
        " counting.try_write"
        " quotas.add quotas.change quotas.remove offers.add offers.remove templates.add"
        " templates.change templates.remove",
        slow=True,
    ),
    Killed(
        create,
        "clusters.add claims.take provider.observe driver.observe provider.room_for"
        " provider.ensure network.open network.attach network.trouble network.led_to"
        " network.publish host.run"
        " driver.start-engine driver.init-swarm driver.join driver.label-node claims.apply",
    ),
    Killed(
        resize,
        "clusters.want driver.drain driver.leave driver.remove-member provider.delete"
        " network.detach",
    ),
    Killed(upgrade, "driver.await-member driver.activate"),
    Killed(heal, "claims.hasten claims.note"),
    Killed(rotate, "events.tell driver.trust driver.rotate-tokens"),
    Killed(managers, "driver.promote driver.demote", slow=True),
    Killed(quorum, "driver.force-new-cluster provider.publish", slow=True),
    Killed(hang, "claims.renew", slow=True),
    Killed(stop, "claims.release", slow=True),
    Killed(files, "host.put", slow=True),
    Killed(delete, "network.close claims.remove"),
    Killed(delete_masters, "network.dismiss", slow=True),
    Killed(abandon, "claims.abandon abandonments.forget", slow=True),
)


@before_and_after(OPERATIONS)
def test_killed_at_each_act(crash: Crash, killed: Killed, when: str) -> None:
    kill_at_each(crash, killed, when)


AT_ITS_OWN_TIME = {"heartbeats.beat", "claims.recall", "claims.renew", "claims.hasten"}
"""Acts that an operation passes or not, as the clock has it."""


@pytest.mark.slow
@pytest.mark.parametrize("killed", OPERATIONS, ids=lambda killed: killed.operation.__name__)
def test_killed_at_each_failpoint_that_it_passes(crash: Crash, killed: Killed) -> None:
    """One at a time, with the operation begun anew for each.

    It passes some only once, such as the opening of a network that is open from then on.
    """
    crash.plan([])
    killed.operation(crash)
    points = list(dict.fromkeys(crash.passed()))
    missed = []
    for point in points:
        crash.plan([point])
        try:
            killed.operation(crash)
        finally:
            crash.disarm()
        crash.check()
        if crash.struck != [point]:
            assert point.split()[1] in AT_ITS_OWN_TIME or point not in crash.passed()
            missed.append(point)
    assert len(missed) < len(points) / 4, missed
