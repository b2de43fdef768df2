"""`moorage template …`: over HTTP, against any container-infra service."""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.cli.clouds import choose
from moorage.cli.options import OsCloud, OutputAs, named_values, segment
from moorage.cli.screen import Output, show_list, show_object, teach
from moorage.cli.session import container_infra

commands = typer.Typer(
    no_args_is_help=True,
    help=teach(
        "Cluster templates: what clusters made from one have in common.",
        "moorage template create swarm --coe swarm --flavor small",
        "moorage template list",
    ),
)

COLUMNS = ("name", "uuid", "coe", "flavor_id", "master_flavor_id", "public")
NAME = typer.Argument(help="The template's name or uuid.", show_default=False)


@commands.command(
    help=teach(
        "Create a template.",
        "moorage template create swarm --coe swarm --flavor small",
        "moorage template create swarm --coe swarm --flavor small --public   # operators only",
    )
)
def create(
    name: Annotated[str, typer.Argument(help="What clusters will name it by.")],
    coe: Annotated[str, typer.Option(help="The container orchestration engine, e.g. swarm.")],
    flavor: Annotated[str, typer.Option(help="The workers' size: tiny, small, medium, large.")],
    master_flavor: Annotated[
        str | None,
        typer.Option(help="The masters' size; else the workers', if it is large enough."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="What nodes boot from, where the provider needs it.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.")] = None,
    public: Annotated[bool, typer.Option("--public", help="For every project to use.")] = False,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    wanted = {
        "name": name,
        "coe": coe,
        "flavor_id": flavor,
        "master_flavor_id": master_flavor,
        "image_id": image,
        "labels": named_values(label) or None,
        "public": public or None,
    }
    body = {field: value for field, value in wanted.items() if value is not None}
    made = container_infra(choose(os_cloud)).call("POST", "/clustertemplates", body)
    show_object(made, output)


@commands.command("list", help=teach("List the templates to be used.", "moorage template list"))
def list_(output: OutputAs = Output.TABLE, os_cloud: OsCloud = None) -> None:
    rows = container_infra(choose(os_cloud)).every("/clustertemplates", "clustertemplates")
    show_list(rows, COLUMNS, output, nothing="No templates. `moorage template create --help`")


@commands.command(help=teach("Show a template.", "moorage template show swarm -o json"))
def show(
    template: Annotated[str, NAME], output: OutputAs = Output.TABLE, os_cloud: OsCloud = None
) -> None:
    show_object(container_infra(choose(os_cloud)).call("GET", path_of(template)), output)


@commands.command(
    help=teach("Delete templates that no cluster uses.", "moorage template delete swarm")
)
def delete(templates: Annotated[list[str], NAME], os_cloud: OsCloud = None) -> None:
    service = container_infra(choose(os_cloud))
    for template in templates:
        service.call("DELETE", path_of(template))


def path_of(template: str) -> str:
    return f"/clustertemplates/{segment(template, 'a template')}"
