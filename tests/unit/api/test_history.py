"""Events of a cluster, and the audit log: what is written down, and what never is."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from moorage.api import create_api
from moorage.model.event import Record
from tests.unit.api.conftest import ADMIN, OURS, READER, THEIRS, Api, PaperKeystone


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
            "id", "kind", "what", "at", "turn", "seconds", "cause", "ok"
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
        "address", "status", "reason",
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
    async def ready() -> None: ...

    app = create_api(
        services=api.services,
        validator=PaperKeystone(),
        ready=ready,
        identity_url="",
        trust_proxy=trusted,
    )
    headers = {"X-Auth-Token": OURS, "X-Forwarded-For": "6.6.6.6, 192.0.2.7"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as http:
        await http.delete("/v1/clusters/none", headers=headers)
    assert [record["address"] for record in await records(api)] == [address]
