"""`moorage quota …`: what a project may have and has, and whose it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from moorage.api.schemas.quota import QuotaCreate, QuotaUpdate
from moorage.cli.failure import Code
from moorage.services import NewQuota

from .conftest import Answer, StubCloud, error, text

Run = Callable[..., int]
HARBOUR = "0123456789abcdef0123456789abcdef"
GONE = "fedcba9876543210fedcba9876543210"
DEFAULTS = {"Cluster": 20, "Node": 100, "CPU": 200, "Memory": 262144, "Disk": -1}
USED = {"clusters": 1, "nodes": 3, "vcpus": 3, "memory_mib": 1536, "disk_gib": 6}
NO_PROJECT = (404, {"error": {"code": 404, "title": "Not Found", "message": "No such project."}})


def quota(project: str, resource: str, limit: int, number: int | None = None) -> dict[str, object]:
    return {"id": number, "project_id": project, "resource": resource, "hard_limit": limit}


def holds(cloud: StubCloud, project: str, **set_: int) -> None:
    """What the API says of the project's quotas: those that are set, else the defaults."""
    for resource, default in DEFAULTS.items():
        limit = quota(project, resource, set_.get(resource, default), set_.get(resource) and 7)
        cloud.will(f"GET /v1/quotas/{project}/{resource}", (200, limit))
    cloud.will("GET /v1/stats", (200, USED))


@pytest.fixture
def harbour(cloud: StubCloud) -> StubCloud:
    """Keystone knows a project of that name."""
    project = {"id": HARBOUR, "name": "harbour", "domain_id": "default"}
    cloud.will("GET /v3/projects/harbour", NO_PROJECT)
    cloud.will(f"GET /v3/projects/{HARBOUR}", (200, {"project": project}))
    cloud.will("GET /v3/projects", (200, {"projects": [project]}))
    return cloud


SHOWN = """\
 resource   used   hard_limit   unit       set_by
 ─
 Cluster    1      20           clusters   default
 Node       3      50           nodes      an admin
 CPU        3      200          CPUs       default
 Memory     1536   262144       MiB        default
 Disk       6      unlimited    GiB        default
"""


def test_a_tenant_sees_its_own(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(cloud, "p", Node=50)
    assert moorage("quota", "show") == Code.OK
    assert text(capsys.readouterr().out) == SHOWN
    assert cloud.asked[0][0] == "GET /v1/stats?project_id=p&type=all"

    assert moorage("quota", "show", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out)[4] == {
        "project_id": "p",
        "resource": "Disk",
        "used": 6,
        "hard_limit": -1,
        "unit": "GiB",
        "set_by": "default",
    }


@pytest.mark.parametrize("named", ["harbour", HARBOUR])
def test_an_admin_names_a_project(
    harbour: StubCloud, moorage: Run, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(harbour, HARBOUR)
    assert moorage("quota", "show", named) == Code.OK
    assert "Memory" in capsys.readouterr().out


def test_a_project_that_is_gone_is_known_by_its_id(cloud: StubCloud, moorage: Run) -> None:
    cloud.will(f"GET /v3/projects/{GONE}", NO_PROJECT)
    cloud.will("GET /v3/projects", (200, {"projects": []}))
    cloud.will(f"DELETE /v1/quotas/{GONE}/Node", (204, None))
    assert moorage("quota", "delete", GONE) == Code.OK


def test_a_name_that_means_nobody(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v3/projects/harbor", NO_PROJECT)
    cloud.will("GET /v3/projects", (200, {"projects": []}))
    assert moorage("quota", "set", "harbor", "--nodes", "5") == Code.NOT_FOUND
    assert "Keystone knows no project `harbor`" in capsys.readouterr().err


def test_a_name_that_means_two(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [{"id": one, "name": "harbour", "domain_id": f"d-{one}"} for one in "ab"]
    cloud.will("GET /v3/projects/harbour", NO_PROJECT)
    cloud.will("GET /v3/projects", (200, {"projects": two}))
    assert moorage("quota", "show", "harbour") == Code.USAGE
    assert "2 projects are named `harbour`: a (domain d-a), b (domain d-b)" in (
        capsys.readouterr().err
    )


def test_whoever_may_not_ask_keystone_is_told_by_the_api(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    forbidden = {"error": {"code": 403, "title": "Forbidden", "message": "Keystone says no."}}
    cloud.will("GET /v3/projects/harbour", (403, forbidden))
    cloud.will("GET /v1/stats", error(403, "That is another project's."))
    assert moorage("quota", "show", "harbour") == Code.DENIED
    assert capsys.readouterr().err == "moorage: That is another project's.\n"


def test_a_service_that_counts_clusters_and_nodes_only(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(cloud, "p")
    cloud.will("GET /v1/stats", error(400, "type"), (200, {"clusters": 1, "nodes": 3}))
    assert moorage("quota", "show") == Code.OK
    said = text(capsys.readouterr().out)
    assert " Node       3      100          nodes      default\n" in said
    assert " CPU        -      200          CPUs       default\n" in said


def test_set_changes_what_is_set_and_adds_what_is_not(
    harbour: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(harbour, HARBOUR, Node=50)
    harbour.will(f"PATCH /v1/quotas/{HARBOUR}/Node", (202, {}))
    harbour.will("POST /v1/quotas", (201, {}))
    assert moorage("quota", "set", "harbour", "--nodes", "50", "--disk", "-1") == Code.OK
    changes = [asked for asked in harbour.asked if not asked[0].startswith("GET")]
    node = {"project_id": HARBOUR, "resource": "Node", "hard_limit": 50}
    disk = {"project_id": HARBOUR, "resource": "Disk", "hard_limit": -1}
    assert QuotaUpdate.model_validate(node).hard_limit == 50
    assert QuotaCreate.model_validate(disk).wanted() == NewQuota(HARBOUR, "Disk", -1)
    assert changes == [
        (f"PATCH /v1/quotas/{HARBOUR}/Node", node),
        (f"PATCH /v1/quotas/{HARBOUR}/Disk", disk),
        ("POST /v1/quotas", disk),
    ]
    assert text(capsys.readouterr().out) == SHOWN


def test_set_by_somebody_who_may_not(
    harbour: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "This needs the role admin, which ada does not have in the project harbour."
    harbour.will(f"PATCH /v1/quotas/{HARBOUR}/CPU", error(403, why))
    assert moorage("quota", "set", "harbour", "--cpus", "5") == Code.DENIED
    assert capsys.readouterr().err == f"moorage: {why}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "harbour"), "nothing is said that harbour may have"),
        (("set", "harbour", "--nodes", "-2"), "Invalid value for '--nodes'"),
        (("set", "harbour", "--nodes", "many"), "Invalid value for '--nodes'"),
        (("delete", "harbour", "shoes"), "'shoes' is not one of"),
        (("show", ".."), "a project can't be named `..`"),
    ],
)
def test_of_a_wrong_command(
    cloud: StubCloud,
    moorage: Run,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    assert moorage("quota", *words) == Code.USAGE
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert cloud.asked == []


LISTED = f"""\
 project_id                         resource   used   hard_limit   unit
 ─
 {HARBOUR}   Node       3      50           nodes
 {HARBOUR}   Memory     1536   unlimited    MiB
 {GONE}   Cluster    0      2            clusters
"""


def test_list(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        quota(GONE, "Cluster", 2, 1),
        quota(HARBOUR, "Memory", -1, 2),
        quota(HARBOUR, "Node", 50, 3),
    ]
    cloud.will("GET /v1/quotas", (200, {"quotas": rows}))
    none = dict.fromkeys(USED, 0)

    def answer(method: str, path: str, body: object) -> Answer:
        if path.startswith("/v1/stats"):
            return 200, USED if HARBOUR in path else none
        return plain(method, path, body)

    plain = cloud.answer
    cloud.answer = answer  # type: ignore[method-assign]
    assert moorage("quota", "list", "--all-projects") == Code.OK
    assert cloud.asked[0][0] == "GET /v1/quotas?all_projects=true&limit=500"
    assert text(capsys.readouterr().out) == LISTED


def test_list_where_nothing_is_set(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v1/quotas", (200, {"quotas": []}))
    assert moorage("quota", "list") == Code.OK
    assert cloud.asked[0][0] == "GET /v1/quotas?limit=500"
    assert "the operator's defaults hold" in capsys.readouterr().out


def test_delete(harbour: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert moorage("quota", "delete", "harbour") == Code.NOT_FOUND
    assert "no quota is set for the project harbour" in capsys.readouterr().err
    for resource in ("Node", "CPU"):
        harbour.will(f"DELETE /v1/quotas/{HARBOUR}/{resource}", (204, None))
    assert moorage("quota", "delete", "harbour") == Code.OK
    assert capsys.readouterr().out == "The defaults hold again for harbour: Node, CPU\n"
    assert moorage("quota", "delete", "harbour", "cpu", "NODE") == Code.OK
    assert capsys.readouterr().out == "The defaults hold again for harbour: CPU, Node\n"
    assert moorage("quota", "delete", "harbour", "disk") == Code.NOT_FOUND
