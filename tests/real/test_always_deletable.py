"""Whatever was done to its nodes, its owners and its key: a delete ends, and leaves nothing."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from moorage.install import install_id
from moorage.providers.local import cgroups
from moorage.providers.local.slots import DIRECTORY
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real


def remains(install: Install, uuid: str) -> list[str]:
    """What exists of a cluster, found by its name."""
    name = install_id(install.state)
    found = [install.state / "nodes" / uuid, *Path("/run/moorage").glob(f"{name}/{uuid}.*")]
    found += Path("/sys/fs/cgroup").glob(f"*/moorage/{name}/{uuid}")
    told = [str(path) for path in found if path.exists()]
    for link in Path("/sys/class/net").glob("mrg*"):
        with contextlib.suppress(OSError):
            if uuid in (link / "ifalias").read_text():
                told.append(link.name)
    if DIRECTORY.exists():
        told += [str(claim) for claim in DIRECTORY.iterdir() if uuid in str(claim.readlink())]
    return told


def links_of(install: Install, uuid: str, node: str) -> list[str]:
    wanted = f"moorage {install_id(install.state)} {uuid} {node}"
    links = Path("/sys/class/net").glob("mrg*")
    return [link.name for link in links if (link / "ifalias").read_text().strip() == wanted]


def freeze(install: Install, uuid: str, node: str) -> int:
    """SIGSTOP for all that runs in the node; how many processes that were."""
    top = cgroups.directory(cgroups.path(install_id(install.state), uuid, node))
    pids = {int(pid) for file in top.rglob("cgroup.procs") for pid in file.read_text().split()}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return len(pids)


def lose_its_owner(install: Install, admin: Tenant, project: str) -> None:
    """The project and its user are gone in Keystone."""
    token = install.token(admin.credentials)
    for kind, name in (("projects", project), ("users", f"{project}-member")):
        (found,) = install.ask_keystone("GET", f"/{kind}?name={name}", token).body[kind]
        gone = install.ask_keystone("DELETE", f"/{kind}/{found['id']}", token)
        assert gone.status == 204, gone


def test_a_delete_ends(install: Install) -> None:
    tenant, admin = install.tenant("red"), install.admin()
    template = tenant.make_template()
    torn = tenant.create("torn", template=template, workers=1)
    erased = tenant.create("erased", template=template, workers=0)
    for uuid in (torn, erased):
        tenant.until_complete(uuid)
        assert remains(install, uuid)
    lose_its_owner(install, admin, "red")
    install.kill()
    # A hanging engine; a node that runc is told to forget; a link that is taken away.
    assert freeze(install, torn, "master-0") > 3
    root = f"/run/moorage/{install_id(install.state)}"
    subprocess.run(["runc", "--root", root, "delete", "-f", f"{torn}.worker-0"], check=True)
    (link,) = links_of(install, torn, "master-0")
    subprocess.run(["ip", "link", "del", link], check=True)
    # A cluster whose directory is removed while its node runs.
    shutil.rmtree(install.state / "nodes" / erased)
    # A key file that is another one's.
    key = install.state / "keys" / "seal.key"
    key.write_bytes(base64.b64encode(b"k" * 32) + b"\n")
    assert "--key-lost" in install.refusal("up")
    install.moorage("up", "--key-lost", env=install.variables)
    admin.token = ""
    for uuid in (torn, erased):
        assert admin.ask("DELETE", f"/clusters/{uuid}").status == 204
    for uuid in (torn, erased):
        admin.until_gone(uuid)
        assert remains(install, uuid) == []
    answer = admin.ask("GET", "/orphans")
    assert answer.body == {"orphans": []}
