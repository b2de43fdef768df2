"""The server killed at any moment goes on where it was, and orphans nothing.

The moments are spread over the time that the operation takes when nobody disturbs it,
measured first, so that they hit all of its steps on a machine of any speed.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from moorage.app import install_id
from moorage.providers.local import slots
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real
MOMENTS = 10
WORKERS = 1


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    return install.tenant("red")


@pytest.fixture(scope="module")
def others(install: Install) -> set[str]:
    """Links of other Moorages that this machine had before the first cluster of `install`."""
    return links()


@pytest.fixture(scope="module")
def template(tenant: Tenant) -> str:
    return tenant.make_template()


@pytest.fixture(scope="module")
def usual(tenant: Tenant, template: str, others: set[str]) -> tuple[float, float]:
    """Seconds of an undisturbed create and of an undisturbed delete."""
    start = time.monotonic()
    uuid = tenant.create("undisturbed", template=template, workers=WORKERS)
    tenant.until_complete(uuid)
    created = time.monotonic()
    tenant.ask("DELETE", f"/clusters/{uuid}")
    tenant.until_gone(uuid)
    return created - start, time.monotonic() - created


def links() -> set[str]:
    return {p.name for p in Path("/sys/class/net").iterdir() if p.name.startswith("mrg")}


def on_this_machine(install: Install) -> dict[str, set[str]]:
    """What exists of the install's clusters, by kind, found without the database."""
    state, name = install.state, install_id(install.state)
    nodes = state / "nodes"
    runc = Path("/run/moorage") / name
    groups = Path("/sys/fs/cgroup").glob(f"*/moorage/{name}/*/*")
    claims = slots.DIRECTORY.iterdir() if slots.DIRECTORY.exists() else iter(())
    return {
        "directories": {f"{p.parent.name}.{p.name}" for p in nodes.glob("*/*")},
        "containers": {p.name for p in runc.iterdir()} if runc.exists() else set(),
        "cgroups": {f"{p.parent.name}.{p.name}" for p in groups if p.is_dir()},
        "links": links(),
        "slots": {p.name for p in claims if str(p.readlink()).startswith(str(state))},
    }


def names(uuid: str) -> set[str]:
    return {f"{uuid}.master-0", *(f"{uuid}.worker-{n}" for n in range(WORKERS))}


def assert_nothing_but(install: Install, uuid: str | None, others: set[str]) -> None:
    found = on_this_machine(install)
    wanted = names(uuid) if uuid else set()
    assert found["directories"] == wanted
    assert found["containers"] == wanted
    assert found["cgroups"] == wanted
    assert len(found["slots"]) == (1 if uuid else 0)
    if not uuid:
        assert found["links"] == others
    else:  # a bridge, and a link for each node
        assert len(found["links"] - others) == 1 + len(wanted)


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
    others: set[str],
    moment: int,
) -> None:
    uuid = tenant.create(f"create-{moment}", template=template, workers=WORKERS)
    try:
        kill_and_restart(install, usual[0] * moment / MOMENTS)
        tenant.until_complete(uuid)
        assert_nothing_but(install, uuid, others)
    finally:
        tenant.ask("DELETE", f"/clusters/{uuid}")
        tenant.until_gone(uuid)
    assert_nothing_but(install, None, others)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_delete_goes_on(
    install: Install,
    tenant: Tenant,
    template: str,
    usual: tuple[float, float],
    others: set[str],
    moment: int,
) -> None:
    uuid = tenant.create(f"delete-{moment}", template=template, workers=WORKERS)
    tenant.until_complete(uuid)
    assert tenant.ask("DELETE", f"/clusters/{uuid}").status == 204
    kill_and_restart(install, usual[1] * moment / MOMENTS)
    tenant.until_gone(uuid)
    assert_nothing_but(install, None, others)
