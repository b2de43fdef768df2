"""A directory of programs, such as `make kubernetes` makes: copied, and never linked to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from moorage.model.errors import Refused
from moorage.releases import binary
from moorage.releases.binary import Binary


def gather(folder: Path, directory: Path) -> dict[str, Binary]:
    """Copy the programs that lie in `folder` into `directory`; by name what they are.

    Raises Refused where one lacks, or is no plain file.
    """
    found = {name for name in binary.KNOWN if os.path.lexists(folder / name)}
    binary.refuse_missing(found, str(folder))
    return {name: copied(folder / name, directory / name) for name in binary.KNOWN if name in found}


def copied(source: Path, target: Path) -> Binary:
    """Copy a program. Raises Refused where it is no plain file, OSError where it can't be read."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(source, flags)
    except OSError:
        if source.is_symlink():
            raise Refused(f"{source} is a link: give the directory of the files.") from None
        raise
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(f"{source} is no plain file.")
        return binary.keep(file.read, target)
