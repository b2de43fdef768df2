"""`moorage group …`: what is sent, what is waited for, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from moorage.api.schemas.cluster import ClusterResize
from moorage.api.schemas.common import Patch
from moorage.api.schemas.nodegroup import NodeGroupCreate
from moorage.cli.failure import Code
from moorage.services import patching, rules
from moorage.services.requests import NewSize

from .conftest import StubCloud, error, text
from .test_clusters import UUID, cluster

Run = Callable[..., int]
GPU = "9a1c7f6e-5d0f-4f0e-9f6e-1c2d3e4f5a6b"
GROUPS = "/v1/clusters/fleet/nodegroups"
ONE = f"/v1/clusters/{UUID}/nodegroups/{GPU}"


def group(name: str = "gpu", **more: Any) -> dict[str, Any]:
    plain = {
        "uuid": GPU,
        "name": name,
        "role": "worker",
        "flavor_id": "large",
        "node_count": 2,
        "is_default": False,
        "status": "CREATE_COMPLETE",
    }
    return {**plain, "cluster_id": UUID, **more}


LISTED = """\
 name             uuid   role     flavor_id   node_count   is_default   status
 ─
 default-worker   w      worker   large       2            True         CREATE_COMPLETE
 gpu              g      worker   large       0            False        UPDATE_IN_PROGRESS
"""


def test_list(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        group("default-worker", uuid="w", is_default=True),
        group(uuid="g", node_count=0, status="UPDATE_IN_PROGRESS"),
    ]
    cloud.will(f"GET {GROUPS}", (200, {"nodegroups": rows}))
    assert moorage("group", "list", "fleet", "--role", "worker & co") == Code.OK
    assert cloud.asked[0][0] == f"GET {GROUPS}?role=worker%20%26%20co&limit=500"
    assert text(capsys.readouterr().out) == LISTED
    assert moorage("group", "list", "fleet", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out) == rows


def test_list_of_a_role_that_nobody_has(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will(f"GET {GROUPS}", (200, {"nodegroups": []}))
    assert moorage("group", "list", "fleet", "--role", "db") == Code.OK
    assert capsys.readouterr().out == "No groups of the role db.\n"


SHOWN = """\
 field            value
 ─
 max_node_count   -
 name             gpu
 node_labels      disk=ssd zone=a
 node_taints      gpu=yes:NoSchedule spot:NoExecute
"""


def test_show(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    seen = {
        "name": "gpu",
        "max_node_count": None,
        "node_labels": {"disk": "ssd", "zone": "a"},
        "node_taints": [
            {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
            {"key": "spot", "value": "", "effect": "NoExecute"},
        ],
        "links": [],
    }
    cloud.will(f"GET {GROUPS}/gpu", (200, seen))
    assert moorage("group", "show", "fleet", "gpu") == Code.OK
    assert text(capsys.readouterr().out) == SHOWN
    assert moorage("group", "show", "fleet", "gpu", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out) == seen


def test_create_sends_what_was_said_and_no_more(cloud: StubCloud, moorage: Run) -> None:
    cloud.will(f"POST {GROUPS}", (202, group()))
    cloud.will(f"GET {ONE}", (200, group()))
    assert moorage("group", "create", "fleet", "gpu") == Code.OK
    words = "--role gpu --flavor large --image host --min 0 --max 5 --nodes 0 --merge-labels"
    lists = "--node-label disk=ssd --node-label a/b=c --taint gpu=yes:NoSchedule --label x=y"
    assert moorage("group", "create", "fleet", "gpu", *f"{words} {lists}".split()) == Code.OK
    assert [body for request, body in cloud.asked if request.startswith("POST")] == [
        {"name": "gpu", "node_count": 1},
        {
            "name": "gpu",
            "node_count": 0,
            "role": "gpu",
            "flavor_id": "large",
            "image_id": "host",
            "min_node_count": 0,
            "max_node_count": 5,
            "node_labels": {"disk": "ssd", "a/b": "c"},
            "node_taints": ["gpu=yes:NoSchedule"],
            "labels": {"x": "y"},
            "merge_labels": True,
        },
    ]


def test_create_waits_for_its_cluster(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will(f"POST {GROUPS}", (202, group(status="CREATE_IN_PROGRESS")))
    cloud.will(f"GET {ONE}", (200, group()))
    cloud.will(
        f"GET /v1/clusters/{UUID}",
        cluster("UPDATE_IN_PROGRESS", "add node group gpu: 2 large"),
        cluster("UPDATE_COMPLETE"),
    )
    assert moorage("group", "create", "fleet", "gpu", "--wait", "-o", "json") == Code.OK
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "CREATE_COMPLETE"
    assert "add node group gpu: 2 large" in said.err
    assert said.err.splitlines()[-1].endswith("s  node group gpu of fleet: UPDATE_COMPLETE")


def test_the_api_takes_what_is_sent(cloud: StubCloud, moorage: Run) -> None:
    for request in (f"POST {GROUPS}", f"PATCH {GROUPS}/gpu"):
        cloud.will(request, (202, group()))
    cloud.will("POST /v1/clusters/fleet/actions/resize", (202, {"uuid": UUID}))
    words = "--role gpu --min 1 --max 5 --node-label a=b --taint a:NoSchedule --label x=y"
    assert moorage("group", "create", "fleet", "gpu", "--flavor", "f", *words.split())
    assert moorage("group", "set", "fleet", "gpu", "--no-max", "--taint", "a:NoSchedule")
    assert moorage("group", "resize", "fleet", "gpu", "0", "--remove", "gpu-0")
    made, changed, sized = (body for request, body in cloud.asked if "GET" not in request)
    wanted = NodeGroupCreate.model_validate(made).wanted()
    assert (wanted.name, wanted.flavor_id, wanted.max_node_count) == ("gpu", "f", 5)
    assert rules.node_labels(wanted.node_labels) == {"a": "b"}
    assert [str(taint) for taint in rules.taints(wanted.node_taints)] == ["a:NoSchedule"]
    taints, removal = Patch.model_validate(changed).operations()
    assert patching.target(removal) == ("max_node_count", None)
    assert [str(taint) for taint in rules.taints(taints.value)] == ["a:NoSchedule"]
    assert ClusterResize.model_validate(sized).wanted() == NewSize(0, ("gpu-0",), "gpu")


def test_a_group_that_can_not_be(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will(f"POST {GROUPS}", (202, group()))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("UPDATE_FAILED", "No memory is left."))
    assert moorage("group", "create", "fleet", "gpu", "--wait") == Code.FAILED
    assert "node group gpu of fleet: UPDATE_FAILED  No memory is left." in capsys.readouterr().err


def test_set_is_a_patch(cloud: StubCloud, moorage: Run) -> None:
    cloud.will(f"PATCH {GROUPS}/gpu", (202, group()))
    cloud.will(f"GET {ONE}", (200, group()))
    words = "--min 0 --no-max --node-label a/b~c=d=e --no-node-label slow --no-taints"
    assert moorage("group", "set", "fleet", "gpu", *words.split()) == Code.OK
    assert cloud.asked[0][1] == [
        {"op": "replace", "path": "/min_node_count", "value": 0},
        {"op": "remove", "path": "/max_node_count"},
        {"op": "remove", "path": "/node_taints"},
        {"op": "replace", "path": "/node_labels/a~1b~0c", "value": "d=e"},
        {"op": "remove", "path": "/node_labels/slow"},
    ]
    cloud.asked.clear()
    words = "--max 9 --taint a:NoSchedule --taint b=c:NoExecute"
    assert moorage("group", "set", "fleet", "gpu", *words.split()) == Code.OK
    assert cloud.asked[0][1] == [
        {"op": "replace", "path": "/max_node_count", "value": 9},
        {"op": "replace", "path": "/node_taints", "value": ["a:NoSchedule", "b=c:NoExecute"]},
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("set fleet gpu", "nothing is said to be set of the group gpu"),
        ("set fleet gpu --max 3 --no-max", "--max and --no-max contradict each other"),
        ("set fleet gpu --taint a:NoSchedule --no-taints", "--taint and --no-taints contradict"),
        ("set fleet gpu --node-label disk", "`disk` is not KEY=VALUE"),
        ("set fleet gpu --max 0", "Invalid value for '--max'"),
        ("resize fleet gpu -- -1", "Invalid value for 'count'"),
        ("create fleet gpu --nodes -1", "Invalid value for '--nodes'"),
        ("delete fleet", "Missing argument"),
        ("delete fleet ..", "a group can't be named `..`"),
        ("show . gpu", "a cluster can't be named `.`"),
        ("show fleet ", "a group can't be named ``"),
    ],
)
def test_of_a_wrong_command(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    cloud.will("GET /v1/clusters/fleet", cluster("CREATE_COMPLETE"))
    assert moorage("group", *words.split(" ")) == Code.USAGE
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    changes = [request for request, _ in cloud.asked if not request.startswith("GET")]
    assert changes == []


@pytest.mark.parametrize("wait", [(), ("--wait",)])
def test_resize_to_none(cloud: StubCloud, moorage: Run, wait: tuple[str, ...]) -> None:
    cloud.will("POST /v1/clusters/fleet/actions/resize", (202, {"uuid": UUID}))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("UPDATE_COMPLETE"))
    cloud.will(f"GET /v1/clusters/{UUID}/nodegroups/gpu", (200, group(node_count=0)))
    words = ("0", "--remove", "gpu-0", "--remove", "10.128.0.7")
    assert moorage("group", "resize", "fleet", "gpu", *words, *wait) == Code.OK
    assert cloud.asked[0][1] == {
        "node_count": 0,
        "nodes_to_remove": ["gpu-0", "10.128.0.7"],
        "nodegroup": "gpu",
    }
    waited = f"GET /v1/clusters/{UUID}" in [request for request, _ in cloud.asked]
    assert waited == bool(wait)


def test_resize_beyond_the_bounds(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "Node group gpu can't have 9 nodes: min_node_count is 0, max_node_count 5."
    cloud.will("POST /v1/clusters/fleet/actions/resize", error(409, why))
    assert moorage("group", "resize", "fleet", "gpu", "9") == Code.CONFLICT
    assert capsys.readouterr().err == f"moorage: {why}\n"


def test_delete_looks_at_all_before_it_deletes_one(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v1/clusters/fleet", cluster("CREATE_COMPLETE"))
    cloud.will(f"GET /v1/clusters/{UUID}/nodegroups/gpu", (200, group()))
    cloud.will(f"DELETE {ONE}", (204, None))
    assert moorage("group", "delete", "fleet", "gpu", "gone") == Code.NOT_FOUND
    assert not any(request.startswith("DELETE") for request, _ in cloud.asked)

    assert moorage("group", "delete", "fleet", "gpu") == Code.OK
    assert f"DELETE {ONE}" in [request for request, _ in cloud.asked]
    assert capsys.readouterr().out == "On its way: gpu\n"


def test_delete_waits(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.will("GET /v1/clusters/fleet", cluster("CREATE_COMPLETE"))
    cloud.will(f"GET /v1/clusters/{UUID}/nodegroups/gpu", (200, group()))
    cloud.will(f"DELETE {ONE}", (204, None))
    cloud.will(
        f"GET /v1/clusters/{UUID}",
        cluster("UPDATE_IN_PROGRESS", "delete node group gpu"),
        cluster("UPDATE_COMPLETE"),
    )
    assert moorage("group", "delete", "fleet", "gpu", "--wait") == Code.OK
    said = capsys.readouterr()
    assert said.out == ""
    assert "delete node group gpu" in said.err
    assert said.err.splitlines()[-1].endswith("cluster fleet, without gpu: UPDATE_COMPLETE")
