"""What the log says of a request, and what no request can make it say."""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from moorage.api.strangers import Strangers
from tests.told import Told, listening
from tests.unit.api.conftest import OURS, Api

GIVEN = "req-12345678-1234-1234-1234-1234567890ab"


@pytest.fixture
def log() -> Iterator[Told]:
    with listening() as told:
        yield told


async def test_a_line_says_who_what_and_which_cluster(log: Told, api: Api) -> None:
    cluster = await api.cluster(name="fleet")
    made = log.requests()[-1]
    assert (made["path"], made["status"], made["cluster"]) == ("/v1/clusters", 202, cluster)
    shown = await api.ask("GET", "/v1/clusters/fleet")
    line = log.requests()[-1]
    assert line["cluster"] == cluster, "the uuid, though the path has the name"
    assert line["request_id"] == shown.headers["x-openstack-request-id"]
    assert (line["project"], line["method"], line["status"]) == ("ours", "GET", 200)
    for path in (
        f"/v1/clusters/{cluster}/nodegroups",
        "/v1/clusters/fleet/events",
        "/v1/certificates/fleet",
    ):
        assert (await api.ask("GET", path)).status_code == 200
        assert log.requests()[-1]["cluster"] == cluster
    # As uvicorn does it: a context for each request.
    await asyncio.create_task(api.ask("GET", "/v1/clusters"), context=contextvars.Context())
    assert "cluster" not in log.requests()[-1]


async def test_a_wish_is_signed_with_its_request(log: Told, api: Api) -> None:
    cluster = await api.cluster()
    made = log.requests()[-1]["request_id"]
    patch = [{"op": "replace", "path": "/node_count", "value": 3}]
    changed = await api.ask("PATCH", f"/v1/clusters/{cluster}", patch)
    told = (await api.ask("GET", f"/v1/clusters/{cluster}/events")).json()["events"]
    assert [event["request_id"] for event in told if event["kind"] == "request"] == [
        made,
        changed.headers["x-openstack-request-id"],
    ]
    records = (await api.ask("GET", "/v1/audit")).json()["records"]
    assert made in {record["request_id"] for record in records}


async def test_an_id_of_another_service_is_kept_beside_ours(log: Told, api: Api) -> None:
    answer = await api.ask("GET", "/v1/clusters", headers={"X-OpenStack-Request-ID": GIVEN})
    line = log.requests()[-1]
    assert line["global_request_id"] == GIVEN
    assert answer.headers["x-openstack-request-id"] == line["request_id"] != GIVEN


@pytest.mark.parametrize(
    "hostile",
    [
        b"req-1",
        b"",
        GIVEN.encode() + b"\n",
        GIVEN.encode() + b'\n{"event":"forged"}',
        GIVEN.encode().upper(),
        b'"}\r\n{"event": "forged"}',
        b"req-" + b"a" * 9000,
        "req-12345678-1234-1234-1234-1234567890a\u0661".encode(),
        b"\xff\x00",
    ],
)
async def test_a_hostile_id_forges_no_line_and_is_not_taken(
    log: Told, api: Api, hostile: bytes
) -> None:
    scope = {
        "type": "http", "method": "GET", "path": "/v1/clusters", "query_string": b"",
        "headers": [(b"x-auth-token", OURS.encode()), (b"x-openstack-request-id", hostile)],
        "server": ("cloud", 80), "client": ("127.0.0.1", 1), "scheme": "http",
    }  # fmt: skip
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    before = len(log.lines())
    await api.app(scope, receive, send)
    (line,) = log.lines()[before:]
    assert "global_request_id" not in line
    assert re.fullmatch(r"req-[0-9a-f-]{36}", line["request_id"])
    assert "forged" not in json.dumps(line)
    assert sent[0]["status"] == 200


async def test_a_path_forges_no_line(log: Told, api: Api) -> None:
    before = len(log.lines())
    await api.ask("GET", '/v1/clusters/%0a{"event":"forged"}')
    (line,) = log.lines()[before:]
    assert line["event"] == "request"


async def test_a_long_path_makes_no_long_line(log: Told, api: Api) -> None:
    await api.ask("GET", "/v1/clusters/" + "%01" * 2700)
    (line,) = log.requests()
    assert line["path"] == "/v1/clusters/" + "\1" * 187
    assert line["status"] == 404


async def test_strangers_have_a_line_a_second(
    log: Told, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests come without a good token: they can't push out what is logged."""
    now = 100.0
    strangers = Strangers(lambda: now)
    monkeypatch.setattr(api.app, "_strangers", strangers)
    for path in ("/", "/v1", "/v1/clusters", "/nothing"):
        for token in (None, "forged"):
            await api.ask("GET", path, token=token)
    (line,) = log.requests()
    assert line["client"] == "127.0.0.1"
    assert "untold" not in line
    now += 1.0
    await api.ask("GET", "/v1/clusters", token="forged")
    assert (log.requests()[-1]["untold"], log.requests()[-1]["status"]) == (7, 401)
    for _ in range(3):
        await api.ask("GET", "/v1/clusters")
    assert [line["status"] for line in log.requests()] == [200, 401, 200, 200, 200]
    assert strangers.untold("10.0.0.1") == 0, "each address has its own"
