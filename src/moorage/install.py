"""An install's name on its machine: chosen once, kept in its state, and held while it is up.

The name marks all that the install makes outside of its state directory: links, cgroups,
containers, the nftables table. So it must stay the same when the state is restored
elsewhere, and two installs that have the same one must never be up at once: they would
undo each other's work. `held` sees to that, by a lock that the kernel takes back from
whoever dies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from moorage import lock_file
from moorage.model.errors import Refused

FILE = "install"
"""In the state directory; it holds the name."""
RUN = Path("/run/moorage")
_NAME = re.compile(r"[a-z0-9]{1,12}")


def install_id(state: Path) -> str:
    """The name of the install in `state`: the kept one, or the one that it will get.

    Raises Refused where what is kept is no name.
    """
    try:
        kept = (state / FILE).read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return hashlib.sha256(str(state).encode()).hexdigest()[:8]
    if not _NAME.fullmatch(kept):
        raise Refused(
            f"{state / FILE} holds no name of an install ({_NAME.pattern}): "
            "restore it from a backup; the links and cgroups of its nodes carry it."
        )
    return kept


def keep_install_id(state: Path) -> str:
    """Write the name down where it isn't yet: whole, or not at all."""
    name = install_id(state)
    if not (state / FILE).exists():
        draft = state / f".{FILE}.{os.getpid()}"
        with open(draft, "w", opener=_private) as file:
            file.write(f"{name}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(state / FILE)
    return name


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def held(name: str, state: Path, directory: Path = RUN) -> Iterator[None]:
    """Be the one install of that name on this machine. Raises Refused where another is up."""
    said = json.dumps({"pid": os.getpid(), "state": str(state)}).encode()
    try:
        with lock_file.held(directory / f"{name}.lock", said):
            yield
    except lock_file.HeldError as error:
        raise Refused(
            f"The install {name!r} is up already on this machine{_holder(error.said)}. Two of one "
            "name can't be: end that one (`moorage down --state …`) before this one begins."
        ) from None
    finally:
        with contextlib.suppress(OSError):  # nodes run, or other installs are up
            directory.rmdir()


def _holder(said: bytes) -> str:
    try:
        known = json.loads(said)
        return f": its state is in {known['state']} (process {known['pid']})"
    except (ValueError, KeyError, TypeError):
        return ""
