"""`moorage service list`: who is alive, and when it was last seen, in UTC."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from moorage.cli.failure import Code

from .conftest import StubCloud, error, text

Run = Callable[..., int]
ROWS = [
    {
        "host": "quay",
        "binary": "moorage-conductor",
        "state": "up",
        "updated_at": "2030-01-31T13:00:05+01:00",
    },
    {"host": "pier", "binary": "moorage-conductor", "state": "down", "updated_at": None},
]
LISTED = """\
 host   binary              state   last_seen
 ─
 quay   moorage-conductor   up      2030-01-31 12:00:05Z
 pier   moorage-conductor   down    -
"""


def test_list(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.will("GET /v1/mservices", (200, {"mservices": ROWS}))
    assert moorage("service", "list") == Code.OK
    assert text(capsys.readouterr().out) == LISTED
    assert moorage("service", "list", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out) == ROWS


def test_it_is_for_admins(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "This needs the role admin, which ada does not have in the project harbour."
    cloud.will("GET /v1/mservices", error(403, why))
    assert moorage("service", "list") == Code.DENIED
    assert capsys.readouterr().err == f"moorage: {why}\n"


def test_nobody(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.will("GET /v1/mservices", (200, {"mservices": []}))
    assert moorage("service", "list") == Code.OK
    assert capsys.readouterr().out == "No process has given a sign of life yet.\n"
