"""Nodes that are not there: for tests, for scale, for trying a driver out.

`FakeProvider` keeps its nodes in memory, or as files in a directory, so that they outlive
the process as real ones do, and other processes see them. The other classes are fakes that
misbehave, named by how. They all pass the provider's contract where their misbehaviour
doesn't forbid it.

A fake node's host runs nothing; only the few programs that the
contract speaks of (`true`, `false`, `echo`, `cat`, `stat -c %a`, `rm -f`, `sleep`) answer
as they would.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from moorage.model.errors import NoRoom, RetryLater
from moorage.model.node import NodeRef, NodeSpec, NodeState, ObservedNode, Role
from moorage.model.ports import Completed


@dataclass(slots=True)
class _File:
    mode: int
    data: bytes


@dataclass(slots=True)
class _Node:
    seen: ObservedNode
    files: dict[str, _File] = field(default_factory=dict)


class FakeProvider:
    """A provider without a machine. With `directory`, nodes are found again there."""

    name: ClassVar[str] = "fake"

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory
        self.calls: Counter[str] = Counter()
        """How often each method was called."""
        self._nodes: dict[str, dict[str, _Node]] = {}
        self._watchers: set[asyncio.Queue[str]] = set()
        if directory is not None and directory.exists():
            for owner in directory.iterdir():
                self._look(owner.name)

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        self.calls["ensure"] += 1
        await asyncio.sleep(0)
        return self.make(spec)

    async def observe(self, owner: str) -> list[ObservedNode]:
        self.calls["observe"] += 1
        await asyncio.sleep(0)
        nodes = self._look(owner)
        return [nodes[name].seen for name in sorted(nodes)]

    async def delete(self, ref: NodeRef) -> None:
        self.calls["delete"] += 1
        await asyncio.sleep(0)
        self.drop(ref)

    def host(self, ref: NodeRef) -> FakeHost:
        return FakeHost(self, ref)

    async def changes(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    async def owned(self) -> list[str]:
        return sorted(self.owners())

    async def traces(self, owner: str) -> list[str]:
        nodes = self._nodes.get(owner, {})
        return [f"node {name}: {nodes[name].seen.state}" for name in sorted(nodes)]

    async def clear(self, owner: str) -> None:
        """There is nothing of a cluster but its nodes."""

    # What a test does to the machine room, behind everybody's back.

    def lose(self, ref: NodeRef) -> None:
        """The node is gone, as after a fire."""
        self.drop(ref)
        self._tell(ref.owner)

    def stop(self, ref: NodeRef) -> None:
        """The node is off; its disk is there."""
        self._turn(ref, NodeState.STOPPED, "it was stopped")

    def wreck(self, ref: NodeRef) -> None:
        """The node is half there."""
        self._turn(ref, NodeState.BROKEN, "it was wrecked")

    def owners(self) -> set[str]:
        """Whoever has a node."""
        return {owner for owner, nodes in self._nodes.items() if nodes}

    # What the misbehaving ones build on.

    def make(self, spec: NodeSpec) -> ObservedNode:
        """What `ensure` does, at one blow."""
        return self.put_up(spec, NodeState.RUNNING)

    def put_up(self, spec: NodeSpec, state: NodeState, reason: str = "") -> ObservedNode:
        """Make the node, or find it with its disk, in `state`."""
        nodes = self._nodes.setdefault(spec.owner, self._look(spec.owner))
        node = nodes.get(spec.name)
        if node is None or node.seen.state is NodeState.BROKEN:
            taken = {other.seen.address for other in nodes.values()}
            address = next(a for a in _addresses() if a not in taken)
            endpoint = f"127.0.0.1:{spec.expose}" if spec.expose else None
            ref = NodeRef(spec.owner, spec.name)
            seen = ObservedNode(ref, spec.role, state, address, endpoint, reason, spec.revision)
            node = nodes[spec.name] = _Node(seen)
        else:
            node.seen = replace(node.seen, state=state, reason=reason, revision=spec.revision)
        self.save(node.seen.ref)
        return node.seen

    def drop(self, ref: NodeRef) -> None:
        nodes = self._look(ref.owner)
        nodes.pop(ref.name, None)
        if not nodes:
            self._nodes.pop(ref.owner, None)
        if self.directory is not None:
            self._path(ref).unlink(missing_ok=True)
            if not nodes:
                shutil.rmtree(self.directory / ref.owner, ignore_errors=True)

    def _look(self, owner: str) -> dict[str, _Node]:
        """The owner's nodes, by name: as the files say, where there are files."""
        if self.directory is not None:
            found = {}
            for path in sorted((self.directory / owner).glob("*.json")):
                with contextlib.suppress(FileNotFoundError):  # deleted by another process
                    found[path.stem] = _from_json(path.read_text())
            self._nodes.pop(owner, None)
            if found:
                self._nodes[owner] = found
        return self._nodes.get(owner, {})

    def running(self, ref: NodeRef) -> _Node:
        """The node, if it is up. RetryLater otherwise."""
        node = self._look(ref.owner).get(ref.name)
        if node is None or node.seen.state is not NodeState.RUNNING:
            raise RetryLater(f"node {ref.name} does not run")
        return node

    def save(self, ref: NodeRef) -> None:
        if self.directory is not None:
            path = self._path(ref)
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(".half")
            half.write_text(_to_json(self._nodes[ref.owner][ref.name]))
            half.replace(path)

    def _turn(self, ref: NodeRef, state: NodeState, reason: str) -> None:
        node = self._nodes[ref.owner][ref.name]
        node.seen = replace(node.seen, state=state, reason=reason)
        self.save(ref)
        self._tell(ref.owner)

    def _tell(self, owner: str) -> None:
        for queue in self._watchers:
            queue.put_nowait(owner)

    def _path(self, ref: NodeRef) -> Path:
        assert self.directory is not None  # noqa: S101
        return self.directory / ref.owner / f"{ref.name}.json"


class FakeHost:
    """A host that notes what it is told to run, and keeps files."""

    def __init__(self, provider: FakeProvider, ref: NodeRef) -> None:
        self._provider = provider
        self._ref = ref

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        node = self._provider.running(self._ref)
        await asyncio.sleep(0)
        done = Completed(tuple(argv), 0)
        match list(argv):
            case ["false"]:
                done = replace(done, returncode=1)
            case ["echo", *words]:
                done = replace(done, stdout=" ".join(words).encode() + b"\n")
            case ["sleep", seconds] if float(seconds) > timeout:
                raise RetryLater(f"sleep on node {self._ref.name} not done within {timeout:g} s")
            case ["cat"]:
                done = replace(done, stdout=stdin)
            case ["cat", path] if path in node.files:
                done = replace(done, stdout=node.files[path].data)
            case ["stat", "-c", "%a", path] if path in node.files:
                done = replace(done, stdout=f"{node.files[path].mode:o}\n".encode())
            case ["rm", "-f", path]:
                if node.files.pop(path, None):
                    self._provider.save(self._ref)
            case ["cat" | "stat" as program, *_, path]:
                error = f"{program}: {path}: No such file or directory\n"
                done = replace(done, returncode=1, stderr=error.encode())
        return done

    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self._provider.running(self._ref).files[path] = _File(mode, data)
        self._provider.save(self._ref)


class NeverReady(FakeProvider):
    """Makes nodes that never come up."""

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        await super().ensure(spec)
        self.put_up(spec, NodeState.STOPPED, "it does not come up")
        raise RetryLater(f"node {spec.name} does not come up")


class FailsOnce(FakeProvider):
    """Leaves each node half made the first time, and makes it the second time."""

    def __init__(self, directory: Path | None = None, *, delay: float = 0.01) -> None:
        super().__init__(directory)
        self.delay = delay
        self._failed: set[NodeRef] = set()

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        ref = NodeRef(spec.owner, spec.name)
        if ref not in self._failed:
            self._failed.add(ref)
            self.put_up(spec, NodeState.BROKEN, "it fell over")
            raise RetryLater(f"node {spec.name} fell over", delay=self.delay)
        return await super().ensure(spec)


class LosesNodes(FakeProvider):
    """Makes a node, says so, and has lost it at the next look; `times` times a node."""

    def __init__(self, directory: Path | None = None, *, times: int = 1) -> None:
        super().__init__(directory)
        self.times = times
        self._lost: Counter[NodeRef] = Counter()

    async def observe(self, owner: str) -> list[ObservedNode]:
        for node in await super().observe(owner):
            if self._lost[node.ref] < self.times:
                self._lost[node.ref] += 1
                self.drop(node.ref)
        return await super().observe(owner)


class Hangs(FakeProvider):
    """`ensure` leaves the node half made and does not come back before `released` is set."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(directory)
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        if not self.released.is_set():
            self.put_up(spec, NodeState.BROKEN, "it is being made")
            self.reached.set()
            await self.released.wait()
        return await super().ensure(spec)


class Slow(FakeProvider):
    """Takes `seconds` for every act."""

    def __init__(self, directory: Path | None = None, *, seconds: float = 0.05) -> None:
        super().__init__(directory)
        self.seconds = seconds

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        await asyncio.sleep(self.seconds)
        return await super().ensure(spec)

    async def delete(self, ref: NodeRef) -> None:
        await asyncio.sleep(self.seconds)
        await super().delete(ref)


class NoRoomLeft(FakeProvider):
    """Has room for `room` nodes, and says so only when the next one is made."""

    def __init__(self, directory: Path | None = None, *, room: int = 0) -> None:
        super().__init__(directory)
        self.room = room

    def make(self, spec: NodeSpec) -> ObservedNode:
        known = spec.name in self._nodes.get(spec.owner, {})
        if not known and self.left() < 1:
            raise NoRoom(f"no room for node {spec.name}: {self.room} nodes is all there is")
        return super().make(spec)

    def left(self) -> int:
        return self.room - sum(len(nodes) for nodes in self._nodes.values())


class KnowsItsRoom(NoRoomLeft):
    """Has room for `room` nodes, and says so when asked beforehand."""

    async def room_for(self, specs: Iterable[NodeSpec]) -> None:
        asked = len(list(specs))
        if asked > self.left():
            raise NoRoom(f"no room: {asked} nodes asked for, {self.left()} of {self.room} left")


class DeleteFails(FakeProvider):
    """Fails to delete each node `times` times."""

    def __init__(
        self, directory: Path | None = None, *, times: int = 1, delay: float = 0.01
    ) -> None:
        super().__init__(directory)
        self.times = times
        self.delay = delay
        self._failed: Counter[NodeRef] = Counter()

    async def delete(self, ref: NodeRef) -> None:
        if self._failed[ref] < self.times:
            self._failed[ref] += 1
            raise RetryLater(f"node {ref.name} is busy", delay=self.delay)
        await super().delete(ref)


class Blind(FakeProvider):
    """Can't see its nodes while `blind`."""

    blind: bool = True

    async def observe(self, owner: str) -> list[ObservedNode]:
        if self.blind:
            raise RetryLater("the machine does not answer", delay=0.01)
        return await super().observe(owner)


class Buggy(FakeProvider):
    """Has a bug in `ensure`, whose text must not reach a tenant, while `buggy`."""

    buggy: bool = True

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        if self.buggy:
            raise KeyError("secret detail")
        return await super().ensure(spec)


def _addresses() -> Iterable[str]:
    return (f"10.0.{high}.{low}" for high in range(256) for low in range(2, 255))


def _to_json(node: _Node) -> str:
    record = {
        "seen": asdict(node.seen),
        "files": {
            path: [file.mode, base64.b64encode(file.data).decode()]
            for path, file in node.files.items()
        },
    }
    return json.dumps(record)


def _from_json(text: str) -> _Node:
    record = json.loads(text)
    seen = record["seen"]
    seen["ref"] = NodeRef(**seen["ref"])
    seen["role"] = Role(seen["role"])
    seen["state"] = NodeState(seen["state"])
    files = {
        path: _File(mode, base64.b64decode(data)) for path, (mode, data) in record["files"].items()
    }
    return _Node(ObservedNode(**seen), files)
