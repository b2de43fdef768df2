"""Scripts rely on the exit codes: each kind of end has its own, and a sentence, no traceback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from moorage.cli.failure import Code

from .conftest import StubCloud, error

Run = Callable[..., int]


@pytest.mark.parametrize(
    ("status", "title", "code"),
    [
        (400, "Bad Request", Code.USAGE),
        (403, "Forbidden", Code.DENIED),
        (403, "Quota exceeded", Code.CONFLICT),
        (404, "Not Found", Code.NOT_FOUND),
        (406, "Not Acceptable", Code.USAGE),
        (409, "Conflict", Code.CONFLICT),
        (413, "Too Large", Code.USAGE),
        (500, "Internal Server Error", Code.FAILED),
        (503, "Unavailable", Code.UNREACHABLE),
    ],
)
def test_of_an_answer(
    cloud: StubCloud,
    moorage: Run,
    capsys: pytest.CaptureFixture[str],
    status: int,
    title: str,
    code: Code,
) -> None:
    cloud.will("GET /v1/clusters/fleet", error(status, "Because of the tide.", title))
    assert moorage("cluster", "show", "fleet") == code
    said = capsys.readouterr()
    assert said.err.startswith("moorage: Because of the tide.")
    assert said.out == ""


def test_an_answer_that_is_no_json(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v1/clusters/fleet", (502, None))
    assert moorage("cluster", "show", "fleet") == Code.UNREACHABLE
    assert "answered 502" in capsys.readouterr().err


def test_of_wrong_credentials(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.token_status = 401
    assert moorage("cluster", "list") == Code.DENIED
    said = capsys.readouterr().err
    assert "does not accept the credentials of the cloud `moorage`" in said
    assert "hush" not in said


def test_of_a_server_that_is_not_there(
    tmp_path: Path,
    moorage: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        auth = {
            "auth_url": f"http://127.0.0.1:{closed.getsockname()[1]}/v3",
            "username": "ada",
            "password": "hush",
        }
        file = tmp_path / "clouds.yaml"
        file.write_text(yaml.safe_dump({"clouds": {"moorage": {"auth": auth}}}))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
        monkeypatch.delenv("OS_CLOUD", raising=False)
        assert moorage("cluster", "list") == Code.UNREACHABLE
    assert "moorage up" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("cluster", "create"),
        ("cluster", "update", "fleet", "--nodes", "many"),
        ("cluster", "list", "-o", "xml"),
        ("cluster", "create", "a", "--template", "t", "--label", "no-sign"),
        ("cluster", "show", ""),
        ("cluster", "delete", ".."),  # to an HTTP client that is the list of clusters
        ("template", "delete", "."),
        ("catalogue", "remove", "flavor", ".."),
        ("no-such-command",),
    ],
)
def test_of_a_wrong_command(cloud: StubCloud, moorage: Run, words: tuple[str, ...]) -> None:
    assert moorage(*words) == Code.USAGE
    assert cloud.asked == []


def test_a_cloud_that_is_not_there(cloud: StubCloud, moorage: Run) -> None:
    assert moorage("cluster", "list", "--os-cloud", "elsewhere") == Code.NOT_FOUND


def test_a_bug_is_called_one(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v1/clusters", (200, {"nonsense": []}))
    assert moorage("cluster", "list") == Code.FAILED
    assert "a bug: KeyError" in capsys.readouterr().err
