"""`openstack coe …` as OpenStack ships it, and the API's words for what can't be."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real
OPENSTACK = Path(__file__).parents[2] / ".venv-clients" / "bin" / "openstack"


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    return install.tenant("red")


@pytest.fixture(scope="module")
def clouds(install: Install, tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clouds") / "clouds.yaml"
    install.save_cloud(path, tenant.credentials)
    return path


def openstack(clouds: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [str(OPENSTACK), "--os-cloud", "tenant", "coe", *words],
        env={
            **os.environ,
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "HOME": str(clouds.parent),
            "SHELL": "/bin/sh",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def shown(clouds: Path, *words: str) -> Any:
    return json.loads(openstack(clouds, *words, "-f", "json"))


def test_a_cluster_from_template_to_engine(clouds: Path, tenant: Tenant, tmp_path: Path) -> None:
    made = ("--coe", "swarm", "--flavor", "tiny", "--image", "local")
    openstack(clouds, "cluster", "template", "create", "swarm", *made, "--external-network", "out")
    assert [t["name"] for t in shown(clouds, "cluster", "template", "list")] == ["swarm"]
    assert shown(clouds, "cluster", "template", "show", "swarm")["coe"] == "swarm"
    openstack(clouds, "cluster", "create", "fleet", "--cluster-template", "swarm",
              "--node-count", "1", "--master-count", "1")  # fmt: skip
    uuid = tenant.ask("GET", "/clusters/fleet").body["uuid"]
    tenant.until_complete(uuid)
    assert [c["status"] for c in shown(clouds, "cluster", "list")] == ["CREATE_COMPLETE"]
    assert shown(clouds, "cluster", "show", "fleet")["node_count"] == 1

    config = openstack(
        clouds, "cluster", "config", "fleet", "--output-certs", "--dir", str(tmp_path)
    )
    exported = dict(
        line.removeprefix("export ").split("=", 1)
        for line in config.splitlines()
        if line.startswith("export ")
    )
    done = subprocess.run(
        ["docker", "node", "ls", "--format", "{{.Status}}"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | exported,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["Ready", "Ready"], done.stderr

    openstack(clouds, "cluster", "update", "fleet", "--node-count", "2")
    tenant.until(uuid, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 2)
    openstack(clouds, "cluster", "delete", "fleet")
    tenant.until_gone(uuid)
    openstack(clouds, "cluster", "template", "delete", "swarm")


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"cluster_template_id": "nowhere"}, 400, "nowhere"),
        ({"flavor_id": "gigantic"}, 400, "tiny"),
        ({"node_count": -1}, 400, "node_count"),
        ({"node_count": "many"}, 400, "node_count"),
        ({"node_count": 17}, 403, "quota"),
        ({"flavor_id": "large", "node_count": 60}, 409, "MiB"),
        ({"name": "-bad-"}, 400, "name"),
        ({"flavour": "tiny"}, 400, "flavour"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_made(
    install: Install, tenant: Tenant, fields: dict[str, Any], status: int, said: str
) -> None:
    template = tenant.ask("GET", "/clustertemplates/plain")
    uuid = template.body["uuid"] if template.status == 200 else tenant.make_template("plain")
    body = {"name": "never", "cluster_template_id": uuid, "node_count": 1} | fields
    answer = tenant.ask("POST", "/clusters", body)
    assert answer.status == status, answer
    assert said in json.dumps(answer.body)
    assert tenant.ask("GET", "/clusters/never").status == 404
    nodes = install.state / "nodes"
    assert not nodes.exists() or not list(nodes.iterdir())
