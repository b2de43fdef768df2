"""Attackers at every route. The routes come from the application, so none can be forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
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


def routes(found: Iterable[Any]) -> set[tuple[str, str]]:
    """Every (method, path) that there is, also those that OpenAPI does not show."""
    pairs: set[tuple[str, str]] = set()
    for route in found:
        inner = getattr(route, "original_router", route)
        if hasattr(inner, "routes"):
            pairs |= routes(inner.routes)
        else:
            pairs |= {(method, inner.path) for method in inner.methods}
    return pairs


BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/clustertemplates"): {"coe": "fake"},
    ("PATCH", "/v1/clustertemplates/{ident}"): [{"op": "add", "path": "/labels/x", "value": "y"}],
    ("POST", "/v1/clusters"): {"cluster_template_id": "IDENT"},
    ("PATCH", "/v1/clusters/{ident}"): [{"op": "replace", "path": "/node_count", "value": 2}],
    ("POST", "/v1/certificates"): {"cluster_uuid": "IDENT", "csr": "none"},
}
"""A good body for every route that takes one; IDENT stands for what it is about."""


@pytest.fixture
async def target(api: Api) -> AsyncIterator[dict[str, str]]:
    """The idents of what the project `ours` has, by the first part of the path."""
    template = await api.template()
    cluster = await api.cluster(name="one")
    yield {
        "clustertemplates": template["uuid"],
        "clusters": cluster,
        "certificates": cluster,
    }


def filled(method: str, path: str, target: dict[str, str]) -> tuple[str, Any]:
    kind = path.split("/")[2] if path.count("/") > 1 else ""
    ident = target.get(kind, "")
    about = target["clustertemplates"] if kind == "clusters" else ident
    body = BODIES.get((method, path))
    if isinstance(body, dict):
        body = {key: about if value == "IDENT" else value for key, value in body.items()}
    return path.replace("{ident}", ident), body


def everything(api: Api) -> list[tuple[str, str]]:
    found = sorted(routes(api.app.routes))
    assert len(found) > 20
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
async def test_no_good_token(api: Api, target: dict[str, str], token: str | None) -> None:
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


async def test_silent_keystone(api: Api, target: dict[str, str]) -> None:
    for method, path in everything(api):
        if path in PUBLIC:
            continue
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=SILENT)
        assert answer.status_code == 503, (method, path)
        assert answer.headers["retry-after"] == "3"


async def test_a_reader_reads_and_no_more(api: Api, target: dict[str, str]) -> None:
    for method, path in everything(api):
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=READER)
        assert answer.status_code == (200 if method in READS else 403), (method, path, answer.text)
    assert (await api.ask("GET", "/v1/clusters/one")).json()["node_count"] == 1


async def test_a_role_that_means_nothing_here(api: Api, target: dict[str, str]) -> None:
    for method, path in everything(api):
        if path in PUBLIC or path == "/openapi.json":
            continue
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=NOBODY)
        assert answer.status_code == 403, (method, path, answer.text)


async def test_another_project_sees_nothing(api: Api, target: dict[str, str]) -> None:
    """What it may not see looks just like what is not there."""
    unknown = dict.fromkeys(target, UNKNOWN)
    for method, path in everything(api):
        about_one = "{ident}" in path or (method, path) in {
            ("POST", "/v1/clusters"),
            ("POST", "/v1/certificates"),
        }
        if not about_one:
            continue
        url, body = filled(method, path, target)
        answer = await api.ask(method, url, body, token=THEIRS)
        assert answer.status_code == (404 if "{ident}" in path else 400), (method, path)
        url, body = filled(method, path, unknown)
        nothing = await api.ask(method, url, body, token=THEIRS)
        assert nothing.status_code == answer.status_code
        for ident in set(target.values()):
            said = reasons(answer)[0].replace(ident, UNKNOWN)
            if said == reasons(nothing)[0]:
                break
        else:
            raise AssertionError((reasons(answer), reasons(nothing)))
    for path in ("/v1/clusters", "/v1/clusters/detail", "/v1/clustertemplates"):
        answer = await api.ask("GET", path, token=THEIRS)
        (found,) = (value for value in answer.json().values() if isinstance(value, list))
        assert found == []
        forbidden = await api.ask("GET", f"{path}?all_projects=true", token=THEIRS)
        assert forbidden.status_code == 403
        everybodys = await api.ask("GET", f"{path}?all_projects=true", token=ADMIN)
        assert target[path.split("/")[2]] in everybodys.text
    by_name = await api.ask("GET", "/v1/clusters/one", token=THEIRS)
    assert by_name.status_code == 404
    with_marker = await api.ask("GET", f"/v1/clusters?marker={target['clusters']}", token=THEIRS)
    assert with_marker.status_code in {400, 404}


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
