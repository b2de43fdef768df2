"""`moorage backup` and `moorage restore`: files, pipes, and how they end."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from moorage import install
from moorage.cli import daemon
from moorage.cli.daemon import Home
from moorage.cli.failure import Code
from moorage.settings import Settings
from tests.unit.backup.conftest import Saved, keys_open

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock of this test's is laid where real installs have theirs."""
    defaults = (tmp_path / "run",)
    monkeypatch.setattr(install.held.__wrapped__, "__defaults__", defaults)  # type: ignore[attr-defined]
    monkeypatch.delenv("MOORAGE_DATABASE_URL", raising=False)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    made = Saved(Settings(state=tmp_path / "old"))
    made.make()
    return made


def test_there_and_back(
    saved: Saved, tmp_path: Path, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file, new = tmp_path / "moorage.tar", tmp_path / "new"
    assert moorage("backup", str(file), "--state", str(saved.state)) == Code.OK
    assert "holds every secret" in capsys.readouterr().out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert moorage("backup", "--check", str(file)) == Code.OK
    assert "A good backup, with 3 clusters" in capsys.readouterr().out
    assert moorage("restore", str(file), "--state", str(new)) == Code.OK
    said = capsys.readouterr().out
    assert f"moorage up --state {new}" in said
    assert f"MOORAGE_STATE={new} moorage orphan list" in said, "it reads the clouds.yaml there"
    assert f"Never start the install in {saved.state} again" in said
    assert keys_open(Settings(state=new), saved.clusters)
    assert not (tmp_path / "run").exists()
    assert moorage("restore", str(file), "--state", str(new)) == Code.FAILED
    assert "--force" in capsys.readouterr().err
    assert moorage("restore", str(file), "--state", str(new), "--force") == Code.OK
    assert "set aside" in capsys.readouterr().out or list(new.glob("before-restore-*"))


def test_through_a_pipe(
    saved: Saved, tmp_path: Path, moorage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    out = SimpleNamespace(buffer=written, isatty=lambda: False, write=lambda _: 0)
    with monkeypatch.context() as piped:
        piped.setattr(sys, "stdout", out)
        assert moorage("backup", "-", "--state", str(saved.state)) == Code.OK
    with monkeypatch.context() as piped:
        piped.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(written.getvalue())))
        assert moorage("restore", "-", "--state", str(tmp_path / "new")) == Code.OK
    assert keys_open(Settings(state=tmp_path / "new"), saved.clusters)


def test_a_file_that_can_t_be_had(tmp_path: Path, saved: Saved, moorage: Run) -> None:
    none = str(tmp_path / "none" / "moorage.tar")
    assert moorage("backup", "--check", none) == Code.NOT_FOUND
    assert moorage("restore", none, "--state", str(tmp_path / "new")) == Code.NOT_FOUND
    assert moorage("backup", none, "--state", str(saved.state)) == Code.USAGE
    assert moorage("backup", str(tmp_path / "x"), "--state", str(tmp_path / "no")) == Code.FAILED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_a_backup_that_fails_leaves_the_last_one(
    tmp_path: Path, saved: Saved, moorage: Run
) -> None:
    file = tmp_path / "moorage.tar"
    file.write_bytes(b"the last one")
    saved.settings.seal_file.chmod(0o644)
    assert moorage("backup", str(file), "--state", str(saved.state)) == Code.OK
    saved.settings.seal_file.write_text("no key\n")
    before = file.read_bytes()
    assert moorage("backup", str(file), "--state", str(saved.state)) == Code.FAILED
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moorage.tar", "old"]


def test_nothing_is_restored_where_moorage_is_up(
    saved: Saved, tmp_path: Path, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file, new = tmp_path / "moorage.tar", tmp_path / "new"
    file.write_bytes(saved.saved())
    with daemon.held(Home(saved.state)):
        words = ("restore", str(file), "--state", str(saved.state), "--force")
        assert moorage(*words) == Code.CONFLICT
        assert "moorage down" in capsys.readouterr().err
    with install.held(install.install_id(saved.state), saved.state):
        assert moorage("restore", str(file), "--state", str(new)) == Code.FAILED
        said = capsys.readouterr().err
        assert "up already on this machine" in said
        assert f"process {os.getpid()}" in said
    assert not new.exists()


def test_a_full_disk_is_told_as_one(
    saved: Saved, tmp_path: Path, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moorage("backup", "/dev/full/x", "--state", str(saved.state)) == Code.USAGE
    file = tmp_path / "moorage.tar"
    file.write_bytes(saved.saved())
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", full)
        capsys.readouterr()
        assert moorage("backup", str(file), "--state", str(saved.state)) == Code.FAILED
        assert "can't be saved: No space left on device" in capsys.readouterr().err
    assert os.fsync is real
    assert moorage("backup", "--check", str(file)) == Code.OK, "the last one is whole"


def test_a_disk_that_fills_in_the_midst_says_how_it_goes_on(
    saved: Saved, tmp_path: Path, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file, state = tmp_path / "moorage.tar", saved.state
    file.write_bytes(saved.saved())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = ("restore", str(file), "--state", str(state))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("moorage.backup.restore._put", full)
        assert moorage(*words, "--force") == Code.FAILED
    said = capsys.readouterr().err
    assert "can't be restored: No space left on device" in said
    assert "run it again" in said
    assert f"{state}/before-restore-" in said
    (aside,) = state.glob("before-restore-*")
    assert (aside / "moorage.db").exists()
    assert moorage(*words) == Code.OK
    assert keys_open(Settings(state=state), saved.clusters)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("moorage.backup.check.databases.look_sqlite", full)
        assert moorage(*words, "--force") == Code.FAILED
    assert "run it again" not in capsys.readouterr().err, "nothing has changed"


def test_a_refusal_leaves_no_directory(saved: Saved, tmp_path: Path, moorage: Run) -> None:
    file, new = tmp_path / "moorage.tar", tmp_path / "new"
    file.write_bytes(saved.saved())
    words = ("restore", str(file), "--state", str(new), "--database", "postgresql://m:x@db/m")
    assert moorage(*words) == Code.FAILED
    assert not new.exists()
