"""Every rule of the packet filter is there for something: without it, that doesn't hold."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from moorage.networks.layout import FIRST_PORT
from moorage.networks.rules import FAMILY, table
from tests.real.guarded import (
    DOOR_PORT,
    FIRST,
    GATEWAY,
    GUEST,
    INSTALL,
    IPV4,
    IPV6,
    MATE,
    OPEN_PORT,
    OTHER_GATEWAY,
    OWN_PORT,
    OWNERS,
    PORT,
    SLOT,
    STRANGER,
    Bed,
    guarded,
    heard,
    mac,
    network_of,
)
from tests.real.topology import OUTSIDE, PUBLIC, datagram, datagram6, reaches, sh

pytestmark = pytest.mark.real
PODS = "10.100.2.5"
BRIDGED = Path("/proc/sys/net/bridge").exists()


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with guarded(tmp_path / "ip_forward") as made:
        yield made


def a_made_up_connection_is_none(bed: Bed) -> bool:
    inbox = bed.hearing(None)
    bed.mate.send_frame(mac(FIRST), IPV4, datagram(PUBLIC, PORT, FIRST, OWN_PORT))
    bed.first.send_as(FIRST, PUBLIC, PORT, OWN_PORT)
    return heard(inbox) == ""


def nodes_know_addresses_that_are_not_the_networks(bed: Bed) -> bool:
    inbox = bed.hearing(bed.mate)
    bed.first.send_frame(mac(GATEWAY), IPV4, datagram(PODS, OWN_PORT, MATE, PORT))
    return heard(inbox) == PODS


def _with_ipv6(bed: Bed) -> None:
    """Neighbours know each other: to ask takes a second, until their links' addresses are sure."""
    near = sh("ip -br link show up0").split()[2]
    far = bed.outside.sh("ip -br link show up1").split()[2]
    sh(
        "sysctl -qw net.ipv6.conf.mrg7.disable_ipv6=0 net.ipv6.conf.all.forwarding=1;"
        "ip addr replace fd00:7::1/64 dev mrg7 nodad; ip addr replace fd00:1::1/64 dev up0 nodad;"
        f"ip neigh replace fd00:7::2 lladdr {mac(FIRST)} dev mrg7;"
        f"ip neigh replace fd00:1::2 lladdr {far} dev up0"
    )
    bed.outside.sh(
        "ip addr replace fd00:1::2/64 dev up1 nodad; ip route replace default via fd00:1::1;"
        f"ip neigh replace fd00:1::1 lladdr {near} dev up1"
    )
    bed.first.sh(
        "ip addr replace fd00:7::2/64 dev eth0 nodad;"
        f"ip neigh replace fd00:7::1 lladdr {mac(GATEWAY)} dev eth0;"
        "ip route replace default via fd00:7::1"
    )


def no_node_speaks_ipv6_to_the_world(bed: Bed) -> bool:
    _with_ipv6(bed)
    return not bed.first.reaches("fd00:1::2", OPEN_PORT)


def no_node_speaks_ipv6_to_the_machine(bed: Bed) -> bool:
    _with_ipv6(bed)
    inbox = bed.hearing(None)
    made_up = datagram6("fd00:7::1", PORT, "fd00:7::2", OWN_PORT)
    bed.mate.send_frame(mac(FIRST), IPV6, made_up)
    answer = datagram6("fd00:7::2", OWN_PORT, "fd00:7::1", PORT)
    bed.first.send_frame(mac(GATEWAY), IPV6, answer)
    return heard(inbox) == ""


def no_source_is_forged(bed: Bed) -> bool:
    inbox = bed.hearing(bed.outside)
    bed.first.send_as("203.0.113.9", OUTSIDE, PORT)
    return heard(inbox) == ""


def no_dnat_of_others_leads_into_another_cluster(bed: Bed) -> bool:
    sh(
        "nft 'add table ip admin; flush table ip admin;"
        "add chain ip admin pre { type nat hook prerouting priority -90; };"
        f"add rule ip admin pre tcp dport 998 dnat to {FIRST}:{OPEN_PORT}'"
    )
    return not bed.stranger.reaches(PUBLIC, 998)


def workers_come_to_no_door_elsewhere(bed: Bed) -> bool:
    assert bed.first.reaches(OUTSIDE, DOOR_PORT)
    return not bed.mate.reaches(OUTSIDE, DOOR_PORT)


def nodes_reach_the_world(bed: Bed) -> bool:
    return bed.first.reaches(OUTSIDE, OPEN_PORT)


def nodes_have_the_machines_address_there(bed: Bed) -> bool:
    inbox = bed.hearing(bed.outside)
    bed.first.send_as(FIRST, OUTSIDE, PORT)
    return heard(inbox) == PUBLIC


def no_packet_there_has_a_nodes_address(bed: Bed) -> bool:
    inbox = bed.hearing(bed.outside)
    bed.mate.send_frame(mac(GATEWAY), IPV4, datagram(OUTSIDE, PORT, FIRST, OWN_PORT))
    bed.first.send_frame(mac(MATE), IPV4, datagram(FIRST, OWN_PORT, OUTSIDE, PORT))
    bed.first.send_as(FIRST, OUTSIDE, PORT, OWN_PORT)
    return heard(inbox) != FIRST


def the_world_reaches_what_is_published(bed: Bed) -> bool:
    return bed.outside.reaches(PUBLIC, FIRST_PORT + SLOT)


def so_does_the_machine(_: Bed) -> bool:
    return reaches(PUBLIC, FIRST_PORT + SLOT)


def the_world_reaches_no_node_itself(bed: Bed) -> bool:
    inbox = bed.hearing(bed.first)
    bed.outside.send_as(OUTSIDE, FIRST, PORT)
    return heard(inbox) == ""


def no_node_reaches_another_guest(bed: Bed) -> bool:
    return not bed.first.reaches(GUEST, OPEN_PORT)


def no_node_writes_into_anothers_connection_with_the_machine(bed: Bed) -> bool:
    inbox = bed.hearing(None)
    inbox.sendto(b"hello", (f"::ffff:{STRANGER}", OWN_PORT))
    bed.first.send_as(STRANGER, OTHER_GATEWAY, PORT, OWN_PORT)
    return heard(inbox) == ""


def the_machine_reaches_nodes(_: Bed) -> bool:
    return reaches(FIRST, OPEN_PORT)


def masters_come_to_the_door(bed: Bed) -> bool:
    return bed.first.reaches(PUBLIC, DOOR_PORT)


def nodes_come_to_nothing_else(bed: Bed) -> bool:
    return not bed.first.reaches(PUBLIC, OPEN_PORT)


RULES: dict[str, list[Callable[[Bed], bool]]] = {
    "untracked": [a_made_up_connection_is_none],
    "forward": [
        nodes_know_addresses_that_are_not_the_networks,
        no_node_speaks_ipv6_to_the_world,
        no_source_is_forged,
        no_dnat_of_others_leads_into_another_cluster,
        workers_come_to_no_door_elsewhere,
        nodes_reach_the_world,
        the_world_reaches_what_is_published,
        the_world_reaches_no_node_itself,
        no_node_reaches_another_guest,
    ],
    "input": [
        no_node_speaks_ipv6_to_the_machine,
        no_node_writes_into_anothers_connection_with_the_machine,
        the_machine_reaches_nodes,
        masters_come_to_the_door,
        nodes_come_to_nothing_else,
    ],
    "prerouting": [the_world_reaches_what_is_published],
    "output": [so_does_the_machine],
    "postrouting": [nodes_have_the_machines_address_there],
    "leaving": [no_packet_there_has_a_nodes_address],
}
"""What each rule is for, in their order."""


def handles() -> dict[str, list[int]]:
    """Of the rules in force, by chain."""
    listed = json.loads(sh(f"nft -j -a list table {FAMILY} {table(INSTALL)}"))["nftables"]
    found: dict[str, list[int]] = {}
    for each in listed:
        if "rule" in each:
            found.setdefault(each["rule"]["chain"], []).append(each["rule"]["handle"])
    return found


def test_none_is_forgotten(bed: Bed) -> None:
    there = {chain: len(rules) for chain, rules in handles().items()}
    assert there == {chain: len(checks) for chain, checks in RULES.items()}


@pytest.mark.parametrize(
    ("chain", "number"),
    [(chain, number) for chain, checks in RULES.items() for number in range(len(checks))],
    ids=[check.__name__ for checks in RULES.values() for check in checks],
)
async def test_it_holds_by_its_rule(bed: Bed, tmp_path: Path, chain: str, number: int) -> None:
    holds = RULES[chain][number]
    if holds is workers_come_to_no_door_elsewhere:
        await network_of(tmp_path / "ip_forward", OUTSIDE).open(OWNERS[SLOT], SLOT)
    if chain == "untracked" and not BRIDGED:
        pytest.skip("br_netfilter is not there: no rule sees what is bridged")
    assert holds(bed)
    sh("conntrack -F 2>/dev/null")
    handle = handles()[chain][number]
    sh(f"nft delete rule {FAMILY} {table(INSTALL)} {chain} handle {handle}")
    for inbox in bed.machine.sockets:
        if inbox.type == socket.SOCK_DGRAM:
            inbox.close()
    assert not holds(bed)
