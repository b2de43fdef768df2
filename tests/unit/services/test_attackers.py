"""Those who try: another project, a reader, a user without a role, a token without a project."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import pytest

from moorage.model.caller import Caller
from moorage.model.cluster import Cluster, ClusterStatus
from moorage.model.errors import Forbidden, NotFound
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.services import (
    NewCluster,
    NewNodeGroup,
    NewRelease,
    NewSize,
    NewTemplate,
    PatchOp,
)
from moorage.store import EVERYTHING
from tests.unit.services.conftest import (
    ADMIN,
    NOBODY,
    OUR_READER,
    OURS,
    THEIRS,
    House,
    caller,
)
from tests.unit.trust.requests import request

CSR = request().decode()
GROW = [PatchOp("replace", "/node_count", 2)]
BOUND = [PatchOp("replace", "/max_node_count", 9)]
WORKERS = "default-worker"
RENAME = [PatchOp("replace", "/name", "pwned")]

Act = Callable[[House, Caller, str], Awaitable[object]]
READS_OF_CLUSTERS: dict[str, Act] = {
    "get": lambda h, c, i: h.clusters.get(c, i),
    "ca": lambda h, c, i: h.certificates.ca(c, i),
    "events": lambda h, c, i: h.services.events.list(c, i, Page()),
    "groups": lambda h, c, i: h.services.nodegroups.list(c, i, Page()),
    "group": lambda h, c, i: h.services.nodegroups.get(c, i, "default-worker"),
}
WRITES_OF_CLUSTERS: dict[str, Act] = {
    "update": lambda h, c, i: h.clusters.update(c, i, GROW),
    "delete": lambda h, c, i: h.clusters.delete(c, i),
    "sign": lambda h, c, i: h.certificates.sign(c, i, CSR),
    "rotate the CA": lambda h, c, i: h.certificates.rotate(c, i),
    "rotate credentials": lambda h, c, i: h.clusters.rotate_credentials(c, i),
    "resize": lambda h, c, i: h.clusters.resize(c, i, NewSize(3)),
    "upgrade": lambda h, c, i: h.clusters.upgrade(c, i, NewRelease("ours-swarm")),
    "add a group": lambda h, c, i: h.services.nodegroups.create(c, i, NewNodeGroup("pwned")),
    "change a group": lambda h, c, i: h.services.nodegroups.update(c, i, WORKERS, BOUND),
    "delete a group": lambda h, c, i: h.services.nodegroups.delete(c, i, WORKERS),
}
READS_OF_TEMPLATES: dict[str, Act] = {"get": lambda h, c, i: h.templates.get(c, i)}
WRITES_OF_TEMPLATES: dict[str, Act] = {
    "update": lambda h, c, i: h.templates.update(c, i, RENAME),
    "delete": lambda h, c, i: h.templates.delete(c, i),
    "use": lambda h, c, i: h.clusters.create(c, NewCluster(i)),
}


@pytest.fixture
async def template(house: House) -> ClusterTemplate:
    return await house.templates.create(OURS, NewTemplate("swarm", "ours-swarm"))


@pytest.fixture
async def cluster(house: House, template: ClusterTemplate) -> Cluster:
    return await house.clusters.create(OURS, NewCluster(template.uuid, "ours-one"))


async def untouched(house: House, cluster: Cluster, template: ClusterTemplate) -> bool:
    same_cluster = await house.store.clusters.get(cluster.uuid, EVERYTHING) == cluster
    return same_cluster and await house.store.templates.get(template.uuid, EVERYTHING) == template


@pytest.mark.parametrize(
    "act", (READS_OF_CLUSTERS | WRITES_OF_CLUSTERS).items(), ids=lambda a: a[0]
)
async def test_another_project_finds_no_cluster_of_ours(
    house: House, template: ClusterTemplate, cluster: Cluster, act: tuple[str, Act]
) -> None:
    strangers = [THEIRS, caller("theirs", "reader", "member"), caller("", "member")]
    for stranger in strangers:
        reasons = []
        for ident in (cluster.uuid, str(uuid.uuid4())):
            with pytest.raises((NotFound, Forbidden)) as caught:
                await act[1](house, stranger, ident)
            reasons.append(caught.value.reason.replace(ident, "…"))
        assert reasons[0] == reasons[1], "what is there must look like what is not"
        if stranger.project_id:
            with pytest.raises(NotFound):
                await act[1](house, stranger, cluster.name)
    assert await untouched(house, cluster, template)


@pytest.mark.parametrize(
    "act", (READS_OF_TEMPLATES | WRITES_OF_TEMPLATES).items(), ids=lambda a: a[0]
)
async def test_another_project_finds_no_template_of_ours(
    house: House, template: ClusterTemplate, cluster: Cluster, act: tuple[str, Act]
) -> None:
    for ident in (template.uuid, template.name or ""):
        with pytest.raises(NotFound):
            await act[1](house, THEIRS, ident)
    assert await house.templates.list(THEIRS, Page()) == []
    assert await house.clusters.list(THEIRS, Page()) == []
    assert await untouched(house, cluster, template)


@pytest.mark.parametrize("act", WRITES_OF_CLUSTERS.items(), ids=lambda a: a[0])
@pytest.mark.parametrize("who", [OUR_READER, NOBODY])
async def test_a_reader_writes_no_cluster_and_signs_nothing(
    house: House, template: ClusterTemplate, cluster: Cluster, act: tuple[str, Act], who: Caller
) -> None:
    with pytest.raises(Forbidden):
        await act[1](house, who, cluster.uuid)
    assert await untouched(house, cluster, template)


@pytest.mark.parametrize("act", WRITES_OF_TEMPLATES.items(), ids=lambda a: a[0])
async def test_a_reader_writes_no_template(
    house: House, template: ClusterTemplate, cluster: Cluster, act: tuple[str, Act]
) -> None:
    with pytest.raises(Forbidden):
        await act[1](house, OUR_READER, template.uuid)
    with pytest.raises(Forbidden):
        await house.templates.create(OUR_READER, NewTemplate("swarm"))
    assert await untouched(house, cluster, template)


async def test_a_reader_reads(house: House, template: ClusterTemplate, cluster: Cluster) -> None:
    assert await house.clusters.get(OUR_READER, cluster.name) == cluster
    assert await house.templates.list(OUR_READER, Page()) == [template]
    assert (await house.certificates.ca(OUR_READER, cluster.uuid)).startswith("-----BEGIN CERT")


async def test_without_a_role_nothing_is_seen(house: House, cluster: Cluster) -> None:
    for act in READS_OF_CLUSTERS.values():
        with pytest.raises(Forbidden):
            await act(house, NOBODY, cluster.uuid)
    with pytest.raises(Forbidden):
        await house.clusters.list(NOBODY, Page())
    with pytest.raises(Forbidden):
        await house.templates.list(NOBODY, Page())


async def test_a_token_without_a_project_owns_nothing(
    house: House, template: ClusterTemplate
) -> None:
    unscoped = caller("", "admin", "member", "reader")
    with pytest.raises(Forbidden, match="not scoped"):
        await house.templates.create(unscoped, NewTemplate("swarm"))
    with pytest.raises(Forbidden, match="not scoped"):
        await house.clusters.create(unscoped, NewCluster(template.uuid))
    with pytest.raises(Forbidden, match="not scoped"):
        await house.clusters.list(unscoped, Page(), all_projects=True)


async def test_only_an_admin_lists_all_projects(
    house: House, template: ClusterTemplate, cluster: Cluster
) -> None:
    for listed in (house.clusters.list, house.templates.list):
        with pytest.raises(Forbidden):
            await listed(OURS, Page(), all_projects=True)
        assert await listed(ADMIN, Page()) == []
    assert await house.clusters.list(ADMIN, Page(), all_projects=True) == [cluster]
    assert await house.templates.list(ADMIN, Page(), all_projects=True) == [template]


async def test_an_admin_reaches_every_project_by_uuid_and_not_by_name(
    house: House, cluster: Cluster
) -> None:
    assert await house.clusters.get(ADMIN, cluster.uuid) == cluster
    with pytest.raises(NotFound):
        await house.clusters.get(ADMIN, cluster.name)
    await house.clusters.delete(ADMIN, cluster.uuid)
    deleted = await house.clusters.get(OURS, cluster.uuid)
    assert deleted.status is ClusterStatus.DELETE_IN_PROGRESS
    assert deleted.project_id == "ours"


@pytest.mark.parametrize("flag", ["public", "hidden"])
async def test_only_an_admin_publishes_and_hides(
    house: House, template: ClusterTemplate, flag: str
) -> None:
    with pytest.raises(Forbidden, match="admin"):
        await house.templates.create(OURS, NewTemplate("swarm", **{flag: True}))  # type: ignore[arg-type]
    patch = [PatchOp("replace", f"/{flag}", True)]
    with pytest.raises(Forbidden, match="admin"):
        await house.templates.update(OURS, template.uuid, patch)
    changed = await house.templates.update(ADMIN, template.uuid, patch)
    assert getattr(changed, flag) is True
    assert changed.project_id == "ours"


@pytest.mark.parametrize("flag", ["public", "hidden"])
async def test_a_publisher_publishes_its_own_and_no_other_s(house: House, flag: str) -> None:
    publisher = caller("ours", "member", "reader", "publisher")
    made = await house.templates.create(
        publisher,
        NewTemplate("swarm", "by-publisher", **{flag: True}),  # type: ignore[arg-type]
    )
    assert getattr(made, flag) is True
    off = [PatchOp("replace", f"/{flag}", "False")]
    with pytest.raises(Forbidden, match="publisher"):
        await house.templates.update(OURS, made.uuid, off)
    changed = await house.templates.update(publisher, made.uuid, off)
    assert getattr(changed, flag) is False
    theirs = await house.templates.create(THEIRS, NewTemplate("swarm", "theirs"))
    on = [PatchOp("replace", f"/{flag}", True)]
    with pytest.raises(NotFound):
        await house.templates.update(publisher, theirs.uuid, on)
    with pytest.raises(Forbidden, match="role member"):
        await house.templates.update(caller("ours", "reader", "publisher"), made.uuid, on)
    with pytest.raises(Forbidden):
        await house.clusters.list(publisher, Page(), all_projects=True)


async def test_a_public_template_is_everyones_to_use_and_its_owners_to_change(
    house: House, template: ClusterTemplate
) -> None:
    await house.templates.update(ADMIN, template.uuid, [PatchOp("replace", "/public", True)])
    made = await house.clusters.create(THEIRS, NewCluster(template.uuid, "one"))
    assert made.project_id == "theirs"
    with pytest.raises(Forbidden, match="another project"):
        await house.templates.update(THEIRS, template.uuid, RENAME)
    with pytest.raises(Forbidden, match="another project"):
        await house.templates.delete(THEIRS, template.uuid)
    with pytest.raises(NotFound):
        await house.clusters.get(OURS, made.uuid)


async def test_a_name_can_not_pretend_to_be_a_uuid(house: House, template: ClusterTemplate) -> None:
    for name in (template.uuid, "abcdefab-0000-4000-8000-000000000000"):
        with pytest.raises(Exception, match=r"form of a uuid|start with a letter"):
            await house.clusters.create(OURS, NewCluster(template.uuid, name))
        with pytest.raises(Exception, match="form of a uuid"):
            await house.templates.create(OURS, NewTemplate("swarm", name))
