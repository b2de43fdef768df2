"""Real engines: root, runc, dockerd. Each test leaves the machine as it was, also when it fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

pytest.register_assert_rewrite("tests.real.crash")

from moorage import failpoints  # noqa: E402
from moorage.drivers.swarm import SwarmDriver  # noqa: E402
from moorage.identity.home import SERVICE_USER, KeystoneHome  # noqa: E402
from moorage.model.cluster import ClusterSpec  # noqa: E402
from tests.contract.cases import Yard, local  # noqa: E402
from tests.contract.test_drivers import Site, wanted  # noqa: E402
from tests.real.crash import Crash  # noqa: E402
from tests.real.install import Install  # noqa: E402
from tests.real.machine import difference, snapshot  # noqa: E402

NEEDED = (
    *("runc", "dockerd", "haproxy", "containerd", "nft", "iptables", "tini", "ip", "docker"),
    *("etcd", "runsvdir", "conntrack", "pdns_recursor", "curl"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine that lacks what these tests need fails them: a skip would look like a pass."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    real = [item for item in items if item.get_closest_marker("real")]
    if real and lacking:
        pytest.exit(f"tests marked `real` need {', '.join(lacking)}: see `make test`", 2)


@contextlib.contextmanager
def fresh_install() -> Iterator[Install]:
    """A Moorage that is not up yet; nothing of it may be left afterwards."""
    with tempfile.TemporaryDirectory(prefix="moorage-test-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)
        before = snapshot(directory)
        made = Install(Path(directory) / "state")
        try:
            yield made
        finally:
            made.purge()
        assert difference(before, snapshot(directory)) == {}


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """A Moorage with failpoints, and a Keystone that isn't killed with it."""
    with tempfile.TemporaryDirectory(prefix="moorage-test-", dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o711)
        before = snapshot(directory)
        other = Install(home / "keystone")
        points = home / "failpoints"
        points.mkdir()
        install = Install(home / "state", keystone_port=other.keystone_port)
        made = None
        try:
            other.up()
            install.keystone = f"http://127.0.0.1:{other.keystone_port}/v3"
            password = KeystoneHome(other.state).password(SERVICE_USER)
            install.variables |= {
                "MOORAGE_KEYSTONE_PASSWORD": password,
                "MOORAGE_FAKES": "1",
                "MOORAGE_HEAL_REPLACEMENTS": "100",  # a worker is lost again and again
                failpoints.VARIABLE: str(points),
            }
            tenant = replace(other.tenant("red"), install=install)
            admin = replace(other.admin(), install=install)
            made = Crash(install, tenant, admin, points)
            made.start()
            yield made
        finally:
            if made:
                made.close()
            install.purge()
            other.purge()
        assert difference(before, snapshot(directory)) == {}


@pytest.fixture(scope="module")
def install() -> Iterator[Install]:
    """A Moorage that is up, for the tests of a module; nothing of it is left afterwards."""
    with fresh_install() as made:
        made.up()
        yield made


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    """Local nodes, and nothing of them afterwards."""
    async with local(tmp_path) as opened:
        yield opened


@pytest.fixture
def spec() -> ClusterSpec:
    """The swarm that `site` has; a module may want another one."""
    return wanted(name="web")


@pytest_asyncio.fixture
async def site(yard: Yard, spec: ClusterSpec) -> AsyncIterator[Site]:
    """A swarm in the yard, wanted and not made yet."""
    driver = SwarmDriver()
    try:
        yield Site(driver, yard, spec)
    finally:
        await driver.aclose()
