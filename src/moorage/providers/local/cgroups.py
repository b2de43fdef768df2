"""The one place that knows cgroup v1 from v2.

A node's cgroup is `/moorage/<install>/<cluster>/<node>` in every hierarchy. runc
makes it and writes the limits; `hand_over` then gives the *directory* and the files
that move processes to the node's root, never the limit files: the node can make
children and can't raise its own limits. `remove` takes away what is left, which
runc does not do for groups that the node made inside; `thaw` lets those die that the
node froze in them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from moorage.providers.local import trees

ROOT = Path("/sys/fs/cgroup")
TOP = "moorage"

DELEGATED = (
    "",
    "cgroup.procs",
    "tasks",  # v1
    "cgroup.subtree_control",  # v2
    "cgroup.threads",
)
"""What the kernel's delegation rules hand over ("Delegation" in cgroup-v2.rst)."""


def is_unified() -> bool:
    """Whether this machine has cgroup v2 only (hybrid mode counts as v1)."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The directory of each hierarchy, mounted once: v1 has one a controller."""
    if is_unified():
        return [ROOT]
    return [entry for entry in sorted(ROOT.iterdir()) if not entry.is_symlink() and entry.is_dir()]


def path(install: str, owner: str, node: str) -> str:
    return f"/{TOP}/{install}/{owner}/{node}"


def hand_over(group: str, uid: int) -> None:
    """Let `uid` rule below `group`. What a hierarchy doesn't have is passed over."""
    for hierarchy in hierarchies():
        for name in DELEGATED:
            with contextlib.suppress(FileNotFoundError):
                os.chown(hierarchy / group.lstrip("/") / name, uid, uid)


async def remove(group: str) -> None:
    """Remove the group, what is inside it, and the parents it leaves empty.

    RetryLater while the kernel still counts a dying process in it.
    """
    tops = [hierarchy / group.lstrip("/") for hierarchy in hierarchies()]
    await trees.remove_directories(tops)
    for top in tops:
        for parent in list(top.parents)[: group.count("/") - 1]:
            try:
                parent.rmdir()
            except OSError:  # a neighbour lives there
                break


def thaw(top: Path) -> None:
    """Let go on what is frozen in the freezer's group `top` (v1) and within it. Blocking.

    A process that v1 has frozen does not even die, and a node's root can freeze its own.
    Walked by one descriptor, for the depth is the tenant's to choose.
    """
    try:
        here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        _write_thawed(here)
        below = [_groups(here)]
        while below:
            if below[-1]:
                there = below[-1].pop()
                below.append([])
            else:
                there = ".."
                below.pop()
            if not below:
                return
            try:
                following = os.open(there, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            except FileNotFoundError:  # it went meanwhile, and all that was in it before
                below.pop()
                continue
            os.close(here)
            here = following
            if there != "..":
                _write_thawed(here)
                below[-1] = _groups(here)
    finally:
        os.close(here)


def _groups(here: int) -> list[str]:
    with os.scandir(here) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _write_thawed(here: int) -> None:
    with contextlib.suppress(OSError):  # a group that is going away
        state = os.open("freezer.state", os.O_WRONLY, dir_fd=here)
        try:
            os.write(state, b"THAWED")
        finally:
            os.close(state)
