"""A power cut, for one install: all that runs ends at one blow, and what lived in memory is gone.

What a real one takes besides, the writes that no fsync has waited for, can't be taken from a
file system that goes on; `docs/durability.md` says what is waited for, and where.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from moorage.install import install_id
from moorage.networks import links
from moorage.networks.layout import alias
from moorage.networks.rules import FAMILY, table
from moorage.providers.local import cgroups
from tests.real.install import Install


def cut(install: Install) -> None:
    """End the server, its Keystone, its helpers and all nodes; take what a reboot takes."""
    name = install_id(install.state)
    server = psutil.Process(install.server_pid())
    server.send_signal(signal.SIGSTOP)  # nothing new from here on
    helpers = [server, *server.children(recursive=True)]
    group = cgroups.directory(f"/{cgroups.TOP}/{name}")
    frozen = group / "freezer.state"
    with contextlib.suppress(OSError):  # no node yet; or cgroup v2, which kills at one blow
        frozen.write_text("FROZEN")
    for process in helpers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    while _kill_all(group):
        with contextlib.suppress(OSError):
            frozen.write_text("THAWED")
    psutil.wait_procs(helpers, timeout=10)
    mine = alias(name).split()
    for link, mark in links.listed().items():
        if mark.split()[:2] == mine:
            # The ends of a link go together; those of a node's went with it.
            subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
    subprocess.run(
        ["nft", "delete", "table", FAMILY, table(name)], check=False, capture_output=True
    )
    shutil.rmtree(Path("/run/moorage") / name, ignore_errors=True)
    for hierarchy in cgroups.hierarchies():
        _remove_groups(hierarchy / cgroups.TOP / name)


def _kill_all(group: Path) -> int:
    """SIGKILL to whoever is in the group or below; how many that were."""
    killed = 0
    for processes in group.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            for pid in processes.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
                    killed += 1
    return killed


def _remove_groups(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        Path(directory).rmdir()
