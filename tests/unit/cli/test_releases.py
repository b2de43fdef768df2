"""`moorage release …`: what is said, what is kept, and how each of them ends."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moorage.cli.failure import Code
from moorage.releases import Releases, Version
from moorage.settings import Settings
from moorage.store import Store
from tests.unit.backup.conftest import in_store
from tests.unit.cli.conftest import text
from tests.unit.releases import made
from tests.unit.store.conftest import CA, a_cluster, a_template

Run = Callable[..., int]
EMPTY = "No release of Kubernetes: moorage release add kubernetes --help\n"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOORAGE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MOORAGE_DATABASE_URL", raising=False)
    return tmp_path / "state"


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(made.published(tmp_path / "shop", made.archive(made.programs())))


def test_there_and_away(
    state: Path, archive: str, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moorage("release", "list") == Code.OK
    assert capsys.readouterr().out == EMPTY
    assert not state.exists()
    assert moorage("release", "add", "kubernetes", archive) == Code.OK
    said = capsys.readouterr()
    assert said.out == f"Added: kubernetes v1.20.2 ({state}/releases/kubernetes/v1.20.2)\n"
    assert "100 % of 0 MiB read" in said.err
    assert "a release of kubernetes is added: v1.20.2, 0 MiB" in said.err
    assert moorage("release", "add", "kubernetes", archive) == Code.OK
    assert capsys.readouterr().out.startswith("There already, the very same: kubernetes v1.20.2")
    assert moorage("release", "remove", "kubernetes", "1.20.2") == Code.OK
    assert capsys.readouterr().out == "Removed: kubernetes v1.20.2\n"
    assert moorage("release", "remove", "kubernetes", "1.20.2") == Code.NOT_FOUND
    assert moorage("release", "list", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out) == []


def test_list(state: Path, archive: str, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    release = Releases(state).add(archive).release
    (release.directory.parent / "v1.30.0").mkdir()
    assert moorage("release", "list") == Code.OK
    said = capsys.readouterr()
    head, _, row = text(said.out).splitlines()
    assert head.split() == ["engine", "version", "architecture", "MiB", "added_at", "source"]
    assert row.split() == [
        *("kubernetes", "v1.20.2", release.architecture, "0", release.added_at, archive),
    ]
    assert "v1.30.0 is damaged" in said.err
    assert moorage("release", "list", "-o", "json") == Code.OK
    [told] = json.loads(capsys.readouterr().out)
    assert told["directory"] == str(release.directory)
    assert told["binaries"]["kubelet"]["sha512"] == made.sum_of(made.programs()["kubelet"])


def test_add_for_a_program(
    state: Path, archive: str, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_new in (True, False):
        assert moorage("release", "add", "kubernetes", archive, "-o", "json") == Code.OK
        told = json.loads(capsys.readouterr().out)
        assert (told["engine"], told["version"]) == ("kubernetes", "v1.20.2")
        assert told["is_new"] is is_new


def test_one_that_a_cluster_needs_stays(
    state: Path, archive: str, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    async def add(store: Store) -> str:
        template = await store.templates.add(a_template(coe="kubernetes"))
        wanted: dict[str, Any] = {"coe": "kubernetes", "labels": {"kube_tag": "v1.20.2"}}
        added = await store.clusters.add(a_cluster(template, "fleet", **wanted), CA, {}, by="a")
        return added.uuid

    Releases(state).add(archive)
    uuid = in_store(Settings(state=state), add)
    assert moorage("release", "remove", "kubernetes", "v1.20.2") == Code.CONFLICT
    assert f"in use by fleet ({uuid}): upgrade or delete" in capsys.readouterr().err
    assert Releases(state).get(Version(1, 20, 2))


def test_how_it_ends(
    state: Path,
    archive: str,
    moorage: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add(*words: str) -> int:
        capsys.readouterr()
        return moorage("release", "add", "kubernetes", *words)

    assert add("none.tar.gz") == Code.NOT_FOUND
    assert "there is no " in capsys.readouterr().err
    assert add(archive, "--sha512", "ab" * 64) == Code.FAILED
    assert "is not what was published" in capsys.readouterr().err
    assert add(archive, "--sha512", "ab" * 32) == Code.USAGE
    assert add("ftp://host/x") == Code.USAGE
    monkeypatch.setenv("no_proxy", "*")
    assert add("http://127.0.0.1:1/x", "--sha512", "ab" * 64) == Code.UNREACHABLE
    assert moorage("release", "add", "mesos", archive) == Code.USAGE
    assert moorage("release", "remove", "kubernetes", "../..") == Code.USAGE
    assert not state.exists()

    def failing(number: int) -> Callable[[int], None]:
        def fail(_: int) -> None:
            raise OSError(number, os.strerror(number))

        return fail

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.ENOSPC))
        assert add(archive) == Code.FAILED
        assert "the release can't be added: No space left on device" in capsys.readouterr().err
        patched.setattr(os, "fsync", failing(errno.EACCES))
        assert add(archive) == Code.DENIED
    assert not state.exists()


def test_the_doctor_tells_of_them(
    state: Path, archive: str, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> dict[str, str]:
        capsys.readouterr()
        moorage("doctor", "-o", "json")
        found = json.loads(capsys.readouterr().out)
        [finding] = [each for each in found if each["name"] == "Kubernetes"]
        return dict(finding)

    assert told()["verdict"] == "limited"
    assert told()["mend"].startswith("moorage release add kubernetes")
    Releases(state).add(archive)
    assert (told()["verdict"], told()["seen"]) == ("ok", "v1.20.2")
