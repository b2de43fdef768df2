"""bays and baymodels, by the last generation of clients that speaks of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.clients import Shell, cell, column
from tests.real.install import Install

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def shell(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(install.tenant("old"), tmp_path_factory.mktemp("user"))


def test_a_bay_from_its_model_to_its_engine(shell: Shell, tmp_path: Path) -> None:
    shell.magnum("baymodel-create", "--name", "model", "--coe", "swarm", "--image-id", "host",
                 "--flavor-id", "tiny", "--master-flavor-id", "tiny",
                 "--external-network-id", "public", "--keypair-id", "default")  # fmt: skip
    assert column(shell.magnum("baymodel-list"), 2) == ["model"]
    shell.magnum("baymodel-update", "model", "replace", "name=renamed")
    assert cell(shell.magnum("baymodel-show", "renamed"), "coe") == "swarm"

    shell.magnum("bay-create", "--name", "bay", "--baymodel", "renamed", "--node-count", "1")
    uuid = cell(shell.magnum("bay-show", "bay"), "uuid")
    shell.tenant.until_complete(uuid)
    assert column(shell.magnum("bay-list"), 2) == ["bay"]
    assert cell(shell.magnum("bay-show", "bay"), "status") == "CREATE_COMPLETE"
    config = shell.magnum("bay-config", "bay", "--dir", str(tmp_path))
    assert shell.docker(config, "node", "ls", "--format", "{{.Status}}") == ["Ready"] * 2

    shell.magnum("bay-update", "bay", "replace", "node_count=2")
    shell.tenant.until(uuid, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 2)
    shell.magnum("bay-delete", "bay")
    shell.tenant.until_gone(uuid)
    shell.magnum("baymodel-delete", "renamed")
    assert column(shell.magnum("baymodel-list"), 2) == []


def test_the_same_clients_newer_words(shell: Shell) -> None:
    shell.magnum("cluster-template-create", "model", "--coe", "swarm", "--image", "host",
                 "--flavor", "tiny", "--master-flavor", "tiny",
                 "--external-network", "public", "--keypair", "default")  # fmt: skip
    shell.magnum("cluster-create", "fleet", "--cluster-template", "model", "--node-count", "1")
    uuid = cell(shell.magnum("cluster-show", "fleet"), "uuid")
    shell.tenant.until_complete(uuid)
    # Not its ca-rotate: it unpacks a `requests.Response`, so it fails with every server.
    # It says first, on stdout, that it is deprecated itself.
    assert "\n-----BEGIN CERTIFICATE-----\n" in shell.magnum("ca-show", "fleet")
    project = shell.tenant.cluster(uuid)["project_id"]
    assert cell(shell.magnum("stats-list", "--project-id", project), "clusters") == "1"
    shell.magnum("cluster-delete", "fleet")
    shell.tenant.until_gone(uuid)
    shell.magnum("cluster-template-delete", "model")
