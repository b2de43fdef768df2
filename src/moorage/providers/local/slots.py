"""Slots: which cluster owns which share of this machine.

A slot is a number from 0 to 4094. It stands for a range of sub-ids, a network and
a published port, so that claiming the one number claims all of them. The claims of
all installs on a machine lie in one directory, as symbolic links `0017` that point
to the cluster's directory: made in one system call, content included.

The sub-ids start at 0x70000000: above what systemd-nspawn gives out and below 2^31
(https://systemd.io/UIDS-GIDS/ lists 1879048192..2147483647 as unused), so that
neither useradd's ranges nor other engines meet them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from moorage.model.errors import NoRoom

SLOTS = 4095
SUBIDS = 65536
FIRST_SUBID = 0x70000000
DIRECTORY = Path("/var/lib/moorage-slots")


def subid(slot: int) -> int:
    """The host's uid and gid that root has in the slot's nodes."""
    return FIRST_SUBID + slot * SUBIDS


class Slots:
    """The claims of this machine. `taken` says of a number that something else sits there."""

    def __init__(self, directory: Path = DIRECTORY, *, taken: Callable[[int], bool]) -> None:
        self._directory = directory
        self._taken = taken

    def claim(self, home: Path) -> int:
        """The slot of the cluster whose directory is `home`, claimed now if it had none."""
        with self._locked() as directory:
            live = {}
            for slot, owner in self._claims().items():
                if owner == home:
                    return slot
                if owner.exists() or self._taken(slot):
                    live[slot] = owner  # what was made for it is there to be found by it
                else:  # its install was removed by hand
                    self._path(slot).unlink()
            for slot in range(SLOTS):
                if slot not in live and not self._taken(slot):
                    self._path(slot).symlink_to(home)
                    # Before anything is marked with it: after a power cut, a marked slot
                    # that nobody claims would be given out again.
                    os.fsync(directory)
                    return slot
        raise NoRoom(
            f"all {SLOTS} networks of this machine are in use: delete a cluster, "
            f"or look for stale claims in {self._directory}"
        )

    def holds(self, slot: int, home: Path) -> bool:
        """Whether the slot is (still) the cluster's whose directory is `home`."""
        return self._claims().get(slot) == home

    def homes(self) -> list[Path]:
        """The directories of all clusters that have a slot, other installs' among them."""
        return list(self._claims().values())

    def of(self, home: Path) -> int | None:
        return next((slot for slot, owner in self._claims().items() if owner == home), None)

    def release(self, slot: int, home: Path) -> None:
        """Give the slot back, if it is `home`'s; the directory goes with the last one."""
        with self._locked():
            if self._claims().get(slot) == home:
                self._path(slot).unlink()
        with contextlib.suppress(OSError):  # not empty, or another process was quicker
            self._directory.rmdir()

    def _path(self, slot: int) -> Path:
        return self._directory / f"{slot:04}"

    def _claims(self) -> dict[int, Path]:
        with contextlib.suppress(FileNotFoundError):
            return {
                int(entry.name): entry.readlink()
                for entry in self._directory.iterdir()
                if entry.is_symlink()
            }
        return {}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Alone on this machine, with a descriptor of the directory.

        It may go while we wait for it: then once more.
        """
        while True:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.fstat(lock).st_nlink == 0:
                    continue
                yield lock
                return
            finally:
                os.close(lock)


def port_in_use(port: int) -> bool:
    """Whether a service of this machine listens on the TCP port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False
