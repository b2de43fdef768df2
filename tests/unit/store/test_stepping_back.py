"""A home without room for a cluster leaves it to another one, and each is asked once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from moorage.model.cluster import Cluster, ClusterStatus
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Claim, LostClaim, Store, claims
from moorage.store.events import said
from tests.unit.store.conftest import a_cluster, added, sized, wanted


@pytest.fixture
async def first(store: Store) -> Store:
    store.claims.settle({"local": "one/a"})
    await store.homes.beat("one/a")
    return store


@pytest.fixture
async def second(other: Store) -> Store:
    other.claims.settle({"local": "two/a"})
    await other.homes.beat("two/a")
    return other


@pytest.fixture
async def cluster(first: Store, template: ClusterTemplate) -> Cluster:
    return await added(first, a_cluster(template))


async def taken(store: Store) -> Claim:
    claim = await store.claims.take("w", 30)
    assert claim is not None
    return claim


async def failed(store: Store, claim: Claim) -> None:
    after = dataclasses.replace(claim.cluster, status=ClusterStatus.CREATE_FAILED)
    await store.claims.apply(claim, after, 0.0)


async def test_it_goes_to_another_home_which_is_not_asked_in_turn_again(
    first: Store, second: Store, cluster: Cluster
) -> None:
    claim = await taken(first)
    assert await first.claims.step_back(claim, "full", [said("full", "w")])
    shown = await first.clusters.get(cluster.uuid, EVERYTHING)
    assert (shown.status, shown.status_reason) == (cluster.status, "full")
    story = await first.events.list(cluster.uuid, EVERYTHING, Page())
    assert story[-1].what == "full"
    assert await first.homes.of(cluster.uuid) is None
    with pytest.raises(LostClaim):
        await first.claims.renew(claim, 30)

    assert await first.claims.next_due() is None, "it is left to others for a while"
    assert await first.claims.take("w", 30) is None
    claim = await taken(second)
    home = await second.homes.of(cluster.uuid)
    assert home is not None
    assert home.name == "two/a"
    assert not await second.claims.step_back(claim, "full as well"), "all were asked"
    await failed(second, claim)
    assert await second.claims.step_back(await taken(second), "still"), "another time, all again"
    shown = await first.clusters.get(cluster.uuid, EVERYTHING)
    assert (shown.status, shown.status_reason) == ("CREATE_FAILED", "full"), "why it failed"


async def test_where_no_other_home_lives_nobody_steps_back(
    first: Store, second: Store, cluster: Cluster, raw: Callable[[str], None]
) -> None:
    raw("UPDATE homes SET seen_at = 0 WHERE name = 'two/a'")
    claim = await taken(first)
    assert not await first.claims.step_back(claim, "full")
    await first.claims.renew(claim, 30)


async def test_one_that_nobody_else_takes_comes_back_and_is_decided_there(
    first: Store, second: Store, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "STEPPED_BACK", 0.0)
    assert await first.claims.step_back(await taken(first), "full")
    assert await first.claims.next_due() == 0
    assert not await first.claims.step_back(await taken(first), "full")


async def test_other_clusters_are_taken_meanwhile(
    first: Store, second: Store, cluster: Cluster, template: ClusterTemplate
) -> None:
    assert await first.claims.step_back(await taken(first), "full")
    small = await added(first, a_cluster(template, "small"))
    assert (await taken(first)).cluster.uuid == small.uuid


async def test_a_new_wish_is_decided_first(first: Store, second: Store, cluster: Cluster) -> None:
    claim = await taken(first)
    await wanted(first, cluster.uuid, lambda c: sized(c, 1))
    assert not await first.claims.step_back(claim, "full")


async def test_what_is_at_home_nowhere_stays_there(
    first: Store, second: Store, template: ClusterTemplate
) -> None:
    await added(first, a_cluster(template, provider="cloud"))
    assert not await first.claims.step_back(await taken(first), "full")
