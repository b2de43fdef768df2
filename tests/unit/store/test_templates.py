from __future__ import annotations

import dataclasses

import pytest

from moorage.model.errors import Conflict, NotFound
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Scope, Store
from tests.unit.store.conftest import CA, PLENTY, a_cluster, a_template

OURS, THEIRS = Scope("ours"), Scope("theirs")


async def test_a_template_comes_back_as_it_was_stored(store: Store) -> None:
    template = a_template(labels={"k": "v"}, options={"apiserver_port": 2376, "tls": False})
    stored = await store.templates.add(template)
    assert stored == dataclasses.replace(template, id=stored.id, created_at=stored.created_at)
    assert await store.templates.get(template.uuid, OURS) == stored
    assert await store.templates.get("swarm", OURS) == stored


@pytest.mark.parametrize(
    ("public", "hidden", "seen"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
async def test_who_sees_a_template(store: Store, public: bool, hidden: bool, seen: bool) -> None:
    template = await store.templates.add(a_template(public=public, hidden=hidden))
    for ident in (template.uuid, "swarm"):
        if seen:
            assert await store.templates.get(ident, THEIRS) == template
        else:
            with pytest.raises(NotFound):
                await store.templates.get(ident, THEIRS)
    assert await store.templates.list(THEIRS, Page()) == ([template] if seen else [])
    assert await store.templates.list(OURS, Page()) == [template]
    assert await store.templates.get(template.uuid, EVERYTHING) == template


async def test_a_name_that_fits_several_asks_for_the_uuid(store: Store) -> None:
    await store.templates.add(a_template())
    await store.templates.add(a_template())
    with pytest.raises(Conflict, match="uuid"):
        await store.templates.get("swarm", OURS)


async def test_an_edit_knows_whether_clusters_use_the_template(
    store: Store, template: ClusterTemplate
) -> None:
    seen = []

    def edit(before: ClusterTemplate, in_use: bool) -> ClusterTemplate:
        seen.append(in_use)
        return dataclasses.replace(before, name="new", project_id="theirs", labels={"x": "y"})

    changed = await store.templates.change(template.uuid, edit)
    await store.clusters.add(a_cluster(template), CA, PLENTY)
    assert await store.templates.change(template.uuid, edit) == changed
    assert seen == [False, True]
    assert await store.templates.get(template.uuid, OURS) == changed
    assert (changed.project_id, changed.name, changed.labels) == ("ours", "new", {"x": "y"})
    assert changed.updated_at is not None


async def test_a_template_in_use_stays(store: Store, template: ClusterTemplate) -> None:
    await store.clusters.add(a_cluster(template), CA, PLENTY)
    with pytest.raises(Conflict, match="in use"):
        await store.templates.remove(template.uuid)


async def test_what_is_gone_is_not_found(store: Store, template: ClusterTemplate) -> None:
    await store.templates.remove(template.uuid)
    with pytest.raises(NotFound):
        await store.templates.remove(template.uuid)
    with pytest.raises(NotFound):
        await store.templates.change(template.uuid, lambda before, _: before)
