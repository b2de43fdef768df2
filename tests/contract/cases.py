"""The plugins that the contracts are held against. Real ones are imported when they are used.

A new provider or driver joins by a line in `PROVIDERS` or `PAIRS`.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moorage.drivers.fake import FakeDriver
from moorage.model.node import NodeRef
from moorage.model.ports import AnyDriver, NodeProvider
from moorage.providers.fake import FakeProvider, KnowsItsRoom, LosesNodes, NoRoomLeft, Slow


@dataclass(frozen=True)
class Yard:
    """A provider, and how to switch one of its nodes off behind its back."""

    provider: NodeProvider
    stop: Callable[[NodeRef], None]


OpenYard = Callable[[Path], AbstractAsyncContextManager[Yard]]


def _fake(make: Callable[[Path], FakeProvider]) -> OpenYard:
    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[Yard]:
        provider = make(directory)
        yield Yard(provider, provider.stop)

    return opened


@contextmanager
def _state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="moorage-test-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@asynccontextmanager
async def local(_: Path) -> AsyncIterator[Yard]:
    """Real nodes, in a state directory that their root may walk into; nothing is left."""
    from moorage.app import local_provider  # noqa: PLC0415
    from moorage.install import install_id  # noqa: PLC0415
    from moorage.providers.local.runtime import Runc  # noqa: PLC0415
    from moorage.settings import Settings  # noqa: PLC0415

    with _state() as state:
        provider = local_provider(Settings(state=state))

        def stop(ref: NodeRef) -> None:
            init = Runc(install_id(state)).init(f"{ref.owner}.{ref.name}")
            assert init is not None, f"{ref} does not run"
            ended = os.pidfd_open(init.pid)
            try:
                os.kill(init.pid, signal.SIGKILL)
                assert select.select([ended], [], [], 5.0)[0], "it was killed and did not end"
            finally:
                os.close(ended)

        try:
            yield Yard(provider, stop)
        finally:
            for owner in provider.owners():
                for node in await provider.observe(owner):
                    await provider.delete(node.ref)
            await provider.sweep()


def swarm() -> AnyDriver:
    from moorage.drivers.swarm import SwarmDriver  # noqa: PLC0415

    return SwarmDriver()


def kubernetes() -> AnyDriver:
    """With no release: good for what is pure."""
    from moorage.drivers.kubernetes import KubernetesDriver  # noqa: PLC0415
    from moorage.releases import Releases  # noqa: PLC0415

    return KubernetesDriver(Releases(Path("/nowhere")))


def real(value: Any, id: str) -> Any:
    """A case that makes real nodes."""
    return pytest.param(value, id=id, marks=pytest.mark.real)


FAKES = {
    "fake": _fake(lambda _: FakeProvider()),
    "fake-on-disk": _fake(lambda directory: FakeProvider(directory / "nodes")),
    "slow": _fake(lambda _: Slow(seconds=0.002)),
    "room-left": _fake(lambda _: NoRoomLeft(room=20)),
    "knows-its-room": _fake(lambda _: KnowsItsRoom(room=20)),
    "loses-no-nodes": _fake(lambda _: LosesNodes(times=0)),
}
PROVIDERS = [
    *(pytest.param(yard, id=name) for name, yard in FAKES.items()),
    real(local, id="local"),
]
DRIVERS: list[Any] = [
    pytest.param(FakeDriver, id="fake"),
    pytest.param(swarm, id="swarm"),
    pytest.param(kubernetes, id="kubernetes"),
]
PAIRS = [
    pytest.param((FakeDriver, FAKES["fake"]), id="fake-fake"),
    pytest.param((FakeDriver, FAKES["fake-on-disk"]), id="fake-fake-on-disk"),
    real((FakeDriver, local), id="fake-local"),
    real((swarm, local), id="swarm-local"),
]
