"""What the services do otherwise for Kubernetes: labels that mean something, and rights by role."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509

from moorage.model.cluster import Cluster
from moorage.model.errors import Forbidden, Invalid
from moorage.services import Catalogue, open_services
from moorage.services.requests import NewCluster, NewRelease, NewTemplate, PatchOp
from moorage.store import Store
from moorage.trust.authority import subject_of
from moorage.trust.seal import Seal
from tests.unit.services.conftest import (
    ADMIN,
    NOBODY,
    OUR_READER,
    OURS,
    QUOTAS,
    SMALL,
    TINY,
    House,
    PaperDriver,
    PaperProvider,
    SmallProvider,
)
from tests.unit.trust.requests import request

ALLOWED = {IPv4Network("10.64.0.0/12")}


class Released(PaperDriver):
    """Has 1.20 to 1.22, and goes one step at a time."""

    coe: ClassVar[str] = "kubernetes"
    labels: ClassVar[frozenset[str]] = frozenset({"kube_tag"})
    there = frozenset({"v1.20.0", "v1.21.0", "v1.22.0"})

    def checked(
        self,
        labels: Mapping[str, str],
        former: Mapping[str, str] | None = None,
        runs: str = "",
        nodes: Iterable[IPv4Network] = (),
    ) -> Mapping[str, str]:
        if former is None and (refused := set(nodes) - ALLOWED):
            raise Invalid(f"not with nodes in {refused}", field="labels")
        self.check(labels)
        asked = labels.get("kube_tag", "v1.22.0")
        had = runs or (former or {}).get("kube_tag", asked)
        if not 0 <= int(asked[3:5]) - int(had[3:5]) <= 1:
            raise Invalid("one at a time", field="labels")
        return {**labels, "kube_tag": asked}

    def check(self, labels: Mapping[str, str], *_: object) -> None:
        asked = labels.get("kube_tag", "v1.22.0")
        if asked not in self.there:
            raise Invalid(f"There is no release {asked}.", field="labels")


class Addressed(PaperProvider):
    """Has a pool of addresses."""

    addresses: Sequence[IPv4Network] = (IPv4Network("10.64.0.0/12"),)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path / 'moorage.db'}", Seal([b"k" * 32]))
    catalogue = Catalogue(
        [TINY, SMALL],
        {"kubernetes": Released()},
        {"local": Addressed(), "nowhere": PaperProvider()},
        "local",
        store.offers,
    )
    yield House(store, SmallProvider(), open_services(store, catalogue, QUOTAS))
    await store.close()


async def template(house: House, name: str, **labels: str) -> None:
    await house.templates.create(
        OURS, NewTemplate(name=name, coe="kubernetes", flavor_id="tiny", labels=labels)
    )


async def made(house: House, **labels: str) -> Cluster:
    await template(house, "k8s", **labels)
    return await house.clusters.create(OURS, NewCluster(template="k8s", name="web", node_count=1))


async def test_a_cluster_keeps_the_release_that_it_was_made_with(house: House) -> None:
    cluster = await made(house)
    assert cluster.labels == {"kube_tag": "v1.22.0"}
    assert "without effect" not in "".join(await house.events(cluster.uuid))


async def test_a_release_that_is_not_there_is_refused_in_a_template_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Invalid, match="no release v9") as refused:
        await template(house, "k8s", kube_tag="v9")
    assert refused.value.field == "labels"
    await template(house, "k8s", kube_tag="v1.21.0")
    for path in ("/labels", "/labels/kube_tag"):
        value: object = {"kube_tag": "v9"} if path == "/labels" else "v9"
        with pytest.raises(Invalid, match="no release v9"):
            await house.templates.update(OURS, "k8s", [PatchOp("replace", path, value)])
    new = NewCluster(template="k8s", name="web", labels={"kube_tag": "v9"})
    with pytest.raises(Invalid, match="no release v9"):
        await house.clusters.create(OURS, new)
    # One that an operator has taken away since: the template stays, and can be mended.
    monkeypatch.setattr(Released, "there", frozenset({"v1.22.0"}))
    with pytest.raises(Invalid, match=r"no release v1.21.0"):
        await house.clusters.create(OURS, NewCluster(template="k8s", name="web"))
    await house.templates.update(OURS, "k8s", [PatchOp("replace", "/name", "kept")])
    await house.templates.update(OURS, "kept", [PatchOp("remove", "/labels/kube_tag")])
    await house.clusters.create(OURS, NewCluster(template="kept", name="web"))


async def test_a_driver_is_told_where_its_nodes_addresses_come_from(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a new cluster; one that is there keeps what it has."""
    await made(house, kube_tag="v1.20.0")
    await template(house, "next", kube_tag="v1.21.0")
    await template(house, "elsewhere", provider="nowhere")
    monkeypatch.setattr(Addressed, "addresses", (IPv4Network("10.254.0.0/20"),))
    with pytest.raises(Invalid, match=r"not with nodes in .*10\.254\.0\.0/20"):
        await house.clusters.create(OURS, NewCluster(template="k8s", name="other"))
    await house.clusters.create(OURS, NewCluster(template="elsewhere", name="far"))
    await house.clusters.upgrade(OURS, "web", NewRelease(template="next"))


async def test_an_upgrade_takes_the_template_s_release_one_step_at_a_time(house: House) -> None:
    cluster = await made(house, kube_tag="v1.20.0")
    await template(house, "next", kube_tag="v1.21.0")
    await template(house, "far", kube_tag="v1.22.0")
    with pytest.raises(Invalid, match="one at a time"):
        await house.clusters.upgrade(OURS, "web", NewRelease(template="far"))
    after = await house.clusters.upgrade(OURS, "web", NewRelease(template="next"))
    assert after.labels == {"kube_tag": "v1.21.0"}
    # What its masters run still is no way back.
    back = await house.settle(cluster.uuid, "UPDATE_FAILED", coe_version="v1.20.0")
    assert back.labels["kube_tag"] == "v1.21.0"
    after = await house.clusters.upgrade(OURS, "web", NewRelease(template="k8s"))
    assert after.labels == {"kube_tag": "v1.20.0"}


async def test_a_certificate_is_for_what_its_owner_s_role_may_do(house: House) -> None:
    await made(house)
    asked = request().decode()
    for caller, group in ((OURS, "moorage:members"), (OUR_READER, "moorage:readers")):
        signed = await house.certificates.sign(caller, "web", asked)
        assert subject_of(signed.encode()) == f"O={group},CN={caller.user_id}"
    with pytest.raises(Forbidden):
        await house.certificates.sign(NOBODY, "web", asked)
    admin = dataclasses.replace(ADMIN, project_id="ours")
    signed = await house.certificates.sign(admin, "web", asked)
    assert "moorage:members" in subject_of(signed.encode())
    ca = x509.load_pem_x509_certificate((await house.certificates.ca(OURS, "web")).encode())
    x509.load_pem_x509_certificate(signed.encode()).verify_directly_issued_by(ca)


async def test_nobody_is_given_a_name_of_kubernetes_own(house: House) -> None:
    await made(house)
    named = dataclasses.replace(OURS, user_id="system:kube-controller-manager")
    with pytest.raises(Forbidden, match="own programs"):
        await house.certificates.sign(named, "web", request().decode())


async def test_every_cluster_has_a_secret(house: House) -> None:
    cluster = await made(house)
    kept = (await house.store.clusters.ca(cluster.uuid)).secret
    assert kept is not None
    assert len(kept) == 32
