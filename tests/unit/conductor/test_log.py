"""Every line of a turn says whose it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moorage.providers.fake import Buggy
from moorage.store import Store
from tests.told import Told, listening
from tests.unit.conductor.house import House


@pytest.fixture
def log() -> Iterator[Told]:
    with listening() as told:
        yield told


async def test_lines_of_turns_and_steps_have_cluster_and_turn(store: Store, log: Told) -> None:
    house = House(store, Buggy())
    one, two = await house.add("one"), await house.add("two")
    async with house.conducted():
        for cluster in (one, two):
            await house.until(cluster.uuid, lambda c: c.attempts > 0)
    lines = log.lines()
    assert any(line["event"] == "internal error" for line in lines), "a step's own line"
    turns: dict[str, set[str]] = {}
    for line in lines:
        turns.setdefault(line["turn"], set()).add(line["cluster"])
    assert all(len(clusters) == 1 for clusters in turns.values()), "never another's"
    assert set().union(*turns.values()) == {one.uuid, two.uuid}
