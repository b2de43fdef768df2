"""What is shown: answers on stdout as a table or JSON, progress and errors on stderr.

What a server says may come from anybody: nothing of it reaches the terminal that is more
than letters (`plain`), or it would move the cursor, set the title, or forge a line.
"""

from __future__ import annotations

import contextlib
import enum
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


LAYOUT = "\n\t"
"""What a text of our own may have beside printable characters."""


class Output(enum.StrEnum):
    """`-o`: for a person, or for a program."""

    TABLE = "table"
    JSON = "json"


def teach(text: str, *examples: str) -> str:
    """A command's help: what it does, and how it is typed."""
    lines = "\n".join(f"  $ {example}" for example in examples)
    return f"{text}\n\n\b\nExamples:\n{lines}"


def say(text: str = "") -> None:
    """A line of the answer, for a person or for `eval`: never folded, never coloured."""
    sys.stdout.write(f"{plain(text, keep=LAYOUT)}\n")


def complain(text: str) -> None:
    sys.stderr.write(f"moorage: {plain(text, keep=LAYOUT)}\n")


def plain(text: str, *, keep: str = "") -> str:
    """The text with all that can't be printed, and is not in `keep`, written out: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else _written_out(letter)
        for letter in text
    )


def _written_out(letter: str) -> str:
    """As Python and JSON write it, and also where it is no control character: `\\u202e`."""
    return repr(letter)[1:-1]


def show_json(value: object) -> None:
    say(json.dumps(value, indent=2, default=str))


def show_list(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output: Output, *, nothing: str
) -> None:
    """Rows as a table of `columns`, or whole as JSON. `nothing` is said of an empty table."""
    if output is Output.JSON:
        show_json(list(rows))
    elif not rows:
        say(nothing)
    else:
        _table(columns, [[_text(row.get(column)) for column in columns] for row in rows])


def show_object(value: Mapping[str, Any], output: Output) -> None:
    """One object, a field a line."""
    if output is Output.JSON:
        show_json(value)
    else:
        shown = sorted((k, v) for k, v in value.items() if k != "links")
        _table(("field", "value"), [[name, _text(field)] for name, field in shown])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console(sys.stdout.isatty()).print(table)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{_text(name)}={_text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value) or "-"
    return plain(str(value))


def console(tty: bool, *, stderr: bool = False) -> Console:
    """A console that is wide enough for a pipe to get whole lines."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, width=None if tty else 240)


class Step:
    """Something that takes time; `say` tells what it is at."""

    def __init__(self, title: str, status: Status | None, show: Console) -> None:
        self.title = title
        self.started = time.monotonic()
        self._status = status
        self._show = show
        self._said = ""
        self._result = ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def say(self, detail: str) -> None:
        """Live on a terminal; a line for each change elsewhere."""
        if detail == self._said and self._status is None:
            return
        self._said = detail
        if self._status is not None:
            self._status.update(_safe(f"{self.title}  {self.seconds:.1f} s  {detail}"))
        else:
            self._show.print(_safe(f"    {self.seconds:6.1f} s  {detail}"))

    def result(self, text: str) -> None:
        """What to write beside the step once it is done."""
        self._result = text

    @property
    def line(self) -> str:
        return f"{self.seconds:6.1f} s  {self.title}" + (
            f": {self._result}" if self._result else ""
        )


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(plain(text))


class Progress:
    """Steps one after the other, each with the time that it took."""

    def __init__(self, *, stderr: bool = True) -> None:
        stream = sys.stderr if stderr else sys.stdout
        self._tty = stream.isatty()
        self._console = console(self._tty, stderr=stderr)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        status = self._console.status(_safe(title)) if self._tty else None
        step = Step(title, status, self._console)
        with status or contextlib.nullcontext():
            if status is None:
                self._console.print(_safe(f"    {title} ..."))
            try:
                yield step
            except BaseException:
                self._console.print(f"[red]✗[/] {_safe(step.line)}")
                raise
        self._console.print(f"[green]✓[/] {_safe(step.line)}")

    def note(self, text: str) -> None:
        self._console.print(_safe(text))
