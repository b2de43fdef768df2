"""The drill: an install is lost, but for its nodes, and comes back from its backup elsewhere."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import threading
from pathlib import Path

import pytest

from moorage.app import local_provider
from moorage.cli import choices
from moorage.install import install_id
from moorage.providers.local.runtime import Runc
from tests.real.install import Install, Tenant
from tests.real.test_always_deletable import remains

pytestmark = pytest.mark.real


def pids(state: Path, uuid: str) -> dict[str, int]:
    """The first process of each of the cluster's nodes."""
    runc = Runc(install_id(state))
    nodes = asyncio.run(local_provider(choices.load(state)).observe(uuid))
    inits = {node.name: runc.init(f"{uuid}.{node.name}") for node in nodes}
    return {name: init.pid for name, init in inits.items() if init}


class Load:
    """A tenant who asks and changes all the while; every answer is kept."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.answers: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            made = self.tenant.ask(
                "POST", "/clustertemplates", {"coe": "swarm", "name": None, "flavor_id": "tiny"}
            )
            gone = self.tenant.ask("DELETE", f"/clustertemplates/{made.body['uuid']}")
            self.answers += [made.status, gone.status, self.tenant.ask("GET", "/clusters").status]


def test_an_install_comes_back_elsewhere_with_its_nodes(install: Install) -> None:
    tenant = install.tenant("red")
    template = tenant.make_template()
    kept = tenant.create("kept", template=template, workers=1)
    gone_later = tenant.create("gone-later", template=template, workers=0)
    for uuid in (kept, gone_later):
        tenant.until_complete(uuid)
    file = install.state.parent / "moorage.tar"
    new = Install(install.state.parent / "restored", install.port, install.keystone_port)
    try:
        with Load(tenant) as load:
            install.moorage("backup", str(file))
        assert set(load.answers) == {201, 204, 200}, "nobody was disturbed"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "2 clusters" in install.moorage("backup", "--check", str(file))

        made_later = tenant.create("made-later", template=template, workers=0)
        tenant.until_complete(made_later)
        tenant.ask("DELETE", f"/clusters/{gone_later}")
        tenant.until_gone(gone_later)
        before = {uuid: pids(install.state, uuid) for uuid in (kept, made_later)}
        assert [len(nodes) for nodes in before.values()] == [2, 1]

        assert "up already" in new.refusal("restore", str(file)), "while the old one runs"
        assert not new.state.exists()
        install.kill()
        for path in install.state.iterdir():
            if path.name != "nodes":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

        said = new.moorage("restore", str(file))
        assert str(install.state / "nodes") in said
        new.moorage("up", env=new.variables)
        # The token of before is good; nobody has to sign in again.
        assert tenant.ask("GET", f"/clusters/{kept}").status == 200
        tenant.until_complete(kept)
        assert pids(new.state, kept) == before[kept], "taken over, not started again"
        assert tenant.cluster(gone_later)["name"] == "gone-later"
        tenant.ask("DELETE", f"/clusters/{gone_later}")
        tenant.until_gone(gone_later)

        assert tenant.ask("GET", f"/clusters/{made_later}").status == 404
        cloud = {"OS_CLIENT_CONFIG_FILE": str(new.state / "clouds.yaml")}
        words = ("orphan", "list", "-o", "json", "--os-cloud", "moorage")
        (orphan,) = json.loads(new.moorage(*words, env=cloud))
        assert orphan["uuid"] == made_later
        assert "node master-0: running" in orphan["traces"]
        assert pids(new.state, made_later) == before[made_later], "nothing goes by itself"
        new.moorage("orphan", "remove", made_later, "--os-cloud", "moorage", env=cloud)
        assert json.loads(new.moorage(*words, env=cloud)) == []
        assert pids(new.state, made_later) == {}

        assert "up already" in install.refusal("up"), "the former state, while the new one is up"
        new.moorage("backup", str(file))
    finally:
        new.purge()
    assert not (install.state / "nodes").exists()
    for uuid in (kept, gone_later, made_later):
        assert remains(install, uuid) == []
