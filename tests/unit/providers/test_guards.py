"""A local node whose network lost its guards: told, and mended while it runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from moorage.model.errors import RetryLater
from moorage.model.node import Flavor, NodeRef, NodeSpec, NodeState, Role
from moorage.providers.local import disk
from moorage.providers.local.place import Marks, Place, Places
from moorage.providers.local.provider import LocalProvider
from moorage.providers.local.runtime import Init, Runc
from moorage.providers.local.slots import Slots
from moorage.providers.local.watch import Watch
from tests.unit.test_threads import until

SPEC = NodeSpec(
    "web", "master-0", Role.MASTER, Flavor("tiny", 1, 256, 1, 64), "master-0", expose=2376
)


@dataclass
class Forgetful:
    """A network whose guards others take away: `guarded` and `published` say what is left."""

    guarded: bool = True
    published: bool = True
    linked: bool = True
    led: str = "10.128.0.2"
    masters: tuple[str, ...] = ("10.128.0.2",)
    done: list[str] = field(default_factory=list)

    @property
    def pool(self) -> IPv4Network:
        return IPv4Network("10.128.0.0/16")

    def address(self, slot: int, index: int) -> str:
        return f"10.128.{slot}.{index + 2}"

    def endpoint(self, slot: int) -> str:
        return f"192.0.2.1:{20480 + slot}"

    def in_use(self, slot: int) -> bool:
        return True

    def attached(self, slot: int, index: int) -> bool:
        return self.linked

    async def trouble(self, slot: int, port: int | None, masters: Sequence[str] = ()) -> str:
        if not self.guarded:
            return "no guards"
        if set(masters) - set(self.masters):
            return "fewer masters"
        return "no port" if port and not self.published else ""

    async def open(self, *_: Any) -> None:
        self.done.append("open")
        self.guarded = True

    async def attach(self, *_: Any) -> None:
        self.done.append("attach")
        self.linked = True

    async def publish(
        self, slot: int, address: str, port: int, masters: Sequence[str] = ()
    ) -> None:
        assert self.guarded
        self.done.append("publish")
        self.masters = tuple(masters)
        self.led, self.published = address, True

    async def led_to(self, slot: int) -> str:
        return self.led if self.published else ""

    async def detach(self, *_: Any) -> None:
        self.done.append("detach")

    async def dismiss(self, slot: int, address: str) -> None:
        self.done.append("dismiss")
        self.masters = tuple(each for each in self.masters if each != address)

    async def close(self, *_: Any) -> None:
        raise AssertionError


@pytest.fixture
def network() -> Forgetful:
    return Forgetful()


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Forgetful) -> LocalProvider:
    """One that is just started and finds its node running, by what runc and its marks say."""
    running = Init(os.getpid(), 0, created_only=False, group=tmp_path)
    monkeypatch.setattr(Runc, "init", lambda *_: running)
    monkeypatch.setattr(Watch, "over", lambda *_: None)
    slots = Slots(tmp_path / "slots", taken=lambda _: False)
    nodes = tmp_path / "nodes"
    place = Places(nodes).of(NodeRef(SPEC.owner, SPEC.name))
    place.root.mkdir(parents=True)
    marks = Marks.of(SPEC, install="guards", slot=slots.claim(place.home), index=0)
    place.write({"annotations": marks.annotations()})
    return LocalProvider(
        install="guards", nodes=nodes, network=network, slots=slots, memory_mib=1024
    )


def another(tmp_path: Path, spec: NodeSpec) -> Place:
    """One more node of the cluster, its second one."""
    place = Places(tmp_path / "nodes").of(NodeRef(spec.owner, spec.name))
    place.root.mkdir(parents=True)
    marks = Marks.of(spec, install="guards", slot=0, index=1)
    place.write({"annotations": marks.annotations()})
    return place


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that are deleted end nothing: their processes are this one."""

    async def destroy(*_: object) -> None: ...

    monkeypatch.setattr(Runc, "destroy", destroy)


async def told(provider: LocalProvider) -> tuple[NodeState, str, bool]:
    (node,) = await provider.observe(SPEC.owner)
    return node.state, node.reason, node.mendable


WELL = (NodeState.RUNNING, "", False)


async def test_what_is_lost_is_told_and_mended_with_no_node_started(
    provider: LocalProvider, network: Forgetful
) -> None:
    """Not even where this process has opened the network itself, and its bridge is there."""
    assert await told(provider) == WELL
    await provider.ensure(SPEC)
    for _ in range(2):
        network.guarded = network.published = False
        network.done.clear()
        assert await told(provider) == (NodeState.RUNNING, "no guards", True)
        assert (await provider.ensure(SPEC)).reason == ""
        assert network.done == ["open", "publish"]
        assert await told(provider) == WELL


async def test_a_lost_port_is_told_and_mended(provider: LocalProvider, network: Forgetful) -> None:
    await provider.ensure(SPEC)
    network.published = False
    assert await told(provider) == (NodeState.RUNNING, "no port", True)
    await provider.ensure(SPEC)
    assert await told(provider) == WELL


async def test_each_master_is_compared_and_not_that_there_is_one(
    provider: LocalProvider, network: Forgetful, tmp_path: Path
) -> None:
    """By what stands on the nodes: those that this process did not make are among them."""
    another(tmp_path, replace(SPEC, name="master-1"))
    for _ in range(2):
        lost = [(node.reason, node.mendable) for node in await provider.observe(SPEC.owner)]
        assert lost == [("fewer masters", True)] * 2
        await provider.ensure(SPEC)
        assert network.masters == ("10.128.0.2", "10.128.0.3")
        assert {node.reason for node in await provider.observe(SPEC.owner)} == {""}
        network.masters = ("10.128.0.3",)


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("rest", [Role.MASTER, Role.WORKER])
async def test_who_gets_a_deleted_masters_address_is_no_master_by_that(
    provider: LocalProvider,
    network: Forgetful,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rest: Role,
) -> None:
    """It is taken from the masters while it is still its own; also where no other master runs."""
    expose = 2376 if rest is Role.MASTER else None
    another(tmp_path, replace(SPEC, name="other-0", role=rest, expose=expose))
    await provider.observe(SPEC.owner)
    place = Places(tmp_path / "nodes").of(NodeRef(SPEC.owner, SPEC.name))
    network.masters = ("10.128.0.2", "10.128.0.3") if expose else ("10.128.0.2",)
    dismiss, free = network.dismiss, []

    async def watched(slot: int, address: str) -> None:
        free.append(place.marks() is None)
        await dismiss(slot, address)

    monkeypatch.setattr(network, "dismiss", watched)
    await provider.delete(place.ref)
    assert free == [False]
    assert not place.directory.exists()
    assert network.masters == (("10.128.0.3",) if expose else ())
    assert network.done == ["detach", "dismiss", *(["publish"] if expose else [])]
    assert {node.reason for node in await provider.observe(SPEC.owner)} == {""}


@pytest.mark.usefixtures("endless")
async def test_no_master_is_published_that_is_deleted_meanwhile(
    provider: LocalProvider, network: Forgetful, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = another(tmp_path, replace(SPEC, name="master-1"))
    publish, begun, go_on = network.publish, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> None:
        begun.set()
        await go_on.wait()
        await publish(*arguments)

    monkeypatch.setattr(network, "publish", slow)
    publishing = asyncio.create_task(provider.ensure(SPEC))
    await begun.wait()
    deleting = asyncio.create_task(provider.delete(second.ref))
    await until(lambda: "detach" in network.done and not second.root.exists())
    await asyncio.sleep(0.05)
    assert second.marks(), "what is being published is its master still"
    go_on.set()
    await asyncio.gather(publishing, deleting)
    assert network.done[-4:] == ["detach", "publish", "dismiss", "publish"]
    assert network.masters == ("10.128.0.2",)


async def test_the_port_stays_where_it_leads_as_long_as_that_node_runs(
    provider: LocalProvider, network: Forgetful, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else comes, or is looked after."""
    second = another(tmp_path, replace(SPEC, name="master-1"))
    await provider.publish(second.ref)
    assert network.led == "10.128.0.3"
    await provider.ensure(SPEC)
    assert network.led == "10.128.0.3"
    told = {node.name: node.published for node in await provider.observe(SPEC.owner)}
    assert told == {"master-0": False, "master-1": True}

    def init(_: object, container: str) -> Init | None:
        up = Init(os.getpid(), 0, created_only=False, group=tmp_path)
        return None if container == second.container else up

    monkeypatch.setattr(Runc, "init", init)
    await provider.ensure(SPEC)
    assert network.led == "10.128.0.2", "the other one runs no more"


async def test_the_port_can_t_lead_to_a_node_that_is_not_there(provider: LocalProvider) -> None:
    with pytest.raises(RetryLater, match="node master-9 is not there"):
        await provider.publish(NodeRef(SPEC.owner, "master-9"))


async def test_a_node_whose_link_is_gone_too_has_both_mended_at_once(
    provider: LocalProvider, network: Forgetful
) -> None:
    network.guarded = network.linked = False
    unlinked = "its network link is gone, down or not whole"
    assert await told(provider) == (NodeState.RUNNING, unlinked, True)
    await provider.ensure(SPEC)
    assert await told(provider) == WELL


async def test_a_node_of_before_is_brought_up_to_date_while_it_runs(
    provider: LocalProvider, network: Forgetful, tmp_path: Path
) -> None:
    """Its link lacks something, and its marks the address. What else is written on it stays."""
    place = Places(tmp_path / "nodes").of(NodeRef(SPEC.owner, SPEC.name))
    marks = place.marks()
    assert marks
    place.write({"annotations": {**marks.annotations(), "other": "x"}, "linux": {"limits": 1}})
    network.linked = False
    for _ in range(2):
        await provider.ensure(SPEC)
        config = json.loads(place.config.read_bytes())
        assert config["linux"] == {"limits": 1}
        assert config["annotations"]["other"] == "x"
        assert place.marks() == replace(marks, address="10.128.0.2")
    assert network.done.count("attach") == 1


async def test_the_watch_learns_what_turns_see_and_what_nobody_judges_it_does_not(
    provider: LocalProvider, network: Forgetful, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `ensure` returns makes no health: what it saw must still be told."""
    known: list[tuple[str, ...]] = []
    monkeypatch.setattr(Watch, "seen", lambda _, __, troubles: known.append(troubles))
    monkeypatch.setattr(disk, "trouble", lambda _: "full")
    await provider.ensure(SPEC)
    assert known == []
    network.guarded = False
    await told(provider)
    assert known == [("no guards", "full")]
