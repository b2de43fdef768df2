"""`moorage cluster explain`: what happened to a cluster, and why, line by line."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moorage.cli.clouds import choose
from moorage.cli.clusters import NAME, path_of
from moorage.cli.options import OsCloud, OutputAs
from moorage.cli.screen import Output, console, say, show_json, teach
from moorage.cli.session import container_infra

if TYPE_CHECKING:
    from rich.text import Text

commands = typer.Typer()
NEWEST = 60
"""So many entries are shown where not all are asked for."""
MARKS = {"request": "▶", "turn": "●", "step": "  ·"}


@commands.command(
    help=teach(
        "Explain how a cluster came to be as it is: each wish, turn and step, with its cause.\n\n"
        "Also of a cluster that is gone, by its uuid, for a month.",
        "moorage cluster explain fleet",
        "moorage cluster explain fleet --all -o json",
    )
)
def explain(
    cluster: Annotated[str, NAME],
    every: Annotated[bool, typer.Option("--all", help="From the first request on.")] = False,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    events = service.every(f"{path_of(cluster)}/events", "events", key="id")
    if output is Output.JSON:
        show_json(events)
        return
    shown = events if every else events[-NEWEST:]
    if len(shown) < len(events):
        say(f"(the newest {len(shown)} of {len(events)} entries; --all shows them all)")
    screen = console(sys.stdout.isatty())
    for line in lines(shown, began=_time(events[0]) if events else None):
        screen.print(line, soft_wrap=True)


def lines(
    events: Sequence[dict[str, Any]], *, began: datetime.datetime | None = None
) -> Iterator[Text]:
    """A line each: the time, how long after the first one, and what it was."""
    from rich.text import Text

    day = ""
    for event in events:
        at = _time(event)
        began = began or at
        if (today := f"{at:%Y-%m-%d}") != day:
            day = today
            yield Text(f"{day} (UTC)", style="bold")
        line = Text(f"{at:%H:%M:%S}  {_after(at - began):>10}  ")
        style = {"request": "cyan", "turn": "bold"}.get(event["kind"], "")
        line.append(f"{MARKS.get(event['kind'], ' ')} {event['what']}", style=style)
        if event["seconds"] is not None and event["kind"] == "step":
            line.append(f"  {event['seconds']:.2f} s", style="dim")
        if event["kind"] == "request":
            line.append(f"  ({event['cause']})", style="dim")
        elif not event["ok"]:
            line.stylize("red", 22)
            if event["cause"]:
                line.append(f"  failed: {event['cause']}", style="red")
        yield line


def _time(event: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(event["at"]).astimezone(datetime.UTC)


def _after(passed: datetime.timedelta) -> str:
    """`+1.2 s`, `+3 min`, `+2 h`, `+5 d`."""
    seconds = passed.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"+{seconds / size:.0f} {unit}"
    return f"+{seconds:.1f} s"
