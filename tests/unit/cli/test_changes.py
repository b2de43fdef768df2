"""What is done to clusters that are there, the audit log and the catalogue."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moorage.cli.failure import Code

from .conftest import StubCloud
from .test_clusters import UUID, cluster

Run = Callable[..., int]


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
        (
            ("upgrade", "fleet", "larger", "--group", "gpu"),
            "POST /v1/clusters/fleet/actions/upgrade",
            {"cluster_template": "larger", "max_batch_size": 1, "nodegroup": "gpu"},
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
