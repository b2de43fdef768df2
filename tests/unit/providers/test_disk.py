from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from moorage.providers.local import disk

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "free", "files", "free_files", "said"),
    [
        (100_000, 300, 10**6, 10**5, ""),
        (100_000, 255, 10**6, 10**5, "its disk is full: 255 MiB of 100000 MiB are left"),
        (1000, 60, 10**6, 10**5, ""),
        (1000, 49, 10**6, 10**5, "its disk is full: 49 MiB of 1000 MiB are left"),
        (1000, 900, 10**6, 999, "its disk is full: 999 of 1000000 files are left"),
        (1000, 900, 0, 0, ""),  # a file system without inodes of its own
    ],
)
def test_when_it_is_full(
    monkeypatch: pytest.MonkeyPatch, size: int, free: int, files: int, free_files: int, said: str
) -> None:
    def statvfs(_: Path) -> SimpleNamespace:
        return SimpleNamespace(
            f_frsize=MIB, f_blocks=size, f_bavail=free, f_files=files, f_favail=free_files
        )

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert disk.trouble(Path("/somewhere")) == said


def test_a_node_that_is_just_going(tmp_path: Path) -> None:
    assert disk.trouble(tmp_path / "root") == ""


def test_a_disk_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(_: Path) -> SimpleNamespace:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert disk.trouble(Path("/somewhere")) == "its disk can't be asked: Input/output error"
