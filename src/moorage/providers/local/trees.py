"""Directory trees that a tenant made, however it made them: walked, and taken away.

A node's root may nest directories (and cgroups) deeper than Python's recursion and the
kernel's PATH_MAX reach, and make so many that no thread should be held up by them. rm(1)
and find(1) walk by descriptors, follow no link, and end when their caller is cancelled;
what they did by then stays done. Whoever could still write there must be dead before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from moorage.model.errors import RetryLater
from moorage.providers.local import child

PATIENCE = 600.0
"""Seconds. A step ends long before; this bounds the callers that have no steps."""
SAID_BYTES = 1 << 16
"""Paths are long here, and the reason comes after them."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def remove(*trees: Path) -> None:
    """Remove files and directories, contents included. What is absent is removed.

    RetryLater where something is mounted in there, or the disk says no.
    """
    if there := _existing(trees):
        await _do("files", "rm", "-rf", "--one-file-system", "--", *there)


async def remove_groups(tops: Iterable[Path]) -> None:
    """Remove cgroups and those within: directories, and none of the files in them.

    RetryLater while the kernel still counts a process in one.
    """
    if there := _existing(tops):
        words = ("-depth", "-ignore_readdir_race", "-type", "d", "-delete")
        await _do("cgroups", "find", *there, *words)


def walk(top: Path) -> Iterator[int]:
    """A descriptor of `top` and of each directory within it, good until the next is asked for.

    Blocking. Nobody may move directories meanwhile; those that go away are passed over.
    One descriptor goes down by names and up by `..`, whatever the depth.
    """
    try:
        here = os.open(top, DIRECTORY)
    except FileNotFoundError:
        return
    ahead: list[list[str]] = []  # what is still to be entered, from `top` down to `here`
    try:
        while True:
            yield here
            ahead.append(_directories(here))
            while (there := _enter(here, ahead[-1])) is None:
                ahead.pop()
                if not ahead:
                    return
                here = _gone_to(os.open("..", DIRECTORY, dir_fd=here), here)
            here = _gone_to(there, here)
    finally:
        os.close(here)


def _directories(here: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(here) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _enter(here: int, names: list[str]) -> int | None:
    """The first of these that is still there; it is off the list then."""
    while names:
        with contextlib.suppress(FileNotFoundError):
            return os.open(names.pop(), DIRECTORY, dir_fd=here)
    return None


def _gone_to(there: int, here: int) -> int:
    os.close(here)
    return there


def _existing(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths if os.path.lexists(path)]


async def _do(what: str, *argv: str) -> None:
    """RetryLater, with the system's word for the first thing that could not be removed."""
    try:
        code, _, err = await child.output(argv, stdin=b"", timeout=PATIENCE, most=SAID_BYTES)
    except TimeoutError:
        raise RetryLater(f"its {what} were not removed within {PATIENCE:g} s") from None
    if code:
        # `rm: cannot remove '<path>': <reason>`; the path is the tenant's to choose.
        line = err.decode(errors="replace").partition("\n")[0]
        why = line.rpartition(": ")[2][:200]
        raise RetryLater(f"its {what} can't be removed yet: {why}", delay=0.5)
