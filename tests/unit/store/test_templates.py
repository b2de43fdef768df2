from __future__ import annotations

import asyncio
import dataclasses

import pytest

from moorage.model.errors import Conflict, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Scope, Store
from tests import made
from tests.unit.store.conftest import a_cluster, a_template, added

OURS, THEIRS = Scope("ours"), Scope("theirs")


async def test_a_template_comes_back_as_it_was_stored(store: Store) -> None:
    template = a_template(labels={"k": "v"}, options={"apiserver_port": 2376, "tls": False})
    stored = await store.templates.add(template)
    assert stored == dataclasses.replace(template, id=stored.id, created_at=stored.created_at)
    assert await store.templates.get(template.uuid, OURS) == stored
    assert await store.templates.get("swarm", OURS) == stored


@pytest.mark.parametrize(
    ("public", "hidden", "listed"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
async def test_who_sees_a_template(store: Store, public: bool, hidden: bool, listed: bool) -> None:
    """Hidden ones stay in use: who knows one, as by a cluster made from it, gets it."""
    template = await store.templates.add(a_template(public=public, hidden=hidden))
    for ident in (template.uuid, "swarm"):
        if public:
            assert await store.templates.get(ident, THEIRS) == template
        else:
            with pytest.raises(NotFound):
                await store.templates.get(ident, THEIRS)
    assert await store.templates.list(THEIRS, Page()) == ([template] if listed else [])
    assert await store.templates.list(OURS, Page()) == [template]
    assert await store.templates.get(template.uuid, EVERYTHING) == template


async def test_a_project_has_so_many_and_no_more(store: Store) -> None:
    """Also where they are asked for at the same instant; another project's don't count."""
    await store.templates.add(a_template(project_id="theirs"), 5)
    asked = (store.templates.add(a_template(name=f"t{number}"), 5) for number in range(8))
    came = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in came if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [QuotaExceeded] * 3
    assert "quota of 5 cluster templates is used up: delete one first" in str(refused[0])
    made = await store.templates.list(OURS, Page())
    assert len(made) == 5
    await store.templates.remove(made[0].uuid)
    await store.templates.add(a_template(), 5)
    await store.templates.add(a_template())
    with pytest.raises(QuotaExceeded):
        await store.templates.add(a_template(project_id="new"), 0)


async def test_a_name_that_fits_several_asks_for_the_uuid(store: Store) -> None:
    await store.templates.add(a_template())
    await store.templates.add(a_template())
    with pytest.raises(Conflict, match="uuid"):
        await store.templates.get("swarm", OURS)


async def test_an_edit_knows_whether_clusters_use_the_template(
    store: Store, template: ClusterTemplate
) -> None:
    def edit(before: ClusterTemplate, in_use: bool) -> ClusterTemplate:
        labels = {"used": str(in_use)}
        return dataclasses.replace(before, name="new", project_id="theirs", labels=labels)

    changed = await store.templates.change(template.uuid, edit)
    assert (changed.project_id, changed.name) == ("ours", "new")
    assert changed.labels == {"used": "False"}
    assert changed.updated_at is not None
    assert await store.templates.change(template.uuid, edit) == changed
    await added(store, a_cluster(template))
    again = await store.templates.change(template.uuid, edit)
    assert again.labels == {"used": "True"}
    assert await store.templates.get(template.uuid, OURS) == again


@pytest.mark.parametrize("place", ["of", "former", "back"])
async def test_a_template_that_only_a_group_needs_is_in_use(
    store: Store, template: ClusterTemplate, place: str
) -> None:
    other = await store.templates.add(a_template(name="other"))
    cluster = a_cluster(template)
    match place:
        case "of":
            more = made.group("gpu", template_uuid=other.uuid)
            cluster = dataclasses.replace(cluster, groups=(*cluster.groups, more))
        case "former":
            former = tuple(
                dataclasses.replace(group, former_uuid=other.uuid) for group in cluster.groups
            )
            cluster = dataclasses.replace(cluster, groups=former)
        case _:
            back = made.groups(1, 1, template_uuid=other.uuid)
            cluster = dataclasses.replace(cluster, fallback=back)
    await added(store, cluster)
    with pytest.raises(Conflict, match="in use"):
        await store.templates.remove(other.uuid)


async def test_a_template_in_use_stays(store: Store, template: ClusterTemplate) -> None:
    await added(store, a_cluster(template))
    with pytest.raises(Conflict, match="in use"):
        await store.templates.remove(template.uuid)


async def test_what_is_gone_is_not_found(store: Store, template: ClusterTemplate) -> None:
    await store.templates.remove(template.uuid)
    with pytest.raises(NotFound):
        await store.templates.remove(template.uuid)
    with pytest.raises(NotFound):
        await store.templates.change(template.uuid, lambda before, _: before)


@pytest.mark.parametrize("ident", ["no\0name", "x" * 36, "", "%", "' OR 1=1 --", "\N{SNOWMAN}"])
async def test_a_name_that_nobody_has_is_not_found(
    store: Store, template: ClusterTemplate, ident: str
) -> None:
    with pytest.raises(NotFound):
        await store.templates.get(ident, OURS)


async def test_a_name_as_long_as_a_uuid_is_found(store: Store) -> None:
    template = await store.templates.add(a_template(name="n" * 36))
    assert await store.templates.get("n" * 36, OURS) == template


async def test_options_come_back_as_json_has_them(store: Store) -> None:
    odd = {"big": 10**30, "half": "\ud800", "none": None, "list": [1, 2.5, "x", {}], "zero": "\0"}
    template = await store.templates.add(a_template(options=odd))
    assert (await store.templates.get(template.uuid, OURS)).options == odd


async def test_the_labels_of_several(store: Store, template: ClusterTemplate) -> None:
    other = await store.templates.add(a_template(labels={"x": "y"}))
    found = await store.templates.labels([template.uuid, other.uuid, "nothing"])
    assert found == {template.uuid: {"a": "b"}, other.uuid: {"x": "y"}}
    assert await store.templates.labels([]) == {}
