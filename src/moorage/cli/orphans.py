"""`moorage orphan …`: what clusters have left that the cloud knows no more."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from moorage.cli.clouds import choose
from moorage.cli.options import OsCloud, OutputAs, segment
from moorage.cli.screen import Output, say, show_list, teach
from moorage.cli.session import container_infra

commands = typer.Typer(
    no_args_is_help=True,
    help=teach(
        "What is left of clusters that have no row: abandoned by `cluster delete --force`, or "
        "made after the backup that was restored. For admins.",
        "moorage orphan list",
        "moorage orphan remove 5f0c1c1e-…",
    ),
)
REMOVE_SECONDS = 180.0
"""The server takes 120 s at the most, after it has looked for what is there, 30 s twice."""
COLUMNS = ("uuid", "name", "project_id", "provider", "abandoned_at", "seen now", "reason")


@commands.command(
    "list",
    help=teach(
        "List them, with what their provider sees of them now. Nothing goes by itself.",
        "moorage orphan list",
        "moorage orphan list -o json | jq '.[].traces'",
    ),
)
def list_(output: OutputAs = Output.TABLE, os_cloud: OsCloud = None) -> None:
    rows = container_infra(choose(os_cloud)).call("GET", "/orphans")["orphans"]
    if output is Output.TABLE:
        rows = [{**row, "seen now": _seen(row)} for row in rows]
    show_list(rows, COLUMNS, output, nothing="Nothing is left of clusters that are not known.")


@commands.command(
    help=teach(
        "Remove what is left of a cluster, and the note of it. Its data is lost.",
        "moorage orphan remove 5f0c1c1e-…",
        "moorage orphan remove 5f0c1c1e-… --forget   # it was removed by hand",
    )
)
def remove(
    uuid: Annotated[str, typer.Argument(help="The cluster's.")],
    forget: Annotated[
        bool, typer.Option("--forget", help="Drop the note only, and touch nothing.")
    ] = False,
    os_cloud: OsCloud = None,
) -> None:
    asked = "?forget=true" if forget else ""
    path = f"/orphans/{segment(uuid, 'a cluster')}{asked}"
    container_infra(choose(os_cloud)).call("DELETE", path, seconds=REMOVE_SECONDS)
    say(f"{'Forgotten' if forget else 'Removed'}: {uuid}")


def _seen(row: dict[str, Any]) -> str:
    traces: list[str] | None = row["traces"]
    if traces is None:
        home = row.get("home")  # an API of before doesn't say it
        return f"to be asked at {home}" if home else "its provider does not tell"
    return "; ".join(traces) or "nothing"
