from __future__ import annotations

import asyncio
import dataclasses
import datetime
from typing import Any

import pytest
from cryptography import x509

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus
from moorage.model.errors import Conflict, Invalid, NoRoom, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.services import LabelDifferences, NewCluster, NewTemplate, PatchOp
from moorage.store import Claim
from tests.unit.services.conftest import OURS, House
from tests.unit.trust.requests import request


@pytest.fixture
async def template(house: House) -> ClusterTemplate:
    return await house.templates.create(
        OURS, NewTemplate("swarm", "swarm", "tiny", "small", {"a": "1", "b": "2"})
    )


@pytest.fixture
async def cluster(house: House, template: ClusterTemplate) -> Cluster:
    return await house.clusters.create(OURS, NewCluster("swarm", "one", node_count=2))


async def claimed(house: House) -> Claim:
    claim = await house.store.claims.take("w", 30)
    assert claim is not None
    return claim


def node_count(value: object, op: str = "replace") -> list[PatchOp]:
    return [PatchOp(op, "/node_count", value)]


async def test_a_new_cluster_takes_from_its_template_what_was_not_given(
    house: House, template: ClusterTemplate
) -> None:
    before = datetime.datetime.now(datetime.UTC)
    made = await house.clusters.create(OURS, NewCluster("swarm", options={"keypair": "default"}))
    assert made.name.startswith("swarm-")
    assert (made.project_id, made.user_id) == ("ours", "user")
    assert (made.template_uuid, made.coe, made.provider) == (template.uuid, "swarm", "local")
    assert (made.flavor_id, made.master_flavor_id) == ("tiny", "small")
    assert (made.master_count, made.node_count, made.create_timeout) == (1, 1, 60)
    assert made.labels == {"a": "1", "b": "2"}
    assert made.options == {"keypair": "default", "merge_labels": False}
    assert made.status is ClusterStatus.CREATE_IN_PROGRESS
    assert made.deadline is not None
    hour = datetime.timedelta(minutes=60)
    assert hour <= made.deadline - before < hour + datetime.timedelta(minutes=1)
    claim = await claimed(house)
    assert claim.cluster == made
    assert claim.keys is not None
    ca = x509.load_pem_x509_certificate(claim.keys.current.certificate)
    assert made.name in ca.subject.rfc4514_string()


async def test_options_of_its_template_hold_where_a_cluster_has_none(house: House) -> None:
    given = {
        "docker_volume_size": 7,
        "keypair_id": "default",
        "fixed_network": "private",
        "fixed_subnet": "private-subnet",
        "master_lb_enabled": True,
        "floating_ip_enabled": True,
        "http_proxy": "http://proxy",
    }
    await house.templates.create(OURS, NewTemplate("swarm", "rich", options=given))
    made = await house.clusters.create(OURS, NewCluster("rich"))
    assert made.options == {
        "docker_volume_size": 7,
        "keypair": "default",
        "fixed_network": "private",
        "fixed_subnet": "private-subnet",
        "master_lb_enabled": True,
        "floating_ip_enabled": True,
        "merge_labels": False,
    }
    assert {group.docker_volume_size for group in made.groups} == {7}
    own = {"docker_volume_size": 9, "fixed_network": "public", "master_lb_enabled": False}
    made = await house.clusters.create(OURS, NewCluster("rich", options={**own, "keypair": None}))
    assert {name: made.options[name] for name in own} == own
    assert made.options["keypair"] == "default"
    assert {group.docker_volume_size for group in made.groups} == {9}


async def test_no_labels_of_one_s_own_are_the_template_s(
    house: House, template: ClusterTemplate
) -> None:
    none: tuple[dict[str, object] | str | None, ...] = (None, {}, "{}")
    for labels in none:
        made = await house.clusters.create(OURS, NewCluster("swarm", labels=labels))
        assert made.labels == {"a": "1", "b": "2"}


async def test_labels_that_are_merged_have_room_together(house: House) -> None:
    large = {f"k{number}": "v" * 4000 for number in range(3)}
    await house.templates.create(OURS, NewTemplate("swarm", "large", labels=large))
    more = {"x": "v" * 4000, "y": "v" * 500}
    await house.clusters.create(OURS, NewCluster("large", labels=more))
    with pytest.raises(Invalid, match="together may have 16384 bytes, not 16508"):
        await house.clusters.create(OURS, NewCluster("large", labels=more, merge_labels=True))


@pytest.mark.parametrize(
    ("merge", "labels", "differences"),
    [
        (False, {"b": "9", "c": "3"}, LabelDifferences({"b": "2"}, {"c": "3"}, {"a": "1"})),
        (True, {"a": "1", "b": "9", "c": "3"}, LabelDifferences({"b": "2"}, {"c": "3"}, {})),
    ],
)
async def test_labels_replace_or_merge(
    house: House,
    template: ClusterTemplate,
    merge: bool,
    labels: dict[str, str],
    differences: LabelDifferences,
) -> None:
    made = await house.clusters.create(
        OURS, NewCluster("swarm", labels={"b": "9", "c": "3"}, merge_labels=merge)
    )
    assert made.labels == labels
    assert await house.clusters.labels([made]) == [differences]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "1one"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "é"}, "name"),
        ({"name": "a" * 243}, "name"),
        ({"node_count": -1}, "node_count"),
        ({"node_count": 1001}, "node_count"),
        ({"node_count": 10**30}, "node_count"),
        ({"master_count": 0}, "master_count"),
        ({"master_count": 2}, "master_count"),
        ({"master_count": 9}, "master_count"),
        ({"create_timeout": -1}, "create_timeout"),
        ({"create_timeout": 1441}, "create_timeout"),
        ({"flavor_id": "huge"}, "flavor_id"),
        ({"master_flavor_id": "huge"}, "master_flavor_id"),
        ({"labels": {"provider": "moon"}}, "labels"),
        ({"labels": {str(n): "" for n in range(129)}}, "labels"),
        ({"labels": {"k": "v" * 5000}}, "labels"),
        ({"labels": {"k" * 256: "v"}}, "labels"),
        ({"labels": {"k": {}}}, "labels"),
        ({"labels": {"k": "\0"}}, "labels"),
        ({"labels": {"k": "\ud800"}}, "labels"),
        ({"options": {"nonsense": 1}}, "nonsense"),
        ({"options": {"keypair": 7}}, "keypair"),
        ({"options": {"docker_volume_size": "many"}}, "docker_volume_size"),
        ({"options": {"docker_volume_size": -3}}, "docker_volume_size"),
        ({"options": {"discovery_url": "a\nb"}}, "discovery_url"),
        ({"labels": {"k": "\x1b[2J"}}, "labels"),
        ({"labels": {f"k{n}": "v" * 4000 for n in range(5)}}, "labels"),
    ],
)
async def test_what_breaks_a_rule_is_refused_by_its_field(
    house: House, template: ClusterTemplate, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await house.clusters.create(OURS, NewCluster(**{"template": "swarm", **changes}))
    assert caught.value.field == field
    assert len(caught.value.reason) < 300
    assert await house.clusters.list(OURS, Page()) == []


async def test_an_unknown_flavor_is_answered_with_the_known_ones(
    house: House, template: ClusterTemplate
) -> None:
    with pytest.raises(Invalid, match="small, tiny"):
        await house.clusters.create(OURS, NewCluster("swarm", flavor_id="huge"))
    with pytest.raises(Invalid, match="local, small"):
        await house.clusters.create(OURS, NewCluster("swarm", labels={"provider": "moon"}))
    with pytest.raises(NotFound, match="nothing"):
        await house.clusters.create(OURS, NewCluster("nothing"))


async def test_zero_nodes_are_a_matter_of_the_version(
    house: House, template: ClusterTemplate
) -> None:
    with pytest.raises(Invalid, match="from 1 to"):
        await house.clusters.create(OURS, NewCluster("swarm", node_count=0), allow_zero=False)
    made = await house.clusters.create(OURS, NewCluster("swarm", node_count=0))
    assert made.node_count == 0
    with pytest.raises(Invalid, match="from 1 to"):
        await house.clusters.update(OURS, made.uuid, node_count(0), allow_zero=False)


@pytest.mark.parametrize(("given", "minutes"), [(None, 60), (0, 60), (1, 1), (1440, 1440)])
async def test_timeouts(
    house: House, template: ClusterTemplate, given: int | None, minutes: int
) -> None:
    made = await house.clusters.create(OURS, NewCluster("swarm", create_timeout=given))
    assert made.create_timeout == minutes


async def test_without_room_nothing_is_written(house: House, template: ClusterTemplate) -> None:
    small = {"provider": "small"}
    with pytest.raises(NoRoom, match="2560 MiB"):
        await house.clusters.create(OURS, NewCluster("swarm", node_count=3, labels=small))
    assert await house.clusters.list(OURS, Page()) == []
    made = await house.clusters.create(OURS, NewCluster("swarm", node_count=2, labels=small))
    assert made.provider == "small"


async def test_growth_asks_for_room_for_the_new_nodes_only(
    house: House, template: ClusterTemplate
) -> None:
    new = NewCluster("swarm", node_count=2, labels={"provider": "small"})
    made = await house.clusters.create(OURS, new)
    house.small.asked.clear()
    house.small.left = 1024
    await house.clusters.update(OURS, made.uuid, node_count(4))
    assert house.small.asked == [["worker-2", "worker-3"]]
    with pytest.raises(NoRoom):
        await house.clusters.update(OURS, made.uuid, node_count(7))
    assert (await house.clusters.get(OURS, made.uuid)).node_count == 4
    await house.clusters.update(OURS, made.uuid, node_count(1))
    assert len(house.small.asked) == 2


async def test_two_of_one_name_and_a_quota_race(house: House, template: ClusterTemplate) -> None:
    same = await asyncio.gather(
        *(house.clusters.create(OURS, NewCluster("swarm", "one")) for _ in range(3)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in same) == ["Cluster", "Conflict", "Conflict"]
    results = await asyncio.gather(
        *(house.clusters.create(OURS, NewCluster("swarm")) for _ in range(6)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Cluster) for result in results) == 3
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 3


async def test_a_change_of_node_count(house: House, cluster: Cluster) -> None:
    claim = await claimed(house)
    await house.store.claims.apply(
        claim, _with(claim.cluster, status=ClusterStatus.CREATE_COMPLETE), 60
    )
    changed = await house.clusters.update(OURS, "one", node_count(5))
    assert changed.node_count == 5
    assert changed.status is ClusterStatus.UPDATE_IN_PROGRESS
    assert changed.status_reason == "resize: default-worker from 2 to 5"
    assert changed.deadline is not None and cluster.deadline is not None
    assert changed.deadline > cluster.deadline
    assert (await claimed(house)).cluster == changed
    assert await house.clusters.update(OURS, "one", node_count(5)) == changed


async def test_a_change_while_it_is_being_made_is_accepted(house: House, cluster: Cluster) -> None:
    claim = await claimed(house)
    changed = await house.clusters.update(OURS, "one", node_count(3))
    assert (changed.status, changed.node_count) == (ClusterStatus.CREATE_IN_PROGRESS, 3)
    done = _with(claim.cluster, status=ClusterStatus.CREATE_COMPLETE)
    assert not await house.store.claims.apply(claim, done, 60)
    assert (await claimed(house)).cluster.node_count == 3


@pytest.mark.parametrize("value", ["5", 5])
async def test_clients_send_numbers_as_text_too(
    house: House, cluster: Cluster, value: object
) -> None:
    assert (await house.clusters.update(OURS, "one", node_count(value))).node_count == 5


async def test_removing_node_count_means_the_default(house: House, cluster: Cluster) -> None:
    changed = await house.clusters.update(OURS, "one", node_count(None, "remove"))
    assert changed.node_count == 1


async def test_health_is_patched_as_the_autohealer_does(house: House, cluster: Cluster) -> None:
    changed = await house.clusters.update(
        OURS,
        "one",
        [
            PatchOp("replace", "/health_status", "UNHEALTHY"),
            PatchOp("replace", "/health_status_reason", "{'api': 'silent', 'nodes': 3}"),
        ],
    )
    assert changed.health.status is HealthStatus.UNHEALTHY
    assert changed.health.reasons == {"api": "silent", "nodes": "3"}
    assert changed.status is cluster.status


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        (PatchOp("replace", "/uuid", "x"), "uuid"),
        (PatchOp("replace", "/project_id", "theirs"), "project_id"),
        (PatchOp("replace", "/status", "CREATE_COMPLETE"), "status"),
        (PatchOp("replace", "/api_address", "x"), "api_address"),
        (PatchOp("replace", "/labels/a", "x"), "labels"),
        (PatchOp("replace", "/nonsense", "x"), "nonsense"),
        (PatchOp("replace", "/node_count/0", 3), "node_count"),
        (PatchOp("replace", "/node_count", True), "node_count"),
        (PatchOp("replace", "/node_count", 2.5), "node_count"),
        (PatchOp("replace", "/node_count", "many"), "node_count"),
        (PatchOp("replace", "/node_count", [3]), "node_count"),
        (PatchOp("replace", "/health_status", "FINE"), "health_status"),
        (PatchOp("replace", "/health_status", ["HEALTHY"]), "health_status"),
        (PatchOp("replace", "/health_status_reason", "[1"), "health_status_reason"),
        (PatchOp("replace", "/health_status_reason", "(" * 50_000), "health_status_reason"),
        (PatchOp("replace", "/health_status_reason", "[" * 50_000), "health_status_reason"),
        (PatchOp("test", "/node_count", 2), "op"),
        (PatchOp("move", "/node_count", 2), "op"),
        (PatchOp("replace", "node_count", 3), "path"),
        (PatchOp("replace", "/", 3), "path"),
        (PatchOp("replace", "", 3), "path"),
        (PatchOp("replace", "/node~2count", 3), "path"),
    ],
)
async def test_a_bad_patch_changes_nothing(
    house: House, cluster: Cluster, operation: PatchOp, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await house.clusters.update(OURS, "one", [*node_count(4), operation])
    assert caught.value.field == field
    assert await house.clusters.get(OURS, "one") == cluster


async def test_a_patch_has_a_bounded_length(house: House, cluster: Cluster) -> None:
    with pytest.raises(Invalid, match="operations"):
        await house.clusters.update(OURS, "one", node_count(3) * 201)


async def test_deleting_is_always_accepted_and_idempotent(house: House, cluster: Cluster) -> None:
    claim = await claimed(house)
    await house.clusters.delete(OURS, "one")
    deleting = await house.clusters.get(OURS, "one")
    assert deleting.status is ClusterStatus.DELETE_IN_PROGRESS
    await house.clusters.delete(OURS, cluster.uuid)
    assert await house.clusters.get(OURS, "one") == deleting
    with pytest.raises(Conflict, match="being deleted"):
        await house.clusters.update(OURS, "one", node_count(3))
    with pytest.raises(Conflict, match="being deleted"):
        await house.certificates.sign(OURS, "one", request().decode())
    await house.store.claims.remove(claim)
    with pytest.raises(NotFound):
        await house.clusters.delete(OURS, cluster.uuid)


async def test_a_failed_delete_is_tried_again(house: House, cluster: Cluster) -> None:
    await house.clusters.delete(OURS, "one")
    claim = await claimed(house)
    failed = _with(claim.cluster, status=ClusterStatus.DELETE_FAILED, attempts=9)
    await house.store.claims.apply(claim, failed, 3600)
    await house.clusters.delete(OURS, "one")
    again = (await claimed(house)).cluster
    assert (again.status, again.attempts) == (ClusterStatus.DELETE_IN_PROGRESS, 0)


async def test_certificates(house: House, cluster: Cluster) -> None:
    ca = x509.load_pem_x509_certificate((await house.certificates.ca(OURS, "one")).encode())
    pem = await house.certificates.sign(OURS, cluster.uuid, request().decode())
    x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(ca)
    for bad in ("", "hello", "é", "x" * 100_000):
        with pytest.raises(Invalid) as caught:
            await house.certificates.sign(OURS, cluster.uuid, bad)
        assert caught.value.field == "csr"


def _with(cluster: Cluster, **changes: Any) -> Cluster:
    return dataclasses.replace(cluster, **changes)


@pytest.mark.parametrize("value", ["maybe", "", "2"])
async def test_whether_it_is_healed_must_be_said_clearly(
    house: House, template: ClusterTemplate, value: str
) -> None:
    labels = {"auto_healing_enabled": value}
    with pytest.raises(Invalid, match="must be true or false") as refused:
        await house.clusters.create(OURS, NewCluster("swarm", "one", labels=labels))
    assert refused.value.field == "labels/auto_healing_enabled"
    with pytest.raises(Invalid):
        await house.templates.create(OURS, NewTemplate("t", "swarm", "tiny", "tiny", labels))


async def test_a_health_that_nobody_has_looked_at_is_not_shown(
    house: House, cluster: Cluster
) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    claim = await claimed(house)
    well = dataclasses.replace(
        claim.cluster,
        status=ClusterStatus.CREATE_COMPLETE,
        health=Health(HealthStatus.HEALTHY),
        seen_at=long_ago,
    )
    await house.store.claims.apply(claim, well, 40)
    (listed,) = await house.clusters.list(OURS, Page())
    for shown in (listed, await house.clusters.get(OURS, cluster.uuid)):
        assert shown.health.status is HealthStatus.UNKNOWN
        assert shown.health.reasons["cluster"].startswith(
            f"not looked at since {long_ago:%Y-%m-%d}"
        )
