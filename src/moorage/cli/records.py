"""`moorage audit`, and `moorage catalogue …`: what OpenStack's clients have no words for."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from moorage.cli.clouds import choose
from moorage.cli.options import OsCloud, OutputAs, segment
from moorage.cli.screen import Output, say, show_list, show_object, teach
from moorage.cli.session import container_infra

catalogue = typer.Typer(
    no_args_is_help=True,
    help=teach(
        "What providers offer by name: flavors, images, key pairs, networks, subnets.",
        "moorage catalogue list",
        "moorage catalogue add flavor huge --vcpus 8 --memory 16384 --disk 100",
    ),
)
RECORD = (
    "at",
    "user_name",
    "project_id",
    "method",
    "path",
    "target",
    "address",
    "status",
    "reason",
)
OFFER = ("provider", "kind", "name", "detail", "builtin")
Provider = Annotated[str | None, typer.Option(help="Which provider's; else the default one's.")]


def audit(
    every: Annotated[
        bool, typer.Option("--all-projects", help="Not only the project's own; for admins.")
    ] = False,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    path = "/audit?all_projects=true" if every else "/audit"
    rows = container_infra(choose(os_cloud)).every(path, "records", key="id")
    show_list(rows, RECORD, output, nothing="Nothing was asked for yet.")


@catalogue.command(
    "list", help=teach("List what there is.", "moorage catalogue list --kind flavor")
)
def list_(
    kind: Annotated[str | None, typer.Option(help="flavor, image, keypair, …")] = None,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    path = f"/catalogue?kind={quote(kind, safe='')}" if kind else "/catalogue"
    rows = container_infra(choose(os_cloud)).call("GET", path)["catalogue"]
    show_list(rows, OFFER, output, nothing="Nothing of that kind.")


@catalogue.command(
    help=teach(
        "Add an entry; for admins.",
        "moorage catalogue add flavor huge --vcpus 8 --memory 16384 --disk 100",
        "moorage catalogue add image fedora-coreos-latest",
    )
)
def add(
    kind: Annotated[str, typer.Argument(help="flavor, image, keypair, network or subnet.")],
    name: Annotated[str, typer.Argument()],
    vcpus: Annotated[int | None, typer.Option(help="Of a flavor.")] = None,
    memory: Annotated[int | None, typer.Option(help="MiB, of a flavor.")] = None,
    disk: Annotated[int | None, typer.Option(help="GiB, of a flavor.")] = None,
    pids: Annotated[int | None, typer.Option(help="Processes, of a flavor.")] = None,
    provider: Provider = None,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    figures = {"vcpus": vcpus, "memory_mib": memory, "disk_gib": disk, "pids": pids}
    body: dict[str, Any] = {"kind": kind, "name": name}
    if provider:
        body["provider"] = provider
    if detail := {field: value for field, value in figures.items() if value is not None}:
        body["detail"] = detail
    show_object(container_infra(choose(os_cloud)).call("POST", "/catalogue", body), output)


@catalogue.command(
    help=teach(
        "Remove an entry that was added; for admins. Clusters keep what they have.",
        "moorage catalogue remove flavor huge",
    )
)
def remove(
    kind: Annotated[str, typer.Argument()],
    name: Annotated[str, typer.Argument()],
    provider: Provider = None,
    os_cloud: OsCloud = None,
) -> None:
    asked = f"?provider={quote(provider, safe='')}" if provider else ""
    path = f"/catalogue/{segment(kind, 'a kind')}/{segment(name, 'an entry')}{asked}"
    container_infra(choose(os_cloud)).call("DELETE", path)
    say(f"Removed: {kind} {name}")
