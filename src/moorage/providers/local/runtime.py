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
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.model.errors import RetryLater
from moorage.model.ports import Completed

RUN = Path("/run/moorage")
OUTPUT_BYTES = 1 << 20
PATIENCE = 30.0
"""Seconds that runc may take for anything but a tenant's own argv."""


@dataclass(frozen=True, slots=True)
class Init:
    """A node's pid 1. `started`: the clock tick at which it did, since boot."""

    pid: int
    started: int
    created_only: bool
    """Made by `create` and still waiting for `start`."""

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
        init = Init(
            pid=int(state["init_process_pid"]),
            started=int(state["init_process_start"]),
            created_only=(directory / "exec.fifo").exists(),
        )
        return init if init.alive() else None

    async def create(self, container: str, bundle: Path) -> Init:
        """Make the container from its bundle; its pid 1 waits for `start`."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The node's processes inherit runc's output: a pipe would stay open as long as they
        # live. The file goes with the bundle.
        await self._do("create", "--bundle", str(bundle), container, log=bundle / "runc.log")
        init = self.init(container)
        if init is None:
            raise RetryLater(f"the first process of {container} ended before it was started")
        return init

    async def start(self, container: str) -> None:
        await self._do("start", container)

    async def run(
        self, container: str, argv: Sequence[str], *, stdin: bytes, timeout: float
    ) -> Completed:
        """Run `argv` in the container. What outlives its time is killed, inside too.

        The programs in there are the tenant's to replace: what they print is kept up to
        OUTPUT_BYTES, and the rest is read and forgotten.
        """
        inside = ("/usr/bin/timeout", "--kill-after=1", f"{timeout:.3f}", *argv)
        with _file_of(stdin) as source:
            process = await asyncio.create_subprocess_exec(
                *("runc", "--root", str(self.root), "exec", "--cwd", "/", container, *inside),
                stdin=source,
                stdout=PIPE,
                stderr=PIPE,
            )
        assert process.stdout and process.stderr  # noqa: S101 - for the type checker
        async with _ended(process):
            try:
                async with asyncio.timeout(timeout + 2):
                    out, err = await asyncio.gather(
                        _bounded(process.stdout), _bounded(process.stderr)
                    )
                    code = await process.wait()
            except TimeoutError:
                out, err, code = b"", b"", TIMED_OUT
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
        await asyncio.to_thread(shutil.rmtree, self.root / container, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are there
            self.root.rmdir()
            self.root.parent.rmdir()

    async def _do(self, *words: str, log: Path | None = None) -> None:
        """Run `runc <words>`, whose complaints go to `log`, or else through a pipe."""
        options = ("--root", str(self.root), *(("--log", str(log)) if log else ()))
        process = await asyncio.create_subprocess_exec(
            *("runc", *options, *words),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL if log else PIPE,
        )
        async with _ended(process):
            try:
                _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
            except TimeoutError:
                raise RetryLater(f"runc {words[0]} did not end within {PATIENCE:g} s") from None
        if process.returncode:
            raise RetryLater(f"runc {words[0]} failed: {_last_message(log, said)}")


TIMED_OUT = 124
"""The exit code by which timeout(1) says so."""


@contextlib.contextmanager
def _file_of(data: bytes) -> Iterator[int]:
    """A descriptor to read `data` from. Not a pipe: who ends before reading it breaks nothing."""
    handle = os.memfd_create("stdin")
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(data)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: OUTPUT_BYTES - len(kept)]
    return bytes(kept)


async def kill(init: Init) -> None:
    """SIGKILL pid 1, and with it all that is in its namespace; return when it is gone."""
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
            await asyncio.wait_for(gone.wait(), PATIENCE)
        except TimeoutError:
            raise RetryLater(f"process {init.pid} does not end after SIGKILL") from None
        finally:
            loop.remove_reader(handle)
    finally:
        os.close(handle)


@contextlib.asynccontextmanager
async def _ended(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """No child outlives its caller, however that leaves."""
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _last_message(log: Path | None, said: bytes) -> str:
    """What runc wrote last, as lines of `time=… level=… msg="…"`."""
    text = log.read_text(errors="replace") if log else (said or b"").decode(errors="replace")
    lines = text.strip().splitlines()
    return lines[-1].partition("msg=")[2].strip('"') if lines else "no message"
