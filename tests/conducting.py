"""A conductor in a process of its own, with fake nodes that take their time, for tests.

What it does to the world it says on stdout, a line each, before it does it; its log goes
to stderr. `python -m tests.conducting '<JSON of Options>'`; SIGTERM stops it.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moorage import failpoints, log_lines
from moorage.conductor.loop import Conductor
from moorage.conductor.world import World
from moorage.drivers.fake import FakeDriver
from moorage.failpoints import VARIABLE
from moorage.model.errors import NoRoom
from moorage.model.node import NodeRef, NodeSpec, ObservedNode
from moorage.providers.fake import FakeHost, FakeProvider
from moorage.store import Store
from moorage.trust import ClusterAuthority, Seal

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    url: str
    key_file: str
    nodes: str
    """A directory: what several processes share, they see of each other."""
    home: str = "here/one"
    lease: float = 30.0
    seconds: float = 0.5
    """How long it takes to make a node."""
    bound: bool = False
    """The nodes are at home here, and can't be reached from elsewhere."""
    room: bool = True
    """Whether any node fits here."""


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Told(FakeProvider):
    def __init__(self, options: Options) -> None:
        super().__init__(Path(options.nodes))
        self._seconds = options.seconds

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        say(f"ensure {spec.name}")
        await asyncio.sleep(self._seconds)
        return await super().ensure(spec)

    async def delete(self, ref: NodeRef) -> None:
        say(f"delete {ref.name}")
        await super().delete(ref)

    def host(self, ref: NodeRef) -> FakeHost:
        return _ToldHost(self, ref)


class _ToldHost(FakeHost):
    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        say(f"put {path}")
        await super().put(path, data, mode=mode)


class Bound(Told):
    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.home = options.home
        self._room = options.room

    async def room_for(self, specs: Iterable[NodeSpec]) -> None:
        if not self._room:
            raise NoRoom("this machine is full")


class Process:
    """Such a process, from outside."""

    def __init__(self, options: Options, log: Path, failpoints: Path | None = None) -> None:
        where = {VARIABLE: str(failpoints)} if failpoints else {}
        self.said: list[str] = []
        self._log = log
        self._left = b""
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.conducting", json.dumps(asdict(options))],
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=REPOSITORY,
                env={**os.environ, **where},
            )

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        """Send the signal; its exit code. What it had said is in `said` afterwards."""
        self.send(number)
        rest, _ = self._process.communicate(timeout=seconds)
        self.said += (self._left + rest).decode().splitlines()
        self._left = b""
        return self._process.returncode

    def ended(self, seconds: float = 20.0) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self._process.wait(seconds)

    def until(self, word: str, seconds: float = 20.0) -> str:
        """Wait for a line on stdout that begins so."""
        deadline = time.monotonic() + seconds
        assert self._process.stdout is not None
        while True:
            *lines, self._left = self._left.split(b"\n")
            self.said += [line.decode() for line in lines]
            for line in self.said:
                if line.startswith(word):
                    return line
            ready = select.select([self._process.stdout], [], [], deadline - time.monotonic())[0]
            assert ready, f"never said {word!r}: {self.said}\n{self.log()}"
            data = os.read(self._process.stdout.fileno(), 65536)
            assert data, f"it ended: {self.log()}"
            self._left += data

    def until_logged(self, words: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.log():
            assert time.monotonic() < deadline, f"never logged {words!r}: {self.log()}"
            time.sleep(0.02)

    def log(self) -> str:
        return self._log.read_text()

    def over(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@contextmanager
def conducting(options: Options, log: Path, failpoints: Path | None = None) -> Iterator[Process]:
    """It conducts when this is entered, and is gone when it is left."""
    process = Process(options, log, failpoints)
    try:
        process.until("conducting")
        yield process
    finally:
        process.over()


async def conduct(options: Options) -> None:
    provider: Any = Bound(options) if options.bound else Told(options)
    opened = await Store.open(options.url, Seal.load_or_create(Path(options.key_file)))
    store = failpoints.arm_store(opened)
    world = World({"fake": FakeDriver()}, {"fake": provider}, ClusterAuthority, 60.0)
    conductor = Conductor(store, world, lease=options.lease, alone=False, home=options.home)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, conductor.stop)
    say("conducting")
    await conductor.run()
    await store.close()


if __name__ == "__main__":
    log_lines.configure()
    asyncio.run(conduct(Options(**json.loads(sys.argv[1]))))
