"""Taking away the trees that a tenant made, however it made them.

A node's root may nest directories (and cgroups) deeper than Python's recursion and the
kernel's PATH_MAX reach, and make so many that no thread should be held up by them. rm(1)
and find(1) walk by descriptors, follow no link, and end when their caller is cancelled;
what they did by then stays done.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from moorage.model.errors import RetryLater
from moorage.providers.local import child

PATIENCE = 600.0
"""Seconds. A step ends long before; this bounds the callers that have no steps."""
SAID_BYTES = 1000


async def remove(*trees: Path) -> None:
    """Remove files and directories, contents included. What is absent is removed."""
    await _do("rm", "-rf", "--one-file-system", "--", *map(str, trees))


async def remove_directories(tops: Iterable[Path]) -> None:
    """Remove directories and those within, and no file: all that one can do to cgroups."""
    there = [str(top) for top in tops if top.exists()]
    if there:
        await _do("find", *there, "-depth", "-ignore_readdir_race", "-type", "d", "-delete")


async def _do(*argv: str) -> None:
    """RetryLater, with the system's word for the first thing that could not be removed."""
    try:
        code, _, err = await child.output(argv, stdin=b"", timeout=PATIENCE, most=SAID_BYTES)
    except TimeoutError:
        raise RetryLater(f"{argv[0]} did not end within {PATIENCE:g} s") from None
    if code:
        # `rm: cannot remove '<path>': <reason>`; the path is the tenant's to choose.
        line = err.decode(errors="replace").partition("\n")[0]
        raise RetryLater(f"it can't be removed yet: {line.rpartition(': ')[2]}", delay=0.5)
