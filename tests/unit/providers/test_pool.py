"""The pool that nodes' addresses come from: told beforehand, and not changed under nodes."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from moorage.model.errors import Refused
from moorage.model.node import Flavor, NodeRef, NodeSpec, Role
from moorage.model.ports import HasAddresses
from moorage.networks import LocalNetwork
from moorage.providers.local import bundle
from moorage.providers.local.place import Marks, Places
from moorage.providers.local.provider import LocalProvider
from moorage.providers.local.slots import Slots

SPEC = NodeSpec("web", "worker-0", Role.WORKER, Flavor("tiny", 1, 256, 1, 64), "worker-0")
SLOT = 20


def provider(directory: Path, pool: str) -> LocalProvider:
    network = LocalNetwork(install="x", pool=IPv4Network(pool), public_address="192.0.2.1")
    slots = Slots(directory / "slots", taken=lambda _: False)
    return LocalProvider(
        install="x", nodes=directory / "nodes", network=network, slots=slots, memory_mib=1024
    )


def write(directory: Path, address: str) -> None:
    """A node of the slot, as it was made with that address."""
    place = Places(directory / "nodes").of(NodeRef(SPEC.owner, SPEC.name))
    place.directory.mkdir(parents=True)
    marks = Marks.of(SPEC, install="x", slot=SLOT, index=3, address=address)
    place.write({"annotations": marks.annotations()})
    assert place.marks() == marks


def test_the_pool_is_told_and_who_nodes_ask_for_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "# nameserver 10.9.9.1\nsearch example.org\nnameserver 10.100.0.53\n"
        "nameserver\t192.0.2.53 \nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver\n"
    )
    monkeypatch.setattr(bundle, "resolvers", lambda: text)
    told = provider(tmp_path, "10.64.0.0/12")
    assert isinstance(told, HasAddresses)
    assert told.addresses == [
        IPv4Network("10.64.0.0/12"),
        IPv4Network("10.100.0.53/32"),
        IPv4Network("192.0.2.53/32"),
    ]


@pytest.mark.parametrize("pool", ["10.128.0.0/12", "10.128.0.0/19"])
def test_a_pool_that_gives_the_same_addresses_will_do(tmp_path: Path, pool: str) -> None:
    provider(tmp_path, pool).refuse_other_pool()
    write(tmp_path, "10.128.20.5")
    provider(tmp_path, pool).refuse_other_pool()


@pytest.mark.parametrize("pool", ["10.64.0.0/12", "10.128.16.0/20", "10.128.0.0/22"])
def test_another_pool_is_refused_while_there_are_nodes(tmp_path: Path, pool: str) -> None:
    """The last one has no such slot; the address lies in the second, and is another node's."""
    write(tmp_path, "10.128.20.5")
    with pytest.raises(Refused, match=f"worker-0 .* 10.128.20.5, .* {pool}: .* former --pool"):
        provider(tmp_path, pool).refuse_other_pool()


def test_of_nodes_made_before_nothing_is_known(tmp_path: Path) -> None:
    write(tmp_path, "")
    provider(tmp_path, "10.64.0.0/12").refuse_other_pool()
