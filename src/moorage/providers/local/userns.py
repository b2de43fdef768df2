"""The user namespace of a node, made beforehand by its cluster's own id.

What a node uses of the kernel's countable things (inotify instances, mounts, namespaces:
/proc/sys/user) is charged to its namespace, and to *whoever made that* as well. If runc
made it, that would be the machine's root, whose 128 inotify instances every node would
share with every other one and with the machine's own programs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.model.errors import RetryLater
from moorage.providers.local import child
from moorage.providers.local.slots import SUBIDS


@asynccontextmanager
async def lent(link: Path, uid: int) -> AsyncIterator[None]:
    """While in the block, `link` leads to a new namespace that maps root to `uid`.

    It lives on in the processes that joined it by then.
    """
    ids = ("--reuid", str(uid), "--regid", str(uid), "--clear-groups")
    # It ends with us, for nobody who comes after us knows of it: by the end of its stdin. A
    # parent-death signal is no use, for the kernel drops it where an exec brings capabilities,
    # which any does once root is mapped.
    wait = ("sh", "-c", "echo; read -r _")
    async with child.standing(("setpriv", *ids, "unshare", "--user", "--", *wait)) as pid:
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
