"""Whether a node's disk is full, seen from outside.

A node's disk is its root directory. Nothing holds it to a size, so what counts is the room on
the file system that this directory is on: all nodes have that in common, unless an operator
gave some a file system of their own. Nothing below the root is looked at: it is the tenant's,
who may have put a link there, or a file system that never answers.
"""

from __future__ import annotations

import os
from pathlib import Path

LEAST = 256 << 20
"""Bytes: with less than this left (or a twentieth, on a small disk) an engine soon fails."""
LEAST_FILES = 1000


def trouble(root: Path) -> str:
    """What is wrong with the disk, with the figures; empty where nothing is."""
    try:
        found = os.statvfs(root)
    except FileNotFoundError:  # it is being deleted
        return ""
    except OSError as error:
        return f"its disk can't be asked: {error.strerror}"
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if free < min(LEAST, size // 20):
        return f"its disk is full: {free >> 20} MiB of {size >> 20} MiB are left"
    if found.f_files and found.f_favail < min(LEAST_FILES, found.f_files // 20):
        return f"its disk is full: {found.f_favail} of {found.f_files} files are left"
    return ""
