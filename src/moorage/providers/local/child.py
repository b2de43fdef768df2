"""Child processes, started the cheap way and awaited by a pidfd.

`subprocess` starts a child by vfork; uvloop forks, which copies the page tables of a
process of 120 MB: 8 ms of the event loop for every `runc`, against 1 ms this way.
No child outlives its caller, however that leaves.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import IO


async def run(argv: Sequence[str], *, timeout: float) -> int:
    """Run it to its end, with nothing to read and nowhere to write; its exit code.

    Raises TimeoutError after so many seconds.
    """
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=nothing, stdout=nothing, stderr=nothing)  # noqa: ASYNC220
    async with asyncio.timeout(timeout), _awaited(process) as ended:
        await ended.wait()
        return process.wait()


async def output(
    argv: Sequence[str], *, stdin: bytes, timeout: float, most: int
) -> tuple[int, bytes, bytes]:
    """Run it to its end; its exit code, stdout and stderr.

    At most `most` bytes of each: who prints more finds the pipe closed. Raises TimeoutError.
    """
    with _file_of(stdin) as source:
        process = subprocess.Popen(  # noqa: ASYNC220 - it only forks
            argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    async with asyncio.timeout(timeout), _awaited(process) as ended:
        out, err, _ = await asyncio.gather(
            _bounded(process.stdout, most), _bounded(process.stderr, most), ended.wait()
        )
        return process.wait(), out, err


@asynccontextmanager
async def standing(argv: Sequence[str]) -> AsyncIterator[int]:
    """Its pid, from the first byte that it prints on (or from its end, if it prints none).

    Its stdin has nothing to read, and ends with this process, however that ends.
    """
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=nothing)  # noqa: ASYNC220
    assert process.stdin is not None  # noqa: S101 - for the type checker
    with process.stdin:
        async with _awaited(process):
            await _bounded(process.stdout, 1)
            yield process.pid


@asynccontextmanager
async def _awaited(process: subprocess.Popen[bytes]) -> AsyncIterator[asyncio.Event]:
    """An event for its end; what has not ended when the block is left is killed."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    handle = os.pidfd_open(process.pid)  # not reaped yet, so the number is still its own
    loop.add_reader(handle, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
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


async def _bounded(pipe: IO[bytes] | None, most: int) -> bytes:
    """What comes through the pipe, up to `most` bytes; then it is closed.

    Not by `connect_read_pipe`: uvloop closes the descriptor and then the file, and the number
    may be another thread's by then.
    """
    assert pipe is not None  # noqa: S101 - for the type checker
    loop, handle, ready = asyncio.get_running_loop(), pipe.fileno(), asyncio.Event()
    os.set_blocking(handle, False)
    loop.add_reader(handle, ready.set)
    kept = bytearray()
    try:
        while len(kept) < most:
            await ready.wait()
            ready.clear()
            try:
                chunk = os.read(handle, 65536)
            except BlockingIOError:
                continue
            if not chunk:
                break
            kept += chunk[: most - len(kept)]
    finally:
        loop.remove_reader(handle)
        pipe.close()
    return bytes(kept)
