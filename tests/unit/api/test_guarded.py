"""Attackers at every route. The routes come from the application, so none can be forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from moorage.api.authentication import PUBLIC
from tests.unit.api.conftest import (
    ADMIN,
    BUG,
    NOBODY,
    OURS,
    READER,
    SILENT,
    THEIRS,
    Api,
    reasons,
)

READS = {"GET", "HEAD"}
UNKNOWN = "3f2b1c8e-0000-4000-8000-000000000000"


BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/clustertemplates"): {"coe": "fake"},
    ("PATCH", "/v1/clustertemplates/{ident}"): [{"op": "add", "path": "/labels/x", "value": "y"}],
    ("POST", "/v1/baymodels"): {"coe": "fake"},
    ("PATCH", "/v1/baymodels/{ident}"): [{"op": "add", "path": "/labels/x", "value": "y"}],
    ("POST", "/v1/clusters"): {"cluster_template_id": "TEMPLATE"},
    ("PATCH", "/v1/clusters/{ident}"): [{"op": "replace", "path": "/node_count", "value": 2}],
    ("POST", "/v1/bays"): {"baymodel_id": "TEMPLATE"},
    ("PATCH", "/v1/bays/{ident}"): [{"op": "replace", "path": "/node_count", "value": 2}],
    ("POST", "/v1/clusters/{ident}/actions/resize"): {"node_count": 2},
    ("POST", "/v1/clusters/{ident}/actions/upgrade"): {"cluster_template": "TEMPLATE"},
    ("POST", "/v1/clusters/{ident}/nodegroups"): {"name": "more"},
    ("PATCH", "/v1/clusters/{ident}/nodegroups/{nodegroup}"): [
        {"op": "replace", "path": "/max_node_count", "value": 9}
    ],
    ("POST", "/v1/certificates"): {"cluster_uuid": "CLUSTER", "csr": "none"},
    ("PATCH", "/v1/certificates/{ident}"): None,
    ("PATCH", "/v1/credentials/{ident}"): None,
    ("POST", "/v1/quotas"): {"project_id": "ours", "resource": "Node", "hard_limit": 1000},
    ("PATCH", "/v1/quotas/{project_id}/{resource}"): {"hard_limit": 1000},
    ("POST", "/v1/catalogue"): {"kind": "image", "name": "mine"},
}
"""A good body for every route that takes one; what is in capitals stands for an ident."""

ADMINS = {
    ("GET", "/v1/mservices"),
    ("GET", "/v1/orphans"),
    ("DELETE", "/v1/orphans/{orphan}"),
    ("POST", "/v1/quotas"),
    ("PATCH", "/v1/quotas/{project_id}/{resource}"),
    ("DELETE", "/v1/quotas/{project_id}/{resource}"),
    ("POST", "/v1/catalogue"),
    ("DELETE", "/v1/catalogue/{kind}/{name}"),
}
"""What only an admin may, in whatever project."""

NAMED_IN_BODIES = {
    ("POST", "/v1/clusters"),
    ("POST", "/v1/bays"),
    ("POST", "/v1/certificates"),
}
"""Where a body names an object that another project may have."""

LISTS = {
    "/v1/clusters": "clusters",
    "/v1/clusters/detail": "clusters",
    "/v1/bays": "bays",
    "/v1/bays/detail": "bays",
    "/v1/clustertemplates": "clustertemplates",
    "/v1/clustertemplates/detail": "clustertemplates",
    "/v1/baymodels": "baymodels",
    "/v1/baymodels/detail": "baymodels",
    "/v1/audit": "records",
    "/v1/quotas": "quotas",
}
"""The lists of a project's own things, and the name that each has in its answer."""

Names = dict[str, str]


async def furnished(api: Api) -> Names:
    """What stands for each name in a path or body: things of the project `ours`, made here."""
    template = await api.template()
    cluster = await api.cluster(name="one")
    limit = {"project_id": "ours", "resource": "Cluster", "hard_limit": 7}
    assert (await api.ask("POST", "/v1/quotas", limit, token=ADMIN)).status_code == 201
    groups = (await api.ask("GET", f"/v1/clusters/{cluster}/nodegroups")).json()["nodegroups"]
    return {
        "TEMPLATE": template["uuid"],
        "CLUSTER": cluster,
        "nodegroup": groups[1]["uuid"],
        "project_id": "ours",
        "resource": "Cluster",
        "orphan": UNKNOWN,
        "kind": "image",
        "name": "host",
    }


@pytest.fixture
async def target(api: Api) -> Names:
    return await furnished(api)


def named(path: str, target: Names) -> Names:
    """What stands for each name in that path."""
    templates = path.startswith(("/v1/clustertemplates", "/v1/baymodels"))
    return {**target, "ident": target["TEMPLATE" if templates else "CLUSTER"]}


def filled(method: str, path: str, target: Names) -> tuple[str, Any]:
    """The URL and the body of a request that would be good from its owner."""
    names = named(path, target)
    body = BODIES.get((method, path))
    if isinstance(body, dict):
        body = {
            key: names[value] if value in ("TEMPLATE", "CLUSTER") else value
            for key, value in body.items()
        }
    return path.format(**names), body


def everything(api: Api) -> list[tuple[str, str]]:
    """Every (method, path) that there is, also those that OpenAPI does not show."""
    found = sorted((route.method, route.path) for route in api.app.routes)
    assert len(found) > 50
    assert len(set(found)) == len(found)
    return found


async def test_anonymous_routes_are_versions_and_health(api: Api) -> None:
    open_paths = set()
    for method, path in everything(api):
        answer = await api.ask(method, path, token=None)
        if answer.status_code != 401:
            open_paths.add(path)
            assert method in READS
    assert open_paths == PUBLIC == {"/", "/v1", "/healthz", "/readyz"}


async def test_every_route_that_takes_a_body_is_tried_with_one(api: Api) -> None:
    takers = {(m, p) for m, p in everything(api) if m in {"POST", "PUT", "PATCH"}}
    assert takers == BODIES.keys()


@pytest.mark.parametrize("token", [None, "", "forged", "expired", "gAAAA\u00ff", "x" * 9000])
async def test_no_good_token(api: Api, target: Names, token: str | None) -> None:
    for method, path in everything(api):
        if path in PUBLIC:
            continue
        url, body = filled(method, path, target)
        headers = {} if token is None else {"X-Auth-Token": token.encode("latin-1")}
        answer = await api.http.request(method, url, json=body, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == 'Keystone uri="http://cloud:5000/v3"'
        assert answer.headers["x-openstack-request-id"].startswith("req-")
        assert answer.headers["openstack-api-maximum-version"] == "container-infra 1.14"
        if method != "HEAD":
            error = answer.json()["error"]
            assert (error["code"], error["title"]) == (401, "Unauthorized")


async def test_the_body_of_an_anonymous_request_is_not_read(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await api.ask("POST", "/v1/clusters", token="forged", content=endless())
    assert answer.status_code == 401


async def test_silent_keystone(api: Api, target: Names) -> None:
    for method, path in everything(api):
        if path in PUBLIC:
            continue
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=SILENT, version="latest")
        assert answer.status_code == 503, (method, path)
        assert answer.headers["retry-after"] == "3"


async def test_a_reader_reads_and_no_more(api: Api, target: Names) -> None:
    for method, path in everything(api):
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=READER, version="latest")
        may = method in READS and (method, path) not in ADMINS
        assert answer.status_code == (200 if may else 403), (method, path, answer.text)
    assert (await api.ask("GET", "/v1/clusters/one")).json()["node_count"] == 1


async def test_what_only_an_admin_may(api: Api, target: Names) -> None:
    for method, path in everything(api):
        if (method, path) in ADMINS:
            url, body = filled(method, path, target)
            answer = await api.ask(method, url, body, token=OURS)
            assert answer.status_code == 403, (method, path, answer.text)
            answer = await api.ask(method, url, body, token=ADMIN)
            assert answer.status_code not in {401, 403}, (method, path, answer.text)


async def test_a_role_that_means_nothing_here(api: Api, target: Names) -> None:
    for method, path in everything(api):
        if path in PUBLIC or path == "/openapi.json":
            continue
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=NOBODY, version="latest")
        assert answer.status_code == 403, (method, path, answer.text)


async def test_another_project_sees_nothing(api: Api, target: Names) -> None:
    """What it may not see looks just like what is not there."""
    before = (await api.ask("GET", "/v1/clusters/one")).json()
    unknown = dict.fromkeys(("TEMPLATE", "CLUSTER", "nodegroup"), UNKNOWN)
    tried = 0
    for method, path in everything(api):
        if "{ident}" not in path and (method, path) not in NAMED_IN_BODIES:
            continue
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=THEIRS, version="latest")
        status = 404 if "{ident}" in path else 400
        assert answer.status_code == status, (method, path, answer.text)
        url, body = filled(method, path, target | unknown)
        nothing = await api.ask(method, url, body, token=THEIRS, version="latest")
        assert nothing.status_code == status
        said = reasons(answer)[0]
        for ident in (target["TEMPLATE"], target["CLUSTER"], target["nodegroup"]):
            said = said.replace(ident, UNKNOWN)
        assert said == reasons(nothing)[0], (method, path)
        tried += 1
    assert tried > 20
    assert (await api.ask("GET", "/v1/clusters/one")).json() == before


async def test_another_project_s_lists(api: Api, target: Names) -> None:
    for path, name in LISTS.items():
        answer = await api.ask("GET", path, token=THEIRS, version="latest")
        assert answer.json()[name] == [], path
        every = f"{path}?all_projects=true"
        assert (await api.ask("GET", every, token=THEIRS, version="latest")).status_code == 403
        everybodys = await api.ask("GET", every, token=ADMIN, version="latest")
        assert everybodys.json()[name], path
    for path in ("/v1/clusters/one", "/v1/bays/one", "/v1/clusters/one/events"):
        assert (await api.ask("GET", path, token=THEIRS, version="latest")).status_code == 404
    with_marker = await api.ask("GET", f"/v1/clusters?marker={target['CLUSTER']}", token=THEIRS)
    assert with_marker.status_code in {400, 404}


async def test_every_list_is_known_to_this_test(api: Api, target: Names) -> None:
    """A list that takes all_projects is a project's own; a new one belongs into LISTS."""
    for method, path in everything(api):
        if method == "GET" and "{" not in path:
            answer = await api.ask(
                "GET", f"{path}?all_projects=true", token=ADMIN, version="latest"
            )
            takes_it = answer.status_code == 200 and path not in PUBLIC | {"/openapi.json"}
            assert takes_it == (path in LISTS), path


async def test_quotas_and_stats_of_another_project(api: Api, target: Names) -> None:
    for project in ("ours", "nobodys"):
        for method, path in everything(api):
            if "{project_id}" in path:
                url, body = filled(method, path, target | {"project_id": project})
                answer = await api.ask(method, url, body, token=THEIRS)
                assert answer.status_code == 403, (method, url, answer.text)
        stats = await api.ask("GET", f"/v1/stats?project_id={project}", token=THEIRS)
        assert stats.status_code == 403
    assert (await api.ask("GET", "/v1/stats", token=THEIRS)).json() == {"clusters": 0, "nodes": 0}
    assert (await api.ask("GET", "/v1/quotas/ours/Cluster")).json()["hard_limit"] == 7


async def test_a_group_of_another_cluster(api: Api, target: Names) -> None:
    """Also where both clusters are one's own."""
    await api.cluster(name="two")
    for method, path in everything(api):
        if "{nodegroup}" in path:
            url, body = filled(method, path, target | {"CLUSTER": "two"})
            answer = await api.ask(method, url, body)
            assert answer.status_code == 404, (method, url, answer.text)
    for action, body in (
        ("resize", {"node_count": 3}),
        ("upgrade", {"cluster_template": target["TEMPLATE"]}),
    ):
        answer = await api.ask(
            "POST",
            f"/v1/clusters/two/actions/{action}",
            {**body, "nodegroup": target["nodegroup"]},
        )
        assert answer.status_code in {400, 404}, answer.text
        assert target["nodegroup"] in answer.text


async def test_upgrade_to_another_project_s_template(api: Api, target: Names) -> None:
    await api.cluster(THEIRS, name="theirs")
    answer = await api.ask(
        "POST",
        "/v1/clusters/theirs/actions/upgrade",
        {"cluster_template": target["TEMPLATE"]},
        token=THEIRS,
    )
    assert answer.status_code in {400, 404}
    assert target["TEMPLATE"] in answer.text


async def test_tokens_and_insides_stay_out_of_answers_and_log(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await api.ask("GET", "/v1/clusters", token=BUG)
    assert answer.status_code == 500
    request_id = answer.headers["x-openstack-request-id"]
    assert request_id in answer.text
    assert "secret" not in answer.text
    assert "ZeroDivisionError" not in answer.text
    for token in (OURS, "a-forged-token"):
        await api.ask("POST", "/v1/clusters", {"discovery_url": "in-the-body"}, token=token)
    await api.ask("GET", "/v1/clusters?marker=in-the-query", token="a-forged-token")
    logged = capsys.readouterr().out
    assert request_id in logged
    assert "the secret of the house" in logged, "a bug is logged with its cause"
    assert "a-forged-token" not in logged
    assert "in-the-body" not in logged
    assert "in-the-query" not in logged


async def test_the_token_is_validated_once_a_request(api: Api) -> None:
    await api.ask("GET", "/v1/clusters")
    assert api.keystone.seen == [OURS]


async def test_a_websocket_is_turned_away(api: Api) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v1/clusters", "headers": [], "query_string": b""}
    await api.app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
