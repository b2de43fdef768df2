from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.errors import NotServed
from moorage.api.versions import LEAST, MOST, asked_version
from moorage.model.errors import RetryLater
from tests.unit.api.conftest import OURS, Api

HEADER = "OpenStack-API-Version"


async def asked(api: Api, header: str | None, path: str = "/v1/clusters") -> httpx.Response:
    headers = {HEADER: header} if header is not None else {}
    return await api.ask("GET", path, version=None, headers=headers)


@pytest.mark.parametrize(
    ("header", "version"),
    [
        (None, "1.1"),
        ("container-infra 1.1", "1.1"),
        ("container-infra 1.7", "1.7"),
        ("container-infra 1.14", "1.14"),
        ("container-infra latest", "1.14"),
        ("container-infra LATEST", "1.14"),
        ("container-infra  1.9 ", "1.9"),
        ("compute 2.1, container-infra 1.5", "1.5"),
    ],
)
async def test_served(api: Api, header: str | None, version: str) -> None:
    answer = await asked(api, header)
    assert answer.status_code == 200
    assert answer.headers[HEADER] == f"container-infra {version}"
    assert answer.headers["OpenStack-API-Minimum-Version"] == "container-infra 1.1"
    assert answer.headers["OpenStack-API-Maximum-Version"] == "container-infra 1.14"
    assert answer.headers["Vary"] == HEADER


@pytest.mark.parametrize(
    "header",
    [
        "",
        "1.5",
        "latest",
        "container-infra",
        "container-infra ",
        "container-infra 1",
        "container-infra 1.0",
        "container-infra 1.15",
        "container-infra 2.1",
        "container-infra 1.x",
        "container-infra 1.1.1",
        "container-infra -1.1",
        "container-infra 1.99999999999999999999",
        "compute 2.1",
        "container-infrared 1.1",
    ],
)
async def test_not_served(api: Api, header: str) -> None:
    answer = await asked(api, header)
    assert answer.status_code == 406
    (error,) = answer.json()["errors"]
    assert (error["min_version"], error["max_version"]) == ("1.1", "1.14")
    assert error["request_id"] == answer.headers["x-openstack-request-id"]
    assert answer.headers["OpenStack-API-Minimum-Version"] == "container-infra 1.1"
    assert answer.headers["OpenStack-API-Maximum-Version"] == "container-infra 1.14"
    assert HEADER not in answer.headers


@given(st.text(max_size=60))
def test_any_header_is_a_version_or_is_refused(header: str) -> None:
    try:
        version = asked_version(header.encode("latin-1", "replace"))
        assert version.minor is None or LEAST <= version.minor <= MOST
    except NotServed as error:
        assert "\n" not in str(error)


async def test_errors_carry_the_version_too(api: Api) -> None:
    for path, status in (("/v1/clusters/none", 404), ("/v1/clusters?limit=0", 400)):
        answer = await asked(api, "container-infra 1.4", path)
        assert answer.status_code == status
        assert answer.headers[HEADER] == "container-infra 1.4"


async def test_stack_id_becomes_cluster_id(api: Api) -> None:
    uuid = await api.cluster(name="one")
    for path in ("/v1/clusters/one", "/v1/clusters", "/v1/clusters/detail"):
        for header, has, lacks in (
            (None, "stack_id", "cluster_id"),
            ("container-infra 1.12", "stack_id", "cluster_id"),
            ("container-infra 1.13", "cluster_id", "stack_id"),
            ("container-infra latest", "cluster_id", "stack_id"),
        ):
            body = (await asked(api, header, path)).json()
            body = body["clusters"][0] if "clusters" in body else body
            assert body[has] == uuid
            assert lacks not in body


@pytest.mark.parametrize(("version", "status"), [("1.9", 400), (None, 400), ("1.10", 202)])
async def test_no_nodes_from_1_10_on(api: Api, version: str | None, status: int) -> None:
    template = await api.template()
    body = {"cluster_template_id": template["uuid"], "name": "none", "node_count": 0}
    answer = await api.ask("POST", "/v1/clusters", body, version=version)
    assert answer.status_code == status
    if status == 400:
        assert "node_count must be from 1" in answer.text
    await api.cluster(name="one")
    patch = [{"op": "replace", "path": "/node_count", "value": 0}]
    answer = await api.ask("PATCH", "/v1/clusters/one", patch, version=version)
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/healthz", "/readyz"])
async def test_open_to_everyone(api: Api, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await api.ask(method, path, token=None, version=None)
        assert answer.status_code == 200


async def test_discovery(api: Api) -> None:
    root = (await api.ask("GET", "/", token=None)).json()
    (version,) = root["versions"]
    assert version["id"] == "v1"
    assert version["status"] == "CURRENT"
    assert (version["min_version"], version["max_version"]) == ("1.1", "1.14")
    assert version["links"] == [{"href": "http://cloud:9511/v1/", "rel": "self"}]
    v1 = (await api.ask("GET", "/v1/", token=None)).json()
    assert v1["id"] == "v1"
    assert v1["clusters"][0] == {"href": "http://cloud:9511/v1/clusters/", "rel": "self"}


async def test_not_ready(api: Api) -> None:
    api.unready.append(RetryLater("The conductor has not come up yet."))
    answer = await api.ask("GET", "/readyz", token=None)
    assert answer.status_code == 503
    assert "conductor" in answer.text
    assert (await api.ask("GET", "/healthz", token=None)).status_code == 200


async def test_openapi_tells_of_token_version_and_errors(api: Api) -> None:
    assert (await api.ask("GET", "/openapi.json", token=None)).status_code == 401
    schema = (await api.ask("GET", "/openapi.json", token=OURS)).json()
    assert schema["components"]["securitySchemes"]["token"]["name"] == "X-Auth-Token"
    show = schema["paths"]["/v1/clusters/{ident}"]["get"]
    assert "422" not in show["responses"]
    for status, shape in (("404", "Errors"), ("401", "KeystoneErrors")):
        assert show["responses"][status]["content"]["application/json"]["schema"] == {
            "$ref": f"#/components/schemas/{shape}"
        }
    assert {"OpenStack-API-Version", "ident"} == {p["name"] for p in show["parameters"]}
    assert schema["paths"]["/v1"]["get"]["security"] == []
    body = schema["paths"]["/v1/clusters"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["$ref"].endswith("/ClusterCreate")
