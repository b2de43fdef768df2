"""The one place that knows cgroup v1 from v2.

A node's cgroup is `/moorage/<install>/<cluster>/<node>` in every hierarchy. runc
makes it and writes the limits; `hand_over` then gives the *directory* and the files
that move processes to the node's root, never the limit files: the node can make
children and can't raise its own limits. So what is inside is the tenant's making:
`end` kills all that runs there, `remove` takes all groups away, at any depth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from itertools import islice
from pathlib import Path

from moorage.model.errors import RetryLater
from moorage.providers.local import trees
from moorage.threads import to_its_end

ROOT = Path("/sys/fs/cgroup")
TOP = "moorage"
LOOKS, LOOK_EVERY = 250, 0.02
"""So often, so many seconds apart: what is killed ends well within that."""
AT_ONCE = 256
"""Processes of one group: as many descriptors are open for a moment."""

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


def directory(group: str) -> Path:
    """The group's directory, in the one hierarchy where its processes are looked for."""
    freezer = ROOT / "freezer"  # v1's: what is frozen is let go there
    return (freezer if freezer.exists() else hierarchies()[0]) / group.lstrip("/")


def end(top: Path) -> int:
    """Kill what runs in the group `top` (its directory) or within; how many that were. Blocking.

    A process that v1's freezer holds does not even die of SIGKILL, and a node's root can
    freeze its own: so they are let go as well.
    """
    killed = 0
    for here in trees.walk(top):
        killed += _kill(here)
        with contextlib.suppress(OSError):  # v2 has no such file, and needs none
            _write(here, "freezer.state", b"THAWED")
    return killed


async def clear(group: str) -> None:
    """End what runs in the group still: what runc's state doesn't tell of.

    RetryLater where it does not die. By looking again, for v1 tells nobody of the last one.
    """
    top = directory(group)
    for _ in range(LOOKS):
        if not await to_its_end(end, top):
            return
        await asyncio.sleep(LOOK_EVERY)
    raise RetryLater(f"processes in cgroup {group} do not end after SIGKILL")


async def remove(group: str) -> None:
    """Remove the group, what is inside it, and the parents it leaves empty.

    RetryLater while the kernel still counts a dying process in it.
    """
    tops = [hierarchy / group.lstrip("/") for hierarchy in hierarchies()]
    await trees.remove_groups(tops)
    for top in tops:
        for parent in list(top.parents)[: group.count("/") - 1]:
            try:
                parent.rmdir()
            except OSError:  # a neighbour lives there
                break


def _kill(here: int) -> int:
    """SIGKILL the first processes of one group; how many they were."""
    handles = {}
    for pid in islice(_processes(here), AT_ONCE):
        with contextlib.suppress(ProcessLookupError):
            handles[pid] = os.pidfd_open(pid)
    try:
        # Whoever is listed again, now that it is held, is no other process of that number.
        mine = handles.keys() & _processes(here)
        for pid in mine:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)
        return len(mine)
    finally:
        for handle in handles.values():
            os.close(handle)


def _processes(here: int) -> set[int]:
    with contextlib.suppress(OSError):  # the group is going away
        handle = os.open("cgroup.procs", os.O_RDONLY, dir_fd=here)
        with os.fdopen(handle) as file:
            return {int(line) for line in file}
    return set()


def _write(here: int, name: str, data: bytes) -> None:
    handle = os.open(name, os.O_WRONLY, dir_fd=here)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)
