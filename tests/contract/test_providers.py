"""What every provider keeps to."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import pytest_asyncio

from moorage.model.errors import RetryLater
from moorage.model.node import Flavor, NodeRef, NodeSpec, NodeState, Role
from moorage.model.ports import HasAddresses, Traces
from tests.contract.cases import PROVIDERS, OpenYard, Yard

FLAVOR = Flavor("tiny", vcpus=1, memory_mib=128, disk_gib=1, pids=512)


@pytest_asyncio.fixture(params=PROVIDERS)
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    opened: OpenYard = request.param
    async with opened(tmp_path) as yard:
        yield yard


@pytest.fixture
def owner() -> str:
    return str(uuid.uuid4())


def spec(owner: str, name: str = "worker-0", *, expose: int | None = None) -> NodeSpec:
    role = Role.MASTER if name.startswith("master") else Role.WORKER
    return NodeSpec(owner, name, role, FLAVOR, hostname=name, expose=expose)


async def test_a_made_node_is_seen_with_its_marks(yard: Yard, owner: str) -> None:
    made = await yard.provider.ensure(spec(owner, "master-0", expose=2376))
    assert made.ref == NodeRef(owner, "master-0")
    assert made.role is Role.MASTER
    assert made.state is NodeState.RUNNING
    assert made.address
    assert made.endpoint
    host, _, port = made.endpoint.rpartition(":")
    assert host
    assert port.isdecimal()
    assert await yard.provider.observe(owner) == [made]


async def test_a_node_s_address_is_one_of_those_that_were_told(yard: Yard, owner: str) -> None:
    if not isinstance(yard.provider, HasAddresses):
        pytest.skip("it knows of none beforehand")
    made = await yard.provider.ensure(spec(owner))
    assert made.address
    assert any(IPv4Address(made.address) in each for each in yard.provider.addresses)


async def test_a_node_that_exposes_nothing_has_no_endpoint(yard: Yard, owner: str) -> None:
    assert (await yard.provider.ensure(spec(owner))).endpoint is None


async def test_ensuring_twice_gives_the_same_node(yard: Yard, owner: str) -> None:
    first = await yard.provider.ensure(spec(owner))
    await yard.provider.host(first.ref).put("/var/lib/mark", b"1")
    second = await yard.provider.ensure(spec(owner))
    assert second == first
    assert (await yard.provider.host(first.ref).run(["cat", "/var/lib/mark"])).stdout == b"1"


async def test_every_owner_sees_only_its_own(yard: Yard, owner: str) -> None:
    other = str(uuid.uuid4())
    mine = await yard.provider.ensure(spec(owner))
    theirs = await yard.provider.ensure(spec(other))
    assert await yard.provider.observe(owner) == [mine]
    assert await yard.provider.observe(other) == [theirs]
    await yard.provider.delete(mine.ref)
    assert await yard.provider.observe(owner) == []
    assert await yard.provider.observe(other) == [theirs]


async def test_a_stranger_has_no_nodes(yard: Yard) -> None:
    assert await yard.provider.observe(str(uuid.uuid4())) == []


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(yard: Yard, owner: str) -> None:
    made = await yard.provider.ensure(spec(owner))
    await yard.provider.delete(made.ref)
    await yard.provider.delete(made.ref)
    assert await yard.provider.observe(owner) == []
    with pytest.raises(RetryLater):
        await yard.provider.host(made.ref).run(["true"])


async def test_what_never_was_may_be_deleted(yard: Yard, owner: str) -> None:
    await yard.provider.delete(NodeRef(owner, "worker-7"))
    assert await yard.provider.observe(owner) == []


async def test_what_is_there_of_a_cluster_is_found_and_cleared(yard: Yard, owner: str) -> None:
    provider = yard.provider
    assert isinstance(provider, Traces)
    assert owner not in await provider.owned()
    assert await provider.traces(owner) == []
    made = await provider.ensure(spec(owner))
    assert owner in await provider.owned()
    assert "node worker-0: running" in await provider.traces(owner)
    await provider.clear(owner)
    assert await provider.observe(owner) == [made], "what has nodes is left alone"
    await provider.delete(made.ref)
    for _ in range(2):
        await provider.clear(owner)
    assert owner not in await provider.owned()
    assert await provider.traces(owner) == []


async def test_a_node_made_anew_has_an_empty_disk(yard: Yard, owner: str) -> None:
    made = await yard.provider.ensure(spec(owner))
    await yard.provider.host(made.ref).put("/var/lib/mark", b"1")
    await yard.provider.delete(made.ref)
    await yard.provider.ensure(spec(owner))
    assert (await yard.provider.host(made.ref).run(["cat", "/var/lib/mark"])).returncode != 0


async def test_one_node_asked_for_side_by_side_is_made_once(yard: Yard, owner: str) -> None:
    nodes = await asyncio.gather(*(yard.provider.ensure(spec(owner)) for _ in range(4)))
    assert len(set(nodes)) == 1
    assert await yard.provider.observe(owner) == [nodes[0]]


async def test_several_nodes_made_and_deleted_side_by_side(yard: Yard, owner: str) -> None:
    names = ["master-0", "worker-0", "worker-1", "worker-2"]
    nodes = await asyncio.gather(*(yard.provider.ensure(spec(owner, name)) for name in names))
    assert len({node.address for node in nodes}) == len(names)
    assert [node.name for node in await yard.provider.observe(owner)] == names
    await asyncio.gather(*(yard.provider.delete(node.ref) for node in nodes))
    assert await yard.provider.observe(owner) == []


async def test_a_stopped_node_is_seen_and_comes_back_with_its_disk(yard: Yard, owner: str) -> None:
    made = await yard.provider.ensure(spec(owner))
    await yard.provider.host(made.ref).put("/var/lib/mark", b"1")
    yard.stop(made.ref)
    (stopped,) = await yard.provider.observe(owner)
    assert stopped.state is NodeState.STOPPED
    assert stopped.reason
    with pytest.raises(RetryLater):
        await yard.provider.host(made.ref).run(["true"])
    assert await yard.provider.ensure(spec(owner)) == made
    assert (await yard.provider.host(made.ref).run(["cat", "/var/lib/mark"])).stdout == b"1"


async def test_a_stopped_node_can_be_deleted(yard: Yard, owner: str) -> None:
    made = await yard.provider.ensure(spec(owner))
    yard.stop(made.ref)
    await yard.provider.delete(made.ref)
    assert await yard.provider.observe(owner) == []


async def test_a_host_runs_argv(yard: Yard, owner: str) -> None:
    host = yard.provider.host((await yard.provider.ensure(spec(owner))).ref)
    assert (await host.run(["true"])).returncode == 0
    assert (await host.run(["false"])).returncode == 1
    echoed = await host.run(["echo", "a b", "$HOME; x"])
    assert echoed.stdout == b"a b $HOME; x\n"
    assert echoed.argv == ("echo", "a b", "$HOME; x")
    fed = await host.run(["cat"], stdin=b"\x00\xff\n" * 50_000)
    assert fed.stdout == b"\x00\xff\n" * 50_000
    lost = await host.run(["cat", "/no/such"])
    assert lost.returncode == 1
    assert b"No such file" in lost.stderr


async def test_a_host_does_not_wait_longer_than_told(yard: Yard, owner: str) -> None:
    host = yard.provider.host((await yard.provider.ensure(spec(owner))).ref)
    with pytest.raises(RetryLater):
        await host.run(["sleep", "30"], timeout=0.2)
    assert (await host.run(["true"])).returncode == 0


async def test_a_host_takes_files(yard: Yard, owner: str) -> None:
    host = yard.provider.host((await yard.provider.ensure(spec(owner))).ref)
    await host.put("/var/lib/new/file", b"one")
    assert (await host.run(["stat", "-c", "%a", "/var/lib/new/file"])).stdout == b"600\n"
    await host.put("/var/lib/new/file", b"\x00two" * 40_000, mode=0o644)
    assert (await host.run(["stat", "-c", "%a", "/var/lib/new/file"])).stdout == b"644\n"
    assert (await host.run(["cat", "/var/lib/new/file"])).stdout == b"\x00two" * 40_000


async def test_a_file_is_whole_at_every_moment(yard: Yard, owner: str) -> None:
    host = yard.provider.host((await yard.provider.ensure(spec(owner))).ref)
    contents = [bytes([65 + i]) * 100_000 for i in range(4)]
    await host.put("/var/lib/file", contents[0])

    async def read() -> bytes:
        return (await host.run(["cat", "/var/lib/file"])).stdout

    got = await asyncio.gather(
        *(host.put("/var/lib/file", content) for content in contents), *(read() for _ in range(4))
    )
    assert all(seen in contents for seen in got if seen is not None)
    assert await read() in contents


async def test_a_node_of_another_revision_is_renewed_on_its_disk(yard: Yard, owner: str) -> None:
    old = dataclasses.replace(spec(owner, "master-0", expose=2376), revision="r1")
    first = await yard.provider.ensure(old)
    assert first.revision == "r1"
    await yard.provider.host(first.ref).put("/var/lib/mark", b"1")
    larger = dataclasses.replace(FLAVOR, memory_mib=192)
    new = dataclasses.replace(old, flavor=larger, revision="r2")
    second = await yard.provider.ensure(new)
    assert second == dataclasses.replace(first, revision="r2")
    assert await yard.provider.observe(owner) == [second]
    assert (await yard.provider.host(first.ref).run(["cat", "/var/lib/mark"])).stdout == b"1"
    assert await yard.provider.ensure(new) == second


async def test_a_stopped_node_of_another_revision_is_renewed_too(yard: Yard, owner: str) -> None:
    old = dataclasses.replace(spec(owner), revision="r1")
    made = await yard.provider.ensure(old)
    yard.stop(made.ref)
    new = await yard.provider.ensure(dataclasses.replace(old, revision="r2"))
    assert (new.state, new.revision, new.address) == (NodeState.RUNNING, "r2", made.address)
