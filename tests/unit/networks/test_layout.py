from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from moorage.networks.layout import Segment, alias, mac

POOL = IPv4Network("10.128.0.0/12")


def test_all_follows_from_the_slot() -> None:
    segment = Segment.of(POOL, 4095)
    assert str(segment.network) == "10.143.255.0/24"
    assert (segment.bridge, str(segment.gateway), segment.port) == (
        "mrg4095",
        "10.143.255.1",
        24575,
    )
    assert (segment.link(252), str(segment.address(252))) == ("mrg4095n252", "10.143.255.254")
    assert len(segment.link(252)) <= 15


@pytest.mark.parametrize(
    ("pool", "slot"), [(POOL, -1), (POOL, 4096), (IPv4Network("10.9.0.0/22"), 4)]
)
def test_a_slot_outside_the_pool_is_an_error(pool: IPv4Network, slot: int) -> None:
    with pytest.raises(ValueError, match=str(slot)):
        Segment.of(pool, slot)


@pytest.mark.parametrize("index", [-1, 253])
def test_a_node_outside_the_segment_is_an_error(index: int) -> None:
    with pytest.raises(ValueError, match=str(index)):
        Segment.of(POOL, 0).address(index)


@pytest.mark.parametrize(
    ("link", "whether"),
    [("mrg7", True), ("mrg7n0", True), ("mrg7n12", True), ("mrg70", False), ("mrg70n1", False),
     ("mrg7x", False), ("mrg7n", False), ("mrg", False), ("eth0", False)],
)  # fmt: skip
def test_a_segment_knows_its_links_by_name(link: str, whether: bool) -> None:
    assert Segment.of(POOL, 7).has(link) is whether


def test_a_hardware_address_is_local_and_the_addresss_own() -> None:
    assert mac(IPv4Address("10.128.7.2")) == "02:6d:0a:80:07:02"


def test_an_alias_says_whose_a_link_is() -> None:
    assert alias("x1", "owner", "worker-0") == "moorage x1 owner worker-0"
    assert alias("x1", "owner") == "moorage x1 owner"
