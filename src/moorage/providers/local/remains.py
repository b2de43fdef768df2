"""What there is of clusters on this machine beside their nodes' directories.

For where somebody removed a directory by hand: its processes run on, and are still found
by their cgroup, or by what runc noted of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from moorage.providers.local import cgroups


def nodes(install: str, owner: str) -> set[str]:
    """The names of the cluster's nodes that have a cgroup."""
    return set(_names(cgroups.directory(f"/{cgroups.TOP}/{install}/{owner}")))


def owners(install: str, runc: Path) -> set[str]:
    """Whoever has a cgroup, or a container in runc's own state `runc`."""
    grouped = _names(cgroups.directory(f"/{cgroups.TOP}/{install}"))
    return {*grouped, *(name.partition(".")[0] for name in _names(runc))}


def forget(runc: Path, owner: str) -> None:
    """Remove what runc noted of the cluster's containers, none of which lives."""
    for name in list(_names(runc)):
        if name.startswith(f"{owner}."):
            shutil.rmtree(runc / name, ignore_errors=True)


def _names(directory: Path) -> Iterator[str]:
    try:
        entries = list(directory.iterdir())
    except FileNotFoundError:
        return
    yield from (entry.name for entry in entries if entry.is_dir())
