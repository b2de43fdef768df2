"""The user namespace of a node, made beforehand by its cluster's own id.

What a node uses of the kernel's countable things (inotify instances, mounts, namespaces:
/proc/sys/user) is charged to its namespace, and to *whoever made that* as well. If runc
made it, that would be the machine's root, whose 128 inotify instances every node would
share with every other one and with the machine's own programs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.model.errors import RetryLater
from moorage.providers.local import child
from moorage.providers.local.slots import SUBIDS

LIFETIME = 120
"""Seconds after which the maker ends by itself, in any case."""


@asynccontextmanager
async def lent(link: Path, uid: int) -> AsyncIterator[None]:
    """While in the block, `link` leads to a new namespace that maps root to `uid`.

    It lives on in the processes that joined it by then.
    """
    ids = ("--reuid", str(uid), "--regid", str(uid), "--clear-groups")
    # It dies with us, for nobody who comes after us knows of it; also where we died before
    # it had that from the kernel, and init is its parent by now.
    ends = ("--pdeathsig", "KILL")
    orphan = f'[ "$PPID" = {os.getpid()} ] || exit'
    wait = ("sh", "-c", f"{orphan}; echo; exec sleep {LIFETIME}")
    async with child.standing(("setpriv", *ids, *ends, "unshare", "--user", "--", *wait)) as pid:
        _lend(link, pid, uid)
        try:
            yield
        finally:
            link.unlink()  # noqa: ASYNC240


def _lend(link: Path, pid: int, uid: int) -> None:
    try:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {uid} {SUBIDS}\n")
    except OSError as error:
        raise RetryLater(f"no user namespace could be made: {error.strerror}") from error
    link.unlink(missing_ok=True)
    link.symlink_to(f"/proc/{pid}/ns/user")
