from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.model.errors import Invalid
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Scope, Store
from moorage.store.clusters import SORT_KEYS as CLUSTER_KEYS
from moorage.store.templates import SORT_KEYS
from moorage.trust.seal import Seal
from tests.unit.store.conftest import a_template

OURS = Scope("ours")


async def walked(store: Store, limit: int, key: str, direction: str) -> list[ClusterTemplate]:
    found: list[ClusterTemplate] = []
    marker = None
    while page := await store.templates.list(OURS, Page(limit, marker, key, direction)):
        assert len(page) <= limit
        found += page
        marker = page[-1].uuid
    return found


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(st.sampled_from([None, "", "a", "A", "b", "ä", "a" * 60]), max_size=12),
    limit=st.integers(1, 5),
    direction=st.sampled_from(["asc", "desc"]),
)
def test_pages_hold_every_row_exactly_once(
    url: str, seal: Seal, names: list[str | None], limit: int, direction: str
) -> None:
    async def scenario() -> None:
        store = await Store.open(url, seal)
        try:
            for left in await store.templates.list(EVERYTHING, Page()):
                await store.templates.remove(left.uuid)
            added = [await store.templates.add(a_template(name=name)) for name in names]
            await store.templates.add(a_template(project_id="theirs"))
            for key in sorted(SORT_KEYS):
                found = await walked(store, limit, key, direction)
                assert sorted(t.id for t in found) == [t.id for t in added], key
            by_name = await walked(store, limit, "name", direction)
            assert by_name == sorted(
                by_name, key=lambda t: (t.name or "", t.id), reverse=direction == "desc"
            )
        finally:
            await store.close()

    asyncio.run(scenario())


async def test_every_sort_key_of_clusters_is_a_column(store: Store) -> None:
    for key in CLUSTER_KEYS:
        assert await store.clusters.list(OURS, Page(sort_key=key)) == []


@pytest.mark.parametrize("key", ["nothing", "ca_key", "token", "labels", "id; DROP TABLE clusters"])
async def test_what_is_no_sort_key_is_refused(store: Store, key: str) -> None:
    for listed in (store.templates.list, store.clusters.list):
        with pytest.raises(Invalid) as caught:
            await listed(OURS, Page(sort_key=key))
        assert caught.value.field == "sort_key"


async def test_a_marker_of_another_project_is_unknown(store: Store) -> None:
    theirs = await store.templates.add(a_template(project_id="theirs"))
    for marker in (theirs.uuid, "nothing", "no\0marker"):
        with pytest.raises(Invalid) as caught:
            await store.templates.list(OURS, Page(marker=marker))
        assert caught.value.field == "marker"


@pytest.mark.parametrize(
    ("page", "field"), [({"limit": 0}, "limit"), ({"sort_dir": "up"}, "sort_dir")]
)
def test_a_page_that_is_none(page: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        Page(**page)  # type: ignore[arg-type]
    assert caught.value.field == field


async def test_after_the_last_row_there_is_an_empty_page(store: Store) -> None:
    ours = await store.templates.add(a_template())
    assert await store.templates.list(OURS, Page(marker=ours.uuid)) == []
