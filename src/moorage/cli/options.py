"""Options that several commands have, spelled once."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from moorage.cli.failure import Code, Failure
from moorage.cli.screen import Output


class Half(StrEnum):
    """What `--only` takes; the last one takes back what was said before."""

    API = "api"
    CONDUCTOR = "conductor"
    BOTH = "both"


OutputAs = Annotated[Output, typer.Option("-o", "--output", help="For a person or for a program.")]
OsCloud = Annotated[
    str | None,
    typer.Option(
        "--os-cloud",
        help="A cloud of clouds.yaml; else OS_CLOUD, OS_AUTH_URL …, or what `moorage up` wrote.",
        show_default=False,
    ),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="Where this install keeps its files (/var/lib/moorage).",
        show_default=False,
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="postgresql://user:password@host/name; else a SQLite file. Whoever looks at this "
        "machine's processes can read it: MOORAGE_DATABASE_URL keeps a password out of sight.",
        show_default=False,
    ),
]

Only = Annotated[
    Half | None,
    typer.Option(
        "--only",
        help="Be one half of Moorage, beside other processes on one PostgreSQL; `both`: all of it.",
        show_default=False,
    ),
]
SignInPort = Annotated[
    int | None,
    typer.Option(
        "--sign-in-port",
        help="The port where Kubernetes clusters ask about tokens (9513); 0: none.",
        show_default=False,
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", help="The port for Prometheus (9512); 0: none.", show_default=False
    ),
]


def segment(word: str, what: str) -> str:
    """A name or uuid as one segment of a path, whatever is in it. Raises Failure.

    `.` and `..` can't be: HTTP clients resolve them, and the request would mean another object.
    """
    if word in {"", ".", ".."}:
        raise Failure(f"{what} can't be named `{word}`", code=Code.USAGE)
    return quote(word, safe="")


def named_values(words: Iterable[str] | None) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping. Raises Failure for anything else."""
    values = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        if not name or not sign:
            raise Failure(f"`{word}` is not KEY=VALUE", code=Code.USAGE)
        values[name] = value
    return values
