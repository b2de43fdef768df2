"""Deletes by force and /v1/orphans on the wire."""

from __future__ import annotations

import datetime

import pytest

from moorage.model.orphan import Abandoned, LeftNode
from tests.unit.api.conftest import ADMIN, OURS, READER, THEIRS, Api, reasons

LEFT = Abandoned(
    uuid="5f0c1c1e-0000-4000-8000-000000000000",
    name="one",
    project_id="ours",
    user_id="user",
    coe="fake",
    provider="cloud",
    nodes=(LeftNode("master-0", "10.0.0.2", "running"), LeftNode("worker-0")),
    api_address="tcp://cloud:20480",
    traces=("slot 7",),
    reason="delete-node master-0: busy",
    forced_by="root",
    at=datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC),
)
SHOWN = {
    "uuid": LEFT.uuid,
    "provider": "cloud",
    "home": None,
    "traces": None,
    "name": "one",
    "project_id": "ours",
    "user_id": "user",
    "coe": "fake",
    "nodes": [
        {"name": "master-0", "address": "10.0.0.2", "state": "running"},
        {"name": "worker-0", "address": None, "state": "unknown"},
    ],
    "api_address": "tcp://cloud:20480",
    "reason": "delete-node master-0: busy",
    "abandoned_by": "root",
    "abandoned_at": "2026-01-31T12:00:00.000+00:00",
}


async def noted(api: Api) -> None:
    cluster = await api.cluster(name="one")
    assert (await api.ask("DELETE", f"/v1/clusters/{cluster}")).status_code == 204
    claim = await api.store.claims.take("test", 30.0)
    assert claim is not None
    await api.store.claims.abandon(claim, LEFT)


@pytest.mark.parametrize("token", [OURS, READER, THEIRS])
async def test_force_is_for_admins(api: Api, token: str) -> None:
    cluster = await api.cluster()
    answer = await api.ask("DELETE", f"/v1/clusters/{cluster}?force=true", token=token)
    assert answer.status_code == 403
    shown = (await api.ask("GET", f"/v1/clusters/{cluster}")).json()
    assert shown["status"] == "CREATE_IN_PROGRESS"


async def test_the_answer_to_force_tells_what_may_remain(api: Api) -> None:
    cluster = await api.cluster(node_count=1)
    answer = await api.ask("DELETE", f"/v1/clusters/{cluster}?force=True", token=ADMIN)
    assert answer.status_code == 202
    told = answer.json()
    assert (told["uuid"], told["provider"]) == (cluster, "fake")
    assert [node["name"] for node in told["nodes"]] == ["master-0", "worker-0"]
    assert "/v1/orphans" in told["detail"]
    shown = (await api.ask("GET", f"/v1/clusters/{cluster}")).json()
    assert (shown["status"], shown["status_reason"]) == ("DELETE_IN_PROGRESS", "delete by force")


async def test_without_force_a_delete_answers_as_ever(api: Api) -> None:
    for query in ("", "?force=false"):
        cluster = await api.cluster()
        answer = await api.ask("DELETE", f"/v1/clusters/{cluster}{query}", version="1.1")
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("query", ["force=perhaps", "force=", "forced=true"])
async def test_what_is_no_force_deletes_nothing(api: Api, query: str) -> None:
    cluster = await api.cluster()
    answer = await api.ask("DELETE", f"/v1/clusters/{cluster}?{query}", token=ADMIN)
    assert answer.status_code == 400
    assert "force" in reasons(answer)[0]
    shown = (await api.ask("GET", f"/v1/clusters/{cluster}")).json()
    assert shown["status"] == "CREATE_IN_PROGRESS"


async def test_what_was_left_is_listed_and_forgotten(api: Api) -> None:
    assert (await api.ask("GET", "/v1/orphans", token=ADMIN)).json() == {"orphans": []}
    await noted(api)
    assert (await api.ask("GET", "/v1/orphans", token=ADMIN)).json() == {"orphans": [SHOWN]}
    path = f"/v1/orphans/{LEFT.uuid}"
    answer = await api.ask("DELETE", path, token=ADMIN)
    assert answer.status_code == 409
    assert "No provider 'cloud' is installed" in reasons(answer)[0]
    assert (await api.ask("DELETE", f"{path}?forget=true", token=ADMIN)).status_code == 204
    assert (await api.ask("DELETE", path, token=ADMIN)).status_code == 404
    assert (await api.ask("GET", "/v1/orphans", token=ADMIN)).json() == {"orphans": []}
