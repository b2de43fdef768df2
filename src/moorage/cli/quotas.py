"""`moorage quota …`: what a project may have, and how much of it it has.

A project is named as Keystone knows it, by name or id, or by the id alone once it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from moorage.cli.clouds import choose
from moorage.cli.failure import Code, Failure
from moorage.cli.options import OsCloud, OutputAs, segment
from moorage.cli.screen import Output, say, show_list, teach
from moorage.cli.session import Service, container_infra
from moorage.model.quota import UNLIMITED, Resource

commands = typer.Typer(
    no_args_is_help=True,
    help=teach(
        "Quotas: how many clusters, nodes, CPUs, how much memory and disk a project may have.",
        "moorage quota show                      # your own project's",
        "moorage quota set harbour --nodes 50 --memory 65536",
        "moorage quota list --all-projects",
    ),
)

UNITS = {
    Resource.CLUSTER: ("clusters", "clusters"),
    Resource.NODE: ("nodes", "nodes"),
    Resource.CPU: ("vcpus", "CPUs"),
    Resource.MEMORY: ("memory_mib", "MiB"),
    Resource.DISK: ("disk_gib", "GiB"),
}
"""Of each resource: its field in the API's stats, and what it is counted in."""
LISTED = ("project_id", "resource", "used", "hard_limit", "unit")
SHOWN = ("resource", "used", "hard_limit", "unit", "set_by")
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PROJECT = typer.Argument(help="The project's name or id.", show_default=False)


@commands.command(
    "list",
    help=teach(
        "List the quotas that admins have set; for all others the operator's defaults hold.",
        "moorage quota list",
        "moorage quota list --all-projects -o json   # admins only",
    ),
)
def list_(
    every: Annotated[
        bool, typer.Option("--all-projects", help="Not only the project's own; for admins.")
    ] = False,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    path = "/quotas?all_projects=true" if every else "/quotas"
    rows = service.every(path, "quotas", key="id")
    used = {project: _used(service, project) for project in {row["project_id"] for row in rows}}
    counted = [_counted(row, used[row["project_id"]]) for row in rows]
    counted.sort(key=lambda row: (row["project_id"], [*Resource].index(row["resource"])))
    nothing = "No quotas are set: the operator's defaults hold. `moorage quota show`"
    _show(counted, LISTED, output, nothing)


@commands.command(
    help=teach(
        "Show what a project has and may have, of every resource.",
        "moorage quota show            # your own project's",
        "moorage quota show harbour    # admins only",
    )
)
def show(
    project: Annotated[
        str | None, typer.Argument(help="Its name or id; else your own.", show_default=False)
    ] = None,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    own = service.project_id if project is None else project_id(service, project)
    _show_all(service, own, output)


@commands.command(
    "set",
    help=teach(
        "Set what a project may have; for admins. What is not said stays; -1 is no limit.\n\n"
        "What a project has beyond it stays too: it gets no more.",
        "moorage quota set harbour --clusters 5 --nodes 50",
        "moorage quota set harbour --memory 65536 --disk -1",
    ),
)
def set_(
    project: Annotated[str, PROJECT],
    clusters: Annotated[int | None, typer.Option(help="How many.", min=UNLIMITED)] = None,
    nodes: Annotated[int | None, typer.Option(help="Of all clusters.", min=UNLIMITED)] = None,
    cpus: Annotated[int | None, typer.Option(help="Of all nodes.", min=UNLIMITED)] = None,
    memory: Annotated[int | None, typer.Option(help="MiB, of all.", min=UNLIMITED)] = None,
    disk: Annotated[int | None, typer.Option(help="GiB, of all.", min=UNLIMITED)] = None,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    given = dict(zip(Resource, (clusters, nodes, cpus, memory, disk), strict=True))
    limits = {resource: limit for resource, limit in given.items() if limit is not None}
    if not limits:
        raise Failure(
            f"nothing is said that {project} may have",
            code=Code.USAGE,
            mend="say --clusters, --nodes, --cpus, --memory or --disk",
        )
    service = container_infra(choose(os_cloud))
    uuid = project_id(service, project)
    for resource, limit in limits.items():
        _set(service, {"project_id": uuid, "resource": resource.value, "hard_limit": limit})
    _show_all(service, uuid, output)


@commands.command(
    help=teach(
        "Delete what was set for a project; for admins. The operator's defaults hold again.",
        "moorage quota delete harbour            # of every resource",
        "moorage quota delete harbour node cpu",
    )
)
def delete(
    project: Annotated[str, PROJECT],
    resources: Annotated[
        list[Resource] | None,
        typer.Argument(help="Of which resources; else of all.", case_sensitive=False),
    ] = None,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    uuid = project_id(service, project)
    gone = []
    for resource in resources or Resource:
        try:
            service.call("DELETE", _path(uuid, resource))
        except Failure as failure:
            if resources or failure.code is not Code.NOT_FOUND:
                raise
        else:
            gone.append(resource.value)
    if not gone:
        raise Failure(f"no quota is set for the project {project}", code=Code.NOT_FOUND)
    say(f"The defaults hold again for {project}: {', '.join(gone)}")


def project_id(service: Service, named: str) -> str:
    """The id of the project with that id or name, as Keystone tells it.

    An id that Keystone does not know is taken as it is: projects that are gone leave quotas.
    So is any name where Keystone does not tell the caller: the API has the last word.
    Raises Failure.
    """
    keystone = service.beside("identity", "/v3")
    try:
        return str(
            keystone.call("GET", f"/projects/{segment(named, 'a project')}")["project"]["id"]
        )
    except Failure as failure:
        if failure.code is Code.DENIED:
            return named
        if failure.code is not Code.NOT_FOUND:
            raise
    found = keystone.call("GET", f"/projects?name={quote(named, safe='')}")["projects"]
    if len(found) == 1:
        return str(found[0]["id"])
    if found:
        ids = ", ".join(f"{one['id']} (domain {one['domain_id']})" for one in found)
        raise Failure(f"{len(found)} projects are named `{named}`: {ids}", code=Code.USAGE)
    if ID.fullmatch(named):
        return named
    raise Failure(
        f"Keystone knows no project `{named}`",
        code=Code.NOT_FOUND,
        mend="`openstack project list` shows those there are",
    )


def _set(service: Service, wanted: Mapping[str, Any]) -> None:
    try:
        service.call("PATCH", _path(wanted["project_id"], wanted["resource"]), wanted)
    except Failure as failure:
        if failure.code is not Code.NOT_FOUND:
            raise
        service.call("POST", "/quotas", wanted)


def _show_all(service: Service, project: str, output: Output) -> None:
    used = _used(service, project)
    quotas = [service.call("GET", _path(project, resource)) for resource in Resource]
    rows = [
        _counted(one, used) | {"set_by": "default" if one.get("id") is None else "an admin"}
        for one in quotas
    ]
    _show(rows, SHOWN, output)


def _used(service: Service, project: str) -> Mapping[str, int]:
    """The API's stats; those of upstream's, which knows no `type=all`, are two."""
    path = f"/stats?project_id={quote(project, safe='')}"
    try:
        return dict(service.call("GET", f"{path}&type=all"))
    except Failure as failure:
        if failure.code is not Code.USAGE:
            raise
        return dict(service.call("GET", path))


def _counted(quota: Mapping[str, Any], used: Mapping[str, int]) -> dict[str, Any]:
    field, unit = UNITS[Resource(quota["resource"])]
    return {
        "project_id": quota["project_id"],
        "resource": quota["resource"],
        "used": used.get(field),
        "hard_limit": quota["hard_limit"],
        "unit": unit,
    }


def _show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output: Output, nothing: str = ""
) -> None:
    if output is Output.TABLE:
        rows = [
            {
                **row,
                "hard_limit": "unlimited" if row["hard_limit"] == UNLIMITED else row["hard_limit"],
            }
            for row in rows
        ]
    show_list(rows, columns, output, nothing=nothing)


def _path(project: str, resource: str) -> str:
    return f"/quotas/{segment(project, 'a project')}/{segment(resource, 'a resource')}"
