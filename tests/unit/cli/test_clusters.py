"""The cluster commands: what they send, what they wait for, what they print."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from moorage.cli.failure import Code

from .conftest import StubCloud

Run = Callable[..., int]
UUID = "3f0c8f6e-5d0f-4f0e-9f6e-1c2d3e4f5a6b"


def cluster(status: str, reason: str = "", **more: object) -> tuple[int, dict[str, object]]:
    seen = {"uuid": UUID, "name": "fleet", "status": status, "status_reason": reason}
    return 200, {**seen, "node_count": 2, "master_count": 1, **more}


def test_create_sends_what_was_said_and_no_more(cloud: StubCloud, moorage: Run) -> None:
    cloud.will("POST /v1/clusters", (202, {"uuid": UUID}))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("CREATE_IN_PROGRESS"))
    words = ("--template", "swarm", "--nodes", "2", "--label", "tier=test", "--label", "a=b=c")
    assert moorage("cluster", "create", "fleet", *words) == Code.OK
    assert cloud.asked[0] == (
        "POST /v1/clusters",
        {
            "name": "fleet",
            "cluster_template_id": "swarm",
            "node_count": 2,
            "master_count": 1,
            "labels": {"tier": "test", "a": "b=c"},
        },
    )


def test_wait_tells_the_reasons_and_ends_with_the_cluster(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("POST /v1/clusters", (202, {"uuid": UUID}))
    cloud.will(
        f"GET /v1/clusters/{UUID}",
        cluster("CREATE_IN_PROGRESS", "3 nodes start."),
        cluster("CREATE_IN_PROGRESS", "3 nodes start."),
        cluster("CREATE_IN_PROGRESS", "The Swarm forms."),
        cluster("CREATE_COMPLETE"),
    )
    asked = ("cluster", "create", "fleet", "--template", "swarm", "--wait", "-o", "json")
    assert moorage(*asked) == Code.OK
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "CREATE_COMPLETE"
    assert said.err.count("3 nodes start.") == 1
    assert "The Swarm forms." in said.err


def test_wait_for_what_fails(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("PATCH /v1/clusters/fleet", (202, {"uuid": UUID}))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("UPDATE_FAILED", "No memory is left."))
    assert moorage("cluster", "update", "fleet", "--nodes", "9", "--wait") == Code.FAILED
    assert "No memory is left." in capsys.readouterr().err
    assert cloud.asked[0][1] == [{"op": "replace", "path": "/node_count", "value": 9}]


def test_wait_for_what_takes_too_long(cloud: StubCloud, moorage: Run) -> None:
    cloud.will("PATCH /v1/clusters/fleet", (202, {"uuid": UUID}))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("UPDATE_IN_PROGRESS"))
    words = ("--nodes", "9", "--wait", "--wait-timeout", "1")
    assert moorage("cluster", "update", "fleet", *words) == Code.TIMED_OUT


def test_delete_waits_until_it_is_gone(cloud: StubCloud, moorage: Run) -> None:
    cloud.will("GET /v1/clusters/fleet", cluster("CREATE_COMPLETE"))
    cloud.will(f"DELETE /v1/clusters/{UUID}", (204, None))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("DELETE_IN_PROGRESS"), (404, {"errors": [{}]}))
    assert moorage("cluster", "delete", "fleet", "--wait") == Code.OK


def test_a_name_is_one_segment_of_the_path(cloud: StubCloud, moorage: Run) -> None:
    assert moorage("cluster", "show", "../quotas?x=#y") == Code.NOT_FOUND
    assert [request for request, _ in cloud.asked] == ["GET /v1/clusters/..%2Fquotas%3Fx%3D%23y"]


def test_list_follows_the_pages(
    cloud: StubCloud,
    moorage: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("moorage.cli.session.PAGE", 1)
    cloud.will(
        "GET /v1/clusters",
        (200, {"clusters": [{"uuid": "one", "name": "a"}]}),
        (200, {"clusters": [{"uuid": "two", "name": "b"}]}),
        (200, {"clusters": []}),
    )
    assert moorage("cluster", "list", "-o", "json") == Code.OK
    assert [row["uuid"] for row in json.loads(capsys.readouterr().out)] == ["one", "two"]
    assert [path for path, _ in cloud.asked][1:] == [
        "GET /v1/clusters?limit=1&marker=one",
        "GET /v1/clusters?limit=1&marker=two",
    ]


def test_config_makes_the_key_here(
    cloud: StubCloud, moorage: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = cluster("CREATE_COMPLETE", api_address="tcp://192.0.2.7:20001")
    cloud.will("GET /v1/clusters/fleet", seen)
    cloud.will(f"GET /v1/certificates/{UUID}", (200, {"pem": "the CA"}))
    cloud.will("POST /v1/certificates", (201, {"pem": "the certificate"}))
    keys = tmp_path / "my keys"
    assert moorage("cluster", "config", "fleet", "--dir", str(keys)) == Code.OK

    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "export DOCKER_HOST=tcp://192.0.2.7:20001",
        f"export DOCKER_CERT_PATH='{keys}'",
        "export DOCKER_TLS_VERIFY=1",
    ]
    assert said[3].startswith("# or, for good: docker context create fleet --docker 'host=tcp://")
    assert (keys / "ca.pem").read_text() == "the CA"
    assert (keys / "cert.pem").read_text() == "the certificate"
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700

    sent = next(body for request, body in cloud.asked if request.startswith("POST"))
    assert sent["cluster_uuid"] == UUID
    assert x509.load_pem_x509_csr(sent["csr"].encode()).is_signature_valid
    assert "PRIVATE" not in json.dumps(cloud.asked)

    assert moorage("cluster", "config", "fleet", "--dir", str(keys)) == Code.CONFLICT
    assert moorage("cluster", "config", "fleet", "--dir", str(keys), "--force") == Code.OK


def test_config_of_a_cluster_that_has_no_api_yet(
    cloud: StubCloud, moorage: Run, tmp_path: Path
) -> None:
    cloud.will("GET /v1/clusters/fleet", cluster("CREATE_IN_PROGRESS", api_address=None))
    assert moorage("cluster", "config", "fleet", "--dir", str(tmp_path / "k")) == Code.CONFLICT
    assert not (tmp_path / "k").exists()


def test_template_create(cloud: StubCloud, moorage: Run) -> None:
    cloud.will("POST /v1/clustertemplates", (201, {"uuid": UUID, "name": "swarm"}))
    words = ("swarm", "--coe", "swarm", "--flavor", "small", "--public")
    assert moorage("template", "create", *words) == Code.OK
    assert cloud.asked[0][1] == {
        "name": "swarm",
        "coe": "swarm",
        "flavor_id": "small",
        "public": True,
    }
