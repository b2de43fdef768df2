from __future__ import annotations

import dataclasses
import datetime

import pytest

from moorage.model.errors import Forbidden, Invalid, NotFound, QuotaExceeded
from moorage.model.event import Event, EventKind, Record
from moorage.model.page import Page
from moorage.services import NewCluster, NewRelease, NewSize, NewTemplate
from moorage.store.tables import Instant
from tests.unit.services.conftest import ADMIN, OUR_READER, OURS, THEIRS, House

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
RECORD = Record(NOW, "req-1", "u", "user", OURS.project_id, "POST", "/v1/clusters", "::1", 202)


async def test_a_story_from_the_first_request_to_the_end_and_after(house: House) -> None:
    await house.templates.create(OURS, NewTemplate("swarm", "t"))
    one = await house.clusters.create(OURS, NewCluster("t", "one", node_count=2))
    await house.clusters.resize(OURS, "one", NewSize(1, ["worker-0"]))
    await house.clusters.upgrade(OURS, "one", NewRelease("t"))
    await house.services.certificates.rotate(OURS, "one")
    await house.clusters.rotate_credentials(OURS, "one")
    await house.clusters.delete(OURS, "one")
    claim = await house.store.claims.take("w", 30)
    assert claim is not None
    gone = Event(EventKind.TURN, "deleted: 2 nodes", NOW, turn="t1", seconds=0.5)
    await house.store.claims.remove(claim, [gone])

    events = await house.services.events.list(OUR_READER, one.uuid, Page())
    assert [event.what for event in events] == [
        "create: 1 tiny in default-master, 2 tiny in default-worker",
        "resize: default-worker from 2 to 1, without worker-0",
        "upgrade: default-master and default-worker to template t",
        "rotate the CA",
        "rotate credentials",
        "delete",
        "deleted: 2 nodes",
    ]
    assert {event.cause for event in events[:-1]} == {f"asked by {OURS.user_name}"}
    newest = await house.services.events.list(OURS, one.uuid, Page(limit=2, sort_dir="desc"))
    assert [event.what for event in newest] == ["deleted: 2 nodes", "delete"]
    with pytest.raises(NotFound):
        await house.services.events.list(THEIRS, one.uuid, Page())
    with pytest.raises(NotFound):
        await house.services.events.list(OURS, "one", Page())
    assert await house.services.events.list(ADMIN, one.uuid, Page())


async def test_a_cluster_that_is_there_has_a_story_even_when_none_is_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a migration; and a month does not make an old cluster be gone."""
    await house.templates.create(OURS, NewTemplate("swarm", "t"))
    one = await house.clusters.create(OURS, NewCluster("t", "one"))
    monkeypatch.setattr("moorage.store.events.PRUNED_EVERY", 1)
    later = one.created_at or NOW
    monkeypatch.setattr(Instant, "now", lambda: later + datetime.timedelta(days=365))
    await house.clusters.create(OURS, NewCluster("t", "two"))
    assert len(await house.services.events.list(OURS, "one", Page())) == 1
    last = (await house.services.events.list(OURS, one.uuid, Page()))[-1]
    beyond = Page(marker=str(last.id))
    assert await house.services.events.list(OURS, one.uuid, beyond) == []
    for stranger in (THEIRS, ADMIN):
        with pytest.raises(NotFound):
            await house.services.events.list(stranger, "one", Page())


async def test_refused_wishes_leave_no_line(house: House) -> None:
    await house.templates.create(OURS, NewTemplate("swarm", "t"))
    one = await house.clusters.create(OURS, NewCluster("t", "one"))
    for size, error in ((NewSize(99), QuotaExceeded), (NewSize(0, ["nothing"]), Invalid)):
        with pytest.raises(error):
            await house.clusters.resize(OURS, "one", size)
    await house.clusters.resize(OURS, "one", NewSize(1))  # as it is
    assert len(await house.events(one.uuid)) == 1


async def test_a_project_reads_its_own_audit_and_admins_all(house: House) -> None:
    theirs = dataclasses.replace(RECORD, project_id=THEIRS.project_id)
    for record in (RECORD, theirs):
        await house.services.audit.record(record)
    audit = house.services.audit
    assert await audit.list(OUR_READER, Page()) == [dataclasses.replace(RECORD, id=1)]
    assert await audit.list(THEIRS, Page()) == [dataclasses.replace(theirs, id=2)]
    assert len(await audit.list(ADMIN, Page(), all_projects=True)) == 2
    with pytest.raises(Forbidden):
        await audit.list(OURS, Page(), all_projects=True)


async def test_only_admins_see_who_is_at_work(house: House) -> None:
    await house.store.heartbeats.beat("host", "moorage-conductor")
    await house.store.heartbeats.beat("host", "moorage-conductor")
    (service,) = await house.services.heartbeats.list(ADMIN)
    assert (service.report_count, service.state) == (2, "up")
    with pytest.raises(Forbidden):
        await house.services.heartbeats.list(OURS)
