"""What is kept of what happened, for how long, and page by page."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

import pytest

from moorage.model.cluster import Cluster, ClusterStatus
from moorage.model.errors import Invalid, NotFound
from moorage.model.event import Event, EventKind, Record
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Scope, Store, audit, events
from moorage.store.tables import Instant
from tests.unit.store.conftest import CA, a_cluster, added, wanted

OURS, THEIRS = Scope("ours"), Scope("theirs")
ALL = Page()
DAY = datetime.timedelta(days=1)


class Calendar:
    """Stands in for the store's now."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2030, 1, 1, 12, 0, 0, 1, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    ours = Calendar()
    monkeypatch.setattr(Instant, "now", ours)
    return ours


@pytest.fixture
async def cluster(store: Store, template: ClusterTemplate, calendar: Calendar) -> Cluster:
    return await added(store, a_cluster(template))


def a_turn(what: str, at: datetime.datetime) -> Event:
    return Event(EventKind.TURN, what, at)


def record(project: str, at: datetime.datetime, number: int = 1) -> Record:
    path = f"/v1/clusters/{number}"
    target = f"uuid-{number}" if number else None
    return Record(
        at, f"req-{number}", "u", "Ünal", project, "POST", path, "::1", 202, target=target
    )


async def write(store: Store, cluster: Cluster, new: Sequence[Event]) -> None:
    """As the conductor does at the end of a turn."""
    claim = await store.claims.take("w", 30)
    assert claim is not None
    assert claim.cluster.uuid == cluster.uuid
    await store.claims.apply(claim, claim.cluster, 0.0, new)


async def wish_for(store: Store, cluster: Cluster, wish: str) -> None:
    """As the services do for a wish."""
    await wanted(
        store, cluster.uuid, lambda before: dataclasses.replace(before, status_reason=wish)
    )


async def remove(store: Store, cluster: Cluster, last: Event) -> None:
    def deleted(wish: Cluster) -> Cluster:
        return dataclasses.replace(wish, status=ClusterStatus.DELETE_IN_PROGRESS)

    await wanted(store, cluster.uuid, deleted)
    claim = await store.claims.take("w", 30)
    assert claim is not None
    await store.claims.remove(claim, [last])


async def story(store: Store, cluster: Cluster, page: Page = ALL) -> list[str]:
    return [event.what for event in await store.events.list(cluster.uuid, OURS, page)]


async def test_an_event_comes_back_as_it_was_written(
    store: Store, cluster: Cluster, calendar: Calendar
) -> None:
    step = Event(
        EventKind.STEP, "ensure-node worker-0", calendar.now, "turn-1", 1.25, "no röom", ok=False
    )
    await write(store, cluster, [step])
    first, second = await store.events.list(cluster.uuid, OURS, ALL)
    assert second == dataclasses.replace(step, id=second.id)
    assert (first.kind, first.cause, first.at) == (
        EventKind.REQUEST,
        "asked by alice",
        calendar.now,
    )
    assert await store.events.list(cluster.uuid, THEIRS, ALL) == []
    with pytest.raises(NotFound):
        await store.events.list_of_gone(cluster.uuid, THEIRS, ALL)


async def test_pages_go_by_number_both_ways(
    store: Store, cluster: Cluster, calendar: Calendar
) -> None:
    await write(store, cluster, [a_turn(str(number), calendar.now) for number in range(5)])
    found = await store.events.list(cluster.uuid, OURS, ALL)
    third = str(found[2].id)
    whats = [event.what for event in found]
    assert whats[1:] == ["0", "1", "2", "3", "4"]
    assert await story(store, cluster, Page(limit=2, marker=third)) == ["2", "3"]
    assert await story(store, cluster, Page(limit=2, marker=third, sort_dir="desc")) == whats[1::-1]
    assert await story(store, cluster, Page(marker=str(found[-1].id))) == []
    for page, field in (
        (Page(marker="x"), "marker"),
        (Page(marker="-1"), "marker"),
        (Page(marker="²"), "marker"),
        (Page(marker="9" * 16), "marker"),
        (Page(marker="1\0"), "marker"),
        (Page(marker="2147483648"), "marker"),
        (Page(marker="9999999999", sort_dir="desc"), "marker"),
        (Page(sort_key="at"), "sort_key"),
    ):
        with pytest.raises(Invalid) as caught:
            await store.events.list(cluster.uuid, OURS, page)
        assert caught.value.field == field
    assert await story(store, cluster, Page(marker="2147483647")) == []


async def test_a_long_story_loses_its_oldest_steps_then_turns_and_no_wish(
    store: Store, cluster: Cluster, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PRUNED_EVERY", 1)
    monkeypatch.setattr(events, "_NEWEST", events._NEWEST.offset(10))
    for number in range(8):
        await wish_for(store, cluster, f"wish {number}")
        steps = [Event(EventKind.STEP, f"step {number}.{n}", calendar.now) for n in range(3)]
        await write(store, cluster, [*steps, a_turn(f"turn {number}", calendar.now)])
    wishes = [f"wish {number}" for number in range(8)]
    left = await story(store, cluster)
    assert left[0].startswith("create: ")
    assert [what for what in left[1:] if what.startswith("wish")] == wishes
    assert [what for what in left if what.startswith("turn")] == [f"turn {n}" for n in range(8)]
    last = ["4.2", *(f"{number}.{n}" for number in (5, 6, 7) for n in range(3))]
    assert [what for what in left if what.startswith("step")] == [f"step {n}" for n in last]
    for number in range(8, 13):
        await write(store, cluster, [a_turn(f"turn {number}", calendar.now)])
    left = await story(store, cluster)
    assert [what for what in left if what.startswith("turn")] == [f"turn {n}" for n in range(3, 13)]
    assert [what for what in left[1:] if what.startswith("wish")] == wishes


async def test_a_long_story_keeps_its_first_wish_and_the_newest(
    store: Store, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant may wish without end, and each wish takes room."""
    monkeypatch.setattr(events, "PRUNED_EVERY", 1)
    monkeypatch.setattr(events, "_NEWEST", events._NEWEST.offset(10))
    for number in range(25):
        await store.events.tell(cluster, f"sign {number}", by="mallory")
    left = await story(store, cluster)
    assert left[0].startswith("create: ")
    assert left[1:] == [f"sign {number}" for number in range(15, 25)]


async def test_a_wish_names_the_request_that_it_came_in(
    store: Store, template: ClusterTemplate, calendar: Calendar
) -> None:
    cluster = await store.clusters.add(a_cluster(template), CA, {}, by="alice", request_id="req-1")

    def resize(before: Cluster) -> Cluster:
        return dataclasses.replace(before, status_reason="resize")

    await store.clusters.want(cluster.uuid, resize, {}, by="bob", request_id="req-2")
    await store.events.tell(cluster, "sign", by="carol", request_id="req-3")
    await write(store, cluster, [a_turn("resized", calendar.now)])
    found = await store.events.list(cluster.uuid, OURS, ALL)
    assert [(event.cause, event.request_id) for event in found] == [
        ("asked by alice", "req-1"),
        ("asked by bob", "req-2"),
        ("asked by carol", "req-3"),
        (None, None),
    ]
    assert await store.events.list(cluster.uuid, THEIRS, ALL) == []


async def test_a_story_ends_a_month_after_its_cluster_and_not_before(
    store: Store,
    cluster: Cluster,
    template: ClusterTemplate,
    calendar: Calendar,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "PRUNED_EVERY", 1)
    await remove(store, cluster, a_turn("deleted", calendar.now))
    lives = await added(store, a_cluster(template, "two"))
    first = await story(store, lives)
    calendar.now += 29 * DAY
    await write(store, lives, [a_turn("healed", calendar.now)])
    assert (await story(store, cluster))[-1] == "deleted"
    calendar.now += 2 * DAY
    await write(store, lives, [a_turn("healed", calendar.now)])
    with pytest.raises(NotFound):
        await store.events.list_of_gone(cluster.uuid, OURS, ALL)
    assert await story(store, lives) == [*first, "healed", "healed"]


async def test_a_record_comes_back_as_it_was_added(store: Store, calendar: Calendar) -> None:
    for number, project in enumerate(("ours", "theirs", "ours")):
        await store.audit.add(record(project, calendar.now, number))
    ours = await store.audit.list(OURS, ALL)
    expected = [record("ours", calendar.now, number) for number in (0, 2)]
    assert [dataclasses.replace(one, id=0) for one in ours] == expected
    everyone = await store.audit.list(EVERYTHING, Page(sort_dir="desc"))
    assert [one.request_id for one in everyone] == ["req-2", "req-1", "req-0"]
    rest = await store.audit.list(EVERYTHING, Page(marker=str(everyone[-1].id)))
    assert [one.request_id for one in rest] == ["req-1", "req-2"]
    with pytest.raises(Invalid):
        await store.audit.list(OURS, Page(marker="first"))
    for marker in ("2147483648", "9999999999"):  # beyond PostgreSQL's integers
        with pytest.raises(Invalid, match="was not found"):
            await store.audit.list(OURS, Page(marker=marker))


async def test_the_audit_log_forgets_after_a_year(
    store: Store, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PRUNED_EVERY", 2)
    await store.audit.add(record("ours", calendar.now, 1))
    calendar.now += audit.KEPT
    await store.audit.add(record("ours", calendar.now, 2))
    assert len(await store.audit.list(EVERYTHING, ALL)) == 2
    calendar.now += datetime.timedelta(seconds=1)
    for number in (3, 4):
        await store.audit.add(record("ours", calendar.now, number))
    left = await store.audit.list(EVERYTHING, ALL)
    assert [one.request_id for one in left] == ["req-2", "req-3", "req-4"]


async def test_the_audit_log_keeps_so_many_of_a_project_and_what_was_done_apart(
    store: Store, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a tenant is refused: it fills no disk, and hides nothing that it did."""
    monkeypatch.setattr(audit, "PRUNED_EVERY", 1)
    monkeypatch.setattr(audit, "MOST", 3)
    await store.audit.add(record("theirs", calendar.now, 0))
    for number in range(1, 6):
        await store.audit.add(record("ours", calendar.now, number))
    for number in range(6, 20):
        refused = dataclasses.replace(record("ours", calendar.now, number), status=400)
        await store.audit.add(refused)
    left = await store.audit.list(EVERYTHING, ALL)
    assert [one.request_id for one in left] == [f"req-{n}" for n in (0, 3, 4, 5, 17, 18, 19)]


async def test_who_is_silent_for_a_minute_is_down(store: Store, calendar: Calendar) -> None:
    began = calendar.now
    for host in ("one", "two"):
        await store.heartbeats.beat(host, "moorage-conductor")
    calendar.now += datetime.timedelta(seconds=60)
    assert [service.state for service in await store.heartbeats.list()] == ["up", "up"]
    calendar.now += datetime.timedelta(microseconds=1)
    await store.heartbeats.beat("two", "moorage-conductor")
    one, two = await store.heartbeats.list()
    assert (one.state, one.report_count, one.last_seen_at) == ("down", 1, began)
    assert (two.state, two.report_count, two.last_seen_at) == ("up", 2, calendar.now)
    assert (two.host, two.binary, two.created_at) == ("two", "moorage-conductor", began)
    await store.heartbeats.beat("one", "moorage-conductor")
    assert (await store.heartbeats.list())[0] == dataclasses.replace(
        one, state="up", report_count=2, last_seen_at=calendar.now
    )


async def test_who_is_silent_for_a_day_is_forgotten_when_another_comes(
    store: Store, calendar: Calendar
) -> None:
    await store.heartbeats.beat("one", "moorage-conductor")
    calendar.now += DAY + datetime.timedelta(seconds=1)
    assert len(await store.heartbeats.list()) == 1
    await store.heartbeats.beat("two", "moorage-conductor")
    assert [service.host for service in await store.heartbeats.list()] == ["two"]
