"""What becomes of nodes that go on failing, compared as text."""

from __future__ import annotations

import dataclasses

from inline_snapshot import snapshot

from tests.unit.drivers.swarm_scene import (
    cluster,
    member,
    node,
    silent,
    stopped,
    whole,
    with_engine,
    with_members,
)
from tests.unit.drivers.test_swarm_plan import plan


def test_a_member_that_stays_down_is_restarted_once_and_then_replaced() -> None:
    """Its engine answers, and says that it is in the swarm; the managers do not see it."""
    seen = with_members(whole(), member("worker-1", state="down", message="heartbeat failure"))
    assert plan(cluster(strikes={"worker-1": 2}), seen) == snapshot("await-member worker-1")
    assert plan(cluster(strikes={"worker-1": 3}), seen) == snapshot("""\
start-engine worker-1 restart=yes
await-member worker-1 after [start-engine worker-1]\
""")
    tried = {"worker-1": 3}
    four, five = (cluster(strikes={"worker-1": n}, restarted=tried) for n in (4, 5))
    assert plan(four, seen) == snapshot("await-member worker-1")
    assert plan(five, seen) == snapshot("delete-node worker-1")


def test_a_master_is_never_replaced_for_what_managers_say_of_it() -> None:
    down = with_members(whole(3, 0), member("master-2", state="down"))
    tired = cluster(3, 0, strikes={"master-2": 50}, restarted={"master-2": 3})
    assert plan(tired, down) == "await-member master-2"


def test_a_node_that_lost_its_link_is_mended_and_then_awaited() -> None:
    seen = silent(whole(1, 1), "worker-0")
    cut = dataclasses.replace(node("worker-0"), reason="its link is gone", mendable=True)
    seen = dataclasses.replace(seen, nodes={**seen.nodes, "worker-0": cut})
    assert plan(cluster(1, 1, strikes={"worker-0": 9}), seen) == snapshot("""\
ensure-node worker-0
start-engine worker-0 after [ensure-node worker-0]
await-member worker-0 after [start-engine worker-0]\
""")


def test_a_full_disk_is_never_thrown_away() -> None:
    seen = silent(whole(1, 1), "worker-0")
    full = dataclasses.replace(node("worker-0"), reason="its disk is full: 1 MiB of 99 are left")
    seen = dataclasses.replace(seen, nodes={**seen.nodes, "worker-0": full})
    assert "delete-node" not in plan(cluster(1, 1, strikes={"worker-0": 50}), seen)


def test_which_nodes_count_as_failing() -> None:
    seen = with_members(silent(whole(1, 3), "worker-0"), member("worker-1", state="down"))
    assert seen.useless("web") == {"worker-0", "worker-1"}
    assert stopped(seen, "worker-0").useless("web") == {"worker-1"}
    locked = with_engine(whole(1, 0), "master-0", "locked")
    assert locked.useless("web") == frozenset()
    assert with_engine(whole(1, 1), "worker-0", "pending").useless("web") == {"worker-0"}
    assert with_engine(whole(1, 1), "worker-0", "inactive").useless("web") == frozenset()
