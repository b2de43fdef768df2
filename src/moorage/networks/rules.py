"""The packet filter of an install, as data: what is wanted + what nft lists -> commands.

One table, `inet moorage_<install>`. Its chains are the same whatever clusters there
are; a cluster is one element in each set, so adding the thousandth costs what the
first did, and never touches another's.

    @bridges     mrg7                  the clusters' bridges
    @same        mrg7 . mrg7           from a bridge to itself
    @sources     mrg7 . 10.128.7.0     the /24 that may come out of a bridge
    @nets        10.128.7.0            the /24 that is masqueraded on its way out
    @hosts       20487 : 10.128.7.2    the published port's node
    @ports       20487 : 2376          and the port there
    @masters     mrg7 . 10.128.7.2     who may come to the machine's one open door

(Two maps, because nft 1.0.6 can't declare a map to address *and* port in JSON.)

What must hold, and the order of the rules serves it:
- Bridged frames may pass the forward hook (br_netfilter), so `@same` comes first.
- A forged source is dropped before anything believes connection tracking: a node
  could otherwise write into the connections of another cluster's nodes.
- What nodes of a cluster send each other is not tracked, for they may write any source: of a
  connection between the machine and one of them, which the other has made up, the machine
  would take the first packet for an answer.
- Nothing leaves with a node's own address: of a connection whose first packet was only bridged,
  or that is none, the kernel translates nothing.
- What comes from a node (`mrg*`: of any install) into another cluster is dropped before
  a DNAT can excuse it. Each install guards its own clusters so; what other installs'
  links do among themselves is not ours to judge.
- A bridge that is no uplink belongs to other guests of this machine (an engine's
  docker0, a hypervisor's virbr0), whose own rules may rely on a policy that
  `forwarding` has to soften for us: nodes stay out of them.
- An accept ends our chain only; a drop is final for every chain of the machine.
- Of the machine itself nodes reach one port at the most, the `Door`. Masters alone do, and also
  where the door is another machine's: all of a machine's nodes share its bounds there.

Every rule's comment is a digest of all of them: that is how a table of an older Moorage, one
with other uplinks, and one that lost a rule or all are told, and written anew. Whoever writes it
anew guards every segment of the install at once, for the others may be lost with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from moorage.clients.nft import Command, Listed
from moorage.networks.layout import PREFIX, Segment

FAMILY = "inet"
Rule = list[dict[str, Any]]

_SETS: Mapping[str, object] = {
    "bridges": "ifname",
    "same": ["ifname", "ifname"],
    "sources": ["ifname", "ipv4_addr"],
    "nets": "ipv4_addr",
    "masters": ["ifname", "ipv4_addr"],
}
_MAPS: Mapping[str, str] = {"hosts": "ipv4_addr", "ports": "inet_service"}
_CHAINS: Mapping[str, tuple[str, str, int]] = {
    "untracked": ("filter", "prerouting", -300),
    "forward": ("filter", "forward", 0),
    "input": ("filter", "input", 0),
    "prerouting": ("nat", "prerouting", -100),
    "output": ("nat", "output", -100),
    "postrouting": ("nat", "postrouting", 100),
    "leaving": ("filter", "postrouting", 150),
}
_MASK = "255.255.255.0"
_OURS = f"{PREFIX}*"


@dataclass(frozen=True, slots=True)
class Door:
    """The one TCP port that clusters' masters may come to, of this machine or of another."""

    address: IPv4Address
    port: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What is in force.

    `digest`: the comments of all rules, one after the other. `bridges`: those of the segments
    that have all of their elements; `torn`: of those that lost some. `published`: port of this
    machine -> (address, port) of a node; of a pair that is torn, "" or 0. `masters`: bridge and
    address of each.
    """

    digest: str = ""
    bridges: frozenset[str] = frozenset()
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    torn: frozenset[str] = frozenset()
    masters: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, listed: Iterable[Listed] | None) -> Seen:
        """From nft's listing of the table; None (no table) is nothing in force."""
        elements: dict[str, list[Any]] = {}
        comments: list[str] = []
        for each in listed or ():
            for kind, found in each.items():
                if kind in {"set", "map"}:
                    elements[found["name"]] = found.get("elem", [])
                elif kind == "rule" and "comment" in found:
                    comments.append(found["comment"])
        hosts = {int(key): str(address) for key, address in elements.get("hosts", ())}
        ports = {int(key): int(port) for key, port in elements.get("ports", ())}
        bridges, nets = set(elements.get("bridges", ())), set(elements.get("nets", ()))
        same = {each["concat"][0] for each in elements.get("same", ())}
        sources = dict(each["concat"] for each in elements.get("sources", ()))
        whole = {name for name in bridges & same if sources.get(name) in nets}
        return cls(
            digest="".join(comments),
            bridges=frozenset(whole),
            torn=frozenset((bridges | same | sources.keys()) - whole),
            published={
                key: (hosts.get(key, ""), ports.get(key, 0)) for key in hosts.keys() | ports.keys()
            },
            masters=frozenset(
                (m["concat"][0], m["concat"][1]) for m in elements.get("masters", ())
            ),
        )


def table(install: str) -> str:
    return f"moorage_{install}"


def framed(uplinks: Sequence[str], seen: Seen, door: Door | None = None) -> bool:
    """Whether the rules themselves are all in force, and those that they should be."""
    return seen.digest == _comments(_chains(uplinks, door))


def trouble(
    uplinks: Sequence[str],
    segment: Segment,
    port: int | None,
    seen: Seen,
    *,
    masters: Iterable[str] = (),
    door: Door | None = None,
) -> str:
    """What the segment lacks, its published port too where it leads to a node's `port`.

    And its masters: those at the addresses `masters` and no others (none named: any).
    """
    if not seen.digest:
        return "the packet filter lost its rules"
    if not framed(uplinks, seen, door):
        return "the packet filter has not all of its rules, or has other ones"
    if segment.bridge not in seen.bridges:
        return "the packet filter lost its cluster's rules"
    return "" if port is None else _unpublished(segment, port, seen, set(masters))


def _unpublished(segment: Segment, port: int, seen: Seen, masters: set[str]) -> str:
    host, leads_to = seen.published.get(segment.port, ("", 0))
    if not (host and leads_to == port):
        return "its published port leads nowhere"
    there = _masters(segment, seen)
    if not there or masters - there:
        return "the packet filter lost masters of its cluster"
    if masters and there - masters:
        return "the packet filter takes others for masters of its cluster"
    return ""


def opened(
    install: str,
    uplinks: Sequence[str],
    segment: Segment,
    seen: Seen,
    others: Iterable[Segment] = (),
    *,
    door: Door | None = None,
) -> list[Command]:
    """The commands after which the segment is guarded. None when it is already.

    `others`: the install's segments that there are; where the rules are not in force, they
    lack their elements as well.
    """
    commands: list[Command] = []
    lacking = {} if segment.bridge in seen.bridges else {segment.slot: segment}
    if not framed(uplinks, seen, door):
        commands = _frame(install, _chains(uplinks, door))
        lacking = {each.slot: each for each in (segment, *others)}
    for each in lacking.values():
        commands += [_element("add", install, *element) for element in _elements(each)]
    return commands


def published(
    install: str,
    segment: Segment,
    address: IPv4Address,
    port: int,
    seen: Seen,
    *,
    masters: Iterable[str] = (),
) -> list[Command]:
    """The commands after which the segment's port leads to `address:port`.

    And the nodes at the addresses `masters` (none: at that one) may come to the door, and no
    others of the segment.
    """
    wanted, there = set(masters) or {str(address)}, _masters(segment, seen)
    commands = [_master("delete", install, segment, each) for each in sorted(there - wanted)]
    commands += [_master("add", install, segment, each) for each in sorted(wanted - there)]
    if seen.published.get(segment.port) == (str(address), port):
        return commands
    return [
        *commands,
        *_withdrawn(install, segment, seen),
        _element("add", install, "hosts", [segment.port, str(address)]),
        _element("add", install, "ports", [segment.port, port]),
    ]


def dismissed(install: str, segment: Segment, address: str, seen: Seen) -> list[Command]:
    """The commands after which the node at `address` may not come to the door."""
    there = address in _masters(segment, seen)
    return [_master("delete", install, segment, address)] if there else []


def closed(install: str, segment: Segment, seen: Seen) -> list[Command]:
    """The commands after which nothing is left of the segment; with the last, of the table."""
    if seen == Seen():
        return []
    if not (seen.bridges | seen.torn) - {segment.bridge}:
        return [{"delete": {"table": {"family": FAMILY, "name": table(install)}}}]
    commands = _withdrawn(install, segment, seen)
    commands += [
        _master("delete", install, segment, each) for each in sorted(_masters(segment, seen))
    ]
    if segment.bridge in seen.torn:  # what is not there can't be deleted
        commands += [_element("add", install, *each) for each in _elements(segment)]
    if segment.bridge in seen.bridges | seen.torn:
        commands += [_element("delete", install, *each) for each in _elements(segment)]
    return commands


def _elements(segment: Segment) -> list[tuple[str, object]]:
    bridge, network = segment.bridge, str(segment.network.network_address)
    return [
        ("bridges", bridge),
        ("same", {"concat": [bridge, bridge]}),
        ("sources", {"concat": [bridge, network]}),
        ("nets", network),
    ]


def _masters(segment: Segment, seen: Seen) -> set[str]:
    """The addresses of its masters."""
    return {address for bridge, address in seen.masters if bridge == segment.bridge}


def _master(verb: str, install: str, segment: Segment, address: str) -> Command:
    return _element(verb, install, "masters", {"concat": [segment.bridge, address]})


def _withdrawn(install: str, segment: Segment, seen: Seen) -> list[Command]:
    address, port = seen.published.get(segment.port, ("", 0))
    return [
        _element("delete", install, name, [segment.port, value])
        for name, value in (("hosts", address), ("ports", port))
        if value
    ]


def _element(verb: str, install: str, name: str, element: object) -> Command:
    place = {"family": FAMILY, "table": table(install), "name": name}
    return {verb: {"element": {**place, "elem": [element]}}}


def _frame(install: str, chains: Mapping[str, Sequence[Rule]]) -> list[Command]:
    """The table without its elements; those that are in it stay."""
    place: dict[str, object] = {"family": FAMILY, "table": table(install)}
    commands: list[Command] = [{"add": {"table": {"family": FAMILY, "name": table(install)}}}]
    for name, kind in _SETS.items():
        commands.append({"add": {"set": {**place, "name": name, "type": kind}}})
    for name, value in _MAPS.items():
        key = {"type": "inet_service", "map": value}
        commands.append({"add": {"map": {**place, "name": name, **key}}})
    for name, (kind, hook, priority) in _CHAINS.items():
        how = {"type": kind, "hook": hook, "prio": priority, "policy": "accept"}
        commands.append({"add": {"chain": {**place, "name": name, **how}}})
        commands.append({"flush": {"chain": {**place, "name": name}}})
    comment = {"comment": _digest(chains)}
    for name, rules in chains.items():
        for rule in rules:
            commands.append({"add": {"rule": {**place, "chain": name, "expr": rule, **comment}}})
    return commands


def _digest(chains: Mapping[str, Sequence[Rule]]) -> str:
    text = json.dumps([_SETS, _MAPS, _CHAINS, chains])
    return f"rules {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _comments(chains: Mapping[str, Sequence[Rule]]) -> str:
    """What `Seen.digest` is where all of these rules are in force."""
    return _digest(chains) * sum(len(rules) for rules in chains.values())


def _chains(uplinks: Sequence[str], door: Door | None) -> dict[str, list[Rule]]:
    """Every rule, a chain at a time. `uplinks`: the links of the machine's default routes."""
    into, out = {"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}
    accept, drop = {"accept": None}, {"drop": None}
    from_us, to_us = _is(into, "@bridges"), _is(out, "@bridges")
    known = {"ct": {"key": "state"}}
    network, goal = ({"&": [_payload("ip", name), _MASK]} for name in ("saddr", "daddr"))
    forged = _not({"concat": [into, network]}, "@sources")
    own = _is({"concat": [into, goal]}, "@sources")
    going_on = _in(known, ["established", "related"])
    bridged = _is({"meta": {"key": "oifkind"}}, "bridge")
    ipv4, ipv6 = (_is({"meta": {"key": "nfproto"}}, name) for name in ("ipv4", "ipv6"))
    kind = {"fib": {"result": "type", "flags": ["daddr"]}}
    local = _is(kind, "local")
    loopback = {"prefix": {"addr": "127.0.0.0", "len": 8}}
    key = _payload("tcp", "dport")
    who = {"concat": [into, _payload("ip", "saddr")]}
    lead = {
        "dnat": {
            "family": "ip",
            "addr": {"map": {"key": key, "data": "@hosts"}},
            "port": {"map": {"key": key, "data": "@ports"}},
        }
    }
    leaves = [_is(network, "@nets"), _not(out, _OURS), _not(out, "lo")]
    return {
        "untracked": [[own, _not(kind, "local"), {"notrack": None}]],
        "forward": [
            [_is({"concat": [into, out]}, "@same"), accept],
            [ipv6, from_us, drop],
            [from_us, forged, drop],
            [_is(into, _OURS), to_us, drop],
            *([[from_us, *_at(door), _not(who, "@masters"), drop]] if door else []),
            [going_on, accept],
            [to_us, _in({"ct": {"key": "status"}}, "dnat"), accept],
            [to_us, drop],
            [from_us, bridged, *([_not(out, {"set": sorted(uplinks)})] if uplinks else []), drop],
        ],
        "input": [
            [ipv6, from_us, drop],
            [from_us, forged, drop],
            [from_us, going_on, accept],
            *([[_is(who, "@masters"), *_at(door), accept]] if door else []),
            [from_us, drop],
        ],
        "prerouting": [[ipv4, _not(into, _OURS), local, lead]],
        "output": [[ipv4, local, _not(_payload("ip", "daddr"), loopback), lead]],
        "postrouting": [[*leaves, {"masquerade": None}]],
        "leaving": [[*leaves, drop]],
    }


def _at(door: Door) -> Rule:
    address, port = _payload("ip", "daddr"), _payload("tcp", "dport")
    return [_is(address, str(door.address)), _is(port, door.port)]


def _payload(protocol: str, name: str) -> dict[str, object]:
    return {"payload": {"protocol": protocol, "field": name}}


def _match(op: str, left: object, right: object) -> dict[str, object]:
    return {"match": {"op": op, "left": left, "right": right}}


def _is(left: object, right: object) -> dict[str, object]:
    return _match("==", left, right)


def _not(left: object, right: object) -> dict[str, object]:
    return _match("!=", left, right)


def _in(left: object, right: object) -> dict[str, object]:
    return _match("in", left, right)
