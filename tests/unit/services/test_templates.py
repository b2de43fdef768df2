from __future__ import annotations

from typing import Any

import pytest

from moorage.model.errors import Conflict, Invalid, NotFound
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.services import NewCluster, NewTemplate, PatchOp
from tests.unit.services.conftest import ADMIN, OURS, House


@pytest.fixture
async def template(house: House) -> ClusterTemplate:
    return await house.templates.create(
        OURS, NewTemplate("swarm", "swarm", labels={"a": "1"}, options={"image_id": "host"})
    )


async def test_a_new_template(house: House) -> None:
    made = await house.templates.create(
        OURS,
        NewTemplate(
            "swarm",
            labels={"on": True, "size": 3},
            options={"image_id": None, "docker_volume_size": 5, "floating_ip_enabled": True},
        ),
    )
    assert (made.name, made.flavor_id, made.master_flavor_id) == (None, "tiny", "tiny")
    assert made.labels == {"on": "True", "size": "3"}
    assert made.options == {"docker_volume_size": 5, "floating_ip_enabled": True}
    assert await house.templates.get(OURS, made.uuid) == made


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"coe": "nomad"}, "coe"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\x07"}, "name"),
        ({"name": "a" * 256}, "name"),
        ({"flavor_id": "huge"}, "flavor_id"),
        ({"master_flavor_id": "huge"}, "master_flavor_id"),
        ({"labels": {"provider": "moon"}}, "labels"),
        ({"options": {"tls_disabled": True}}, "tls_disabled"),
        ({"options": {"nonsense": "x"}}, "nonsense"),
        ({"options": {"image_id": "x" * 5000}}, "image_id"),
        ({"options": {"apiserver_port": "x"}}, "apiserver_port"),
        ({"options": {"public": True}}, "public"),
    ],
)
async def test_what_breaks_a_rule_is_refused_by_its_field(
    house: House, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await house.templates.create(OURS, NewTemplate(**{"coe": "swarm", **changes}))
    assert caught.value.field == field
    assert await house.templates.list(OURS, Page()) == []


async def test_an_unknown_coe_is_answered_with_the_known_ones(house: House) -> None:
    with pytest.raises(Invalid, match="there is: swarm"):
        await house.templates.create(OURS, NewTemplate("nomad"))


async def test_a_patch_changes_what_it_names(house: House, template: ClusterTemplate) -> None:
    changed = await house.templates.update(
        OURS,
        "swarm",
        [
            PatchOp("add", "/labels/x~1y~0", "z"),
            PatchOp("remove", "/labels/a"),
            PatchOp("replace", "/flavor_id", "small"),
            PatchOp("remove", "/name"),
            PatchOp("remove", "/image_id"),
            PatchOp("add", "/master_lb_enabled", "True"),
            PatchOp("replace", "/docker_volume_size", "7"),
        ],
    )
    assert changed.labels == {"x/y~": "z"}
    assert (changed.flavor_id, changed.name) == ("small", None)
    assert changed.options == {"master_lb_enabled": True, "docker_volume_size": 7}
    assert await house.templates.get(OURS, template.uuid) == changed


async def test_labels_may_come_as_magnumclient_writes_them(
    house: House, template: ClusterTemplate
) -> None:
    patch = [PatchOp("replace", "/labels", "{'b': '2', 'c': 'd=e'}")]
    changed = await house.templates.update(OURS, "swarm", patch)
    assert changed.labels == {"b": "2", "c": "d=e"}


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        (PatchOp("replace", "/uuid", "x"), "uuid"),
        (PatchOp("replace", "/project_id", "theirs"), "project_id"),
        (PatchOp("remove", "/user_id"), "user_id"),
        (PatchOp("replace", "/nonsense", "x"), "nonsense"),
        (PatchOp("remove", "/nonsense"), "nonsense"),
        (PatchOp("remove", "/labels/none"), "labels"),
        (PatchOp("add", "/labels/x", None), "labels"),
        (PatchOp("replace", "/labels"), "labels"),
        (PatchOp("replace", "/flavor_id"), "flavor_id"),
        (PatchOp("add", "/docker_volume_size"), "docker_volume_size"),
        (PatchOp("add", "/docker_volume_size", 0), "docker_volume_size"),
        (PatchOp("replace", "/network_driver", "nope"), "network_driver"),
        (PatchOp("replace", "/server_type", "quantum"), "server_type"),
        (PatchOp("add", "/labels/x", "\x1b[2J"), "labels"),
        (PatchOp("add", "/labels/x\n", "y"), "labels"),
        (PatchOp("add", "/labels/x", {"y": "z"}), "labels"),
        (PatchOp("replace", "/labels", "no dict"), "labels"),
        (PatchOp("replace", "/name/first", "x"), "name"),
        (PatchOp("replace", "/coe", "nomad"), "coe"),
        (PatchOp("remove", "/coe"), "coe"),
        (PatchOp("replace", "/flavor_id", "huge"), "flavor_id"),
        (PatchOp("replace", "/public", "perhaps"), "public"),
        (PatchOp("replace", "/tls_disabled", True), "tls_disabled"),
    ],
)
async def test_a_bad_patch_changes_nothing(
    house: House, template: ClusterTemplate, operation: PatchOp, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await house.templates.update(
            ADMIN, template.uuid, [PatchOp("add", "/labels/fine", "yes"), operation]
        )
    assert caught.value.field == field
    assert await house.templates.get(OURS, template.uuid) == template


async def test_in_use_only_names_and_visibility_change(
    house: House, template: ClusterTemplate
) -> None:
    await house.clusters.create(OURS, NewCluster("swarm"))
    for path, value in (("/labels/a", "2"), ("/flavor_id", "small"), ("/image_id", "x")):
        with pytest.raises(Conflict, match="in use"):
            await house.templates.update(OURS, "swarm", [PatchOp("replace", path, value)])
    with pytest.raises(Conflict, match="in use"):
        await house.templates.delete(OURS, "swarm")
    changed = await house.templates.update(
        ADMIN,
        template.uuid,
        [
            PatchOp("replace", "/name", "renamed"),
            PatchOp("replace", "/public", True),
            PatchOp("replace", "/tags", "a,b"),
        ],
    )
    assert (changed.name, changed.public, changed.options["tags"]) == ("renamed", True, "a,b")


async def test_deleting_a_template(house: House, template: ClusterTemplate) -> None:
    await house.templates.delete(OURS, "swarm")
    with pytest.raises(NotFound):
        await house.templates.delete(OURS, "swarm")
