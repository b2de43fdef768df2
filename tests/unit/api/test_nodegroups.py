"""Node groups, resize and upgrade, as clients use them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.conftest import Api, reasons

SUMMARY = {
    "uuid", "name", "flavor_id", "node_count", "role", "is_default", "image_id", "status",
    "stack_id",
}  # fmt: skip
WHOLE = SUMMARY | {
    "id", "cluster_id", "project_id", "docker_volume_size", "labels", "labels_overridden",
    "labels_added", "labels_skipped", "merge_labels", "links", "node_addresses",
    "min_node_count", "max_node_count", "status_reason", "version", "node_labels",
    "node_taints", "created_at", "updated_at",
}  # fmt: skip
MAGNUMCLIENT: dict[str, Any] = {
    "name": "gpu", "node_count": 2, "max_node_count": None, "min_node_count": 0,
    "role": "worker", "labels": {"a": "2"}, "docker_volume_size": 5, "flavor_id": "small",
    "image_id": "host", "merge_labels": True, "node_labels": {"gpu": "yes"},
    "node_taints": [{"key": "gpu", "value": "", "effect": "NoSchedule"}],
}  # fmt: skip
"""What `openstack coe nodegroup create` of python-magnumclient 5.0 sends, everything set."""

GROUPS = "/v1/clusters/one/nodegroups"


async def test_a_group_s_life(api: Api) -> None:
    cluster = await api.cluster(name="one", labels={"a": "1", "b": "1"})
    made = await api.ask("POST", f"{GROUPS}/", MAGNUMCLIENT)
    assert made.status_code == 202, made.text
    body = made.json()
    assert body.keys() == WHOLE
    assert (body["cluster_id"], body["stack_id"], body["is_default"]) == (cluster, cluster, False)
    assert (body["node_count"], body["min_node_count"], body["max_node_count"]) == (2, 0, None)
    assert body["labels"] == {"a": "2", "b": "1"}
    assert (body["labels_overridden"], body["labels_added"]) == ({"a": "1"}, {})
    assert body["node_taints"] == [{"key": "gpu", "value": "", "effect": "NoSchedule"}]
    assert isinstance(body["id"], int)
    uuid = body["uuid"]
    path = f"clusters/{cluster}/nodegroups/{uuid}"
    assert body["links"] == [
        {"href": f"http://cloud:9511/v1/{path}", "rel": "self"},
        {"href": f"http://cloud:9511/{path}", "rel": "bookmark"},
    ]
    for ident in ("gpu", uuid):
        assert (await api.ask("GET", f"{GROUPS}/{ident}")).json() == body
    patch = [
        {"op": "replace", "path": "/min_node_count", "value": 1},
        {"op": "replace", "path": "/node_labels", "value": "{'gpu': 'no'}"},
        {"op": "replace", "path": "/node_taints", "value": "[]"},
    ]
    changed = await api.ask("PATCH", f"{GROUPS}/gpu", patch)
    assert changed.status_code == 202, changed.text
    assert changed.json()["min_node_count"] == 1
    assert (changed.json()["node_labels"], changed.json()["node_taints"]) == ({"gpu": "no"}, [])
    assert (await api.ask("DELETE", f"{GROUPS}/gpu")).status_code == 204
    shown = await api.ask("GET", f"{GROUPS}/gpu")
    assert shown.json()["status"] == "DELETE_IN_PROGRESS"


async def test_what_a_group_gets_where_nothing_is_said(api: Api) -> None:
    await api.cluster(name="one", flavor_id="tiny", labels={"a": "1"})
    body = {**dict.fromkeys(MAGNUMCLIENT), "name": "plain"}
    made = (await api.ask("POST", GROUPS, body)).json()
    assert (made["flavor_id"], made["node_count"], made["role"]) == ("tiny", 1, "worker")
    assert (made["labels"], made["node_labels"], made["node_taints"]) == ({"a": "1"}, {}, [])


async def test_lists(api: Api) -> None:
    await api.cluster(name="one")
    for name, role in (("gpu", "worker"), ("infra", "infra")):
        await api.ask("POST", GROUPS, {"name": name, "role": role})
    listed = (await api.ask("GET", f"{GROUPS}/")).json()["nodegroups"]
    assert [group["name"] for group in listed] == [
        "default-master",
        "default-worker",
        "gpu",
        "infra",
    ]
    assert all(group.keys() == SUMMARY for group in listed)
    detailed = (await api.ask("GET", f"{GROUPS}/detail")).json()["nodegroups"]
    assert all(group.keys() == WHOLE for group in detailed)
    for role, names in (("infra", ["infra"]), ("worker", ["default-worker", "gpu"]), ("x", [])):
        found = (await api.ask("GET", f"{GROUPS}/?role={role}")).json()["nodegroups"]
        assert [group["name"] for group in found] == names


async def test_pages_keep_the_role(api: Api) -> None:
    await api.cluster(name="one")
    for number in range(3):
        await api.ask("POST", GROUPS, {"name": f"g{number}"})
    seen: list[str] = []
    url: str | None = f"{GROUPS}/?role=worker&limit=3&sort_key=name&sort_dir=desc"
    while url:
        page = (await api.ask("GET", url)).json()
        seen += [group["name"] for group in page["nodegroups"]]
        url = page["next"]
        assert url is None or "role=worker" in url
    assert seen == ["g2", "g1", "g0", "default-worker"]


async def test_the_cluster_counts_them(api: Api) -> None:
    await api.cluster(name="one")
    await api.ask("POST", GROUPS, {"name": "gpu", "node_count": 3})
    assert (await api.ask("GET", "/v1/clusters/one")).json()["node_count"] == 4


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "name must be a valid string, not None."),
    ({"name": ""}, "name"),
    ({"name": "x" * 300}, "name"),
    ({"node_count": -1}, "node_count"),
    ({"node_count": "many"}, "node_count must be a valid integer"),
    ({"node_count": True}, "node_count: must be a whole number"),
    ({"node_count": 5, "max_node_count": 2}, "node_count"),
    ({"min_node_count": 3, "max_node_count": 2}, "max_node_count"),
    ({"min_node_count": 3}, "node_count"),
    ({"role": "master"}, "role"),
    ({"role": ""}, "role"),
    ({"role": 5}, "role must be a valid string"),
    ({"flavor_id": "huge"}, "'huge'; provider fake has: small, tiny."),
    ({"image_id": "dos"}, "'dos'; provider fake has: host."),
    ({"labels": ["a"]}, "labels"),
    ({"labels": "{a"}, "labels"),
    ({"node_labels": "[]"}, "node_labels"),
    ({"node_labels": {"a b": "c"}}, "node_labels"),
    ({"node_labels": {"a": {"b": 1}}}, "node_labels"),
    ({"node_taints": "gpu"}, "node_taints"),
    ({"node_taints": {"key": "a"}}, "node_taints"),
    ({"node_taints": [["gpu"]]}, "node_taints"),
    ({"node_taints": [{"key": "a"}]}, "node_taints"),
    ({"node_taints": [{"key": "a", "effect": "Sometimes"}]}, "node_taints"),
    ({"node_taints": [{"key": "", "effect": "NoSchedule"}]}, "node_taints"),
    ({"node_taints": [{"key": "a", "effect": "NoExecute", "more": 1}]}, "node_taints"),
    ({"is_default": True}, "There is no field 'is_default' here."),
    ({"uuid": "x"}, "There is no field 'uuid' here."),
    ({"project_id": "theirs"}, "There is no field 'project_id' here."),
    ({"docker_volume_size": 0.5}, "docker_volume_size"),
]


@pytest.mark.parametrize(("fields", "reason"), BAD)
async def test_bad_groups(api: Api, fields: dict[str, Any], reason: str) -> None:
    await api.cluster(name="one")
    answer = await api.ask("POST", GROUPS, {"name": "gpu", **fields})
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]
    assert len((await api.ask("GET", GROUPS)).json()["nodegroups"]) == 2


async def test_a_name_that_is_taken(api: Api) -> None:
    await api.cluster(name="one")
    for name in ("default-worker", "default-master"):
        assert (await api.ask("POST", GROUPS, {"name": name})).status_code == 409


BAD_PATCHES: list[tuple[Any, str]] = [
    ([], "The patch is empty"),
    ([{"op": "replace", "path": "/name", "value": "x"}], "'name'"),
    ([{"op": "replace", "path": "/node_count", "value": 2}], "resize"),
    ([{"op": "replace", "path": "/role", "value": "x"}], "'role'"),
    ([{"op": "replace", "path": "/uuid", "value": "x"}], "uuid can't be changed"),
    ([{"op": "replace", "path": "/min_node_count", "value": "x"}], "min_node_count"),
    ([{"op": "replace", "path": "/min_node_count", "value": -1}], "min_node_count"),
    ([{"op": "replace", "path": "/max_node_count", "value": -1}], "max_node_count"),
    ([{"op": "add", "path": "/max_node_count"}], "max_node_count"),
    ([{"op": "replace", "path": "/node_labels", "value": None}], "node_labels"),
    ({"node_taints": None}, "node_taints"),
    ([{"op": "replace", "path": "/max_node_count", "value": 1.5}], "max_node_count"),
    ([{"op": "replace", "path": "/node_taints", "value": "gpu"}], "node_taints"),
    ([{"op": "replace", "path": "/node_labels", "value": "__import__('os')"}], "node_labels"),
    ({"nope": 1}, "'nope'"),
]


@pytest.mark.parametrize(("patch", "reason"), BAD_PATCHES)
async def test_bad_patches(api: Api, patch: Any, reason: str) -> None:
    await api.cluster(name="one")
    before = (await api.ask("GET", f"{GROUPS}/default-worker")).json()
    answer = await api.ask("PATCH", f"{GROUPS}/default-worker", patch)
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]
    assert (await api.ask("GET", f"{GROUPS}/default-worker")).json() == before


@pytest.mark.parametrize("name", ["default-master", "default-worker"])
async def test_default_groups_stay(api: Api, name: str) -> None:
    await api.cluster(name="one")
    assert (await api.ask("DELETE", f"{GROUPS}/{name}")).status_code == 400


async def test_resize(api: Api) -> None:
    uuid = await api.cluster(name="one", node_count=3)
    body = {"node_count": 2, "nodes_to_remove": ["worker-1"], "nodegroup": "default-worker"}
    answer = await api.ask("POST", "/v1/clusters/one/actions/resize", body)
    assert (answer.status_code, answer.json()) == (202, {"uuid": uuid})
    shown = (await api.ask("GET", "/v1/clusters/one")).json()
    assert (shown["node_count"], shown["master_count"]) == (2, 1)
    for group, count in ((None, 1), ("", 0)):
        nulls = {"node_count": count, "nodes_to_remove": None, "nodegroup": group}
        answer = await api.ask("POST", "/v1/clusters/one/actions/resize", nulls)
        assert answer.status_code == 202, answer.text
        assert (await api.ask("GET", "/v1/clusters/one")).json()["node_count"] == count


@pytest.mark.parametrize(
    ("body", "statuses", "reason"),
    [
        ({}, {400}, "node_count is missing."),
        ({"node_count": None}, {400}, "node_count"),
        ({"node_count": -1}, {400}, "node_count"),
        ({"node_count": 1001}, {400}, "node_count"),
        ({"node_count": 1, "nodes_to_remove": "worker-0"}, {400}, "nodes_to_remove"),
        ({"node_count": 1, "nodes_to_remove": ["worker-9"]}, {400}, "worker-9"),
        ({"node_count": 1, "nodes_to_remove": [5]}, {400}, "nodes_to_remove.0"),
        ({"node_count": 1, "nodes_to_remove": ["worker-0"] * 1001}, {400}, "name 1000 nodes"),
        ({"node_count": 1, "nodegroup": "none"}, {400, 404}, "none"),
        ({"node_count": 2, "nodegroup": "default-master"}, {400}, "master"),
        ({"node_count": 1, "more": 1}, {400}, "'more'"),
    ],
)
async def test_bad_sizes(api: Api, body: Any, statuses: set[int], reason: str) -> None:
    await api.cluster(name="one")
    answer = await api.ask("POST", "/v1/clusters/one/actions/resize", body)
    assert answer.status_code in statuses, answer.text
    assert reason in reasons(answer)[0]


async def test_upgrade(api: Api) -> None:
    uuid = await api.cluster(name="one")
    newer = await api.template(name="newer", flavor_id="small")
    body = {"cluster_template": "newer", "max_batch_size": 2, "nodegroup": ""}
    answer = await api.ask("POST", "/v1/clusters/one/actions/upgrade", body)
    assert (answer.status_code, answer.json()) == (202, {"uuid": uuid}), answer.text
    shown = (await api.ask("GET", "/v1/clusters/one")).json()
    assert shown["cluster_template_id"] == newer["uuid"]
    assert shown["status"] in {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "cluster_template is missing."),
        ({"cluster_template": None}, "cluster_template"),
        ({"cluster_template": "none"}, "none"),
        ({"cluster_template": "small", "max_batch_size": 0}, "max_batch_size"),
        ({"cluster_template": "small", "max_batch_size": "all"}, "max_batch_size"),
        ({"cluster_template": "small", "nodegroup": "none"}, "none"),
    ],
)
async def test_bad_upgrades(api: Api, body: Any, reason: str) -> None:
    await api.cluster(name="one")
    await api.template(name="small")
    answer = await api.ask("POST", "/v1/clusters/one/actions/upgrade", body)
    assert answer.status_code in {400, 404}, answer.text
    assert reason in reasons(answer)[0]
