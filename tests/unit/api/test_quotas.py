"""Quotas, statistics, services and the catalogue, as clients use them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tests.unit.api.conftest import ADMIN, THEIRS, Api, reasons

ONE = "/v1/quotas/ours/Cluster"


async def set_quota(api: Api, project: str, resource: str, limit: int) -> dict[str, Any]:
    body = {"project_id": project, "resource": resource, "hard_limit": limit}
    answer = await api.ask("POST", "/v1/quotas", body, token=ADMIN)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_a_quota_s_life(api: Api) -> None:
    default = (await api.ask("GET", ONE)).json()
    assert (default["hard_limit"], default["id"], default["created_at"]) == (10, None, None)
    made = await set_quota(api, "ours", "Cluster", 1)
    assert made.keys() == {
        "id", "project_id", "resource", "hard_limit", "created_at", "updated_at"
    }  # fmt: skip
    assert (await api.ask("GET", ONE)).json() == made
    await api.cluster()
    template = await api.template()
    full = await api.ask("POST", "/v1/clusters", {"cluster_template_id": template["uuid"]})
    assert full.status_code == 403
    assert "quota" in full.text
    # As python-magnumclient sends it: the path's own words once more.
    body = {"project_id": "ours", "resource": "Cluster", "hard_limit": 5}
    changed = await api.ask("PATCH", ONE, body, token=ADMIN)
    assert (changed.status_code, changed.json()["hard_limit"]) == (202, 5), changed.text
    assert (await api.ask("DELETE", ONE, token=ADMIN)).status_code == 204
    assert (await api.ask("GET", ONE)).json()["hard_limit"] == 10
    for method, sent in (("DELETE", None), ("PATCH", body)):
        assert (await api.ask(method, ONE, sent, token=ADMIN)).status_code == 404


async def test_it_is_made_once(api: Api) -> None:
    await set_quota(api, "ours", "Cluster", 1)
    body = {"project_id": "ours", "resource": "Cluster", "hard_limit": 2}
    assert (await api.ask("POST", "/v1/quotas", body, token=ADMIN)).status_code == 409


async def test_magnum_s_defaults(api: Api) -> None:
    body = {"project_id": "ours", "resource": None, "hard_limit": None}
    made = (await api.ask("POST", "/v1/quotas", body, token=ADMIN)).json()
    assert (made["resource"], made["hard_limit"]) == ("Cluster", 1)


async def test_the_path_says_whose_it_is(api: Api) -> None:
    await set_quota(api, "ours", "Cluster", 1)
    await set_quota(api, "theirs", "Cluster", 1)
    body = {"project_id": "theirs", "resource": "Cluster", "hard_limit": 9}
    changed = (await api.ask("PATCH", ONE, body, token=ADMIN)).json()
    assert (changed["project_id"], changed["hard_limit"]) == ("ours", 9)
    theirs = (await api.ask("GET", "/v1/quotas/theirs/Cluster", token=THEIRS)).json()
    assert theirs["hard_limit"] == 1


async def test_lists_and_pages(api: Api) -> None:
    for resource in ("Cluster", "Node", "CPU"):
        await set_quota(api, "ours", resource, 3)
    await set_quota(api, "theirs", "Cluster", 3)
    assert len((await api.ask("GET", "/v1/quotas")).json()["quotas"]) == 3
    seen: list[str] = []
    url: str | None = "/v1/quotas?all_tenants=True&limit=3"
    while url:
        page = (await api.ask("GET", url, token=ADMIN)).json()
        seen += [f"{one['project_id']} {one['resource']}" for one in page["quotas"]]
        url = page["next"]
        assert url is None or "all_tenants=True" in url
    assert seen == ["ours Cluster", "ours Node", "ours CPU", "theirs Cluster"]


@pytest.mark.parametrize("path", ["/v1/quotas", "/v1/audit", "/v1/clusters/one/events"])
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("marker=3f2b1c8e-0000-4000-8000-000000000000", "marker must be a whole number"),
        ("marker=", "marker must be a whole number, not ''."),
        ("limit=0", "limit must be at least 1, not 0."),
        ("sort_key=nope", "nope"),
        ("sort_dir=up", "sort_dir must be 'asc' or 'desc', not 'up'."),
        ("all=1", "There is no query parameter 'all'."),
    ],
)
async def test_bad_numbered_pages(api: Api, path: str, query: str, reason: str) -> None:
    await api.cluster(name="one")
    answer = await api.ask("GET", f"{path}?{query}")
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"project_id": None}, "project_id must be a valid string"),
        ({"project_id": ""}, "project_id"),
        ({"resource": "Luck"}, "'Luck'"),
        ({"resource": 5}, "resource must be a valid string"),
        ({"hard_limit": -2}, "hard_limit"),
        ({"hard_limit": "x"}, "hard_limit must be a valid integer"),
        ({"hard_limit": 2**60}, "hard_limit"),
        ({"id": 5}, "There is no field 'id' here."),
    ],
)
async def test_bad_quotas(api: Api, fields: dict[str, Any], reason: str) -> None:
    body = {"project_id": "ours", "resource": "Cluster", "hard_limit": 5, **fields}
    answer = await api.ask("POST", "/v1/quotas", body, token=ADMIN)
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "hard_limit is missing."),
        ({"hard_limit": None}, "hard_limit must be a valid integer, not None."),
        ([], "must be a valid dictionary"),
        ([{"op": "replace", "path": "/hard_limit", "value": 1}], "must be a valid dictionary"),
    ],
)
async def test_bad_changes(api: Api, body: Any, reason: str) -> None:
    await set_quota(api, "ours", "Cluster", 1)
    answer = await api.ask("PATCH", ONE, body, token=ADMIN)
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]


async def test_stats(api: Api) -> None:
    await api.cluster(name="one", node_count=2, flavor_id="small")
    await api.cluster(THEIRS, name="two", node_count=1)
    for token, query, clusters, nodes in (
        ("ours", "", 1, 3),
        ("ours", "?project_id=ours", 1, 3),
        ("ours", "?project_id=ours&type=cluster", 1, 3),
        (ADMIN, "", 2, 5),
        (ADMIN, "?project_id=theirs", 1, 2),
        (ADMIN, "?project_id=nobodys", 0, 0),
    ):
        answer = await api.ask("GET", f"/v1/stats{query}", token=token)
        assert answer.json() == {"clusters": clusters, "nodes": nodes}, query
    everything = (await api.ask("GET", "/v1/stats?type=all")).json()
    assert everything.keys() == {"clusters", "nodes", "vcpus", "memory_mib", "disk_gib"}
    assert everything["vcpus"] > 3
    answer = await api.ask("GET", "/v1/stats?type=weather")
    assert reasons(answer) == ["type must be cluster or all, not 'weather'."]


async def test_services(api: Api) -> None:
    for host in ("a", "b"):
        await api.store.heartbeats.beat(host, "moorage-conductor")
    answer = await api.ask("GET", "/v1/mservices", token=ADMIN)
    one, other = answer.json()["mservices"]
    assert one.keys() == {
        "id", "host", "binary", "state", "disabled", "disabled_reason", "report_count",
        "created_at", "updated_at",
    }  # fmt: skip
    assert (one["host"], one["state"], one["disabled"]) == ("a", "up", False)
    assert datetime.datetime.fromisoformat(one["updated_at"]).tzinfo is not None
    page = (await api.ask("GET", "/v1/mservices?limit=1&sort_dir=desc", token=ADMIN)).json()
    assert [service["host"] for service in page["mservices"]] == ["b"]
    rest = (await api.ask("GET", page["next"], token=ADMIN)).json()
    assert [service["host"] for service in rest["mservices"]] == ["a"]
    assert other["id"] != one["id"]
    for query, reason in (
        ("sort_key=nope", "sort_key is one of id, host"),
        ("marker=99", "The marker '99' was not found."),
        ("marker=x", "marker must be a whole number"),
    ):
        answer = await api.ask("GET", f"/v1/mservices?{query}", token=ADMIN)
        assert answer.status_code == 400
        assert reason in reasons(answer)[0]


async def test_the_catalogue(api: Api) -> None:
    detail = {"vcpus": 4, "memory_mib": 2048, "disk_gib": 10}
    body = {"kind": "flavor", "name": "large", "detail": detail}
    made = await api.ask("POST", "/v1/catalogue", body, token=ADMIN)
    assert made.status_code == 201, made.text
    assert made.json()["detail"].items() >= detail.items()
    assert (made.json()["provider"], made.json()["builtin"]) == ("fake", False)
    flavors = (await api.ask("GET", "/v1/catalogue?kind=flavor&provider=fake")).json()["catalogue"]
    assert {flavor["name"] for flavor in flavors} == {"tiny", "small", "large"}
    assert await api.cluster(flavor_id="large")
    twice = await api.ask("POST", "/v1/catalogue", body, token=ADMIN)
    assert twice.status_code == 409
    for _, status in enumerate((204, 404)):
        gone = await api.ask("DELETE", "/v1/catalogue/flavor/large?provider=fake", token=ADMIN)
        assert gone.status_code == status
    stays = await api.ask("DELETE", "/v1/catalogue/flavor/tiny", token=ADMIN)
    assert stays.status_code == 409


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "boat"}, "boat"),
        ({"kind": None}, "kind must be a valid string"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"provider": "nowhere"}, "'nowhere'"),
        ({"detail": {}}, "vcpus"),
        ({"detail": {"vcpus": 0, "memory_mib": 1, "disk_gib": 1}}, "vcpus must be from 1"),
        ({"detail": {"sails": 3}}, "'sails'"),
        ({"detail": "big"}, "detail must be a valid dictionary"),
        ({"builtin": True}, "There is no field 'builtin' here."),
    ],
)
async def test_bad_offers(api: Api, fields: dict[str, Any], reason: str) -> None:
    body = {"kind": "flavor", "name": "large", **fields}
    answer = await api.ask("POST", "/v1/catalogue", body, token=ADMIN)
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]


@pytest.mark.parametrize("query", ["kind=boat", "provider=nowhere", "name=x"])
async def test_bad_catalogue_queries(api: Api, query: str) -> None:
    answer = await api.ask("GET", f"/v1/catalogue?{query}")
    assert answer.status_code == 400
    assert query.rsplit("=", maxsplit=1)[-1] in reasons(answer)[0] or "'name'" in reasons(answer)[0]
