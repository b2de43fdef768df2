"""Three masters behind one address: whoever is away, it leads to one that answers."""

from __future__ import annotations

import logging
import signal
from contextlib import suppress

import psutil
import pytest

from moorage.install import install_id
from moorage.providers.local.runtime import Runc
from tests.real.clients import Shell
from tests.real.install import Install, Tenant
from tests.real.kubernetes import HOSTED, Asking, Kubectl, add_release, kubectl_of

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
log = logging.getLogger(__name__)
MASTERS = ("master-0", "master-1", "master-2")
LOOK_SECONDS = 2
"""As often does Moorage look, in these tests."""


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    add_release(install)
    return install.tenant("red")


@pytest.fixture(scope="module")
def uuid(tenant: Tenant) -> str:
    template = tenant.make_template("three", **HOSTED)
    uuid = tenant.create("web", template=template, workers=0, masters=3)
    tenant.until_complete(uuid, 180)
    return uuid


@pytest.fixture
def kubectl(tenant: Tenant, uuid: str, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    shell = Shell(tenant, tmp_path_factory.mktemp("user"))
    return kubectl_of(shell, "web", tmp_path_factory.mktemp("config"))


def server(
    install: Install, uuid: str, master: str, name: str = "kube-apiserver"
) -> psutil.Process:
    """A program of the master's; pid 1 where it is `tini`."""
    init = Runc(install_id(install.state)).init(f"{uuid}.{master}")
    assert init is not None, f"{master} does not run"
    first = psutil.Process(init.pid)
    return next(each for each in (first, *first.children(recursive=True)) if each.name() == name)


@pytest.mark.parametrize("lost", MASTERS)
def test_a_master_that_is_killed(
    install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl, lost: str
) -> None:
    tenant.until_complete(uuid, 120)
    asking = Asking([kubectl], "/version")
    with asking.without_end():
        server(install, uuid, lost, "tini").kill()
        tenant.until(uuid, lambda shown: shown["health_status"] != "HEALTHY", 30)
        tenant.until_complete(uuid, 120)
    log.info("%s killed: %.1f s without an answer", lost, asking.gap)
    assert asking.gap < 10.0


def test_a_master_that_hangs(install: Install, tenant: Tenant, uuid: str, kubectl: Kubectl) -> None:
    """Each in turn, so that it was the one that the address led to too."""
    for master in MASTERS:
        tenant.until_complete(uuid, 120)
        process = server(install, uuid, master)
        asking = Asking([kubectl], "/version")
        with asking.without_end():
            process.send_signal(signal.SIGSTOP)
            try:
                tenant.until(uuid, lambda shown: shown["health_status"] != "HEALTHY", 30)
                assert kubectl.run("get", "--raw", "/readyz", "--request-timeout=5s") == "ok"
            finally:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
            tenant.until_complete(uuid, 120)
        log.info("%s hung: %.1f s without an answer", master, asking.gap)
        assert asking.gap < LOOK_SECONDS + 10.0


def test_another_ca(
    tenant: Tenant, uuid: str, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Somebody who fetches a certificate meanwhile; one of before is refused by who has changed."""
    tenant.until_complete(uuid, 120)
    shell = Shell(tenant, tmp_path_factory.mktemp("user"))
    asking = Asking([kubectl], "/version")
    latest = kubectl
    with asking.without_end():
        assert tenant.ask("PATCH", f"/certificates/{uuid}").status == 202
        tenant.until(uuid, lambda shown: shown["status"] == "UPDATE_IN_PROGRESS", 30)
        while tenant.cluster(uuid)["status"] == "UPDATE_IN_PROGRESS":
            latest = kubectl_of(shell, "web", tmp_path_factory.mktemp("config"))
            asking.clients.append(latest)
    log.info("another CA: %.1f s without an answer", asking.gap)
    assert tenant.cluster(uuid)["status"] == "UPDATE_COMPLETE"
    assert asking.gap < 10.0
    assert latest.run("get", "--raw", "/readyz") == "ok"
    assert "x509" in kubectl.run("get", "--raw", "/readyz", code=1)
