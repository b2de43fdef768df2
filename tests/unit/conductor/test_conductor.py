"""The conductor over a real store and fake plugins: what a tenant gets to see."""

from __future__ import annotations

import asyncio
import re
from time import monotonic

import pytest

from moorage.drivers.fake import (
    HangsInJoin,
    JoinsLate,
    NeverJoins,
    PlansInCircles,
    RefusesLabels,
    RefusesToJoin,
)
from moorage.model.cluster import ClusterStatus, HealthStatus
from moorage.model.node import NodeRef
from moorage.planning import truth
from moorage.providers.fake import (
    Blind,
    Buggy,
    DeleteFails,
    FailsOnce,
    FakeProvider,
    Hangs,
    KnowsItsRoom,
    LosesNodes,
    NeverReady,
    NoRoomLeft,
    Slow,
)
from moorage.store import Store
from tests.unit.conductor.house import House, soon


def timeless(history: list[str]) -> list[str]:
    return [re.sub(r"\d+\.\d+ s", "N s", line) for line in history]


async def test_a_cluster_is_created_shown_whole_and_left_alone(store: Store) -> None:
    house = House(store)
    cluster = await house.add()
    async with house.conducted():
        cluster = await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    assert timeless(house.chronicle.history(cluster.uuid)) == [
        "CREATE_IN_PROGRESS: creating: 3 ensure-node, 3 fake-join in N s",
        "CREATE_COMPLETE: created: 3 nodes, fake of 1 master and 2 workers in N s",
    ]
    assert [due for _, due in house.chronicle.applied] == [0.0, 60.0]
    assert cluster.health.status is HealthStatus.HEALTHY
    assert cluster.attempts == 0
    assert cluster.deadline is None
    assert cluster.api_address == "fake://127.0.0.1:2376"
    assert cluster.master_addresses == ("10.0.0.2",)
    assert cluster.node_addresses == ("10.0.0.3", "10.0.0.4")


async def test_nothing_is_waited_for_between_a_turn_and_its_verification(store: Store) -> None:
    house = House(store)
    async with house.conducted():
        cluster = await house.add()
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        first, verified = (due for _, due in house.chronicle.applied)
    assert first == 0 < verified


async def test_deletion_takes_one_turn_and_leaves_nothing(store: Store) -> None:
    house = House(store, provider := FakeProvider())
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        turns = len(house.chronicle.takes)
        await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
        await house.until_gone(cluster.uuid)
    assert len(house.chronicle.takes) == turns + 1
    assert provider.owners() == set()


async def test_a_cluster_without_its_driver_can_be_deleted(store: Store) -> None:
    house = House(store)
    cluster = await house.add(coe="gone", status=ClusterStatus.DELETE_IN_PROGRESS)
    async with house.conducted():
        await house.until_gone(cluster.uuid)


async def test_a_missing_provider_is_named_until_it_is_there(store: Store) -> None:
    house = House(store)
    cluster = await house.add(provider="lost", status=ClusterStatus.DELETE_IN_PROGRESS)
    async with house.conducted():
        cluster = await house.until(cluster.uuid, lambda c: c.attempts == 1)
    assert cluster.status_reason == "observe: no provider 'lost' is installed here"
    assert cluster.status == "DELETE_IN_PROGRESS"


async def test_a_missing_driver_is_named(store: Store) -> None:
    house = House(store)
    one = await house.add("one", coe="mesos")
    async with house.conducted():
        one = await house.until(one.uuid, lambda c: c.attempts == 1)
    assert one.status_reason == "observe: no driver for the COE 'mesos' is installed here"
    assert one.status == "CREATE_IN_PROGRESS"


async def test_what_fails_once_is_tried_again_with_its_reason(store: Store) -> None:
    house = House(store, FailsOnce())
    cluster = await house.add(workers=0)
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    assert timeless(house.chronicle.history(cluster.uuid)) == [
        "CREATE_IN_PROGRESS: ensure-node master-0: node master-0 fell over",
        "CREATE_IN_PROGRESS: creating: delete-node, ensure-node, fake-join in N s",
        "CREATE_COMPLETE: created: 1 node, fake of 1 master and 0 workers in N s",
    ]


async def test_a_failed_step_stops_only_what_waits_for_it(store: Store) -> None:
    house = House(store, provider := FakeProvider(), JoinsLate(times=1))
    cluster = await house.add(workers=1)
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    history = timeless(house.chronicle.history(cluster.uuid))
    assert history[0] == "CREATE_IN_PROGRESS: fake-join master-0: the engine is still starting"
    assert history[1] == "CREATE_IN_PROGRESS: creating: 2 fake-join in N s"
    assert provider.calls["ensure"] == 2


async def test_several_troubles_are_counted(store: Store) -> None:
    house = House(store, FailsOnce())
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    first = house.chronicle.history(cluster.uuid)[0]
    assert first.endswith("ensure-node master-0: node master-0 fell over (and 2 more)")


async def test_a_hanging_step_ends_with_its_time(store: Store) -> None:
    house = House(store, driver=HangsInJoin(timeout=0.01))
    cluster = await house.add(workers=0)
    async with house.conducted():
        cluster = await house.until(cluster.uuid, lambda c: c.attempts == 1)
    assert cluster.status_reason == "fake-join master-0: not done within 0.01 s"


async def test_waits_grow_and_end_at_the_deadline_which_is_not_the_end(store: Store) -> None:
    provider = FakeProvider()
    house = House(store, provider, driver := JoinsLate(times=10_000, delay=0.004))
    cluster = await house.add(workers=0, create_timeout=1, deadline=soon(seconds=2))
    async with house.conducted():
        cluster = await house.until_status(cluster.uuid, "CREATE_FAILED")
        assert cluster.status_reason == (
            "not done within 1 minute: fake-join master-0: the engine is still starting"
        )
        assert provider.owners() == {cluster.uuid}
        dues = [due for _, due in house.chronicle.applied]
        assert dues[:3] == [0.004, 0.008, 0.016]
        driver.times = 0
        cluster = await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    assert cluster.deadline is None


async def test_nodes_that_never_get_ready_fail_in_time(store: Store) -> None:
    house = House(store, NeverReady())
    cluster = await house.add(workers=0, deadline=soon(seconds=0.05))
    async with house.conducted():
        cluster = await house.until_status(cluster.uuid, "CREATE_FAILED")
    assert cluster.status_reason == (
        "not done within 60 minutes: ensure-node master-0: node master-0 does not come up"
    )


async def test_steps_without_effect_wait_like_failures(store: Store) -> None:
    house = House(store, driver=NeverJoins())
    cluster = await house.add(workers=0)
    async with house.conducted():
        cluster = await house.until(cluster.uuid, lambda c: c.attempts == 2)
    assert cluster.status_reason == "fake-join done, and needed again"
    assert [due for _, due in house.chronicle.applied] == [0.0, 0.0, 2.0]


async def test_a_node_lost_on_the_way_is_made_again(store: Store) -> None:
    house = House(store, LosesNodes(times=1))
    cluster = await house.add(workers=1)
    async with house.conducted():
        cluster = await house.until(cluster.uuid, lambda c: c.attempts == 2)
    assert cluster.status_reason == "2 ensure-node, 2 fake-join done, and needed again"
    assert cluster.status == "CREATE_IN_PROGRESS"


async def test_a_bug_is_named_by_its_turn_and_tells_no_secret(store: Store) -> None:
    house = House(store, provider := Buggy())
    cluster = await house.add(workers=0)
    async with house.conducted() as conductor:
        cluster = await house.until(cluster.uuid, lambda c: c.attempts == 1)
        assert re.fullmatch(
            r"internal error in step ensure-node master-0 \(turn [0-9a-f]{12}\)",
            cluster.status_reason or "",
        )
        assert cluster.status == "CREATE_IN_PROGRESS"
        provider.buggy = False
        await conductor._changed(cluster.uuid)
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")


async def test_a_plan_in_a_circle_does_nothing_and_says_so(store: Store) -> None:
    house = House(store, provider := FakeProvider(), PlansInCircles())
    cluster = await house.add(workers=0)
    async with house.conducted():
        cluster = await house.until(cluster.uuid, lambda c: c.attempts == 1)
    assert (cluster.status_reason or "").startswith("internal error in step plan (turn ")
    assert provider.calls["ensure"] == 0


async def test_a_provider_that_sees_nothing_is_asked_again(store: Store) -> None:
    house = House(store, provider := Blind())
    cluster = await house.add()
    async with house.conducted():
        await house.until(cluster.uuid, lambda c: c.attempts == 2)
        provider.blind = False
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    assert house.chronicle.history(cluster.uuid)[0] == (
        "CREATE_IN_PROGRESS: observe: the machine does not answer"
    )


async def test_no_room_is_said_before_anything_is_made(store: Store) -> None:
    house = House(store, provider := KnowsItsRoom(room=2))
    cluster = await house.add()
    async with house.conducted():
        cluster = await house.until_status(cluster.uuid, "CREATE_FAILED")
    assert cluster.status_reason == "room: no room: 3 nodes asked for, 2 of 2 left"
    assert provider.calls["ensure"] == 0
    assert house.chronicle.applied[-1][1] == 300.0


async def test_labels_that_cannot_be_where_its_nodes_are_are_refused_before_anything_is_made(
    store: Store,
) -> None:
    """As those that a service on another machine let pass."""
    house = House(store, provider := FakeProvider(), driver := RefusesLabels("v2"))
    cluster = await house.add(labels={"fake_tag": "v2"})
    async with house.conducted() as conductor:
        cluster = await house.until_status(cluster.uuid, "CREATE_FAILED")
        assert cluster.status_reason == "check: labels: there is no release v2."
        assert provider.calls["ensure"] == 0
        driver.wrong = "v0"
        await conductor._changed(cluster.uuid)
        cluster = await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        # What is there was right when it was made.
        driver.wrong = "v2"
        await conductor._changed(cluster.uuid)
        cluster = await house.until_status(cluster.uuid, "CREATE_COMPLETE")


async def test_no_room_on_the_way_undoes_what_was_made(store: Store) -> None:
    house = House(store, provider := NoRoomLeft(room=2))
    cluster = await house.add()
    async with house.conducted() as conductor:
        cluster = await house.until_status(cluster.uuid, "CREATE_FAILED")
        assert cluster.status_reason == (
            "ensure-node worker-1: no room for node worker-1: 2 nodes is all there is; "
            "what was made for it is deleted"
        )
        assert provider.owners() == set()
        assert cluster.node_addresses == ()
        assert house.chronicle.applied[-1][1] == 300.0
        # Once there is room, the next look makes it whole after all.
        provider.room = 3
        await conductor._changed(cluster.uuid)
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")


async def test_an_undo_that_fails_goes_on(store: Store) -> None:
    class Both(DeleteFails, NoRoomLeft):
        def __init__(self) -> None:
            DeleteFails.__init__(self, times=1)
            self.room = 2

    house = House(store, provider := Both())
    cluster = await house.add()
    async with house.conducted():
        cluster = await house.until_status(cluster.uuid, "CREATE_FAILED")
        assert (cluster.status_reason or "").endswith("what was made for it is being deleted")
        cluster = await house.until(cluster.uuid, lambda c: c.attempts == 2)
    assert provider.owners() == set()


async def test_a_refused_update_leaves_the_cluster_as_it_is(store: Store) -> None:
    house = House(store, provider := KnowsItsRoom(room=4))
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=6)
        cluster = await house.until_status(cluster.uuid, "UPDATE_FAILED")
    assert cluster.status_reason == "room: no room: 4 nodes asked for, 1 of 4 left"
    nodes = [node.name for node in await provider.observe(cluster.uuid)]
    assert nodes == ["master-0", "worker-0", "worker-1"]


async def test_a_driver_that_refuses_ends_the_create(store: Store) -> None:
    house = House(store, provider := FakeProvider(), RefusesToJoin("worker-0"))
    cluster = await house.add()
    async with house.conducted():
        cluster = await house.until_status(cluster.uuid, "CREATE_FAILED")
    assert cluster.status_reason == (
        "fake-join worker-0: the engine will not have worker-0; what was made for it is deleted"
    )
    assert provider.owners() == set()


async def test_scaling_up_and_down(store: Store) -> None:
    house = House(store, provider := FakeProvider())
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=4)
        cluster = await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
        assert len(cluster.node_addresses) == 4
        await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=0)
        cluster = await house.until(cluster.uuid, lambda c: not c.node_addresses)
        await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert timeless(house.chronicle.history(cluster.uuid))[-2:] == [
        "UPDATE_IN_PROGRESS: updating: 4 delete-node in N s",
        "UPDATE_COMPLETE: updated: 1 node, fake of 1 master and 0 workers in N s",
    ]
    assert [node.name for node in await provider.observe(cluster.uuid)] == ["master-0"]


async def test_an_update_during_the_create_is_done_after_it(store: Store) -> None:
    house = House(store, provider := Hangs())
    cluster = await house.add(workers=1)
    async with house.conducted():
        await provider.reached.wait()
        await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=2)
        provider.released.set()
        cluster = await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert len(cluster.node_addresses) == 2
    # The verdict on the older wish was not written over the newer one.
    assert "CREATE_COMPLETE" not in {c.status for c, _ in house.chronicle.applied}


async def test_a_delete_during_a_create_that_hangs_does_not_wait_for_it(store: Store) -> None:
    house = House(store, provider := Hangs())
    cluster = await house.add()
    async with house.conducted(grace=0.01):
        await provider.reached.wait()
        await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
        await house.until_gone(cluster.uuid)
    assert provider.owners() == set()


async def test_a_delete_that_fails_is_tried_until_it_is_done(store: Store) -> None:
    house = House(store, provider := DeleteFails(times=2))
    cluster = await house.add(workers=0)
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        await house.wish(cluster.uuid, "DELETE_IN_PROGRESS", deadline=soon(hours=1))
        await house.until_gone(cluster.uuid)
    assert house.chronicle.history(cluster.uuid)[-2:] == [
        "DELETE_IN_PROGRESS: delete-node master-0: node master-0 is busy",
        "DELETE_IN_PROGRESS: delete-node master-0: node master-0 is busy",
    ]
    assert provider.owners() == set()


async def test_a_delete_past_its_deadline_fails_and_goes_on(store: Store) -> None:
    house = House(store, DeleteFails(times=2))
    cluster = await house.add(workers=0)
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        await house.wish(cluster.uuid, "DELETE_IN_PROGRESS", deadline=soon(seconds=-1))
        await house.until_gone(cluster.uuid)
    assert house.chronicle.history(cluster.uuid)[-1] == (
        "DELETE_FAILED: not done in time: delete-node master-0: node master-0 is busy"
    )


async def test_a_lost_node_heals_at_once_when_the_provider_notices(store: Store) -> None:
    house = House(store, provider := FakeProvider())
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        provider.lose(NodeRef(cluster.uuid, "worker-1"))
        unwell = await house.until(cluster.uuid, lambda c: c.attempts == 1)
        assert unwell.status == "CREATE_COMPLETE"
        assert unwell.health.status is HealthStatus.UNHEALTHY
        assert unwell.health.reasons == {"worker-1": "not joined"}
        well = await house.until(cluster.uuid, lambda c: c.attempts == 0)
    assert well.health.status is HealthStatus.HEALTHY
    assert timeless(house.chronicle.history(cluster.uuid))[-2:] == [
        "CREATE_COMPLETE: healing: ensure-node, fake-join in N s",
        "CREATE_COMPLETE: healed: 3 nodes, fake of 1 master and 2 workers",
    ]


async def test_a_lost_node_heals_by_the_timer_when_nobody_notices(store: Store) -> None:
    house = House(store, provider := FakeProvider(), heal_seconds=0.02)
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        provider.drop(NodeRef(cluster.uuid, "master-0"))
        await house.until(cluster.uuid, lambda c: c.attempts == 1)
        await house.until(cluster.uuid, lambda c: c.attempts == 0)


async def test_a_stopped_node_comes_back_and_a_broken_one_is_remade(store: Store) -> None:
    house = House(store, provider := FakeProvider())
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        provider.wreck(NodeRef(cluster.uuid, "worker-0"))
        provider.stop(NodeRef(cluster.uuid, "worker-1"))
        await house.until(cluster.uuid, lambda c: c.attempts == 1)
        await house.until(cluster.uuid, lambda c: c.attempts == 0)
    assert provider.calls["delete"] == 1
    assert provider.calls["ensure"] == 5


async def test_fifty_clusters_at_once(store: Store) -> None:
    provider = Slow(seconds=0.05)
    house = House(store, provider)
    clusters = [await house.add(f"c{i}") for i in range(50)]
    began = monotonic()
    async with house.conducted():
        for cluster in clusters:
            await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        assert monotonic() - began < 50 * 0.05
        for cluster in clusters:
            await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
        await asyncio.gather(*(house.until_gone(cluster.uuid) for cluster in clusters))
    assert provider.owners() == set()


async def test_where_there_are_very_many_each_is_looked_at_less_often(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(store, heal_seconds=0.01)
    await house.add()
    monkeypatch.setattr(truth, "LOOKS", 0.01)
    applied = house.chronicle.applied
    async with house.conducted():
        await house.chronicle.until(lambda: bool(applied) and 66 <= applied[-1][1] <= 134)
