"""openstacksdk's container_infrastructure_management proxy, and who may come to the API how."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.real.clients import Shell
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real

SCRIPT = """
import json, sys, time
import openstack

cloud = openstack.connect(cloud="tenant")
api = cloud.container_infrastructure_management
template = api.create_cluster_template(
    name="sdk", coe="swarm", image_id="host", flavor_id="tiny", master_flavor_id="tiny")
cluster = api.create_cluster(
    name="sdk", cluster_template_id=template.id, node_count=1, master_count=1)


def whole(count):
    for _ in range(600):
        found = api.get_cluster(cluster.id)
        if found.status.endswith("_COMPLETE") and found.node_count == count:
            return found
        assert not found.status.endswith("_FAILED"), found
        time.sleep(0.1)
    raise SystemExit(f"never whole: {found}")


made = whole(1)
before = made.node_count
api.update_cluster(made, node_count=2)
grown = whole(2)
said = {
    "templates": [t.name for t in api.cluster_templates()],
    "clusters": [c.name for c in api.clusters()],
    "found": api.find_cluster("sdk").uuid == cluster.uuid,
    "missing": api.find_cluster("nowhere"),
    "counts": [before, grown.node_count],
    "address": grown.api_address,
    "ca": api.get_cluster_certificate(cluster.id).pem.splitlines()[0],
    "renamed": api.update_cluster_template(
        api.get_cluster_template(template.id), name="other").name,
}
api.delete_cluster(cluster.id)
for _ in range(600):
    if api.find_cluster(cluster.id) is None:
        break
    time.sleep(0.1)
api.delete_cluster_template(template.id)
said["left"] = [t.name for t in api.cluster_templates()]
print(json.dumps(said))
"""

LIST = """
import json, openstack
api = openstack.connect(cloud="app").container_infrastructure_management
refused = ""
try:
    api.create_cluster_template(name="app", coe="swarm")
except openstack.exceptions.HttpException as error:
    refused = error.status_code
print(json.dumps({"templates": [t.name for t in api.cluster_templates()], "refused": refused}))
"""


def test_the_sdk_does_all_that_it_can(install: Install, tmp_path_factory: Any) -> None:
    shell = Shell(install.tenant("sdk"), tmp_path_factory.mktemp("user"))
    said = shell.python(SCRIPT)
    assert said.pop("address").startswith("tcp://")
    assert said == {
        "templates": ["sdk"],
        "clusters": ["sdk"],
        "found": True,
        "missing": None,
        "counts": [1, 2],
        "ca": "-----BEGIN CERTIFICATE-----",
        "renamed": "other",
        "left": [],
    }


def application_credential(tenant: Tenant, role: str) -> tuple[str, str]:
    """One that the tenant's user made, with one role of the user's: its id and secret."""
    token = tenant.install.token(tenant.credentials)
    ask = tenant.install.ask_keystone
    user = ask("GET", "/auth/tokens", token).body["token"]["user"]["id"]
    body = {"application_credential": {"name": role, "roles": [{"name": role}]}}
    made = ask("POST", f"/users/{user}/application_credentials", token, body)
    assert made.status == 201, made
    found = made.body["application_credential"]
    return found["id"], found["secret"]


@pytest.mark.parametrize(("role", "refused"), [("member", ""), ("reader", 403)])
def test_an_application_credential_may_what_its_roles_may(
    install: Install, tmp_path_factory: Any, role: str, refused: object
) -> None:
    tenant = install.tenant(f"app-{role}")
    tenant.make_template("seen")
    shell = Shell(tenant, tmp_path_factory.mktemp("user"))
    ident, secret = application_credential(tenant, role)
    cloud = {
        "auth_type": "v3applicationcredential",
        "auth": {
            "auth_url": tenant.credentials.auth_url,
            "application_credential_id": ident,
            "application_credential_secret": secret,
        },
    }
    shell.clouds.write_text(json.dumps({"clouds": {"app": cloud}}))  # YAML as well
    said = shell.python(LIST)
    assert said["refused"] == refused
    assert said["templates"] == (["seen", "app"] if role == "member" else ["seen"])


def test_a_cluster_outlives_its_user_and_its_project(install: Install) -> None:
    tenant = install.tenant("gone")
    uuid = tenant.create("orphan", template=tenant.make_template(), workers=0)
    shown = tenant.until_complete(uuid)

    admin = install.admin()
    token = install.token(admin.credentials)
    for path in (f"/users/{shown['user_id']}", f"/projects/{shown['project_id']}"):
        assert install.ask_keystone("DELETE", path, token).status == 204
    assert uuid in str(admin.ask("GET", "/clusters?all_projects=true").body)
    assert admin.ask("POST", f"/clusters/{uuid}/actions/resize", {"node_count": 1}).status == 202
    admin.until_complete(uuid)
    assert admin.ask("DELETE", f"/clusters/{uuid}").status == 204
    admin.until_gone(uuid)
