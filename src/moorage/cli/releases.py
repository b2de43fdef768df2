"""`moorage release …`: the binaries that Kubernetes clusters of this machine are made of."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli import choices
from moorage.cli.failure import Code, Failure, on_disk
from moorage.cli.options import Database, OutputAs, State
from moorage.cli.screen import Output, Progress, complain, say, show_json, show_list, teach

if TYPE_CHECKING:
    from moorage.releases import Release, Version
    from moorage.settings import Settings

ARCHIVE = "https://dl.k8s.io/v1.37.1/kubernetes-server-linux-amd64.tar.gz"
commands = typer.Typer(
    no_args_is_help=True,
    help=teach(
        "Releases of Kubernetes on this machine: upstream's binaries, several versions side by "
        "side. Clusters of coe kubernetes are made of them. As root.",
        f"moorage release add kubernetes {ARCHIVE}",
        "moorage release list",
        "moorage release remove kubernetes v1.36.4",
    ),
)
COLUMNS = ("engine", "version", "architecture", "MiB", "added_at", "source")


class Engine(enum.StrEnum):
    """The engines whose binaries don't come with the system's packages."""

    KUBERNETES = "kubernetes"


OfEngine = Annotated[Engine, typer.Argument(metavar="ENGINE", help="kubernetes.")]


@commands.command(
    help=teach(
        "Add a release from upstream's server archive, its published SHA-512 checked.\n\n"
        "Of an URL, the SHA-512 is asked beside it (….sha512), by https. What is incomplete, made "
        "for another machine, or not what was published is refused, and nothing has changed. To "
        "add what is there already does nothing. Where no archive can be had, `make kubernetes` "
        "in Moorage's sources builds a directory of binaries, which is taken as it is.",
        f"moorage release add kubernetes {ARCHIVE}",
        "moorage release add kubernetes kubernetes-server-linux-amd64.tar.gz --sha512 5b7c…",
        "moorage release add kubernetes ~/.cache/moorage/kubernetes/v1.20.2",
    )
)
def add(
    engine: OfEngine,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The archive: a file or an URL; or a directory.")
    ],
    sha512: Annotated[
        str | None,
        typer.Option(
            "--sha512",
            metavar="HEX|FILE|URL",
            help="The archive's SHA-512, or where it stands; else SOURCE.sha512.",
            show_default=False,
        ),
    ] = None,
    coredns: Annotated[
        Path | None,
        typer.Option(
            "--coredns",
            metavar="FILE",
            help="CoreDNS' program, for clusters of this release; else they have another resolver.",
            show_default=False,
        ),
    ] = None,
    state: State = None,
    output: OutputAs = Output.TABLE,
) -> None:
    from moorage.releases import Releases

    progress = Progress()
    with (
        progress.step(f"a release of {engine} is added") as step,
        _ended(),
        on_disk("the release can't be added"),
    ):
        releases = Releases(choices.state_of(state))
        added = releases.add(source, sha512, coredns=coredns, tell=step.say)
        release = added.release
        step.result(f"{release.version}, {release.size >> 20} MiB")
    if output is Output.JSON:
        show_json({"engine": engine, **release.as_dict(), "is_new": added.is_new})
        return
    there = "Added" if added.is_new else "There already, the very same"
    say(f"{there}: {engine} {release.version} ({release.directory})")


@commands.command(
    "list",
    help=teach(
        "List the releases of this machine, the newest first.",
        "moorage release list",
        "moorage release list -o json | jq -r '.[].version'",
    ),
)
def list_(state: State = None, output: OutputAs = Output.TABLE) -> None:
    from moorage.releases import Releases

    with _ended(), on_disk("the releases can't be read"):
        releases = Releases(choices.state_of(state))
        found, damaged = releases.list(), releases.damaged()
    rows = [_row(release) for release in found]
    if output is Output.TABLE:
        rows = [{**row, "MiB": each.size >> 20} for row, each in zip(rows, found, strict=True)]
    nothing = "No release of Kubernetes: moorage release add kubernetes --help"
    show_list(rows, COLUMNS, output, nothing=nothing)
    for reason in damaged:
        complain(reason)


@commands.command(
    help=teach(
        "Remove a release that no cluster uses.\n\n"
        "Whether one does is asked of the database: one that wants the version by its label "
        "kube_tag, or runs it.",
        "moorage release remove kubernetes v1.20.2",
    )
)
def remove(
    engine: OfEngine,
    version: Annotated[str, typer.Argument(help="As `moorage release list` shows it.")],
    state: State = None,
    database: Database = None,
) -> None:
    from moorage.releases import Releases, Version

    settings = choices.load(choices.state_of(state), {"database_url": database})
    with _ended(), on_disk("the release can't be removed"):
        asked = Version.parse(version)
        Releases(settings.state).remove(asked, _users(settings))
    say(f"Removed: {engine} {asked}")


def _row(release: Release) -> dict[str, object]:
    return {
        "engine": Engine.KUBERNETES,
        **release.as_dict(),
        "directory": str(release.directory),
    }


def _users(settings: Settings) -> dict[Version, list[str]]:
    """Who runs on each version, as the database says; nobody where there is none yet."""
    import asyncio

    from sqlalchemy.engine import make_url

    from moorage.releases import in_use
    from moorage.store.look import all_clusters

    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return {}
    return in_use(asyncio.run(all_clusters(settings.database)))


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    """Our errors with the exit codes that they have elsewhere."""
    from moorage.model.errors import Conflict, Invalid, MoorageError, NotFound, RetryLater

    codes = {
        Invalid: Code.USAGE,
        NotFound: Code.NOT_FOUND,
        Conflict: Code.CONFLICT,
        RetryLater: Code.UNREACHABLE,
    }
    try:
        yield
    except MoorageError as error:
        raise Failure(error.reason, code=codes.get(type(error), Code.FAILED)) from None
