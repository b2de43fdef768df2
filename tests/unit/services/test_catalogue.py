from __future__ import annotations

from typing import Any

import pytest

from moorage.model.errors import Conflict, Forbidden, Invalid, NoRoom, NotFound
from moorage.services import Catalogue, NewCluster, NewOffer, NewSize, NewTemplate, open_services
from tests.unit.services.conftest import (
    ADMIN,
    NOBODY,
    OUR_READER,
    OURS,
    TINY,
    House,
    PaperDriver,
    SmallProvider,
    caller,
)

HUGE = NewOffer("flavor", "huge", detail={"vcpus": 8, "memory_mib": 9000, "disk_gib": "9"})


@pytest.mark.parametrize(
    ("options", "field", "said"),
    [
        ({"image_id": "beos"}, "image_id", "no image 'beos'; provider local has: host"),
        ({"keypair_id": "mine"}, "keypair_id", "no key pair 'mine'; provider local has: default"),
        ({"external_network_id": "x"}, "external_network_id", "has: private, public"),
        ({"fixed_network": "x"}, "fixed_network", "has: private, public"),
        ({"fixed_subnet": "x"}, "fixed_subnet", "has: private-subnet"),
    ],
)
async def test_what_is_not_there_is_refused_with_what_is(
    house: House, options: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        await house.templates.create(OURS, NewTemplate("swarm", "t", options=options))
    assert caught.value.field == field
    await house.services.catalogue.add(
        ADMIN, NewOffer(str(_kind(field)), str(next(iter(options.values()))))
    )
    await house.templates.create(OURS, NewTemplate("swarm", "t", options=options))


def _kind(field: str) -> str:
    kinds = {"image_id": "image", "keypair_id": "keypair", "fixed_subnet": "subnet"}
    return kinds.get(field, "network")


async def test_a_flavor_of_the_admin_s_own(house: House) -> None:
    catalogue = house.services.catalogue
    made = await catalogue.add(ADMIN, HUGE)
    assert made.detail == {"vcpus": 8, "memory_mib": 9000, "disk_gib": 9, "pids": 4096}
    assert made in await catalogue.list(OUR_READER, "flavor", "local")
    with pytest.raises(Conflict):
        await catalogue.add(ADMIN, HUGE)
    await house.templates.create(OURS, NewTemplate("swarm", "t"))
    one = await house.clusters.create(OURS, NewCluster("t", "one", flavor_id="huge"))
    await catalogue.remove(ADMIN, "flavor", "huge", None)
    with pytest.raises(Invalid, match="no flavor 'huge'"):
        await house.clusters.create(OURS, NewCluster("t", "two", flavor_id="huge"))
    grown = await house.clusters.resize(OURS, one.uuid, NewSize(2))
    assert grown.default_worker.flavor.memory_mib == 9000
    with pytest.raises(NotFound):
        await catalogue.remove(ADMIN, "flavor", "huge", None)


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (NewOffer("bicycle", "x"), "kind"),
        (NewOffer("image", " "), "name"),
        (NewOffer("image", "x", provider="moon"), "provider"),
        (NewOffer("image", "x", detail={"size": 1}), "detail"),
        (NewOffer("flavor", "x"), "vcpus"),
        (NewOffer("flavor", "x", detail={"vcpus": 0}), "vcpus"),
        (NewOffer("flavor", "x", detail={"vcpus": 1, "memory_mib": "much"}), "memory_mib"),
        (NewOffer("flavor", "x", detail={"colour": 1}), "colour"),
    ],
)
async def test_bad_offers(house: House, new: NewOffer, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await house.services.catalogue.add(ADMIN, new)
    assert caught.value.field == field


async def test_only_admins_change_it_and_what_is_built_in_stays(house: House) -> None:
    catalogue = house.services.catalogue
    for attack in (
        catalogue.add(OURS, HUGE),
        catalogue.remove(OURS, "flavor", "tiny", None),
    ):
        with pytest.raises(Forbidden):
            await attack
    for builtin in (
        catalogue.add(ADMIN, NewOffer("flavor", "tiny", detail=HUGE.detail)),
        catalogue.remove(ADMIN, "flavor", "tiny", None),
    ):
        with pytest.raises(Conflict):
            await builtin
    for nobody in (NOBODY, caller("", "admin")):
        with pytest.raises(Forbidden):
            await catalogue.list(nobody, None, None)


@pytest.mark.parametrize(
    ("kind", "name", "provider", "field"),
    [
        ("bicycle", "x", None, "kind"),
        ("image", "x\0", None, "name"),
        ("image", "\ud800", None, "name"),
        ("image", "x" * 256, None, "name"),
    ],
)
async def test_what_could_not_be_added_can_not_be_removed(
    house: House, kind: str, name: str, provider: str | None, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await house.services.catalogue.remove(ADMIN, kind, name, provider)
    assert caught.value.field == field


async def test_lists_are_by_kind_and_provider(house: House) -> None:
    catalogue = house.services.catalogue
    await catalogue.add(ADMIN, NewOffer("image", "other", "small"))
    there = [offer.name for offer in await catalogue.list(OURS, "image", None)]
    assert there == ["host", "host", "other"]
    assert [o.name for o in await catalogue.list(OURS, "image", "local")] == ["host"]
    for kind, provider, field in (("bicycle", None, "kind"), (None, "moon", "provider")):
        with pytest.raises(Invalid) as caught:
            await catalogue.list(OURS, kind, provider)
        assert caught.value.field == field
    with pytest.raises(Invalid, match="provider local has: host"):
        await house.templates.create(OURS, NewTemplate("swarm", "t", options={"image_id": "other"}))


class BoundProvider(SmallProvider):
    home = "api-host/one"


@pytest.mark.parametrize(
    ("provider", "conducting", "refused"),
    [
        (BoundProvider(), False, False),
        (BoundProvider(), True, True),
        (SmallProvider(), False, True),
    ],
)
async def test_an_api_alone_asks_no_machine_for_room(
    house: House, provider: SmallProvider, conducting: bool, refused: bool
) -> None:
    """It would be told of its own machine, or of what was promised when it started."""
    catalogue = Catalogue(
        [TINY],
        {"swarm": PaperDriver()},
        {"small": provider},
        "small",
        house.store.offers,
        conducting=conducting,
    )
    services = open_services(house.store, catalogue, {})
    provider.left = 0
    await services.templates.create(OURS, NewTemplate("swarm", "t", flavor_id="tiny"))
    asked = services.clusters.create(OURS, NewCluster("t", "one", master_flavor_id="tiny"))
    if refused:
        with pytest.raises(NoRoom):
            await asked
    else:
        assert (await asked).status == "CREATE_IN_PROGRESS"
        assert provider.asked == []


async def test_labels_without_effect_are_kept_and_reported(house: House) -> None:
    labels = {"provider": "local", "kube_tag": "v1"}
    await house.templates.create(OURS, NewTemplate("swarm", "t", labels=labels))
    made = await house.clusters.create(OURS, NewCluster("t", "one"))
    assert made.labels == labels
    assert "Labels that are kept without effect: kube_tag." in (await house.events(made.uuid))[0]
