"""Events of a cluster, and the audit log: what is written down, and what never is."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest

from moorage.api import create_api
from moorage.api.readiness import Readiness
from moorage.model.event import Record
from moorage.model.node import NodeSpec, Role
from tests.unit.api.conftest import (
    ADMIN,
    OURS,
    READER,
    THEIRS,
    TINY,
    Api,
    PaperKeystone,
    reasons,
)
from tests.unit.trust.requests import request

LONE = "5f0c1c1e-0000-4000-8000-000000000000"


async def records(api: Api, token: str = OURS, query: str = "") -> list[dict[str, Any]]:
    answer = await api.ask("GET", f"/v1/audit{query}", token=token)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["records"]
    return found


async def test_events(api: Api) -> None:
    uuid = await api.cluster(name="one")
    patch = [{"op": "replace", "path": "/node_count", "value": 2}]
    await api.ask("PATCH", "/v1/clusters/one", patch)
    for ident in ("one", uuid):
        events = (await api.ask("GET", f"/v1/clusters/{ident}/events")).json()["events"]
        assert [event["kind"] for event in events] == ["request", "request"]
        assert events[0].keys() == {
            "id", "kind", "what", "at", "turn", "seconds", "cause", "ok", "request_id"
        }  # fmt: skip
    page = (await api.ask("GET", "/v1/clusters/one/events?limit=1")).json()
    assert page["events"] == events[:1]
    rest = (await api.ask("GET", page["next"])).json()
    assert rest["events"] == events[1:]


async def test_what_is_recorded(api: Api) -> None:
    made = await api.ask("POST", "/v1/clustertemplates", {"coe": "fake", "name": "a"})
    refused = await api.ask("POST", "/v1/clusters", {"cluster_template_id": "none"})
    await api.ask("DELETE", "/v1/clusters/none")
    await api.ask("GET", "/v1/clusters/none")
    one, two, three = await records(api)
    assert one.keys() == {
        "id", "at", "request_id", "user_id", "user_name", "project_id", "method", "path",
        "address", "status", "reason", "target",
    }  # fmt: skip
    assert one["request_id"] == made.headers["x-openstack-request-id"]
    assert (one["method"], one["path"]) == ("POST", "/v1/clustertemplates")
    assert (one["status"], one["reason"], one["user_name"]) == (201, None, "user")
    assert one["address"] == "127.0.0.1"
    assert two["status"] == 400
    assert two["reason"] == refused.json()["errors"][0]["detail"]
    assert (three["method"], three["path"], three["status"]) == (
        "DELETE",
        "/v1/clusters/none",
        404,
    )


async def test_every_change_says_what_it_touched(api: Api) -> None:
    """By uuid, whatever the path calls it, or where it says nothing. No route is left out."""
    csr = request().decode()
    to_two = [{"op": "replace", "path": "/node_count", "value": 2}]
    named = [{"op": "replace", "path": "/tags", "value": "x"}]
    bound = [{"op": "replace", "path": "/max_node_count", "value": 9}]
    model, newer = {"coe": "fake", "name": "model"}, {"coe": "fake", "name": "newer"}
    bay = {"baymodel_id": "model", "name": "bay"}
    cluster = {"cluster_template_id": "small", "name": "one"}
    flavor = {"kind": "image", "name": "beos"}
    limit = {"project_id": "ours", "resource": "Node", "hard_limit": 9}
    provider = api.services.catalogue.providers["fake"]
    await provider.ensure(NodeSpec(LONE, "master-0", Role.MASTER, TINY, "master-0"))
    changes: list[tuple[str, str, str, Any, str]] = [
        ("POST", "/v1/clustertemplates", "", {"coe": "fake", "name": "small"}, "small"),
        ("POST", "/v1/clustertemplates", "", newer, "newer"),
        ("PATCH", "/v1/clustertemplates/{ident}", "small", named, "small"),
        ("POST", "/v1/clusters", "", cluster, "one"),
        ("PATCH", "/v1/clusters/{ident}", "one", to_two, "one"),
        ("POST", "/v1/clusters/{ident}/actions/resize", "one", {"node_count": 1}, "one"),
        (
            "POST",
            "/v1/clusters/{ident}/actions/upgrade",
            "one",
            {"cluster_template": "newer"},
            "one",
        ),
        ("POST", "/v1/clusters/{ident}/nodegroups", "one", {"name": "g"}, "one/g"),
        ("PATCH", "/v1/clusters/{ident}/nodegroups/{nodegroup}", "one g", bound, "one/g"),
        ("DELETE", "/v1/clusters/{ident}/nodegroups/{nodegroup}", "one g", None, "one/g"),
        ("POST", "/v1/certificates", "", {"cluster_uuid": "one", "csr": csr}, "one"),
        ("PATCH", "/v1/certificates/{ident}", "one", None, "one"),
        ("PATCH", "/v1/credentials/{ident}", "one", None, "one"),
        ("DELETE", "/v1/clusters/{ident}", "one", None, "one"),
        ("DELETE", "/v1/orphans/{orphan}", LONE, None, f"={LONE}"),
        ("POST", "/v1/clustertemplates", "", {"coe": "fake", "name": "spare"}, "spare"),
        ("DELETE", "/v1/clustertemplates/{ident}", "spare", None, "spare"),
        ("POST", "/v1/baymodels", "", model, "model"),
        ("PATCH", "/v1/baymodels/{ident}", "model", named, "model"),
        ("POST", "/v1/bays", "", bay, "bay"),
        ("PATCH", "/v1/bays/{ident}", "bay", to_two, "bay"),
        ("DELETE", "/v1/bays/{ident}", "bay", None, "bay"),
        ("POST", "/v1/baymodels", "", {"coe": "fake", "name": "gone"}, "gone"),
        ("DELETE", "/v1/baymodels/{ident}", "gone", None, "gone"),
        ("POST", "/v1/quotas", "", limit, "=ours/Node"),
        ("PATCH", "/v1/quotas/{project_id}/{resource}", "ours Node", limit, "=ours/Node"),
        ("DELETE", "/v1/quotas/{project_id}/{resource}", "ours Node", None, "=ours/Node"),
        ("POST", "/v1/catalogue", "", flavor, "=fake/image/beos"),
        ("DELETE", "/v1/catalogue/{kind}/{name}", "image beos", None, "=fake/image/beos"),
    ]
    uuids: dict[str, str] = {}
    for method, path, names, body, _ in changes:
        asked = path
        for name in names.split():
            asked = re.sub(r"\{\w+\}", name, asked, count=1)
        admins = any(word in path for word in ("quotas", "catalogue", "orphans"))
        version = "1.10" if "/bay" in path else "1.14"
        token = ADMIN if admins else OURS
        answer = await api.ask(method, asked, body, token=token, version=version)
        assert answer.is_success, (asked, answer.text)
        for kind in ("clusters", "clustertemplates", "clusters/one/nodegroups"):
            for one in (
                (await api.ask("GET", f"/v1/{kind}")).json().get(kind.rpartition("/")[2], ())
            ):
                uuids[one["name"]] = one["uuid"]
    kept = await records(api, ADMIN, "?all_projects=true")
    expected = [
        said[1:] if said[0] == "=" else "/".join(uuids[name] for name in said.split("/"))
        for *_, said in changes
    ]
    assert [record["target"] for record in kept] == expected
    changing = {(r.method, r.path) for r in api.app.routes if r.method not in {"GET", "HEAD"}}
    assert {(method, path) for method, path, *_ in changes} == changing


async def test_what_was_not_found_was_not_touched(api: Api) -> None:
    await api.cluster(THEIRS, name="theirs")
    await api.ask("DELETE", "/v1/clusters/theirs")
    await api.ask("POST", "/v1/clusters", {"cluster_template_id": "none"})
    assert [record["target"] for record in await records(api)] == [None, None]


async def test_who_was_given_a_certificate_stands_in_the_cluster_s_story(api: Api) -> None:
    uuid = await api.cluster(name="prod")
    body = {"cluster_uuid": "prod", "csr": request().decode()}
    signed = await api.ask("POST", "/v1/certificates", body)
    assert signed.status_code == 201
    assert (await api.ask("POST", "/v1/certificates", body | {"csr": "no"})).status_code == 400
    assert (await api.ask("POST", "/v1/certificates", body, token=READER)).status_code == 403
    assert (await api.ask("POST", "/v1/certificates", body, token=THEIRS)).status_code == 400
    made, told = (await api.ask("GET", f"/v1/clusters/{uuid}/events")).json()["events"]
    assert (told["kind"], told["cause"]) == ("request", "asked by user")
    assert re.fullmatch(r"sign a client certificate: '[^']*CN=admin[^']*'", told["what"])
    assert told["request_id"] == signed.headers["x-openstack-request-id"]
    ours = await records(api)
    assert [line["request_id"] for line in ours if line["status"] in {201, 202}][1:] == [
        made["request_id"],
        told["request_id"],
    ]
    # A reader's, and one that was refused, name the cluster as well.
    assert [line["target"] for line in ours][2:] == [uuid] * 3


async def test_a_change_whose_record_was_cut_off_stands_in_the_story(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = await api.cluster(name="prod")

    async def killed(self: object, record: Record) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(type(api.services.audit), "record", killed)
    with pytest.raises(asyncio.CancelledError):
        await api.ask("DELETE", "/v1/clusters/prod")
    monkeypatch.undo()
    last = (await api.ask("GET", f"/v1/clusters/{uuid}/events")).json()["events"][-1]
    assert (last["what"], last["cause"]) == ("delete", "asked by user")
    assert last["request_id"].startswith("req-")
    assert last["request_id"] not in {line["request_id"] for line in await records(api)}


@pytest.mark.parametrize("marker", ["2147483648", "9999999999", "-1", "x"])
async def test_a_marker_that_can_be_no_id(api: Api, marker: str) -> None:
    await api.cluster(name="one")
    for path in ("/v1/audit", "/v1/clusters/one/events"):
        answer = await api.ask("GET", f"{path}?marker={marker}")
        assert answer.status_code == 400
        assert marker in reasons(answer)[0]


async def test_every_outcome_of_a_known_caller(api: Api) -> None:
    """Refused by role, version, route, method, body: all of it; by token: nobody is known."""
    tries: list[tuple[str, str, Any, dict[str, Any], int]] = [
        ("POST", "/v1/clusters", {"cluster_template_id": "x"}, {"token": READER}, 403),
        ("POST", "/v1/clusters/x/nodegroups", {"name": "x"}, {"version": "1.5"}, 406),
        ("POST", "/v1/nothing", {}, {}, 404),
        ("PUT", "/v1/clusters", {}, {}, 405),
        ("POST", "/v1/clusters", None, {"content": b"{"}, 415),
        ("POST", "/v1/clusters", None, {"content": b"x" * 300_000}, 413),
        ("POST", "/v1/clusters", {}, {"token": "forged"}, 401),
        ("POST", "/v1/clusters", {}, {"version": "9.9"}, 406),
    ]
    for method, path, body, more, status in tries:
        answer = await api.ask(method, path, body, **more)
        assert answer.status_code == status
    seen = [(record["method"], record["path"], record["status"]) for record in await records(api)]
    assert seen == [(method, path, status) for method, path, _, _, status in tries[:-2]]


async def test_whose_they_are(api: Api) -> None:
    await api.template()
    await api.template(THEIRS)
    assert [record["project_id"] for record in await records(api)] == ["ours"]
    assert [record["project_id"] for record in await records(api, THEIRS)] == ["theirs"]
    assert [record["project_id"] for record in await records(api, ADMIN)] == []
    every = await records(api, ADMIN, "?all_projects=true")
    assert [record["project_id"] for record in every] == ["ours", "theirs"]


async def test_pages(api: Api) -> None:
    for number in range(3):
        await api.template(name=f"t{number}")
    page = (await api.ask("GET", "/v1/audit?limit=2&sort_dir=desc")).json()
    assert [record["id"] for record in page["records"]] == sorted(
        (record["id"] for record in page["records"]), reverse=True
    )
    rest = (await api.ask("GET", page["next"])).json()
    assert (len(page["records"]), len(rest["records"]), rest["next"]) == (2, 1, None)


async def test_secrets_stay_out(api: Api) -> None:
    body = {"coe": "fake", "name": "a", "labels": {"password": "in-the-body"}}
    await api.ask("POST", "/v1/clustertemplates?key=in-the-query", body)
    await api.ask("POST", "/v1/clustertemplates", body, headers={"X-Secret": "in-a-header"})
    text = str(await records(api))
    assert "/v1/clustertemplates" in text
    for secret in ("in-the-body", "in-the-query", "in-a-header"):
        assert secret not in text


async def test_a_path_is_one_line_and_bounded(api: Api) -> None:
    await api.ask("DELETE", "/v1/clusters/a%0Ab%20%1B%C3%BC")
    await api.ask("DELETE", f"/v1/clusters/{'x' * 5000}")
    await api.ask("DELETE", "/v1/clusters/a%00b")
    first, second, third = await records(api)
    assert first["path"] == "/v1/clusters/a%0Ab%20%1B%C3%BC"
    assert len(second["path"]) == 500
    assert third["path"] == "/v1/clusters/a%00b"


async def test_a_log_that_fails_makes_no_error(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def full(self: object, record: Record) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(type(api.services.audit), "record", full)
    made = await api.ask("POST", "/v1/clustertemplates", {"coe": "fake", "name": "a"})
    assert made.status_code == 201
    assert (await api.ask("GET", "/v1/clustertemplates/a")).status_code == 200
    logged = capsys.readouterr().out
    assert "not in the audit log" in logged
    assert "the disk is full" in logged
    assert made.headers["x-openstack-request-id"] in logged


async def test_it_is_written_before_the_answer_goes_out(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    async def note(self: object, record: Record) -> None:
        order.append("recorded")

    monkeypatch.setattr(type(api.services.audit), "record", note)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        order.append(message["type"])

    scope = {
        "type": "http", "method": "DELETE", "path": "/v1/clusters/x", "query_string": b"",
        "headers": [(b"x-auth-token", OURS.encode())],
    }  # fmt: skip
    await api.app(scope, receive, send)
    assert order == ["recorded", "http.response.start", "http.response.body"]


@pytest.mark.parametrize(("trusted", "address"), [(True, "192.0.2.7"), (False, "127.0.0.1")])
async def test_the_address_behind_a_proxy(api: Api, trusted: bool, address: str) -> None:
    app = create_api(
        services=api.services,
        validator=PaperKeystone(),
        ready=Readiness({}),
        identity_url="",
        trust_proxy=trusted,
    )
    headers = {"X-Auth-Token": OURS, "X-Forwarded-For": "6.6.6.6, 192.0.2.7"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as http:
        await http.delete("/v1/clusters/none", headers=headers)
    assert [record["address"] for record in await records(api)] == [address]
