from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from moorage.clients.nft import Command
from moorage.networks import rules
from moorage.networks.layout import Segment
from moorage.networks.rules import Door, Seen

POOL = IPv4Network("10.128.0.0/12")
SEVEN, EIGHT = Segment.of(POOL, 7), Segment.of(POOL, 8)
UPLINKS = ("eth0",)
NODE = IPv4Address("10.128.7.2")
MASTER = frozenset({("mrg7", "10.128.7.2")})
DOOR = Door(IPv4Address("192.0.2.1"), 9513)


def elements(verb: str, commands: list[Command]) -> dict[str, Any]:
    found = [command[verb]["element"] for command in commands if "element" in command.get(verb, {})]
    return {each["name"]: each["elem"] for each in found}


def frame(commands: list[Command]) -> list[Command]:
    return [command for command in commands if "element" not in next(iter(command.values()))]


def digest(uplinks: tuple[str, ...] = UPLINKS) -> str:
    comments = [
        command["add"]["rule"].get("comment", "")
        for command in rules.opened("x", uplinks, SEVEN, Seen())
        if "rule" in command.get("add", {})
    ]
    return "".join(comments)


def test_the_first_segment_brings_the_table_with_it() -> None:
    commands = rules.opened("x", UPLINKS, SEVEN, Seen())
    assert commands[0] == {"add": {"table": {"family": "inet", "name": "moorage_x"}}}
    assert elements("add", commands) == {
        "bridges": ["mrg7"],
        "same": [{"concat": ["mrg7", "mrg7"]}],
        "sources": [{"concat": ["mrg7", "10.128.7.0"]}],
        "nets": ["10.128.7.0"],
    }


def test_the_next_segment_is_four_elements() -> None:
    seen = Seen(digest(), frozenset({"mrg7"}))
    commands = rules.opened("x", UPLINKS, EIGHT, seen)
    assert frame(commands) == []
    assert len(commands) == 4


def test_what_is_in_force_is_not_written_again() -> None:
    seen = Seen(digest(), frozenset({"mrg7"}), {20487: ("10.128.7.2", 2376)}, masters=MASTER)
    assert rules.opened("x", UPLINKS, SEVEN, seen) == []
    assert rules.published("x", SEVEN, NODE, 2376, seen) == []


def whole(*segments: Segment) -> Seen:
    """All of them guarded and published, each at its first node's 2376."""
    published = {each.port: (str(each.address(0)), 2376) for each in segments}
    masters = frozenset((each.bridge, str(each.address(0))) for each in segments)
    bridges = frozenset(each.bridge for each in segments)
    return Seen(digest(), bridges, published, masters=masters)


def test_what_is_lost_is_told() -> None:
    def told(seen: Seen, port: int | None = 2376) -> str:
        return rules.trouble(UPLINKS, SEVEN, port, seen)

    assert told(whole(SEVEN)) == told(whole(SEVEN), None) == ""
    assert told(Seen()) == "the packet filter lost its rules"
    assert "not all of its rules" in told(replace(whole(SEVEN), digest=digest(("br0",))))
    assert told(whole(EIGHT)) == "the packet filter lost its cluster's rules"
    assert told(replace(whole(SEVEN), published={})) == "its published port leads nowhere"
    assert told(replace(whole(SEVEN), published={}), None) == ""
    assert "lost masters" in told(replace(whole(SEVEN), masters=frozenset()))
    for half in (("", 2376), ("10.128.7.2", 0)):
        assert "published port" in told(replace(whole(SEVEN), published={SEVEN.port: half}))


def test_a_rule_less_is_seen() -> None:
    comment = digest()[: len(digest()) // count_of_rules()]
    assert rules.framed(UPLINKS, Seen(digest()))
    assert not rules.framed(UPLINKS, Seen(digest().removesuffix(comment)))


def count_of_rules() -> int:
    return sum("rule" in each.get("add", {}) for each in rules.opened("x", UPLINKS, SEVEN, Seen()))


def test_whoever_writes_the_table_anew_guards_the_others_too() -> None:
    lost = rules.opened("x", UPLINKS, SEVEN, Seen(), [SEVEN, EIGHT])
    added = [each["add"]["element"] for each in lost if "element" in each.get("add", {})]
    assert [each["elem"] for each in added if each["name"] == "bridges"] == [["mrg7"], ["mrg8"]]
    torn = Seen(digest(), frozenset({"mrg8"}), torn=frozenset({"mrg7"}))
    assert len(rules.opened("x", UPLINKS, SEVEN, torn, [SEVEN, EIGHT])) == 4


def test_a_segment_or_a_port_that_is_torn_is_closed_and_mended() -> None:
    torn = Seen(digest(), frozenset({"mrg8"}), {20487: ("10.128.7.2", 0)}, frozenset({"mrg7"}))
    commands = rules.closed("x", SEVEN, torn)
    assert set(elements("add", commands)) == {"bridges", "same", "sources", "nets"}
    assert set(elements("delete", commands)) == {"bridges", "same", "sources", "nets", "hosts"}
    assert frame(rules.closed("x", EIGHT, torn)) == [], "not the table: seven is there still"
    mended = rules.published("x", SEVEN, NODE, 2376, torn)
    assert set(elements("delete", mended)) == {"hosts"}
    assert set(elements("add", mended)) == {"hosts", "ports", "masters"}


def test_a_segment_without_one_of_its_elements_is_torn() -> None:
    listed: list[dict[str, Any]] = [
        {"set": {"name": "bridges", "elem": ["mrg7", "mrg8"]}},
        {"set": {"name": "same", "elem": [{"concat": [each, each]} for each in ("mrg7", "mrg8")]}},
        {"set": {"name": "nets", "elem": ["10.128.7.0", "10.128.8.0"]}},
        {"set": {"name": "sources", "elem": [{"concat": ["mrg8", "10.128.8.0"]}]}},
        {"map": {"name": "ports", "elem": [[20487, 2376]]}},
    ]
    assert Seen.of(listed) == Seen(
        "", frozenset({"mrg8"}), {20487: ("", 2376)}, frozenset({"mrg7"})
    )


def test_other_uplinks_or_rules_rewrite_the_chains_and_keep_the_elements() -> None:
    seen = Seen(digest(), frozenset({"mrg7"}))
    assert digest(("br0",)) != digest()
    commands = frame(rules.opened("x", ("br0",), SEVEN, seen))
    assert not [command for command in commands if "delete" in command]
    assert {
        "flush": {"chain": {"family": "inet", "table": "moorage_x", "name": "forward"}}
    } in commands


def test_without_uplinks_no_bridge_is_one() -> None:
    last = [
        command["add"]["rule"]["expr"]
        for command in rules.opened("x", (), SEVEN, Seen())
        if command.get("add", {}).get("rule", {}).get("chain") == "forward"
    ][-1]
    assert [each["match"]["right"] for each in last[:-1]] == ["@bridges", "bridge"]


def test_a_port_that_leads_elsewhere_is_turned_in_one_transaction() -> None:
    seen = Seen(digest(), frozenset({"mrg7"}), {20487: ("10.128.7.3", 2376)})
    commands = rules.published("x", SEVEN, NODE, 2377, seen)
    assert elements("delete", commands) == {
        "hosts": [[20487, "10.128.7.3"]],
        "ports": [[20487, 2376]],
    }
    assert elements("add", commands) == {
        "hosts": [[20487, "10.128.7.2"]],
        "ports": [[20487, 2377]],
        "masters": [{"concat": ["mrg7", "10.128.7.2"]}],
    }


def test_masters_alone_come_to_the_one_door() -> None:
    def rules_of(door: Door | None) -> list[Any]:
        commands = rules.opened("x", UPLINKS, SEVEN, Seen(), door=door)
        added = [each["add"]["rule"] for each in commands if "rule" in each.get("add", {})]
        return [each["expr"] for each in added if each["chain"] == "input"]

    shut, open_ = rules_of(None), rules_of(DOOR)
    (more,) = [rule for rule in open_ if rule not in shut]
    assert open_.index(more) == len(open_) - 2, "after forged sources, and before all is dropped"
    assert more[-1] == {"accept": None}
    assert [each["match"]["right"] for each in more[:-1]] == ["@masters", "192.0.2.1", 9513]
    assert not rules.framed(UPLINKS, Seen(digest()), DOOR), "another door: the rules are written"
    assert rules.trouble(UPLINKS, SEVEN, None, whole(SEVEN), door=DOOR)


def test_masters_too_few_or_too_many_are_told() -> None:
    def told(*masters: str, port: int | None = 2376) -> str:
        return rules.trouble(UPLINKS, SEVEN, port, whole(SEVEN, EIGHT), masters=masters)

    assert told("10.128.7.2") == told() == ""
    assert told("10.128.7.2", "10.128.7.3") == "the packet filter lost masters of its cluster"
    assert told("10.128.7.3") == "the packet filter lost masters of its cluster"
    assert told("10.128.7.3", port=None) == "", "whoever exposes nothing has no masters"
    both = whole(SEVEN, EIGHT).masters | {("mrg7", "10.128.7.3")}
    seen = replace(whole(SEVEN, EIGHT), masters=both)
    more = rules.trouble(UPLINKS, SEVEN, 2376, seen, masters=["10.128.7.2"])
    assert more == "the packet filter takes others for masters of its cluster"


def test_a_master_that_is_dismissed_takes_no_other_with_it() -> None:
    seen = whole(SEVEN, EIGHT)
    commands = rules.dismissed("x", SEVEN, "10.128.7.2", seen)
    assert elements("delete", commands) == {"masters": [{"concat": ["mrg7", "10.128.7.2"]}]}
    assert len(commands) == 1
    assert rules.dismissed("x", SEVEN, "10.128.7.3", seen) == []
    assert rules.dismissed("x", SEVEN, "10.128.7.2", Seen()) == [], "the table is lost"


def test_who_is_a_master_no_more_comes_to_the_door_no_more() -> None:
    both = frozenset({("mrg7", "10.128.7.2"), ("mrg7", "10.128.7.3"), ("mrg8", "10.128.8.2")})
    seen = replace(whole(SEVEN, EIGHT), masters=both)
    commands = rules.published("x", SEVEN, NODE, 2376, seen, masters=["10.128.7.2", "10.128.7.4"])
    assert elements("add", commands) == {"masters": [{"concat": ["mrg7", "10.128.7.4"]}]}
    assert elements("delete", commands) == {"masters": [{"concat": ["mrg7", "10.128.7.3"]}]}
    gone = rules.closed("x", SEVEN, seen)
    dead = [each["delete"]["element"] for each in gone if "element" in each.get("delete", {})]
    assert [each["elem"][0]["concat"][1] for each in dead if each["name"] == "masters"] == [
        "10.128.7.2",
        "10.128.7.3",
    ]


def test_closing_takes_the_segments_elements_and_no_others() -> None:
    seen = Seen(digest(), frozenset({"mrg7", "mrg8"}), {20487: ("10.128.7.2", 2376)})
    commands = rules.closed("x", SEVEN, seen)
    assert frame(commands) == []
    removed = elements("delete", commands)
    assert set(removed) == {"bridges", "same", "sources", "nets", "hosts", "ports"}
    assert "mrg8" not in str(removed)


def test_the_last_segment_takes_the_table_with_it() -> None:
    gone = [{"delete": {"table": {"family": "inet", "name": "moorage_x"}}}]
    assert rules.closed("x", SEVEN, Seen(digest(), frozenset({"mrg7"}))) == gone
    assert rules.closed("x", SEVEN, Seen(digest())) == gone
    assert rules.closed("x", SEVEN, Seen()) == []


def test_a_listing_of_nft_is_understood() -> None:
    """As nft 1.0.6 prints it."""
    listed: list[dict[str, Any]] = [
        {"metainfo": {"version": "1.0.6"}},
        {"set": {"family": "inet", "name": "bridges", "table": "moorage_x", "elem": ["mrg7"]}},
        {"set": {"name": "same", "elem": [{"concat": ["mrg7", "mrg7"]}]}},
        {"set": {"name": "nets", "elem": ["10.128.7.0"]}},
        {"set": {"name": "sources", "elem": [{"concat": ["mrg7", "10.128.7.0"]}]}},
        {"set": {"name": "masters", "elem": [{"concat": ["mrg7", "10.128.7.2"]}]}},
        {"map": {"name": "hosts", "map": "ipv4_addr", "elem": [[20487, "10.128.7.2"]]}},
        {"map": {"name": "ports", "map": "inet_service", "elem": [[20487, 2376]]}},
        {"chain": {"name": "forward"}},
        {"rule": {"chain": "forward", "comment": "rules 1", "expr": []}},
        {"rule": {"chain": "forward", "expr": []}},
    ]
    published = {20487: ("10.128.7.2", 2376)}
    assert Seen.of(listed) == Seen("rules 1", frozenset({"mrg7"}), published, masters=MASTER)
    assert Seen.of(None) == Seen()
