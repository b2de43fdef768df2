"""`moorage cluster …`: over HTTP, against any container-infra service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from moorage.cli.clouds import choose
from moorage.cli.failure import Code, Failure
from moorage.cli.options import OsCloud, OutputAs, named_values, segment
from moorage.cli.screen import Output, Progress, say, show_list, show_object, teach
from moorage.cli.session import Service, container_infra

commands = typer.Typer(
    no_args_is_help=True,
    help=teach(
        "Clusters: create, look at, resize, delete, and get the keys to one.",
        "moorage cluster create fleet --template swarm --masters 1 --nodes 2 --wait",
        "moorage cluster list -o json",
        'eval "$(moorage cluster config fleet --dir ~/.moorage/fleet)" && docker node ls',
    ),
)

COLUMNS = ("name", "uuid", "status", "health_status", "master_count", "node_count")
POLL_SECONDS = 0.5
Found = TypeVar("Found")
NAME = typer.Argument(help="The cluster's name or uuid.", show_default=False)
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done, not when it begins.")]
WaitSeconds = Annotated[
    float, typer.Option("--wait-timeout", help="Seconds to wait at most; then exit code 6.", min=1)
]


@commands.command(
    help=teach(
        "Create a cluster from a template.",
        "moorage cluster create fleet --template swarm --masters 1 --nodes 2 --wait",
        "moorage cluster create fleet --template swarm --label tier=test -o json",
    )
)
def create(
    name: Annotated[str, typer.Argument(help="A letter, then letters, digits, `.`, `-`, `_`.")],
    template: Annotated[str, typer.Option(help="The template's name or uuid.")],
    nodes: Annotated[int, typer.Option(help="How many workers.")] = 1,
    masters: Annotated[int, typer.Option(help="How many managers.")] = 1,
    flavor: Annotated[str | None, typer.Option(help="The workers' size.")] = None,
    master_flavor: Annotated[str | None, typer.Option(help="The managers' size.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.")] = None,
    timeout: Annotated[
        int | None, typer.Option(help="Minutes after which it counts as failed.")
    ] = None,
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    wanted = {
        "name": name,
        "cluster_template_id": template,
        "node_count": nodes,
        "master_count": masters,
        "flavor_id": flavor,
        "master_flavor_id": master_flavor,
        "create_timeout": timeout,
        "labels": named_values(label) or None,
    }
    body = {field: value for field, value in wanted.items() if value is not None}
    service = container_infra(choose(os_cloud))
    uuid = service.call("POST", "/clusters", body)["uuid"]
    show_settled(service, uuid, name, wait_timeout if wait else None, output)


@commands.command(
    "list",
    help=teach(
        "List the project's clusters.", "moorage cluster list", "moorage cluster list -o json"
    ),
)
def list_(
    every: Annotated[
        bool, typer.Option("--all-projects", help="Not only the project's own; for admins.")
    ] = False,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    path = "/clusters?all_projects=true" if every else "/clusters"
    rows = container_infra(choose(os_cloud)).every(path, "clusters")
    show_list(rows, COLUMNS, output, nothing="No clusters. `moorage cluster create --help`")


@commands.command(
    help=teach("Show all that is known of a cluster.", "moorage cluster show fleet -o json")
)
def show(
    cluster: Annotated[str, NAME], output: OutputAs = Output.TABLE, os_cloud: OsCloud = None
) -> None:
    show_object(container_infra(choose(os_cloud)).call("GET", path_of(cluster)), output)


@commands.command(
    help=teach(
        "Change how many workers a cluster has.", "moorage cluster update fleet --nodes 5 --wait"
    )
)
def update(
    cluster: Annotated[str, NAME],
    nodes: Annotated[int, typer.Option(help="How many workers it is to have.")],
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    patch = [{"op": "replace", "path": "/node_count", "value": nodes}]
    uuid = service.call("PATCH", path_of(cluster), patch)["uuid"]
    show_settled(service, uuid, cluster, wait_timeout if wait else None, output)


@commands.command(
    help=teach(
        "Delete clusters and all that is in them.\n\nWith --force (for admins) it ends though "
        "something can't be removed: what may remain is told, and kept in `moorage orphan list`.",
        "moorage cluster delete fleet --wait",
        "moorage cluster delete 5f0c1c1e-… --force",
    )
)
def delete(
    clusters: Annotated[list[str], NAME],
    force: Annotated[
        bool, typer.Option("--force", help="Give up what can't be removed, and note it.")
    ] = False,
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    going = []
    for cluster in clusters:
        going.append((cluster, service.call("GET", path_of(cluster))["uuid"]))
    for cluster, uuid in going:
        told = service.call("DELETE", f"/clusters/{uuid}{'?force=true' if force else ''}")
        if told:
            names = ", ".join(node["name"] for node in told["nodes"]) or "nothing"
            say(f"{cluster}: may remain of it with {told['provider']}: {names}. {told['detail']}")
    for cluster, uuid in going if wait else ():
        gone(service, uuid, f"cluster {cluster}", wait_timeout, Progress())
    if not wait:
        say(f"On its way: {' '.join(clusters)}")


@commands.command(
    help=teach(
        "Get the keys to a cluster: makes a key, has it signed, tells how to use it.\n\n"
        "The key is made here and never leaves this machine. Writes ca.pem, cert.pem and "
        "key.pem (for its owner only) and prints lines for a shell to evaluate.",
        'eval "$(moorage cluster config fleet --dir ~/.moorage/fleet)"',
        "docker node ls",
    )
)
def config(
    cluster: Annotated[str, NAME],
    directory: Annotated[Path, typer.Option("--dir", help="Where the three files go.")],
    force: Annotated[bool, typer.Option("--force", help="Write over the files there.")] = False,
    os_cloud: OsCloud = None,
) -> None:
    from moorage.cli.credentials import fetch

    keys = fetch(container_infra(choose(os_cloud)), cluster, directory.absolute(), force=force)
    for line in keys.exports():
        say(line)
    say(f"# or, for good: {keys.context_line()}")


def path_of(cluster: str) -> str:
    """The path of a cluster, by name or uuid: one segment, whatever is in it."""
    return f"/clusters/{segment(cluster, 'a cluster')}"


def show_settled(
    service: Service, uuid: str, name: str, seconds: float | None, output: Output
) -> None:
    """Show the cluster as it is now; or, for so many seconds at the most, once it is settled."""
    if seconds is not None:
        settle(service, uuid, f"cluster {name}", seconds, Progress())
    show_object(service.call("GET", f"/clusters/{uuid}"), output)


def settle(
    service: Service, uuid: str, title: str, seconds: float, progress: Progress
) -> dict[str, Any]:
    """Wait until the cluster is no longer in progress. Raises Failure where it failed."""

    def look() -> tuple[dict[str, Any] | None, str]:
        cluster: dict[str, Any] = service.call("GET", f"/clusters/{uuid}")
        status = str(cluster["status"])
        said = f"{status}  {cluster.get('status_reason') or ''}".rstrip()
        if status.endswith("_FAILED"):
            raise Failure(f"{title}: {said}", mend=f"moorage cluster show {uuid}")
        return (None if status.endswith("_IN_PROGRESS") else cluster), said

    with progress.step(title) as step:
        cluster = until(look, step.say, seconds, title)
        step.result(str(cluster["status"]))
    return cluster


def gone(service: Service, uuid: str, title: str, seconds: float, progress: Progress) -> None:
    """Wait until the cluster is no more. Raises Failure where its deletion failed."""

    def look() -> tuple[bool | None, str]:
        try:
            cluster = service.call("GET", f"/clusters/{uuid}")
        except Failure as failure:
            if failure.code is Code.NOT_FOUND:
                return True, "gone"
            raise
        said = f"{cluster['status']}  {cluster.get('status_reason') or ''}".rstrip()
        if cluster["status"] == "DELETE_FAILED":
            raise Failure(f"{title}: {said}", mend=f"moorage cluster show {uuid}")
        return None, said

    with progress.step(title) as step:
        until(look, step.say, seconds, title)
        step.result("gone")


def until(
    look: Callable[[], tuple[Found | None, str]],
    tell: Callable[[str], None],
    seconds: float,
    title: str,
) -> Found:
    """Look again and again, and tell what is seen, until there is a result."""
    deadline = time.monotonic() + seconds
    while True:
        found, said = look()
        if found is not None:
            return found
        tell(said)
        if time.monotonic() > deadline:
            raise Failure(f"{title}: not done after {seconds:.0f} s: {said}", code=Code.TIMED_OUT)
        time.sleep(POLL_SECONDS)


def addresses(cluster: dict[str, Any]) -> Iterable[str]:
    """The IPv4 addresses of all of a cluster's nodes, managers first."""
    return [*cluster.get("master_addresses", []), *cluster.get("node_addresses", [])]
