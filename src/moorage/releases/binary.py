"""The programs of a release, and how one becomes a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moorage.model.errors import Refused

SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
"""Those that say their version with `--version`."""
NEEDED = (*SERVERS, "kubectl")
COREDNS = "coredns"
"""Upstream publishes it by itself: https://github.com/coredns/coredns/releases"""
KNOWN = (*NEEDED, "kubeadm", COREDNS)
"""What is kept of an archive or a directory, the last two where they are there."""
MOST_BYTES = 1 << 30
"""The largest of them has 130 MB so far."""
BLOCK = 1 << 20
MODE = 0o755
"""Nodes bind them read-only, and run them as users that this machine gives no rights."""


@dataclass(frozen=True, slots=True)
class Binary:
    """`size` in bytes; `sha512` in hexadecimal digits."""

    size: int
    sha512: str


def keep(read: Callable[[int], bytes], target: Path) -> Binary:
    """Write what `read` gives, until it gives nothing, to `target`, and to the disk.

    Raises Refused where that is more than a program can be.
    """
    digest, size = hashlib.sha512(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    with os.fdopen(descriptor, "wb") as file:
        while block := read(BLOCK):
            size += len(block)
            if size > MOST_BYTES:
                raise Refused(f"{target.name} is larger than {MOST_BYTES >> 20} MiB.")
            digest.update(block)
            file.write(block)
        file.flush()
        os.fchmod(descriptor, MODE)  # whatever the umask is
        os.fsync(descriptor)
    return Binary(size, digest.hexdigest())


def refuse_missing(found: set[str], where: str) -> None:
    """Raises Refused where one is not among those that were `found` in what `where` names."""
    if lacking := [name for name in NEEDED if name not in found]:
        raise Refused(
            f"{where} is incomplete: it lacks {', '.join(lacking)}. A release is made of the "
            "server archive (kubernetes-server-linux-….tar.gz), not of the client's or a node's."
        )
