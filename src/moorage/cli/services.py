"""`moorage service …`: the processes of the cloud, by their signs of life."""

from __future__ import annotations

import typer

from moorage.cli.clouds import choose
from moorage.cli.options import OsCloud, OutputAs
from moorage.cli.screen import Output, show_list, teach
from moorage.cli.session import container_infra
from moorage.cli.times import readable

commands = typer.Typer(
    no_args_is_help=True,
    help=teach("The processes that serve this cloud; for admins.", "moorage service list"),
)
COLUMNS = ("host", "binary", "state", "last_seen")


@commands.callback()
def group() -> None:
    """One command alone would take the group's place."""


@commands.command(
    "list",
    help=teach(
        "List the processes of the cloud, and when each was last seen alive, in UTC.\n\n"
        "One that was silent for a minute is down. For admins.",
        "moorage service list",
        "moorage service list -o json | jq '.[] | select(.state == \"down\")'",
    ),
)
def list_(output: OutputAs = Output.TABLE, os_cloud: OsCloud = None) -> None:
    rows = container_infra(choose(os_cloud)).call("GET", "/mservices")["mservices"]
    if output is Output.TABLE:
        rows = [{**row, "last_seen": readable(row["updated_at"])} for row in rows]
    show_list(rows, COLUMNS, output, nothing="No process has given a sign of life yet.")
