"""`moorage orphan …`, and `moorage cluster delete --force`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from keystoneauth1.session import Session

from moorage.cli.failure import Code
from moorage.cli.session import TIMEOUT
from moorage.services.orphans import PATIENCE, REMOVE_SECONDS
from tests.unit.cli.conftest import StubCloud, error, text

Run = Callable[..., int]
ROWS: list[dict[str, Any]] = [
    {"uuid": "5f0c", "name": "fleet", "project_id": "p", "provider": "local", "reason": "busy"}
    | {"abandoned_at": "2026-01-31T12:00:00.000+00:00", "traces": []},
    {"uuid": "77aa", "name": None, "project_id": None, "provider": "cloud", "reason": None}
    | {"abandoned_at": None, "traces": ["node worker-0: running", "slot 7"]},
    {"uuid": "99bb", "name": None, "project_id": None, "provider": "gone", "reason": None}
    | {"abandoned_at": None, "traces": None},
]
LISTED = (
    " uuid   name    project_id   provider   abandoned_at                    "
    "seen now                         reason\n"
    " ─\n"
    " 5f0c   fleet   p            local      2026-01-31T12:00:00.000+00:00   "
    "nothing                          busy\n"
    " 77aa   -       -            cloud      -                               "
    "node worker-0: running; slot 7   -\n"
    " 99bb   -       -            gone       -                               "
    "its provider does not tell       -\n"
)


def test_list(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.will("GET /v1/orphans", (200, {"orphans": ROWS}))
    assert moorage("orphan", "list") == Code.OK
    assert text(capsys.readouterr().out) == LISTED
    assert moorage("orphan", "list", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out) == ROWS


def test_what_is_on_another_machine_is_said_so(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v1/orphans", (200, {"orphans": [{**ROWS[2], "home": "burned/inst"}]}))
    assert moorage("orphan", "list") == Code.OK
    assert "to be asked at burned/inst" in capsys.readouterr().out


def test_remove(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.will("DELETE /v1/orphans/5f0c", (204, None))
    assert moorage("orphan", "remove", "5f0c") == Code.OK
    assert moorage("orphan", "remove", "5f0c", "--forget") == Code.OK
    assert [asked for asked, _ in cloud.asked] == [
        "DELETE /v1/orphans/5f0c",
        "DELETE /v1/orphans/5f0c?forget=true",
    ]
    cloud.will("DELETE /v1/orphans/5f0c", error(409, "No provider"))
    assert moorage("orphan", "remove", "5f0c") == Code.CONFLICT
    assert moorage("orphan", "remove", "..") == Code.USAGE


def test_a_remove_is_waited_for_as_long_as_the_server_takes(
    cloud: StubCloud, moorage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it ends with "no answer" while what it asked for goes on."""
    waited: dict[str, Any] = {}
    ask = Session.request

    def noted(self: Session, url: str, method: str, **more: Any) -> Any:
        waited[f"{method} {url.partition('/v1')[2]}"] = more.get("timeout", self.timeout)
        return ask(self, url, method, **more)

    monkeypatch.setattr(Session, "request", noted)
    cloud.will("GET /v1/orphans", (200, {"orphans": ROWS}))
    cloud.will("DELETE /v1/orphans/5f0c", (204, None))
    assert moorage("orphan", "list") == Code.OK
    assert moorage("orphan", "remove", "5f0c") == Code.OK
    assert waited["GET /orphans"] == TIMEOUT
    assert waited["DELETE /orphans/5f0c"] >= REMOVE_SECONDS + 2 * PATIENCE


def test_force_says_what_may_remain(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"uuid": "5f0c", "provider": "local", "nodes": [{"name": "master-0"}], "detail": "So."}
    cloud.will("GET /v1/clusters/fleet", (200, {"uuid": "5f0c"}))
    cloud.will("DELETE /v1/clusters/5f0c", (202, told))
    assert moorage("cluster", "delete", "fleet", "--force") == Code.OK
    assert "fleet: may remain of it with local: master-0. So." in capsys.readouterr().out
    assert cloud.asked[-1][0] == "DELETE /v1/clusters/5f0c?force=true"
    cloud.will("DELETE /v1/clusters/5f0c", error(403, "This needs the role admin"))
    assert moorage("cluster", "delete", "fleet", "--force") == Code.DENIED


def test_all_projects(cloud: StubCloud, moorage: Run) -> None:
    cloud.will("GET /v1/clusters", (200, {"clusters": []}))
    assert moorage("cluster", "list", "--all-projects") == Code.OK
    assert cloud.asked[-1][0].startswith("GET /v1/clusters?all_projects=true")
