"""What all installs on a machine share: that it forwards, and lets our bridges through.

`net.ipv4.ip_forward` is set to 1 when the first bridge needs it. The value it had is
kept in a file under /run, which like the setting itself does not survive a reboot.

A packet passes only if every chain of a hook accepts it, so an accept in our table
does not help against iptables' `FORWARD` with the policy DROP (which Docker sets, in
the nft or in the legacy tables). Where that is so, two rules with the comment
`moorage` accept what comes from or goes to our bridges. They go to the top of
DOCKER-USER where Docker has one (it is consulted first and survives Docker's
restarts; accepting there ends iptables' filter, not ours), else of FORWARD. What must
not pass is dropped by our own table, and a drop there is final.

Both go when the last bridge of any install is gone, except that forwarding stays on
while another bridge on the machine is up: its owner may count on it by now.

Every change is made under a lock on the setting itself, so that one install can't
take away what another has just found in place.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from moorage.networks import links
from moorage.networks.layout import PREFIX

MEMORY = Path("/run/moorage.ip_forward")
_SETTING = Path("/proc/sys/net/ipv4/ip_forward")
_RULES = tuple(f"{way} {PREFIX}+ -m comment --comment moorage -j ACCEPT" for way in ("-i", "-o"))


def additions(saved: str) -> list[str]:
    """What `iptables-restore` must add to the filter table that `iptables-save` showed."""
    lines = saved.splitlines()
    if not any(line.startswith(":FORWARD DROP") for line in lines):
        return []
    chain = "DOCKER-USER" if "-A FORWARD -j DOCKER-USER" in lines else "FORWARD"
    return [f"-I {chain} {rule}" for rule in _RULES if f"-A {chain} {rule}" not in lines]


def removals(saved: str) -> list[str]:
    """What `iptables-restore` must do to take our rules out, wherever they are."""
    return [
        line.replace("-A ", "-D ", 1)
        for line in saved.splitlines()
        if line.startswith("-A ") and line.endswith(_RULES)
    ]


def lacking() -> str:
    """What of it is lost by now, for an operator to read; empty where nothing is. Blocking."""
    if _SETTING.read_text().strip() != "1":
        return "this machine does not forward packets any more (net.ipv4.ip_forward)"
    for backend in _backends():
        # Rules that can't be read are not known to be lost; `allow` says what is wrong with them.
        with suppress(OSError):
            if additions(_save(backend)):
                return f"the machine's firewall ({backend}, FORWARD) drops what its cluster sends"
    return ""


def allow(memory: Path = MEMORY) -> None:
    """Call when a bridge exists, so that `release` of another install sees it. Blocking."""
    with _locked():
        before = _SETTING.read_text().strip()
        if before != "1":
            memory.write_text(before)
            _SETTING.write_text("1")
        for backend in _backends():
            _restore(backend, additions(_save(backend)))


def release(memory: Path = MEMORY) -> None:
    """Call when bridges are gone; does nothing while there is one. Blocking."""
    with _locked():
        if links.listed():
            return
        for backend in _backends():
            _restore(backend, removals(_save(backend)))
        with suppress(FileNotFoundError):
            if not links.other_bridges():
                _SETTING.write_text(memory.read_text())
            memory.unlink()


def _backends() -> Iterator[str]:
    yield "iptables-nft"
    # iptables-legacy makes its tables by looking at them.
    with suppress(FileNotFoundError):
        if "filter" in Path("/proc/thread-self/net/ip_tables_names").read_text().split():
            yield "iptables-legacy"


def _save(backend: str) -> str:
    """The filter table as text; empty where the machine has no such iptables, hence no rules."""
    try:
        return _run([f"{backend}-save", "-t", "filter"])
    except FileNotFoundError:
        return ""


def _restore(backend: str, lines: Sequence[str]) -> None:
    if lines:
        text = "\n".join(["*filter", *lines, "COMMIT", ""])
        _run([f"{backend}-restore", "--noflush", "--wait", "10"], text)


def _run(argv: Sequence[str], stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{argv[0]} failed: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def _locked() -> Iterator[None]:
    handle = os.open(_SETTING, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
