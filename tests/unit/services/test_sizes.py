"""Flavors that are too small for what a COE runs on a node: refused before anything is made."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from moorage.model.cluster import Cluster
from moorage.model.errors import Invalid
from moorage.model.node import Least, Role
from moorage.planning.groups import gone_back
from moorage.services import Catalogue, open_services
from moorage.services.clusters import utc_now
from moorage.services.requests import (
    NewCluster,
    NewNodeGroup,
    NewOffer,
    NewRelease,
    NewSize,
    NewTemplate,
    PatchOp,
)
from moorage.store import Store
from moorage.trust.seal import Seal
from tests.unit.services.conftest import (
    ADMIN,
    OURS,
    QUOTAS,
    SMALL,
    TINY,
    House,
    PaperDriver,
    PaperProvider,
    SmallProvider,
)

MICRO = dataclasses.replace(TINY, name="micro", memory_mib=256)
FEW = dataclasses.replace(SMALL, name="few", pids=9)


class Hungry(PaperDriver):
    """A master takes 900 MiB, or 500 with a label; a worker 300."""

    coe: ClassVar[str] = "hungry"

    def __init__(self) -> None:
        self.worker = 300

    def least(self, role: Role, labels: Mapping[str, str]) -> Least:
        if role is Role.WORKER:
            return Least(self.worker, 10)
        return Least(500 if "lean" in labels else 900, 10)


@pytest.fixture
def driver() -> Hungry:
    return Hungry()


@pytest.fixture
async def house(tmp_path: Path, driver: Hungry) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path / 'moorage.db'}", Seal([b"k" * 32]))
    catalogue = Catalogue(
        [MICRO, TINY, FEW, SMALL],
        {"hungry": driver, "swarm": PaperDriver()},
        {"local": PaperProvider()},
        "local",
        store.offers,
    )
    yield House(store, SmallProvider(), open_services(store, catalogue, QUOTAS))
    await store.close()


@pytest.fixture
async def cluster(house: House) -> Cluster:
    await house.templates.create(OURS, NewTemplate("hungry", "t"))
    return await house.clusters.create(OURS, NewCluster("t", "web", node_count=2))


def refusal(caught: pytest.ExceptionInfo[Invalid]) -> tuple[str, str]:
    return caught.value.field, caught.value.reason


MASTER = (
    "master_flavor_id",
    "A hungry master takes 900 MiB of memory and 10 processes, and flavor tiny has 512 MiB and "
    "100: choose one of small.",
)
WORKER = (
    "flavor_id",
    "A hungry worker takes 300 MiB of memory and 10 processes, and flavor micro has 256 MiB and "
    "100: choose one of tiny, small.",
)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"master_flavor_id": "tiny"}, MASTER),
        ({"flavor_id": "micro"}, WORKER),
        ({"flavor_id": "micro", "master_flavor_id": "small"}, WORKER),
    ],
)
async def test_a_template_and_a_cluster_are_told_what_is_needed_and_what_will_do(
    house: House, cluster: Cluster, fields: dict[str, Any], told: tuple[str, str]
) -> None:
    with pytest.raises(Invalid) as caught:
        await house.templates.create(OURS, NewTemplate("hungry", **fields))
    assert refusal(caught) == told
    with pytest.raises(Invalid) as caught:
        await house.templates.update(
            OURS,
            (await house.templates.create(OURS, NewTemplate("hungry"))).uuid,
            [PatchOp("replace", f"/{name}", value) for name, value in fields.items()],
        )
    assert refusal(caught) == told
    with pytest.raises(Invalid) as caught:
        await house.clusters.create(OURS, NewCluster("t", **fields))
    assert refusal(caught) == told


async def test_processes_count_as_well(house: House) -> None:
    with pytest.raises(
        Invalid, match="and 10 processes, and flavor few has 1024 MiB and 9: choose"
    ):
        await house.templates.create(OURS, NewTemplate("hungry", flavor_id="few"))


async def test_who_names_no_flavor_gets_the_first_that_will_do(house: House) -> None:
    async def made(coe: str, **fields: Any) -> tuple[str, str]:
        template = await house.templates.create(OURS, NewTemplate(coe, **fields))
        return template.flavor_id, template.master_flavor_id

    assert await made("hungry") == ("tiny", "small")
    assert await made("hungry", labels={"lean": "yes"}) == ("tiny", "tiny")
    assert await made("hungry", flavor_id="small") == ("small", "small")
    assert await made("hungry", flavor_id="tiny") == ("tiny", "small")
    assert await made("swarm") == ("micro", "micro")


async def test_a_flavor_that_is_taken_off_a_template_is_chosen_anew(house: House) -> None:
    made = await house.templates.create(OURS, NewTemplate("hungry", flavor_id="small"))
    patch = [PatchOp("remove", "/flavor_id"), PatchOp("remove", "/master_flavor_id")]
    after = await house.templates.update(OURS, made.uuid, patch)
    assert (after.flavor_id, after.master_flavor_id) == ("tiny", "small")
    with pytest.raises(Invalid, match="must name a flavor"):
        await house.templates.update(OURS, made.uuid, [PatchOp("replace", "/flavor_id", "")])


async def test_what_labels_a_cluster_has_decides(house: House) -> None:
    labels = {"lean": "yes"}
    await house.templates.create(OURS, NewTemplate("hungry", "lean", "tiny", labels=labels))
    await house.clusters.create(OURS, NewCluster("lean", "one"))
    with pytest.raises(Invalid) as caught:
        await house.clusters.create(OURS, NewCluster("lean", "two", labels={"other": "x"}))
    assert refusal(caught) == MASTER


async def test_node_groups_and_upgrades(house: House, cluster: Cluster) -> None:
    with pytest.raises(Invalid) as caught:
        await house.services.nodegroups.create(
            OURS, "web", NewNodeGroup("more", flavor_id="micro", node_count=1)
        )
    assert refusal(caught) == WORKER
    offer = NewOffer("flavor", "odd", detail={"vcpus": 1, "memory_mib": 320, "disk_gib": 1})
    await house.catalogue.add(ADMIN, offer)
    await house.templates.create(OURS, NewTemplate("hungry", "odd", "odd", "small"))
    await house.catalogue.remove(ADMIN, "flavor", "odd", None)
    await house.catalogue.add(
        ADMIN, dataclasses.replace(offer, detail={**offer.detail, "memory_mib": 9})
    )
    with pytest.raises(Invalid, match="flavor odd has 9 MiB and 4096: choose one of tiny, small"):
        await house.clusters.upgrade(OURS, "web", NewRelease("odd"))


async def test_what_is_there_already_stays_and_goes_but_does_not_grow(
    house: House, cluster: Cluster, driver: Hungry
) -> None:
    """As nodes from before the driver knew what they take."""
    driver.worker = 700
    smaller = await house.clusters.resize(OURS, "web", NewSize(1))
    assert smaller.default_worker.node_count == 1
    await house.clusters.rotate_credentials(OURS, "web")
    for size in (NewSize(2), NewSize(1, nodes_to_remove=["worker-0"])):
        with pytest.raises(
            Invalid, match=r"700 MiB of memory .* flavor tiny .* choose one of small"
        ):
            await house.clusters.resize(OURS, "web", size)
    await house.services.nodegroups.create(OURS, "web", NewNodeGroup("empty", node_count=0))
    await house.clusters.delete(OURS, "web")


async def test_an_upgrade_that_does_not_come_through_can_be_taken_back(
    house: House, cluster: Cluster, driver: Hungry
) -> None:
    """To a flavor that is too small by now, for its nodes have it still; but no further."""
    await house.templates.create(OURS, NewTemplate("hungry", "small", "small", "small"))
    await house.templates.create(OURS, NewTemplate("hungry", "other", "tiny", "small"))
    driver.worker = 700
    await house.clusters.upgrade(OURS, "web", NewRelease("small"))
    with pytest.raises(Invalid, match="flavor tiny has 512 MiB"):
        await house.clusters.upgrade(OURS, "web", NewRelease("other"))
    back = await house.clusters.upgrade(OURS, "web", NewRelease("t"))
    assert (back.default_worker.flavor, back.default_worker.former_uuid) == (TINY, None)
    with pytest.raises(Invalid, match="flavor tiny has 512 MiB"):
        await house.clusters.resize(OURS, "web", NewSize(3))


async def test_a_change_with_a_way_back_is_taken_back(
    house: House, cluster: Cluster, driver: Hungry
) -> None:
    """The conductor wants again what was wanted before, whatever that is too small for by now."""
    driver.worker = 700
    fewer = PatchOp("replace", "/node_count", 1)
    after = await house.clusters.update(OURS, "web", [fewer], rollback=True)
    back = gone_back(after, utc_now())
    assert (back.default_worker.node_count, back.default_worker.flavor) == (2, TINY)


async def test_without_a_large_enough_one_an_admin_is_named(house: House, driver: Hungry) -> None:
    driver.worker = 9000
    with pytest.raises(Invalid, match="an admin has to add a larger one"):
        await house.templates.create(OURS, NewTemplate("hungry"))
