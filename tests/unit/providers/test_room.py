"""A machine without room says so before anything is made, and names what is lacking."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from moorage.model.errors import NoRoom
from moorage.model.node import Flavor, NodeSpec, Role
from moorage.model.ports import NodeNetwork
from moorage.providers.local import LocalProvider
from moorage.providers.local.slots import Slots

SMALL = Flavor("small", vcpus=1, memory_mib=1000, disk_gib=10, pids=100)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def provider(tmp_path: Path) -> LocalProvider:
    return LocalProvider(
        install="test",
        nodes=tmp_path / "nodes",
        network=cast(NodeNetwork, None),  # nothing is made, so nothing is asked of it
        slots=Slots(tmp_path / "slots", taken=lambda _: False),
        memory_mib=2500,
    )


def specs(count: int) -> list[NodeSpec]:
    return [NodeSpec("c1", f"worker-{n}", Role.WORKER, SMALL, f"w{n}") for n in range(count)]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free GiB of the machine's disk, for the test to set."""
    free = [1000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free[0] << 30))
    return free


async def test_what_fits_is_let_in(provider: LocalProvider, disk: list[int]) -> None:
    await provider.room_for(specs(2))


async def test_memory(provider: LocalProvider, disk: list[int]) -> None:
    with pytest.raises(NoRoom, match=r"3 nodes of 3000 MiB .* only 2500 MiB are not promised"):
        await provider.room_for(specs(3))


async def test_disk_with_a_reserve(provider: LocalProvider, disk: list[int]) -> None:
    disk[0] = 20
    with pytest.raises(NoRoom, match=r"2 nodes of 20 GiB of disk .* 19 GiB left"):
        await provider.room_for(specs(2))


async def test_a_node_that_is_one_too_many_leaves_nothing_behind(
    provider: LocalProvider, tmp_path: Path
) -> None:
    """Two creates that were both let in: the second is refused where it would be made."""
    giant = NodeSpec("c1", "w", Role.WORKER, Flavor("giant", 1, 9000, 1, 1), "w")
    with pytest.raises(NoRoom, match="needs 9000 MiB"):
        await provider.ensure(giant)
    assert await provider.observe("c1") == []
    assert not (tmp_path / "slots").exists()
