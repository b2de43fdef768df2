"""An install's name: the same for ever, and one install's at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moorage import install
from moorage.model.errors import Refused


def test_the_name_is_kept(tmp_path: Path) -> None:
    first = install.install_id(tmp_path)
    assert install.keep_install_id(tmp_path) == first
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    assert install.install_id(moved) == first
    assert install.keep_install_id(moved) == first
    assert install.install_id(tmp_path / "other") != first


@pytest.mark.parametrize("kept", ["", "UPPER", "a b", "../x", "x" * 13, "\0"])
def test_what_is_no_name_is_refused(tmp_path: Path, kept: str) -> None:
    (tmp_path / install.FILE).write_text(kept)
    with pytest.raises(Refused, match="no name of an install"):
        install.install_id(tmp_path)


def test_two_of_one_name_are_never_up_at_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with install.held("one", tmp_path / "a", run):
        with pytest.raises(Refused, match=str(tmp_path / "a")), install.held("one", tmp_path, run):
            raise AssertionError
        with install.held("two", tmp_path / "b", run):
            pass
    with install.held("one", tmp_path / "b", run):
        pass
    assert not run.exists(), "nothing is left of it"


def test_the_name_of_one_that_was_killed_is_free(tmp_path: Path) -> None:
    hold = (
        "import sys, pathlib; from moorage import install\n"
        "where = pathlib.Path(sys.argv[1])\n"
        "with install.held('one', where, where / 'run'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(Refused, match=str(other.pid)),
            install.held("one", tmp_path, tmp_path / "run"),
        ):
            raise AssertionError
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    with install.held("one", tmp_path, tmp_path / "run"):
        pass
