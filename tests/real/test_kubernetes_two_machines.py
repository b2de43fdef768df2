"""Sign-in by a token where the API is on one machine and the conductor, with the nodes, on another.

The other machine is a network namespace: its processes see no address of this one's but PUBLIC.
Two APIs stand here behind one address.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorage.identity.home import SERVICE_USER, KeystoneHome
from tests.postgres import private_server
from tests.real.clients import Shell
from tests.real.install import MOORAGE, Install, Tenant, free_port
from tests.real.kubernetes import HOSTED, Kubectl, add_release, built, kubectl_of, review
from tests.real.machine import difference, snapshot
from tests.real.processes import Server, Site
from tests.real.topology import OUTSIDE, PUBLIC, neighbour, reaches

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
log = logging.getLogger(__name__)
SILENT_SECONDS = 40.0
"""Kubernetes' own patience with whom it asks about tokens is 30."""
UNAUTHORIZED = "You must be logged in"
THERE = """
kept=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$kept"
mount -t sysfs sysfs /sys
mount --rbind "$kept" /sys/fs/cgroup
umount -l "$kept"
rmdir "$kept"
exec "$@"
"""
"""/sys tells of the links of the namespace that it was mounted in."""


FRONT = """
global
    maxconn 100
defaults
    mode tcp
    retries 2
    option redispatch 1
    timeout connect 1s
    timeout client 1h
    timeout server 1h
listen sign-in
    bind {address}
    server one {host}:{one}
    server two {host}:{two}
"""


class Front:
    """The one address of two APIs' listeners: it passes TCP on as it is."""

    def __init__(self, apis: list[Server], config: Path) -> None:
        self.address = f"{PUBLIC}:{free_port()}"
        one, two = (api.install.sign_in_port for api in apis)
        config.write_text(FRONT.format(address=self.address, host=PUBLIC, one=one, two=two))
        self._words = ["haproxy", "-db", "-q", "-f", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        self._process = subprocess.Popen(self._words)
        host, _, port = self.address.partition(":")
        while not reaches(host, int(port)):
            assert self._process.poll() is None

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass
class Machines:
    site: Site
    there: tuple[str, ...]
    """The beginning of a command that is run on the other machine."""
    apis: list[Server]
    tenant: Tenant
    front: Front
    stack: ExitStack
    conductor: Server | None = None

    @property
    def url(self) -> str:
        return f"https://{self.front.address}"

    def conduct(self, **variables: str) -> None:
        """Have another conductor in place of the one that is there."""
        if self.conductor is not None:
            assert self.conductor.end(signal.SIGTERM) == 0
        serving = self.site.serving(
            "there", "conductor", self.there, MOORAGE_HOST=OUTSIDE, **variables
        )
        self.conductor = self.stack.enter_context(serving)
        self.conductor.await_ready()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="moorage-machines-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o711)
        before = snapshot(str(directory))
        stack.callback(lambda: differs_in_nothing(before, directory))
        other = stack.enter_context(neighbour())
        there = (
            *("nsenter", "-t", str(other.pid), "-n"),
            *("unshare", "--mount", "/bin/sh", "-ec", THERE, "sh"),
        )
        postgres = stack.enter_context(private_server(address=PUBLIC))
        site = Site(postgres, stack.enter_context(postgres.database()), directory)
        site.variables |= {
            "MOORAGE_PROVIDER": "local",
            "MOORAGE_SIGN_IN_HOST": PUBLIC,
            "MOORAGE_HEAL_SECONDS": "2",
            "MOORAGE_TOKEN_CACHE_SECONDS": "2",
        }
        for name in ("there", "api1", "api2"):
            add_release(Install(directory / name))
        first = stack.enter_context(site.serving("api1", "api"))
        first.await_ready()  # it makes the key, the tables, and Keystone
        second = stack.enter_context(
            site.serving(
                "api2",
                "api",
                MOORAGE_KEYSTONE=f"http://127.0.0.1:{first.install.keystone_port}/v3",
                MOORAGE_KEYSTONE_PASSWORD=KeystoneHome(first.install.state).password(SERVICE_USER),
            )
        )
        second.await_ready()
        front = Front([first, second], directory / "front.cfg")
        stack.callback(front.end)
        front.begin()
        stack.callback(purge, there, directory / "there")
        tenant = first.install.tenant("red")
        yield Machines(site, there, [first, second], tenant, front, stack)


def differs_in_nothing(before: dict[str, set[str]], directory: Path) -> None:
    assert difference(before, snapshot(str(directory))) == {}


def purge(there: tuple[str, ...], state: Path) -> None:
    subprocess.run(
        [*there, *MOORAGE, "down", "--purge", "--yes"],
        env={**os.environ, "MOORAGE_STATE": str(state)},
        check=True,
    )


@pytest.fixture(scope="module")
def shell(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(machines.tenant, tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def uuid(machines: Machines) -> str:
    machines.conduct(MOORAGE_SIGN_IN_URL=machines.url)
    template = machines.tenant.make_template("hosted", **HOSTED)
    uuid = machines.tenant.create("web", template=template, workers=0)
    machines.tenant.until_complete(uuid, 180)
    return uuid


@pytest.fixture(scope="module")
def admin(shell: Shell, uuid: str, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """By certificate."""
    assert uuid
    return kubectl_of(shell, "web", tmp_path_factory.mktemp("admin"))


Bearing = Callable[[], Kubectl]


@pytest.fixture(scope="module")
def bearing(
    machines: Machines, shell: Shell, uuid: str, tmp_path_factory: pytest.TempPathFactory
) -> Bearing:
    """By a new token, which nobody has been asked about."""
    assert uuid
    directory = tmp_path_factory.mktemp("bearing")
    shell.coe("cluster", "config", "web", "--dir", str(directory), "--use-keystone")
    kubectl = Kubectl(built() / "kubectl", directory / "config")
    tenant = machines.tenant
    return lambda: dataclasses.replace(kubectl, token=tenant.install.token(tenant.credentials))


def is_good(kubectl: Kubectl) -> bool:
    return "default" in kubectl.run("get", "namespaces", code=None)


def test_a_token_is_good_by_the_other_machines_listener(
    machines: Machines, admin: Kubectl, bearing: Bearing
) -> None:
    assert machines.conductor
    kubectl = bearing()
    assert is_good(admin)
    assert is_good(kubectl)
    assert "moorage:members" in str(review(admin, kubectl.token))
    asked = [api for api in machines.apis if '"authenticated":true' in api.log.read_text()]
    assert asked
    assert "token review" not in machines.conductor.log.read_text()


def test_nobody_elses_token_is(machines: Machines, bearing: Bearing) -> None:
    other = machines.apis[0].install.tenant("blue")
    token = other.install.token(other.credentials)
    stranger = dataclasses.replace(bearing(), token=token)
    assert UNAUTHORIZED in stranger.run("get", "namespaces", code=1)


def test_one_api_of_two_is_enough(machines: Machines, bearing: Bearing) -> None:
    assert machines.apis[1].end(signal.SIGKILL) == -signal.SIGKILL
    for _ in range(4):
        assert is_good(bearing())


def test_without_any_certificates_are_good_and_tokens_fail_at_once(
    machines: Machines, admin: Kubectl, bearing: Bearing
) -> None:
    late = bearing()
    machines.front.end()
    assert is_good(admin)
    began = time.monotonic()
    assert not is_good(late)
    assert time.monotonic() - began < 5
    machines.front.begin()
    assert is_good(late), "a failure is no answer, and not kept"


@pytest.mark.slow
def test_a_machine_that_is_silent_is_waited_for_by_tokens_alone(
    machines: Machines, admin: Kubectl, bearing: Bearing
) -> None:
    """As one without power, or behind a firewall that drops."""
    first, late = machines.apis[0], bearing()
    first.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert is_good(admin)
        assert time.monotonic() - began < 5
        assert not is_good(late)
        took = time.monotonic() - began
        log.info("a token failed after %.1f s", took)
        assert took < SILENT_SECONDS
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert is_good(bearing())


def test_a_conductor_that_is_not_told_the_address_has_clusters_take_no_tokens(
    machines: Machines, admin: Kubectl, bearing: Bearing
) -> None:
    machines.conduct()
    assert machines.conductor
    assert "MOORAGE_SIGN_IN_URL" in machines.conductor.log.read_text()

    def takes_tokens() -> bool:
        return is_good(admin) and is_good(bearing())

    admin.until(lambda: not takes_tokens())
    admin.until(lambda: is_good(admin))
    assert UNAUTHORIZED in bearing().run("get", "namespaces", code=1)
    machines.conduct(MOORAGE_SIGN_IN_URL=machines.url)
    admin.until(takes_tokens)


def test_it_is_deleted_like_any_other(machines: Machines, uuid: str) -> None:
    assert machines.tenant.ask("DELETE", f"/clusters/{uuid}").status == 204
    machines.tenant.until_gone(uuid)
