"""Every route in every version: served, or 406 with the versions that have it."""

from __future__ import annotations

from typing import Any

import pytest

from moorage.api.authentication import PUBLIC
from moorage.api.versions import LEAST, MOST
from tests.unit.api.conftest import ADMIN, READER, Api, reasons
from tests.unit.api.test_guarded import Names, everything, filled, target

__all__ = ["target"]

UPSTREAM: dict[str, tuple[int, int]] = {
    "/v1/bays": (1, 10),
    "/v1/bays/detail": (1, 10),
    "/v1/bays/{ident}": (1, 10),
    "/v1/baymodels": (1, 10),
    "/v1/baymodels/detail": (1, 10),
    "/v1/baymodels/{ident}": (1, 10),
    "/v1/clusters/{ident}/actions/resize": (7, 14),
    "/v1/clusters/{ident}/actions/upgrade": (8, 14),
    "/v1/clusters/{ident}/nodegroups": (9, 14),
    "/v1/clusters/{ident}/nodegroups/detail": (9, 14),
    "/v1/clusters/{ident}/nodegroups/{nodegroup}": (9, 14),
    "/v1/credentials/{ident}": (12, 14),
}
"""Read from Magnum's controllers, and not from ours; all else is in every version."""


@pytest.mark.parametrize("minor", range(LEAST, MOST + 1))
async def test_served_or_not(api: Api, target: Names, minor: int) -> None:
    """Asked as a reader: what is served and changes something is 403, and changes nothing."""
    for method, path in everything(api):
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=READER, version=f"1.{minor}")
        since, until = UPSTREAM.get(path, (LEAST, MOST))
        if since <= minor <= until:
            assert answer.status_code in {200, 403}, (method, path, answer.text)
        else:
            assert answer.status_code == 406, (method, path, answer.text)
            (error,) = answer.json()["errors"]
            assert (error["min_version"], error["max_version"]) == (f"1.{since}", f"1.{until}")
            assert f"1.{minor}" in error["detail"]
        assert answer.headers["OpenStack-API-Version"] == f"container-infra 1.{minor}"


async def test_without_a_version_it_is_the_oldest(api: Api, target: Names) -> None:
    for method, path in everything(api):
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=READER, version=None)
        since, _ = UPSTREAM.get(path, (LEAST, MOST))
        assert (answer.status_code == 406) == (since > 1), (method, path)


async def test_the_newest_is_the_last_that_has_the_route(api: Api, target: Names) -> None:
    """python-magnumclient 2.17 asks for the latest, also of bays."""
    for method, path in everything(api):
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=READER, version="latest")
        assert answer.status_code in {200, 403}, (method, path, answer.text)
        _, until = UPSTREAM.get(path, (LEAST, MOST))
        assert answer.headers["OpenStack-API-Version"] == f"container-infra 1.{until}"


@pytest.mark.parametrize(
    "name",
    ["container-infra", "container-infrastructure", "container-infrastructure-management"],
)
async def test_the_service_s_names(api: Api, name: str) -> None:
    """keystoneauth, and so openstacksdk, asks by the longest; the answer is in the same words."""
    answer = await api.ask(
        "GET", "/v1/clusters", version=None, headers={"OpenStack-API-Version": f"{name} 1.9"}
    )
    assert answer.status_code == 200
    assert answer.headers["OpenStack-API-Version"] == f"{name} 1.9"


async def test_openapi_names_each_route_s_versions(api: Api) -> None:
    schema = (await api.ask("GET", "/openapi.json")).json()
    for path, operations in schema["paths"].items():
        since, until = UPSTREAM.get(path, (LEAST, MOST))
        for operation in operations.values():
            (version,) = (p for p in operation["parameters"] if p["in"] == "header")
            assert version["required"] == (since > LEAST)
            assert version["schema"]["enum"] == [
                *(f"container-infra 1.{minor}" for minor in range(since, until + 1)),
                "container-infra latest",
            ]
    described = {(m.upper(), path) for path, ops in schema["paths"].items() for m in ops}
    hidden = {("HEAD", path) for path in PUBLIC} | {("GET", "/openapi.json")}
    assert described | hidden == set(everything(api))


@pytest.mark.parametrize("path", ["clusters", "bays"])
@pytest.mark.parametrize(("version", "status"), [("1.1", 400), ("1.2", 400), ("1.3", 202)])
async def test_rollback_from_1_3_on(api: Api, path: str, version: str, status: int) -> None:
    await api.cluster(name="one")
    patch = [{"op": "replace", "path": "/node_count", "value": 2}]
    url = f"/v1/{path}/one/?rollback=True"
    answer = await api.ask("PATCH", url, patch, version=version)
    assert answer.status_code == status, answer.text
    if status == 400:
        assert reasons(answer) == ["There is no rollback before version 1.3."]


async def test_rollback_is_true_or_false(api: Api) -> None:
    await api.cluster(name="one")
    patch = [{"op": "replace", "path": "/node_count", "value": 2}]
    answer = await api.ask("PATCH", "/v1/clusters/one?rollback=perhaps", patch)
    assert reasons(answer) == ["rollback must be true or false, not 'perhaps'."]
    answer = await api.ask("PATCH", "/v1/clusters/one?rolback=true", patch)
    assert reasons(answer) == ["There is no query parameter 'rolback'."]


@pytest.mark.parametrize(("version", "status"), [("1.7", 400), ("1.9", 400), ("1.10", 202)])
async def test_resize_to_no_nodes_from_1_10_on(api: Api, version: str, status: int) -> None:
    await api.cluster(name="one")
    answer = await api.ask(
        "POST", "/v1/clusters/one/actions/resize", {"node_count": 0}, version=version
    )
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("version", ["1.9", "1.12", "1.13", "1.14"])
async def test_a_group_s_fields_are_the_same_in_every_version(api: Api, version: str) -> None:
    """As in Magnum 23: its code changes nothing of node groups by version."""
    uuid = await api.cluster(name="one")
    body: dict[str, Any] = {"name": "gpu", "node_labels": {"gpu": "yes"}}
    answer = await api.ask("POST", "/v1/clusters/one/nodegroups", body, version=version)
    assert answer.status_code == 202, answer.text
    assert answer.json()["node_labels"] == {"gpu": "yes"}
    assert (answer.json()["stack_id"], answer.json()["cluster_id"]) == (uuid, uuid)


async def test_a_wrong_version_is_told_before_a_wrong_body(api: Api) -> None:
    answer = await api.ask(
        "POST", "/v1/clusters/one/actions/resize", {"nope": 1}, version="1.6", token=ADMIN
    )
    assert answer.status_code == 406
