"""What is done to clusters that are there, their story, the audit log and the catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from moorage.cli.failure import Code

from .conftest import StubCloud
from .test_clusters import UUID, cluster

Run = Callable[..., int]


def event(number: int, kind: str, what: str, **more: Any) -> dict[str, Any]:
    at = f"2030-01-01T12:00:{number:02}.250+00:00"
    plain = {"turn": None, "seconds": None, "cause": None, "ok": True}
    return {"id": number, "kind": kind, "what": what, "at": at, **plain, **more}


STORY = [
    event(0, "request", "create: 1 tiny", cause="asked by alice"),
    event(1, "step", "ensure-node master-0", turn="t", seconds=0.5),
    event(2, "step", "join worker-0", turn="t", seconds=1, ok=False, cause="no answer"),
    event(3, "turn", "creating: no answer; again in 1.0 s", turn="t", ok=False),
]


def test_a_story_is_told_from_the_first_request_to_now(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v1/clusters/fleet/events", (200, {"events": STORY}))
    assert moorage("cluster", "explain", "fleet") == Code.OK
    assert capsys.readouterr().out.splitlines() == [
        "2030-01-01 (UTC)",
        "12:00:00      +0.0 s  ▶ create: 1 tiny  (asked by alice)",
        "12:00:01      +1.0 s    · ensure-node master-0  0.50 s",
        "12:00:02      +2.0 s    · join worker-0  1.00 s  failed: no answer",
        "12:00:03      +3.0 s  ● creating: no answer; again in 1.0 s",
    ]


def test_the_newest_of_a_long_story(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [event(n % 60, "turn", f"turn {n}") | {"id": n} for n in range(530)]
    pages = [(200, {"events": long[:500]}), (200, {"events": long[500:]})]
    cloud.will("GET /v1/clusters/fleet/events", *pages)
    assert moorage("cluster", "explain", "fleet") == Code.OK
    assert cloud.asked[1][0] == "GET /v1/clusters/fleet/events?limit=500&marker=499"
    said = capsys.readouterr().out
    assert "(the newest 60 of 530 entries; --all shows them all)" in said
    assert "turn 470" in said
    assert "turn 469" not in said
    cloud.will("GET /v1/clusters/fleet/events", *pages)
    assert moorage("cluster", "explain", "fleet", "--all", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out) == long


@pytest.mark.parametrize(
    ("words", "asked", "body"),
    [
        (
            ("resize", "fleet", "2", "--remove", "worker-0", "--group", "gpu"),
            "POST /v1/clusters/fleet/actions/resize",
            {"node_count": 2, "nodes_to_remove": ["worker-0"], "nodegroup": "gpu"},
        ),
        (
            ("upgrade", "fleet", "larger", "--batch", "2"),
            "POST /v1/clusters/fleet/actions/upgrade",
            {"cluster_template": "larger", "max_batch_size": 2},
        ),
        (("rotate-ca", "fleet"), f"PATCH /v1/certificates/{UUID}", None),
        (("rotate-credentials", "fleet"), f"PATCH /v1/credentials/{UUID}", None),
    ],
)
def test_changes(
    cloud: StubCloud, moorage: Run, words: tuple[str, ...], asked: str, body: object
) -> None:
    cloud.will("GET /v1/clusters/fleet", cluster("CREATE_COMPLETE"))
    cloud.will(asked, (202, {"uuid": UUID}))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("UPDATE_COMPLETE"))
    assert moorage("cluster", *words, "--wait") == Code.OK
    assert (asked, body) in cloud.asked


def test_the_audit_log(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"id": 1, "user_name": "alice", "method": "POST", "status": 403, "reason": "no role"}
    cloud.will("GET /v1/audit", (200, {"records": [record]}))
    assert moorage("audit", "--all-projects") == Code.OK
    assert cloud.asked[0][0] == "GET /v1/audit?all_projects=true&limit=500"
    assert "no role" in capsys.readouterr().out


def test_the_catalogue(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    offer = {"provider": "local", "kind": "flavor", "name": "huge", "detail": {}, "builtin": False}
    cloud.will("GET /v1/catalogue", (200, {"catalogue": [offer]}))
    cloud.will("POST /v1/catalogue", (201, offer))
    cloud.will("DELETE /v1/catalogue/flavor/huge", (204, None))
    assert moorage("catalogue", "list", "--kind", "flavor") == Code.OK
    words = ("--vcpus", "8", "--memory", "16384", "--disk", "9")
    assert moorage("catalogue", "add", "flavor", "huge", *words) == Code.OK
    assert moorage("catalogue", "remove", "flavor", "huge") == Code.OK
    detail = {"vcpus": 8, "memory_mib": 16384, "disk_gib": 9}
    body = {"kind": "flavor", "name": "huge", "detail": detail}
    assert ("POST /v1/catalogue", body) in cloud.asked
    assert "Removed: flavor huge" in capsys.readouterr().out
