"""The server killed at any moment goes on where it was, and orphans nothing.

The moments are spread over the time that the operation takes when nobody disturbs it,
measured first, so that they hit all of its steps on a machine of any speed.
"""

from __future__ import annotations

import time

import pytest

from tests.real.books import imbalance
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real
MOMENTS = 6
WORKERS = 1


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    return install.tenant("red")


@pytest.fixture(scope="module")
def template(tenant: Tenant) -> str:
    return tenant.make_template()


@pytest.fixture(scope="module")
def usual(tenant: Tenant, template: str) -> tuple[float, float]:
    """Seconds of an undisturbed create and of an undisturbed delete."""
    start = time.monotonic()
    uuid = tenant.create("undisturbed", template=template, workers=WORKERS)
    tenant.until_complete(uuid)
    created = time.monotonic()
    tenant.ask("DELETE", f"/clusters/{uuid}")
    tenant.until_gone(uuid)
    return created - start, time.monotonic() - created


def assert_balance(install: Install) -> None:
    """The machine has what the store knows, and nothing else."""
    deadline = time.monotonic() + 2.0
    while (found := imbalance(install)) and time.monotonic() < deadline:
        time.sleep(0.05)  # a process that was killed takes its time to go
    assert found == []


def kill_and_restart(install: Install, after: float) -> None:
    time.sleep(after)  # the moment is the subject of the test
    install.kill()
    install.up()


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_create_goes_on(
    install: Install,
    tenant: Tenant,
    template: str,
    usual: tuple[float, float],
    moment: int,
) -> None:
    uuid = tenant.create(f"create-{moment}", template=template, workers=WORKERS)
    try:
        kill_and_restart(install, usual[0] * moment / MOMENTS)
        tenant.until_complete(uuid)
        assert_balance(install)
    finally:
        tenant.ask("DELETE", f"/clusters/{uuid}")
        tenant.until_gone(uuid)
    assert_balance(install)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_delete_goes_on(
    install: Install,
    tenant: Tenant,
    template: str,
    usual: tuple[float, float],
    moment: int,
) -> None:
    uuid = tenant.create(f"delete-{moment}", template=template, workers=WORKERS)
    tenant.until_complete(uuid)
    assert tenant.ask("DELETE", f"/clusters/{uuid}").status == 204
    kill_and_restart(install, usual[1] * moment / MOMENTS)
    tenant.until_gone(uuid)
    assert_balance(install)
