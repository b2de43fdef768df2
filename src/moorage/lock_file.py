"""A lock that is a file: held by one process, which is named in it, and gone with it.

The kernel takes the lock (flock) back from whoever dies; the file's content says of whom it is.
The descriptor is not inherited, so no child holds on to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class HeldError(Exception):
    """Another process holds it. `said` is what that one wrote in it."""

    def __init__(self, said: bytes) -> None:
        super().__init__(said)
        self.said = said


@contextlib.contextmanager
def held(path: Path, said: bytes) -> Iterator[None]:
    """Hold the lock, with `said` in its file. Raises HeldError at once where another does."""
    descriptor = _locked(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, said, 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int:
    """The file, open and locked. Its last holder may remove it meanwhile, and the directory."""
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            raise HeldError(said) from None
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)
