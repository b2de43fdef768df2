"""The books of an install: what its store knows, against what there is on the machine.

The machine is read as an auditor would: processes by their ids, links by their aliases,
nft by its listing, never through the objects that made them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from moorage.clients import nft
from moorage.install import install_id
from moorage.model.cluster import Cluster
from moorage.model.node import NodeRef
from moorage.networks import links, rules
from moorage.networks.layout import Segment, alias
from moorage.providers.local import cgroups, slots
from moorage.providers.local.place import Marks, Places
from moorage.store.documents import from_text
from moorage.store.rows import cluster_of
from moorage.store.tables import clusters
from tests.real.install import Install

WHOLE = {"config.json", "root", "runc.log"}
"""What a node's directory holds when nothing is half done."""


def known(install: Install) -> list[Cluster]:
    """What the store knows, read beside the server."""
    engine = create_engine(f"sqlite:///{install.database}", json_deserializer=from_text)
    with engine.connect() as connection:
        found = [cluster_of(row) for row in connection.execute(clusters.select())]
    engine.dispose()
    return found


def unsound(install: Install) -> list[str]:
    """What SQLite itself finds wrong with the store: nothing."""
    engine = create_engine(f"sqlite:///{install.database}")
    with engine.connect() as connection:
        checked = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check"))]
        dangling = [str(row) for row in connection.execute(text("PRAGMA foreign_key_check"))]
        claimed = connection.execute(
            text("select uuid from clusters where nodes < 0 or cpus < 0 or due_at is null")
        )
        found = [word for word in checked if word != "ok"] + dangling + [str(r) for r in claimed]
    engine.dispose()
    return found


def imbalance(install: Install) -> list[str]:
    """Every difference between the store and the machine, in words; none when at rest."""
    wanted = {cluster.uuid: cluster for cluster in known(install)}
    marks = dict(_marks(install))
    return [
        *_nodes(install, wanted, marks),
        *_shares(install, wanted, marks),
        *_links(install, marks),
        *_rules(install, marks),
        *_processes(install, marks),
    ]


def _marks(install: Install) -> Iterator[tuple[NodeRef, Marks | None]]:
    places = Places(install.state / "nodes")
    for owner in places.owners():
        for place in places.all(owner):
            yield place.ref, place.marks()


def _nodes(
    install: Install, wanted: dict[str, Cluster], marks: dict[NodeRef, Marks | None]
) -> Iterator[str]:
    """Directories, containers and cgroups: those of the store's nodes, and no others."""
    name, nodes = install_id(install.state), install.state / "nodes"
    known = {f"{uuid}.{node}" for uuid, c in wanted.items() for g in c.groups for node in g.nodes}
    runc = Path("/run/moorage") / name
    found = {
        "directory": {f"{ref.owner}.{ref.name}" for ref in marks},
        "cluster's directory": {p.name for p in nodes.iterdir()} if nodes.exists() else set(),
        "container": {p.name for p in runc.iterdir()} if runc.exists() else set(),
    }
    for hierarchy in cgroups.hierarchies():
        groups = (hierarchy / "moorage" / name).glob("*/*")
        here = {f"{p.parent.name}.{p.name}" for p in groups if p.is_dir()}
        found[f"cgroup of {hierarchy.name}"] = here
    for kind, there in found.items():
        these = set(wanted) if kind == "cluster's directory" else known
        yield from (f"{kind} {one} is not in the store" for one in sorted(there - these))
        yield from (f"{kind} {one} is missing" for one in sorted(these - there))
    for ref, mark in marks.items():
        if mark is None:
            yield f"{ref} has no marks"
        half = {p.name for p in (nodes / ref.owner / ref.name).iterdir()} ^ WHOLE
        if half:
            yield f"{ref}: too much or too little in its directory: {sorted(half)}"


def _shares(
    install: Install, wanted: dict[str, Cluster], marks: dict[NodeRef, Marks | None]
) -> Iterator[str]:
    """Slots, sub-ids, addresses and memory: each given out once, and as the store says."""
    claims = slots.DIRECTORY.iterdir() if slots.DIRECTORY.exists() else iter(())
    held = {int(p.name): p.readlink().name for p in claims if install.state in p.readlink().parents}
    if Counter(held.values()) != Counter(wanted.keys()):
        yield f"slots are held by {held}, and there are the clusters {sorted(wanted)}"
    pool = install.settings.pool
    for ref, mark in marks.items():
        cluster = wanted.get(ref.owner)
        if mark is None or cluster is None:
            continue
        group = next((g for g in cluster.groups if ref.name in g.nodes), None)
        if group is None:
            continue
        if held.get(mark.slot) != ref.owner:
            yield f"{ref} is on slot {mark.slot}, which is not its cluster's"
        address = str(Segment.of(pool, mark.slot).address(mark.index))
        if group.addresses.get(ref.name) != address:
            yield f"{ref} has {address}, and the store says {group.addresses.get(ref.name)}"
        if mark.memory_mib != group.flavor.memory_mib or mark.revision != group.revision:
            yield f"{ref} is not of its group's flavor and revision: {mark}"
        owner = (install.state / "nodes" / ref.owner / ref.name / "root").stat().st_uid
        if owner != slots.subid(mark.slot):
            yield f"{ref}: its root belongs to {owner}"
    given = Counter((m.owner, m.index) for m in marks.values() if m)
    yield from (f"the address {one} is given twice" for one, n in given.items() if n > 1)


def _links(install: Install, marks: dict[NodeRef, Marks | None]) -> Iterator[str]:
    name, pool = install_id(install.state), install.settings.pool
    mine = alias(name).split()
    found = {link: mark for link, mark in links.listed().items() if mark.split()[:2] == mine}
    should = {}
    for ref, mark in marks.items():
        if mark:
            segment = Segment.of(pool, mark.slot)
            should[segment.bridge] = alias(name, ref.owner)
            should[segment.link(mark.index)] = alias(name, ref.owner, ref.name)
    yield from (
        f"link {one} is too much or wrong" for one in sorted(found.items() - should.items())
    )
    yield from (f"link {one} is missing" for one in sorted(should.items() - found.items()))


def _rules(install: Install, marks: dict[NodeRef, Marks | None]) -> Iterator[str]:
    """Each set of the table has the elements of the live clusters, and no others."""
    name, pool = install_id(install.state), install.settings.pool
    listed = asyncio.run(nft.table(rules.FAMILY, rules.table(name)))
    segments = [Segment.of(pool, slot) for slot in {m.slot for m in marks.values() if m}]
    exposed = {
        (Segment.of(pool, m.slot).port, str(Segment.of(pool, m.slot).address(m.index)))
        for m in marks.values()
        if m and m.expose
    }
    leading = {(Segment.of(pool, m.slot).port, m.expose) for m in marks.values() if m and m.expose}
    if not segments:
        if listed is not None:
            yield f"the table {rules.table(name)} is left"
        return
    should: dict[str, Any] = {
        "bridges": {s.bridge for s in segments},
        "same": {(s.bridge, s.bridge) for s in segments},
        "sources": {(s.bridge, str(s.network.network_address)) for s in segments},
        "nets": {str(s.network.network_address) for s in segments},
        "ports": leading,
        "masters": {
            (Segment.of(pool, m.slot).bridge, str(Segment.of(pool, m.slot).address(m.index)))
            for m in marks.values()
            if m and m.expose
        },
    }
    found = {
        each[kind]["name"]: {_plain(element) for element in each[kind].get("elem", ())}
        for each in listed or ()
        for kind in ("set", "map")
        if kind in each
    }
    led = found.pop("hosts", set())  # to one of the cluster's masters, and never to two
    if not led <= exposed or {port for port, _ in led} != {port for port, _ in exposed}:
        yield f"nft hosts: {led}, and not one for each port of {exposed}"
    for kind in should.keys() | found.keys():
        if should.get(kind) != found.get(kind):
            yield f"nft {kind}: {found.get(kind)}, and not {should.get(kind)}"


def _plain(element: Any) -> Any:
    if isinstance(element, dict):
        return tuple(element["concat"])
    return tuple(element) if isinstance(element, list) else element


def _processes(install: Install, marks: dict[NodeRef, Marks | None]) -> Iterator[str]:
    """Who runs with a live cluster's sub-ids is in one of its cgroups; nobody else has any.

    Of slots that other installs hold nothing is said.
    """
    name = install_id(install.state)
    ours = {m.slot for m in marks.values() if m}
    held = {int(p.name) for p in slots.DIRECTORY.iterdir()} if slots.DIRECTORY.exists() else set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if not entry.name.isdigit() or (uid := entry.stat().st_uid) < slots.FIRST_SUBID:
                continue
            slot = (uid - slots.FIRST_SUBID) // slots.SUBIDS
            inside = f"/moorage/{name}/" in (entry / "cgroup").read_text()
            if (slot in ours and not inside) or slot not in held:
                argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield f"process {entry.name} ({argv}) runs with the sub-ids of slot {slot}"


def contradictions(events: Sequence[dict[str, Any]]) -> list[str]:
    """What a cluster's story says twice, or after its own end."""
    said = Counter((e["kind"], e["what"], e["turn"], e["at"]) for e in events)
    found = [f"twice: {one}" for one, times in said.items() if times > 1]
    turns = Counter(e["turn"] for e in events if e["kind"] == "turn" and e["turn"])
    found += [f"turn {turn} ended {times} times" for turn, times in turns.items() if times > 1]
    steps = {e["turn"] for e in events if e["kind"] == "step"}
    found += [f"steps of turn {turn}, which never ended" for turn in steps - turns.keys()]
    created = [e for e in events if e["kind"] == "request" and e["what"].startswith("create:")]
    if len(created) != 1 or events[0] != created[0]:
        found.append(f"created {len(created)} times, or not at first")
    over = list(itertools.dropwhile(lambda e: not e["what"].startswith("deleted:"), events))
    found += [f"after its end: {event}" for event in over[1:]]
    return found
