"""Bays and baymodels, as python-magnumclient 2.17 uses them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.conftest import Api, reasons

SUMMARY = {
    "uuid", "name", "baymodel_id", "docker_volume_size", "labels", "master_flavor_id",
    "flavor_id", "node_count", "status", "bay_create_timeout", "master_count", "stack_id",
    "links",
}  # fmt: skip
WHOLE = SUMMARY | {
    "status_reason", "discovery_url", "api_address", "coe_version", "container_version",
    "node_addresses", "master_addresses", "bay_faults", "fixed_network", "fixed_subnet",
    "floating_ip_enabled", "master_lb_enabled", "created_at", "updated_at",
}  # fmt: skip
BAYMODEL = {
    "uuid", "name", "coe", "image_id", "flavor_id", "master_flavor_id", "dns_nameserver",
    "keypair_id", "external_network_id", "fixed_network", "fixed_subnet", "network_driver",
    "apiserver_port", "docker_volume_size", "cluster_distro", "links", "http_proxy",
    "https_proxy", "no_proxy", "volume_driver", "registry_enabled", "labels", "tls_disabled",
    "public", "server_type", "insecure_registry", "docker_storage_driver", "master_lb_enabled",
    "floating_ip_enabled", "hidden", "tags", "created_at", "updated_at",
}  # fmt: skip
MAGNUMCLIENT: dict[str, Any] = {
    "name": "old", "node_count": 2, "master_count": 1, "discovery_url": None,
    "bay_create_timeout": 30,
}  # fmt: skip
"""What `magnum bay-create` of python-magnumclient 2.17 sends, the baymodel aside."""


async def made(api: Api, version: str) -> tuple[int, dict[str, Any]]:
    template = await api.template()
    body = {**MAGNUMCLIENT, "baymodel_id": template["uuid"]}
    answer = await api.ask("POST", "/v1/bays", body, version=version)
    shown: dict[str, Any] = answer.json()
    return answer.status_code, shown


async def test_in_1_1_a_bay_is_answered_whole(api: Api) -> None:
    status, bay = await made(api, "1.1")
    assert status == 201, bay
    assert bay.keys() == WHOLE
    assert (bay["node_count"], bay["bay_create_timeout"]) == (2, 30)
    assert bay["links"][0]["href"] == f"http://cloud:9511/v1/bays/{bay['uuid']}"
    patch = [{"op": "replace", "path": "/node_count", "value": 3}]
    changed = await api.ask("PATCH", "/v1/bays/old", patch, version="1.1")
    assert (changed.status_code, changed.json()["node_count"]) == (200, 3)


@pytest.mark.parametrize("version", ["1.2", "1.10"])
async def test_from_1_2_on_it_is_its_uuid(api: Api, version: str) -> None:
    status, bay = await made(api, version)
    assert status == 202, bay
    assert bay.keys() == {"uuid"}
    patch = [{"op": "replace", "path": "/node_count", "value": 3}]
    changed = await api.ask("PATCH", "/v1/bays/old", patch, version=version)
    assert (changed.status_code, changed.json()) == (202, bay)


async def test_a_bay_is_a_cluster(api: Api) -> None:
    _, bay = await made(api, "1.10")
    cluster = (await api.ask("GET", "/v1/clusters/old")).json()
    shown = (await api.ask("GET", "/v1/bays/old", version="1.10")).json()
    assert shown.keys() == WHOLE
    assert shown["uuid"] == shown["stack_id"] == cluster["uuid"] == bay["uuid"]
    assert shown["baymodel_id"] == cluster["cluster_template_id"]
    (listed,) = (await api.ask("GET", "/v1/bays", version="1.10")).json()["bays"]
    assert listed.keys() == SUMMARY
    (detailed,) = (await api.ask("GET", "/v1/bays/detail", version="1.10")).json()["bays"]
    assert detailed == shown
    page = (await api.ask("GET", "/v1/bays?limit=1", version="1.10")).json()
    assert page["next"].startswith("http://cloud:9511/v1/bays?limit=1&")
    assert (await api.ask("DELETE", "/v1/bays/old", version="1.10")).status_code == 204
    assert (await api.ask("GET", "/v1/clusters/old")).json()["status"] == "DELETE_IN_PROGRESS"


@pytest.mark.parametrize("version", ["1.1", "1.10"])
async def test_a_bay_has_a_node_at_least(api: Api, version: str) -> None:
    template = await api.template()
    body = {"baymodel_id": template["uuid"], "node_count": 0}
    answer = await api.ask("POST", "/v1/bays", body, version=version)
    assert answer.status_code == 400
    assert "node_count must be from 1" in reasons(answer)[0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"baymodel_id": None}, "baymodel_id must be a valid string"),
        ({"baymodel_id": "none"}, "none"),
        ({"cluster_template_id": "x"}, "There is no field 'cluster_template_id' here."),
        ({"bay_create_timeout": "long"}, "bay_create_timeout must be a valid integer"),
        ({"keypair": "mine"}, "There is no field 'keypair' here."),
    ],
)
async def test_bad_bays(api: Api, fields: dict[str, Any], reason: str) -> None:
    template = await api.template()
    body = {**MAGNUMCLIENT, "baymodel_id": template["uuid"], **fields}
    answer = await api.ask("POST", "/v1/bays", body, version="1.10")
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]


async def test_a_baymodel_s_life(api: Api) -> None:
    body = {
        "name": "m", "coe": "fake", "image_id": "host", "keypair_id": "default",
        "external_network_id": "public", "flavor_id": "tiny", "labels": {}, "tls_disabled": False,
        "public": False, "registry_enabled": False, "server_type": "vm", "master_lb_enabled": False,
        "floating_ip_enabled": True, "docker_volume_size": None,
    }  # fmt: skip
    answer = await api.ask("POST", "/v1/baymodels", body, version="1.1")
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert model.keys() == BAYMODEL
    assert model["links"][1]["href"] == f"http://cloud:9511/baymodels/{model['uuid']}"
    patch = [{"op": "replace", "path": "/labels", "value": "{'a': 'b'}"}]
    changed = await api.ask("PATCH", "/v1/baymodels/m", patch, version="1.10")
    assert (changed.status_code, changed.json()["labels"]) == (200, {"a": "b"})
    for path in ("/v1/baymodels", "/v1/baymodels/detail"):
        (listed,) = (await api.ask("GET", path, version="1.10")).json()["baymodels"]
        assert listed == changed.json()
    template = (await api.ask("GET", "/v1/clustertemplates/m")).json()
    assert template["uuid"] == model["uuid"]
    assert (await api.ask("DELETE", "/v1/baymodels/m", version="1.10")).status_code == 204
    assert (await api.ask("GET", "/v1/clustertemplates/m")).status_code == 404
