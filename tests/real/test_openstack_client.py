"""`openstack coe …` as OpenStack ships it, every command, and the API's words for what can't be."""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.real.clients import ROOT, Shell, cell
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real
TEMPLATE = ("--coe", "swarm", "--image", "host", "--external-network", "public")


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    return install.tenant("red")


@pytest.fixture(scope="module")
def shell(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tenant, tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def admin(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(install.admin(), tmp_path_factory.mktemp("admin"))


@pytest.fixture(scope="module")
def fleet(shell: Shell, tenant: Tenant) -> str:
    """The uuid of a cluster of one manager and two workers, made by the client."""
    shell.coe("cluster", "template", "create", "swarm", *TEMPLATE, "--flavor", "tiny",
              "--master-flavor", "tiny")  # fmt: skip
    shell.coe("cluster", "create", "fleet", "--cluster-template", "swarm",
              "--node-count", "2", "--master-count", "1")  # fmt: skip
    uuid: str = tenant.ask("GET", "/clusters/fleet").body["uuid"]
    tenant.until_complete(uuid)
    return uuid


def test_templates(shell: Shell, fleet: str) -> None:
    assert [t["name"] for t in shell.shown("cluster", "template", "list")] == ["swarm"]
    assert shell.shown("cluster", "template", "show", "swarm")["coe"] == "swarm"
    shell.coe("cluster", "template", "create", "other", *TEMPLATE)  # the client's own m1.medium
    shell.coe("cluster", "template", "update", "other", "--label", "tier=gold",
              "--name", "renamed")  # fmt: skip
    shown = shell.shown("cluster", "template", "show", "renamed")
    assert (shown["labels"], shown["flavor_id"]) == ({"tier": "gold"}, "m1.medium")
    assert "in use" in shell.coe("cluster", "template", "delete", "swarm")
    shell.coe("cluster", "template", "delete", "renamed")


def test_a_cluster_and_its_engine(shell: Shell, fleet: str, tmp_path: Path) -> None:
    assert [c["status"] for c in shell.shown("cluster", "list")] == ["CREATE_COMPLETE"]
    assert shell.shown("cluster", "show", "fleet")["node_count"] == 2
    config = shell.coe("cluster", "config", "fleet", "--output-certs", "--dir", str(tmp_path))
    ready = shell.docker(config, "node", "ls", "--format", "{{.Status}}")
    assert ready == ["Ready"] * 3


def test_update_and_resize(shell: Shell, tenant: Tenant, fleet: str) -> None:
    shell.coe("cluster", "update", "fleet", "--node-count", "1")
    tenant.until(fleet, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 1)
    shell.coe("cluster", "resize", "fleet", "2")
    tenant.until_complete(fleet)
    before = tenant.cluster(fleet)["node_addresses"]
    shell.coe("cluster", "resize", "fleet", "1", "--nodes-to-remove", before[0])
    tenant.until_complete(fleet)
    assert tenant.cluster(fleet)["node_addresses"] == before[1:]


def test_node_groups(shell: Shell, tenant: Tenant, fleet: str, tmp_path: Path) -> None:
    shell.coe("nodegroup", "create", "fleet", "gpu", "--node-count", "1", "--flavor", "small",
              "--max-nodes", "2", "--role", "gpu", "--node-labels", "disk=ssd",
              "--node-taints", "gpu=yes:NoSchedule")  # fmt: skip
    tenant.until_complete(fleet)
    names = [group["name"] for group in shell.shown("nodegroup", "list", "fleet")]
    assert names == ["default-master", "default-worker", "gpu"]
    of_role = shell.shown("nodegroup", "list", "fleet", "--role", "gpu")
    assert [group["status"] for group in of_role] == ["CREATE_COMPLETE"]
    assert shell.shown("nodegroup", "show", "fleet", "gpu")["flavor_id"] == "small"
    shell.coe("nodegroup", "update", "fleet", "gpu", "--max-nodes", "3")
    assert shell.shown("nodegroup", "show", "fleet", "gpu")["max_node_count"] == 3
    tenant.until_complete(fleet)
    assert "can't have 9 nodes" in shell.coe(
        "cluster", "resize", "fleet", "9", "--nodegroup", "gpu", code=1
    )
    config = shell.coe("cluster", "config", "fleet", "--output-certs", "--dir", str(tmp_path))
    hosts = shell.docker(config, "node", "ls", "--filter", "node.label=disk=ssd",
                         "--format", "{{.Hostname}}")  # fmt: skip
    assert hosts == ["fleet-gpu-0"]
    shell.coe("nodegroup", "delete", "fleet", "gpu")
    tenant.until(fleet, lambda c: c["status"] == "UPDATE_COMPLETE" and c["node_count"] == 1)
    names = [group["name"] for group in shell.shown("nodegroup", "list", "fleet")]
    assert names == ["default-master", "default-worker"]


def test_upgrade(shell: Shell, tenant: Tenant, fleet: str) -> None:
    shell.coe("cluster", "template", "create", "larger", *TEMPLATE, "--flavor", "small",
              "--master-flavor", "tiny")  # fmt: skip
    shell.coe("cluster", "upgrade", "fleet", "larger", "--max-batch-size", "1")
    tenant.until_complete(fleet)
    shown = shell.shown("cluster", "show", "fleet")
    assert (shown["flavor_id"], shown["master_flavor_id"]) == ("small", "tiny")
    assert shown["status"] == "UPDATE_COMPLETE"


def test_certificates_and_credentials(
    shell: Shell, tenant: Tenant, fleet: str, tmp_path: Path
) -> None:
    before = shell.coe("ca", "show", "fleet")
    assert before.startswith("-----BEGIN CERTIFICATE-----")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = tmp_path / "client.csr"
    csr.write_bytes(request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    signed = x509.load_pem_x509_certificate(shell.coe("ca", "sign", "fleet", str(csr)).encode())
    signed.verify_directly_issued_by(x509.load_pem_x509_certificate(before.encode()))

    shell.coe("ca", "rotate", "fleet")
    tenant.until_complete(fleet)
    after = shell.coe("ca", "show", "fleet")
    assert after != before
    again = shell.coe("cluster", "config", "fleet", "--output-certs", "--dir", str(tmp_path))
    token = ("swarm", "join-token", "-q", "worker")
    former = shell.docker(again, *token)
    shell.coe("credential", "rotate", "fleet")
    tenant.until_complete(fleet)
    assert shell.docker(again, *token) != former


def test_quotas_stats_and_services(shell: Shell, admin: Shell, tenant: Tenant, fleet: str) -> None:
    project = tenant.cluster(fleet)["project_id"]
    of = ("--project-id", project, "--resource", "Cluster")
    admin.coe("quotas", "create", *of, "--hard-limit", "1")
    assert cell(admin.coe("quotas", "show", *of), "hard_limit") == "1"
    assert project in admin.coe("quotas", "list", "--all-tenants")
    refused = shell.coe("cluster", "create", "more", "--cluster-template", "swarm", code=1)
    assert "quota of 1 clusters" in refused
    admin.coe("quotas", "update", *of, "--hard-limit", "2")
    assert cell(shell.coe("quotas", "show", *of), "hard_limit") == "2"
    assert "role admin" in shell.coe("quotas", "update", *of, "--hard-limit", "9")
    admin.coe("quotas", "delete", *of)
    stats = shell.coe("stats", "list", project)
    assert (cell(stats, "clusters"), cell(stats, "nodes")) == ("1", "2")
    (conductor,) = admin.shown("service", "list")
    assert (conductor["binary"], conductor["state"]) == ("moorage-conductor", "up")


def test_the_story_is_told(tenant: Tenant, fleet: str) -> None:
    events = tenant.ask("GET", f"/clusters/{fleet}/events").body["events"]
    asked = [event["what"] for event in events if event["kind"] == "request"]
    assert asked[0].startswith("create: 1 tiny in default-master, 2 tiny in default-worker")
    assert "rotate the CA" in asked
    assert any(event["what"] == "init-swarm master-0" for event in events)
    records = tenant.ask("GET", "/audit").body["records"]
    assert {"POST", "PATCH", "DELETE"} == {record["method"] for record in records}


def test_the_end(shell: Shell, tenant: Tenant, fleet: str) -> None:
    shell.coe("cluster", "delete", "fleet")
    tenant.until_gone(fleet)
    for name in ("swarm", "larger"):
        shell.coe("cluster", "template", "delete", name)
    events = tenant.ask("GET", f"/clusters/{fleet}/events").body["events"]
    assert events[-1]["what"].startswith("deleted: ")


def test_every_command_was_tried(shell: Shell, admin: Shell) -> None:
    """The list is the client's own, so that a command which it gains can't be forgotten."""
    (installed,) = ROOT.glob(
        ".venv-clients/lib/*/site-packages/python_magnumclient*/entry_points.txt"
    )
    points = configparser.ConfigParser()
    points.read(installed)
    commands = {
        name.removeprefix("coe_").replace("_", " ")
        for name in points["openstack.container_infra.v1"]
    }
    ran = [*shell.ran, *admin.ran]
    assert len(commands) == 29
    assert {c for c in commands if not any(line.startswith(c) for line in ran)} == set()


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"cluster_template_id": "nowhere"}, 400, "nowhere"),
        ({"flavor_id": "gigantic"}, 400, "tiny"),
        ({"keypair": "mine"}, 400, "default"),
        ({"fixed_network": "lan"}, 400, "private, public"),
        ({"node_count": -1}, 400, "node_count"),
        ({"node_count": "many"}, 400, "node_count"),
        ({"node_count": 17}, 403, "quota"),
        ({"flavor_id": "large", "node_count": 12}, 409, "MiB"),
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
