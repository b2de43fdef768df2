"""The one place that knows cgroup v1 from v2.

A node's cgroup is `/moorage/<install>/<cluster>/<node>` in every hierarchy. runc
makes it and writes the limits; `hand_over` then gives the *directory* and the files
that move processes to the node's root, never the limit files: the node can make
children and can't raise its own limits. `remove` takes away what is left, which
runc does not do for groups that the node made inside.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from moorage.model.errors import RetryLater

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


def remove(group: str) -> None:
    """Remove the group, what is inside it, and the parents it leaves empty.

    RetryLater while the kernel still counts a dying process in it.
    """
    for hierarchy in hierarchies():
        top = hierarchy / group.lstrip("/")
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                Path(directory).rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                reason = f"cgroup {directory} can't be removed yet: {error.strerror}"
                raise RetryLater(reason, delay=0.5) from error
        for parent in top.parents:
            if parent == hierarchy:
                break
            try:
                parent.rmdir()
            except OSError:  # a neighbour lives there
                break
