"""`moorage cluster explain`: what happened to a cluster, and why, line by line.

The API has events in the order in which they were written down: a turn's sentence is known
when the turn ends, so it comes after its steps. Here each entry stands where it began: the
sentence as a heading, its steps under it. A wish that came in the middle of a turn stands
there, between two steps; the rail beside the steps shows where the turn goes on.
"""

from __future__ import annotations

import datetime
import heapq
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from moorage.cli.clouds import choose
from moorage.cli.clusters import NAME, path_of
from moorage.cli.options import OsCloud, OutputAs
from moorage.cli.screen import Output, console, plain, say, show_json, teach
from moorage.cli.session import container_infra
from moorage.cli.times import after, utc

if TYPE_CHECKING:
    from rich.text import Text

commands = typer.Typer()
NEWEST = 60
"""So many entries are shown where not all are asked for, or more: a turn is shown whole."""
MARKS = {"request": "▶", "turn": "●", "step": "├"}
LAST_STEP = "└"
STYLES = {"request": "cyan", "turn": "bold"}


class Entry(NamedTuple):
    """An event of the API, and when it began."""

    at: datetime.datetime
    event: dict[str, Any]
    mark: str

    @property
    def is_step(self) -> bool:
        return bool(self.event["kind"] == "step")

    @property
    def is_wish(self) -> bool:
        return bool(self.event["kind"] == "request")


@commands.command(
    help=teach(
        "Explain how a cluster came to be as it is: each wish (▶), each turn (●) and the steps "
        "of it, with its cause, at the time at which it began. All times are UTC.\n\n"
        "Also of a cluster that is gone, by its uuid, for a month.",
        "moorage cluster explain fleet",
        "moorage cluster explain fleet --all -o json   # as the API has it",
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
    entries = in_order(events)
    shown = entries if every else newest(entries, NEWEST)
    if len(shown) < len(entries):
        say(f"(the newest {len(shown)} of {len(entries)} entries; --all shows them all)")
    screen = console(sys.stdout.isatty())
    for line in lines(shown, began=entries[0].at if entries else None):
        screen.print(line, soft_wrap=True)


def in_order(events: Iterable[dict[str, Any]]) -> list[Entry]:
    """Each where it began. A step is after its turn's sentence whatever clocks say."""
    wishes: list[Entry] = []
    turns: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event["kind"] in {"turn", "step"}:
            turns.setdefault(event["turn"] or str(event["id"]), []).append(event)
        else:
            wishes.append(Entry(utc(event["at"]), event, MARKS.get(event["kind"], " ")))
    told = sorted((list(_turn(turn)) for turn in turns.values()), key=lambda turn: turn[0].at)
    entries = (entry for turn in told for entry in turn)
    return list(heapq.merge(wishes, entries, key=lambda entry: entry.at))


def _turn(events: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    """The sentence, then the steps: by the time at which they began."""
    steps = sorted((e for e in events if e["kind"] == "step"), key=lambda e: utc(e["at"]))
    for event in events:
        if event["kind"] == "turn":
            began = utc(event["at"]) - datetime.timedelta(seconds=event["seconds"] or 0.0)
            # Both are rounded, and the clock may have been set meanwhile.
            began = min([began, *(utc(step["at"]) for step in steps)])
            yield Entry(began, event, MARKS["turn"])
    for step in steps:
        yield Entry(utc(step["at"]), step, LAST_STEP if step is steps[-1] else MARKS["step"])


def newest(entries: Sequence[Entry], count: int) -> Sequence[Entry]:
    """The last `count` entries, and what is missing of the turn that the cut goes through."""
    start = max(0, len(entries) - count)
    while start and _begins_amid_a_turn(entries[start:]):
        start -= 1
    return entries[start:]


def _begins_amid_a_turn(entries: Iterable[Entry]) -> bool:
    return next((entry.is_step for entry in entries if not entry.is_wish), False)


def lines(entries: Iterable[Entry], *, began: datetime.datetime | None = None) -> Iterator[Text]:
    """A line each: the time, how long after `began` (or the first of them), and what it was."""
    from rich.text import Text

    day = ""
    for at, event, mark in entries:
        began = began or at
        if (today := f"{at:%Y-%m-%d}") != day:
            day = today
            yield Text(f"{day}, times in UTC", style="bold")
        line = Text(f"{at:%H:%M:%SZ}  {after(at - began):>10}  ")
        margin = len(line)
        line.append(f"{mark} {plain(event['what'])}", style=STYLES.get(event["kind"], ""))
        if event["seconds"] is not None and event["kind"] == "step":
            line.append(f"  {event['seconds']:.2f} s", style="dim")
        if event["kind"] == "request":
            by = filter(None, (event["cause"], event.get("request_id")))
            line.append(f"  ({plain(', '.join(by))})", style="dim")
        elif not event["ok"]:
            line.stylize("red", margin)
            if event["cause"]:
                line.append(f"  failed: {plain(event['cause'])}", style="red")
        yield line
