"""Deletes by force, and what they leave: who may, and what is seen and removed."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any, ClassVar

import pytest

from moorage.model.caller import Caller
from moorage.model.cluster import Cluster, ClusterStatus
from moorage.model.errors import Conflict, Forbidden, NotFound, RetryLater
from moorage.model.node import NodeSpec, Role
from moorage.model.orphan import Abandoned, LeftNode
from moorage.providers.fake import Blind, DeleteFails, FakeProvider
from moorage.services import NewCluster, NewTemplate, OrphanService
from moorage.store import EVERYTHING
from tests.unit.services.conftest import (
    ADMIN,
    NOBODY,
    OUR_READER,
    OURS,
    SMALL,
    THEIRS,
    House,
    caller,
)

NOT_ADMINS = [OURS, OUR_READER, THEIRS, NOBODY, caller("", "admin"), caller("ours", "Admin ")]
LONE = str(uuid.uuid4())


@pytest.fixture
async def cluster(house: House) -> Cluster:
    template = await house.templates.create(OURS, NewTemplate("swarm", "ours-swarm"))
    return await house.clusters.create(OURS, NewCluster(template.uuid, "ours-one"))


async def abandon(house: House, cluster: Cluster, **changes: Any) -> Abandoned:
    """What the conductor writes when it gives a cluster up."""
    await house.clusters.delete(ADMIN, cluster.uuid, force=True)
    claim = await house.store.claims.take("test", 30.0)
    assert claim is not None
    left = Abandoned(
        uuid=cluster.uuid,
        name=cluster.name,
        project_id=cluster.project_id,
        user_id=cluster.user_id,
        coe=cluster.coe,
        provider="fake",
        nodes=(LeftNode("master-0", "10.0.0.2", "running"),),
        api_address="tcp://cloud:20480",
        traces=("slot 0",),
        reason="delete-node master-0: busy",
        forced_by="user",
        at=datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC),
    )
    left = dataclasses.replace(left, **changes)
    await house.store.claims.abandon(claim, left)
    if left.home:  # as the row of a cluster that was taken there has it
        await house.store.abandoned._database.write(
            lambda connection: connection.exec_driver_sql(
                f"UPDATE abandoned SET home = '{left.home}'"
            )
        )
    return left


def service(
    house: House, provider: FakeProvider | None = None, **named: FakeProvider
) -> OrphanService:
    return OrphanService(house.store, ({"fake": provider} if provider else {}) | named)


def spec(owner: str, name: str = "master-0") -> NodeSpec:
    return NodeSpec(owner, name, Role.MASTER, SMALL, hostname=name)


@pytest.mark.parametrize("who", NOT_ADMINS)
async def test_only_an_admin_deletes_by_force(house: House, cluster: Cluster, who: Caller) -> None:
    said = set()
    for ident in (cluster.uuid, cluster.name, LONE):
        with pytest.raises(Forbidden) as caught:
            await house.clusters.delete(who, ident, force=True)
        said.add(caught.value.reason)
    assert len(said) == 1, "what is there looks like what is not"
    assert await house.store.clusters.get(cluster.uuid, EVERYTHING) == cluster


@pytest.mark.parametrize("who", NOT_ADMINS)
async def test_only_an_admin_sees_and_removes_what_is_left(
    house: House, cluster: Cluster, who: Caller
) -> None:
    left = await abandon(house, cluster)
    provider = FakeProvider()
    provider.make(spec(LONE))
    orphans = service(house, provider)
    with pytest.raises(Forbidden):
        await orphans.list(who)
    for ident in (left.uuid, LONE, str(uuid.uuid4())):
        for forget in (False, True):
            with pytest.raises(Forbidden):
                await orphans.remove(who, ident, forget=forget)
    assert provider.owners() == {LONE}
    assert len(await orphans.list(ADMIN)) == 2


async def test_force_is_written_down_with_its_admin(house: House, cluster: Cluster) -> None:
    """Also where the delete goes on already; and whoever deletes again doesn't take it back."""
    await house.clusters.delete(OURS, cluster.uuid)
    forced = await house.clusters.delete(ADMIN, cluster.uuid, force=True)
    assert (forced.status, forced.forced_by) == (ClusterStatus.DELETE_IN_PROGRESS, "user")
    assert "delete by force (asked by user)" in await house.events(cluster.uuid)
    await house.settle(cluster.uuid, "DELETE_FAILED")
    again = await house.clusters.delete(OURS, cluster.uuid)
    assert (again.status, again.forced_by) == (ClusterStatus.DELETE_IN_PROGRESS, "user")
    assert await house.clusters.delete(ADMIN, cluster.uuid, force=True) == again


async def test_an_admin_deletes_what_nobody_owns_any_more(house: House, cluster: Cluster) -> None:
    """Its project is gone in Keystone: nobody has a token for it."""
    gone = await house.clusters.delete(ADMIN, cluster.uuid)
    assert gone.status is ClusterStatus.DELETE_IN_PROGRESS


async def test_what_is_left_frees_its_quota_and_its_name(house: House, cluster: Cluster) -> None:
    before = await house.services.quotas.stats(OURS, "ours")
    await abandon(house, cluster)
    assert set((await house.services.quotas.stats(OURS, "ours")).values()) == {0}
    await house.clusters.create(OURS, NewCluster(cluster.template_uuid, cluster.name))
    assert await house.services.quotas.stats(OURS, "ours") == before


async def test_what_is_left_is_seen_until_it_is_removed(house: House, cluster: Cluster) -> None:
    left = await abandon(house, cluster)
    provider = FakeProvider()
    provider.make(spec(left.uuid))
    orphans = service(house, provider)
    (orphan,) = await orphans.list(ADMIN)
    assert orphan.abandoned == left
    assert orphan.traces == ("node master-0: running",)
    await orphans.remove(ADMIN, left.uuid)
    assert provider.owners() == set()
    assert await orphans.list(ADMIN) == []
    with pytest.raises(NotFound):
        await orphans.remove(ADMIN, left.uuid)


async def test_what_nobody_noted_is_found(house: House, cluster: Cluster) -> None:
    """As after a restore: the cluster was made after the backup."""
    provider = FakeProvider()
    provider.make(spec(LONE))
    provider.make(spec(cluster.uuid))
    orphans = service(house, provider)
    (orphan,) = await orphans.list(ADMIN)
    assert (orphan.uuid, orphan.provider, orphan.abandoned) == (LONE, "fake", None)
    with pytest.raises(Conflict, match="nothing to forget"):
        await orphans.remove(ADMIN, LONE, forget=True)
    await orphans.remove(ADMIN, LONE)
    assert provider.owners() == {cluster.uuid}, "a cluster that is known is none of it"
    with pytest.raises(Conflict, match="no orphan"):
        await orphans.remove(ADMIN, cluster.uuid)
    assert provider.owners() == {cluster.uuid}


async def test_the_record_stays_while_something_does(house: House, cluster: Cluster) -> None:
    left = await abandon(house, cluster)
    provider = DeleteFails(times=1)
    provider.make(spec(left.uuid))
    orphans = service(house, provider)
    with pytest.raises(RetryLater, match="busy"):
        await orphans.remove(ADMIN, left.uuid)
    assert len(await orphans.list(ADMIN)) == 1
    await orphans.remove(ADMIN, left.uuid)
    assert await orphans.list(ADMIN) == []


async def test_a_provider_that_is_gone_or_silent(house: House, cluster: Cluster) -> None:
    left = await abandon(house, cluster, provider="cloud")

    class Cloud(Blind):
        name: ClassVar[str] = "cloud"

        async def owned(self) -> list[str]:
            raise RetryLater("the machine does not answer")

    for orphans, error in (
        (service(house), Conflict),
        (service(house, cloud=Cloud()), RetryLater),
    ):
        (orphan,) = await orphans.list(ADMIN)
        assert orphan.traces is None, "it is not known, which is not nothing"
        with pytest.raises(error):
            await orphans.remove(ADMIN, left.uuid)
    await service(house).remove(ADMIN, left.uuid, forget=True)
    assert await service(house).list(ADMIN) == []


class Bound(FakeProvider):
    def __init__(self, home: str) -> None:
        super().__init__()
        self.home = home


async def test_what_is_on_another_machine_is_removed_there(house: House, cluster: Cluster) -> None:
    """Here its provider sees nothing of it, which doesn't mean that it is gone."""
    left = await abandon(house, cluster, home="there/one")
    here, there = Bound("here/one"), Bound("there/one")
    there.make(spec(left.uuid))
    (orphan,) = await service(house, here).list(ADMIN)
    assert (orphan.home, orphan.traces) == ("there/one", None)
    with pytest.raises(Conflict, match="on machine there, and this is here"):
        await service(house, here).remove(ADMIN, left.uuid)
    assert await house.store.abandoned.list() == [left]
    assert there.owners() == {left.uuid}
    (orphan,) = await service(house, there).list(ADMIN)
    assert orphan.traces == ("node master-0: running",)
    await service(house, there).remove(ADMIN, left.uuid)
    assert there.owners() == set()
    assert await house.store.abandoned.list() == []


async def test_what_burned_with_its_machine_is_forgotten_anywhere(
    house: House, cluster: Cluster
) -> None:
    left = await abandon(house, cluster, home="burned/one")
    await service(house, Bound("here/one")).remove(ADMIN, left.uuid, forget=True)
    assert await house.store.abandoned.list() == []


async def test_an_api_alone_leaves_what_is_its_conductors(house: House, cluster: Cluster) -> None:
    """Beside the conductor it would change its nodes, and its rules, behind its back."""
    left = await abandon(house, cluster, home="here/one")
    provider = Bound("here/one")
    for uuid_ in (left.uuid, LONE):
        provider.make(spec(uuid_))
    alone = OrphanService(house.store, {"fake": provider}, conducting=False)
    for uuid_ in (left.uuid, LONE):
        with pytest.raises(Conflict, match="an API alone"):
            await alone.remove(ADMIN, uuid_)
    assert provider.owners() == {left.uuid, LONE}
    assert await house.store.abandoned.list() == [left]
    assert {orphan.home for orphan in await alone.list(ADMIN)} == {"here/one"}


async def test_an_api_alone_removes_what_is_nowhere_at_home(house: House, cluster: Cluster) -> None:
    left = await abandon(house, cluster)
    provider = FakeProvider()
    provider.make(spec(left.uuid))
    alone = OrphanService(house.store, {"fake": provider}, conducting=False)
    await alone.remove(ADMIN, left.uuid)
    assert provider.owners() == set()


async def test_a_record_of_before_homes_were_noted(house: House, cluster: Cluster) -> None:
    """Where there are several machines, to see nothing of it here proves nothing."""
    left = await abandon(house, cluster)
    here = Bound("here/one")
    await house.store.homes.beat("here/one")
    await house.store.homes.beat("there/one")
    with pytest.raises(Conflict, match="may be on one of: there"):
        await service(house, here).remove(ADMIN, left.uuid)
    here.make(spec(left.uuid))
    await service(house, here).remove(ADMIN, left.uuid)
    assert await house.store.abandoned.list() == []


async def test_a_record_of_the_only_machine_goes_when_nothing_is_left(
    house: House, cluster: Cluster
) -> None:
    left = await abandon(house, cluster)
    await service(house, Bound("here/one")).remove(ADMIN, left.uuid)
    assert await house.store.abandoned.list() == []
