"""What is on this machine, by kind, so that a test can compare before and after."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from moorage.providers.local.slots import FIRST_SUBID

TREES = {"/etc": 9, "/run": 3, "/var/lib": 2, "/root": 2, "/var/tmp": 1, "/opt": 1, "/srv": 1}
"""Where files are looked for, and how deep."""
NOISE = ("/run/user", "/var/lib/apt", "/var/lib/dpkg", "/root/.cache")
"""Files that other programs of the machine make whenever they like."""


def snapshot(*words: str) -> dict[str, set[str]]:
    """Everything by kind. `words`: processes whose argv has one of them count as ours."""
    return {
        "processes": set(_processes(("moorage", *words))),
        "mounts": {line.split(" ", 3)[3] for line in _lines("/proc/self/mountinfo")},
        "links": {link.name for link in Path("/sys/class/net").iterdir()},
        "nft": set(_output("nft", "list", "tables").splitlines()),
        "iptables": _iptables("iptables-save") | _iptables("iptables-legacy-save"),
        "cgroups": set(_cgroups()),
        "sub-ids": {
            *(f"subuid {line}" for line in _lines("/etc/subuid")),
            *(f"subgid {line}" for line in _lines("/etc/subgid")),
        },
        "files": set(_files()),
        "sysctls": {
            f"{path} {Path(path).read_text().strip()}"
            for path in ("/proc/sys/net/ipv4/ip_forward",)
        },
    }


def difference(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, list[str]]:
    """What came (+) and what went (-), for the kinds that changed."""
    return {
        kind: [f"+ {x}" for x in sorted(after[kind] - before[kind])]
        + [f"- {x}" for x in sorted(before[kind] - after[kind])]
        for kind in before
        if before[kind] != after[kind]
    }


BUILD = ("/moorage/kubernetes/.build-", "scripts/kubernetes")
"""In the argv of what builds Kubernetes beside the tests (`make test`)."""


def _processes(words: tuple[str, ...]) -> Iterator[str]:
    own = {str(os.getpid()), *_ancestors()}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name in own:
            continue
        try:
            argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            uid = entry.stat().st_uid
            groups = (entry / "cgroup").read_text()
            if "\nState:\tZ" in (entry / "status").read_text():
                continue  # it is gone; whoever inherited it has yet to notice
        except (FileNotFoundError, ProcessLookupError):
            continue
        ours = uid >= FIRST_SUBID or "/moorage" in groups
        named = any(word in argv for word in words)
        if ours or (named and not any(word in argv for word in ("pytest", *BUILD))):
            yield f"{entry.name} {argv}"


def _ancestors() -> Iterator[str]:
    pid = os.getppid()
    while pid > 1:
        yield str(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _cgroups() -> Iterator[str]:
    for top in Path("/sys/fs/cgroup").glob("**/moorage*"):
        yield str(top)


def _files() -> Iterator[str]:
    for top, depth in TREES.items():
        for directory, names, files in os.walk(top):
            level = len(Path(directory).relative_to(top).parts)
            if level + 1 >= depth:
                found, names[:] = [*names, *files], []
            else:
                found = [*names, *files]
            for name in found:
                path = f"{directory}/{name}"
                if not path.startswith(NOISE):
                    yield path


def _iptables(command: str) -> set[str]:
    lines = _output(command).splitlines()
    return {f"{command}: {line}" for line in lines if line.startswith(("-A", ":"))} - {
        # `iptables-save` itself makes the empty built-in chains: no rule, no change of policy.
        f"{command}: {line}"
        for line in lines
        if line.startswith(":") and " ACCEPT [" in line
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
