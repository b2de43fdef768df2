"""What is done to clusters that are there: resize, upgrade, rotate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from moorage.cli.clouds import choose
from moorage.cli.clusters import NAME, Wait, WaitSeconds, path_of, show_settled
from moorage.cli.options import OsCloud, OutputAs
from moorage.cli.screen import Output, teach
from moorage.cli.session import container_infra

commands = typer.Typer()
Group = Annotated[str | None, typer.Option(help="The node group; else the default workers.")]


@commands.command(
    help=teach(
        "Change how many nodes a node group has.",
        "moorage cluster resize fleet 5 --wait",
        "moorage cluster resize fleet 2 --remove worker-0 --remove 10.128.0.7",
    )
)
def resize(
    cluster: Annotated[str, NAME],
    count: Annotated[int, typer.Argument(help="How many nodes it is to have.", min=0)],
    group: Group = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="A node that has to go: its name or address.")
    ] = None,
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    body: dict[str, Any] = {"node_count": count, "nodes_to_remove": remove or []}
    if group:
        body["nodegroup"] = group
    service = container_infra(choose(os_cloud))
    uuid = service.call("POST", f"{path_of(cluster)}/actions/resize", body)["uuid"]
    show_settled(service, uuid, cluster, wait_timeout if wait else None, output)


@commands.command(
    help=teach(
        "Go to another template, a batch of nodes at a time.\n\n"
        "Its masters go one at a time. A batch that fails stops there: the same command goes "
        "on, the former template goes back. A group that is not a default one stays as it is, "
        "and follows by --group, to its cluster's template.",
        "moorage cluster upgrade fleet larger --batch 2 --wait",
        "moorage cluster upgrade fleet larger --group gpu --wait",
    )
)
def upgrade(
    cluster: Annotated[str, NAME],
    template: Annotated[str, typer.Argument(help="The template's name or uuid.")],
    batch: Annotated[int, typer.Option(help="So many nodes may be away at once.", min=1)] = 1,
    group: Annotated[
        str | None, typer.Option(help="A node group; else the default ones, masters and workers.")
    ] = None,
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    body: dict[str, Any] = {"cluster_template": template, "max_batch_size": batch}
    if group:
        body["nodegroup"] = group
    service = container_infra(choose(os_cloud))
    uuid = service.call("POST", f"{path_of(cluster)}/actions/upgrade", body)["uuid"]
    show_settled(service, uuid, cluster, wait_timeout if wait else None, output)


@commands.command(
    "rotate-ca",
    help=teach(
        "Change a cluster's certificate authority; nobody is cut off meanwhile.\n\n"
        "Old keys are good until every node carries the new one: then get new ones.",
        "moorage cluster rotate-ca fleet --wait",
        "moorage cluster config fleet --dir ~/.moorage/fleet --force",
    ),
)
def rotate_ca(
    cluster: Annotated[str, NAME],
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    _rotate("certificates", cluster, wait_timeout if wait else None, output, os_cloud)


@commands.command(
    "rotate-credentials",
    help=teach(
        "Change what nodes join a cluster with: the Swarm's join tokens.",
        "moorage cluster rotate-credentials fleet --wait",
    ),
)
def rotate_credentials(
    cluster: Annotated[str, NAME],
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    _rotate("credentials", cluster, wait_timeout if wait else None, output, os_cloud)


def _rotate(
    what: str, cluster: str, seconds: float | None, output: Output, os_cloud: str | None
) -> None:
    service = container_infra(choose(os_cloud))
    uuid = service.call("GET", path_of(cluster))["uuid"]
    service.call("PATCH", f"/{what}/{uuid}")
    show_settled(service, uuid, cluster, seconds, output)
