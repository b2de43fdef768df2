"""The demo, twice, and the machine afterwards: as if nothing had ever been there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.real.install import Install
from tests.real.machine import difference, snapshot

pytestmark = pytest.mark.real


def test_the_demo_shows_it_all_twice_and_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="moorage-demo-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)
        before = snapshot(directory)
        install = Install(Path(directory) / "state")
        ports = ("--port", str(install.port), "--keystone-port", str(install.keystone_port))
        try:
            first = install.moorage("demo", *ports)
            for said in ("CREATE_COMPLETE", "3/3", "6/6", "openstack --os-cloud moorage coe"):
                assert said in first, first
            second = install.moorage("demo", *ports)
            assert "6/6" in second
        finally:
            install.moorage("down", "--purge", "--yes")  # what `make demo-down` runs
        assert not install.state.exists()
        assert difference(before, snapshot(directory)) == {}
