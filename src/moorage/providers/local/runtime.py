"""runc, as far as a node needs it: create, start, run in it, kill, delete, look.

runc's own state lies under `/run/moorage/<install>`, which a reboot empties; its
`state.json` names pid 1 and that process's start time, which together can't be
mistaken for another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.model.errors import RetryLater
from moorage.model.ports import Completed
from moorage.providers.local import cgroups, child
from moorage.threads import to_its_end

RUN = Path("/run/moorage")
LOG = "runc.log"
"""In the bundle, and gone with it."""
OUTPUT_BYTES = 1 << 20
PATIENCE = 30.0
"""Seconds that runc may take for anything but a tenant's own argv."""
OPEN_FILES = 1_048_576
STUCK_AFTER = 0.25
"""Seconds. What is not frozen ends well within that when it is killed."""


@dataclass(frozen=True, slots=True)
class Init:
    """A node's pid 1. `started`: the clock tick at which it did, since boot."""

    pid: int
    started: int
    created_only: bool
    """Made by `create` and still waiting for `start`."""
    group: Path
    """The directory of its cgroup, in the freezer's hierarchy where the machine has v1."""

    def alive(self) -> bool:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        # Fields after the command, which may hold blanks: state is the 3rd, starttime the 22nd.
        fields = stat.rpartition(")")[2].split()
        return fields[0] not in "ZX" and int(fields[19]) == self.started


class Runc:
    def __init__(self, install: str) -> None:
        self.root = RUN / install

    def init(self, container: str) -> Init | None:
        """The container's pid 1, if it lives."""
        directory = self.root / container
        try:
            state = json.loads((directory / "state.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        groups: dict[str, str] = state["cgroup_paths"]
        init = Init(
            pid=int(state["init_process_pid"]),
            started=int(state["init_process_start"]),
            created_only=(directory / "exec.fifo").exists(),
            group=Path(groups.get("freezer") or next(iter(groups.values()))),
        )
        return init if init.alive() else None

    async def create(self, container: str, bundle: Path) -> Init:
        """Make the container from its bundle; its pid 1 waits for `start`."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (bundle / LOG).unlink(missing_ok=True)  # a node that never starts writes it for ever
        await self._do("create", "--bundle", str(bundle), container, log=bundle / LOG)
        init = self.init(container)
        if init is None:
            raise RetryLater(f"the first process of {container} ended before it was started")
        return init

    async def start(self, container: str, bundle: Path) -> None:
        await self._do("start", container, log=bundle / LOG)

    async def run(
        self, container: str, argv: Sequence[str], *, stdin: bytes, timeout: float
    ) -> Completed:
        """Run `argv` in the container. What outlives its time is killed, inside too.

        The programs in there are the tenant's to replace: those that print more than
        OUTPUT_BYTES find the pipe closed, so that none keeps us busy.
        """
        inside = ("/usr/bin/timeout", "--kill-after=1", f"{timeout:.3f}", *argv)
        command = ("--root", str(self.root), "exec", "--cwd", "/", container, *inside)
        try:
            code, out, err = await child.output(
                ("runc", *command), stdin=stdin, timeout=timeout + 2, most=OUTPUT_BYTES
            )
        except TimeoutError:
            code, out, err = TIMED_OUT, b"", b""
        if code == TIMED_OUT:
            raise RetryLater(f"`{argv[0]}` did not end within {timeout:g} s")
        return Completed(tuple(argv), code, out, err)

    async def destroy(self, container: str) -> None:
        """End everything in the container and forget it. What is absent is destroyed."""
        if init := self.init(container):
            await kill(init)
        if not (self.root / container).exists():
            return  # and leave the empty root to the neighbour who may just have made it
        # All that `runc delete` would still do, without a process of its own: the cgroups are
        # the caller's (`cgroups.remove`), and a node has no hooks.
        await to_its_end(shutil.rmtree, self.root / container, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are there
            self.root.rmdir()
            self.root.parent.rmdir()

    async def _do(self, *words: str, log: Path) -> None:
        """Run `runc <words>`, whose complaints go to `log`.

        No pipe: the node's processes inherit it from `create`, and would keep it open.
        """
        # As many open files as a node may have: runc itself may not give them to a process
        # of another id, where the machine's root has no CAP_SYS_RESOURCE.
        files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        limited = ("prlimit", f"--nofile={files}:{files}")
        argv = (*limited, "runc", "--root", str(self.root), "--log", str(log), *words)
        try:
            code = await child.run(argv, timeout=PATIENCE)
        except TimeoutError:
            raise RetryLater(f"runc {words[0]} did not end within {PATIENCE:g} s") from None
        if code:
            raise RetryLater(f"runc {words[0]} failed: {_last_message(log)}")


TIMED_OUT = 124
"""The exit code by which timeout(1) says so."""


async def kill(init: Init) -> None:
    """SIGKILL pid 1, and with it all that is in its namespace; return when it is gone.

    It is gone when the last process of the namespace is, the frozen ones included.
    """
    try:
        handle = os.pidfd_open(init.pid)
    except ProcessLookupError:
        return
    try:
        if not init.alive():  # the handle may be of another process by now
            return
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, gone.set)
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while not gone.is_set():
                    try:
                        async with asyncio.timeout(STUCK_AFTER):
                            await gone.wait()
                    except TimeoutError:
                        await to_its_end(cgroups.end, init.group)
        except TimeoutError:
            raise RetryLater(f"process {init.pid} does not end after SIGKILL") from None
        finally:
            loop.remove_reader(handle)
    finally:
        os.close(handle)


def _last_message(log: Path) -> str:
    """What runc wrote last, as lines of `time=… level=… msg="…"`."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].partition("msg=")[2].strip('"') if lines else "no message"
