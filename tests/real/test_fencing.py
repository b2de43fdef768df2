"""Conductors as processes of their own on one PostgreSQL: paused, killed, stopped, deserted."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from moorage.model.cluster import Cluster
from moorage.model.page import Page
from moorage.store import EVERYTHING, Store
from moorage.trust import Seal
from tests.conducting import Options, Process, conducting
from tests.postgres import PostgresServer, private_server
from tests.unit.conductor.house import House

pytestmark = pytest.mark.real
AT_ITS_START = ("claims.break_of", "homes.beat", "homes.end_forced", "homes.speak_for_deserted")
BESIDE_OTHERS = (*AT_ITS_START, "claims.step_back")
"""Writes of the store that the only process of a database never does."""
LONG = 120.0
"""A lease that no test waits for."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with private_server() as server:
        yield server


@pytest.fixture
def options(postgres: PostgresServer, tmp_path: Path) -> Iterator[Options]:
    with postgres.database() as name:
        yield Options(postgres.url(name), str(tmp_path / "seal.key"), str(tmp_path / "nodes"))


@pytest.fixture
async def house(options: Options) -> AsyncIterator[House]:
    """The store, as an API has it: it conducts nothing."""
    store = await Store.open(options.url, Seal.load_or_create(Path(options.key_file)))
    yield House(store)
    await store.close()


@pytest.fixture
def one(options: Options, tmp_path: Path) -> Iterator[Process]:
    """A conductor whose lease is short."""
    here = dataclasses.replace(options, home="one/a", lease=2.0)
    with conducting(here, tmp_path / "one.log") as process:
        yield process


@pytest.fixture
def patient(options: Options, tmp_path: Path) -> Iterator[Process]:
    """A conductor whose lease is long."""
    here = dataclasses.replace(options, home="one/a", lease=LONG)
    with conducting(here, tmp_path / "one.log") as process:
        yield process


def another(options: Options, tmp_path: Path, home: str = "two/a") -> Options:
    return dataclasses.replace(options, home=home, seconds=0.0)


async def until(
    house: House, uuid: str, right: Callable[[Cluster], bool], seconds: float = 20.0
) -> Cluster:
    """The cluster once it is right; hints of the conductors' commits say when to look."""
    async with asyncio.timeout(seconds):
        while not right(cluster := await house.get(uuid)):
            await house.store.hints.wait(0.5)
        return cluster


def nodes_in(directory: str | Path) -> dict[str, str]:
    """What each node's file says."""
    return {str(path): path.read_text() for path in Path(directory).glob("*/*.json")}


def complete(cluster: Cluster) -> bool:
    return cluster.status.complete


async def story(house: House, uuid: str) -> list[str]:
    events = await house.store.events.list(uuid, EVERYTHING, Page(limit=500))
    return [f"{event.kind} {event.what}" for event in events]


async def test_a_paused_conductor_wakes_up_and_changes_nothing(
    house: House, options: Options, one: Process, tmp_path: Path
) -> None:
    cluster = await house.add(workers=4)
    await asyncio.to_thread(one.until, "ensure")
    one.send(signal.SIGSTOP)
    with conducting(another(options, tmp_path), tmp_path / "two.log") as two:
        await until(house, cluster.uuid, complete)
        before = await house.get(cluster.uuid), await story(house, cluster.uuid)
        nodes = nodes_in(options.nodes)
        one.send(signal.SIGCONT)
        await asyncio.to_thread(one.until_logged, "claim lost")
        assert one.end() == 0
        assert two.end() == 0
    assert (await house.get(cluster.uuid), await story(house, cluster.uuid)) == before
    assert not [line for line in one.said if line.startswith("put")], "a step began after the pause"
    assert nodes_in(options.nodes) == nodes
    assert len(nodes) == 5
    assert len([line for line in two.said if line.startswith("put")]) == 5


async def test_a_killed_conductors_clusters_are_taken_when_its_lease_ends(
    house: House, options: Options, one: Process, tmp_path: Path
) -> None:
    cluster = await house.add(workers=2)
    await asyncio.to_thread(one.until, "ensure")
    one.end(signal.SIGKILL)
    began = time.monotonic()
    with conducting(another(options, tmp_path), tmp_path / "two.log"):
        await until(house, cluster.uuid, complete)
    assert time.monotonic() - began < 10


async def test_a_stopped_conductor_gives_its_clusters_back_at_once(
    house: House, options: Options, patient: Process, tmp_path: Path
) -> None:
    cluster = await house.add(workers=2)
    await asyncio.to_thread(patient.until, "ensure")
    assert await asyncio.to_thread(patient.end) == 0
    assert not [line for line in patient.said if line.startswith("put")], "it began another step"
    with conducting(another(options, tmp_path), tmp_path / "two.log") as two:
        await until(house, cluster.uuid, complete, 10)
        await asyncio.to_thread(two.until, "put")


async def test_a_conductor_that_died_has_its_clusters_back_when_it_is_started_again(
    house: House, options: Options, patient: Process, tmp_path: Path
) -> None:
    """At its own home at once; at another one only after the lease."""
    cluster = await house.add(workers=2)
    await asyncio.to_thread(patient.until, "ensure")
    patient.end(signal.SIGKILL)
    with conducting(another(options, tmp_path), tmp_path / "two.log") as two:
        with conducting(another(options, tmp_path, "one/a"), tmp_path / "again.log") as again:
            await until(house, cluster.uuid, complete, 10)
            assert again.end() == 0
        assert "are free again" in again.log()
        assert "are free again" not in two.log()


async def test_a_cluster_is_conducted_where_its_nodes_are(
    house: House, options: Options, tmp_path: Path
) -> None:
    bound = dataclasses.replace(options, bound=True, seconds=0.0)
    first = dataclasses.replace(bound, home="one/a", nodes=str(tmp_path / "first"))
    second = dataclasses.replace(bound, home="two/a", nodes=str(tmp_path / "second"))
    with conducting(first, tmp_path / "one.log") as one:
        cluster = await house.add(workers=1)
        await until(house, cluster.uuid, complete)
        one.end()
    with conducting(second, tmp_path / "two.log") as two:
        await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=2)
        other = await house.add("other", workers=1)
        await until(house, other.uuid, complete)
        assert (await house.get(cluster.uuid)).status == "UPDATE_IN_PROGRESS"
        with conducting(first, tmp_path / "one.log"):
            await until(house, cluster.uuid, complete)
        two.end()
    assert len(nodes_in(tmp_path / "first")) == 3
    assert {Path(path).parent.name for path in nodes_in(tmp_path / "second")} == {other.uuid}
    found = await house.store.homes.of(cluster.uuid)
    assert found is not None
    assert (found.name, found.deserted) == ("one/a", False)


@pytest.mark.parametrize("point", AT_ITS_START)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_where_only_one_of_several_writes(
    house: House, options: Options, tmp_path: Path, when: str, point: str
) -> None:
    """Whatever it was about to write at its start, the next one goes on from there."""
    await house.store.homes.beat("gone/a")
    await house.store.homes._database.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE homes SET seen_at = seen_at - 600000000"
        )
    )
    cluster = await house.add(workers=1)
    assert await house.store.claims.take("one/a 1-dead", LONG)
    here = dataclasses.replace(options, home="one/a", seconds=0.0, bound=True)
    kill = tmp_path / "failpoints" / "kill"
    kill.parent.mkdir()
    kill.write_text(f"{when} {point}")
    with conducting(here, tmp_path / "one.log", kill.parent) as one:
        assert await asyncio.to_thread(one.ended) == -signal.SIGKILL
    with conducting(here, tmp_path / "again.log"):
        await until(house, cluster.uuid, complete)
    assert len(nodes_in(options.nodes)) == 2
    assert "one/a" in {home.name for home in await house.store.homes.list()}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_where_a_full_machine_leaves_a_cluster_to_another(
    house: House, options: Options, tmp_path: Path, when: str
) -> None:
    bound = dataclasses.replace(options, seconds=0.0, bound=True, lease=2.0)
    full = dataclasses.replace(bound, home="one/a", nodes=str(tmp_path / "first"), room=False)
    empty = dataclasses.replace(bound, home="two/a", nodes=str(tmp_path / "second"))
    kill = tmp_path / "failpoints" / "kill"
    kill.parent.mkdir()
    kill.write_text(f"{when} claims.step_back")
    await house.store.homes.beat("two/a")
    cluster = await house.add(workers=1)
    with conducting(full, tmp_path / "one.log", kill.parent) as one:
        assert await asyncio.to_thread(one.ended) == -signal.SIGKILL
    with conducting(empty, tmp_path / "two.log"):
        if when == "before":  # its claim ends with its process, and it is asked again
            with conducting(full, tmp_path / "again.log"):
                await until(house, cluster.uuid, complete)
        else:
            await until(house, cluster.uuid, complete)
    assert len(nodes_in(tmp_path / "second")) == 2
    found = await house.store.homes.of(cluster.uuid)
    assert found is not None
    assert found.name == "two/a"
