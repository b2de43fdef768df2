"""`moorage`: the commands, and how each of them ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from moorage.cli import (
    changes,
    clusters,
    groups,
    orphans,
    quotas,
    records,
    releases,
    services,
    story,
    templates,
)
from moorage.cli.failure import MEANINGS, Code, Failure
from moorage.cli.options import Database, MetricsPort, Only, OutputAs, SignInPort, State
from moorage.cli.screen import Output, Progress, complain, say, show_json, teach

CODES = "\n".join(f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="moorage",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=teach(
        "A multi-tenant container cloud in one install.",
        "moorage doctor                    # what this machine has, and what it lacks",
        "moorage demo                      # the whole of it in a minute",
        "moorage up                        # start the server, as root",
        "moorage template create swarm --coe swarm --flavor small",
        "moorage cluster create fleet --template swarm --masters 1 --nodes 2 --wait",
        'eval "$(moorage cluster config fleet --dir ~/.moorage/fleet)"; docker node ls',
    )
    + f"\n\n\b\nExit codes:\n{CODES}",
)
app.add_typer(clusters.commands, name="cluster")
clusters.commands.add_typer(changes.commands)
clusters.commands.add_typer(story.commands)
app.add_typer(groups.commands, name="group")
app.add_typer(templates.commands, name="template")
app.add_typer(quotas.commands, name="quota")
app.add_typer(services.commands, name="service")
app.add_typer(orphans.commands, name="orphan")
app.add_typer(releases.commands, name="release")
app.add_typer(records.catalogue, name="catalogue")
app.command(
    help=teach(
        "List every request that meant to change something: who, what, from where, outcome.",
        "moorage audit -o json",
    )
)(records.audit)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def _version(asked: bool) -> None:
    if asked:
        from moorage import __version__

        say(f"moorage {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    del version


@app.command(
    help=teach(
        "Start Moorage on this machine and return when it is ready.\n\n"
        "What is said is kept: the next `moorage up` needs no options. Every option "
        "may be a variable too: MOORAGE_PORT=9600.",
        "moorage up",
        "moorage up --host 0.0.0.0 --public-address 203.0.113.7",
        "moorage up --keystone https://cloud:5000/v3   # an existing Keystone",
        "MOORAGE_DATABASE_URL=postgresql://moorage:secret@db/moorage moorage up",
    )
)
def up(
    state: State = None,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on (127.0.0.1).", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The API's port (9511).", show_default=False)
    ] = None,
    keystone: Annotated[
        str | None,
        typer.Option(help="An existing Keystone's URL; else an embedded one.", show_default=False),
    ] = None,
    keystone_port: Annotated[
        int | None, typer.Option(help="The embedded Keystone's port (5000).", show_default=False)
    ] = None,
    metrics_port: MetricsPort = None,
    sign_in_port: SignInPort = None,
    public_address: Annotated[
        str | None,
        typer.Option(help="This machine's address as others see it.", show_default=False),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="The clusters' networks come from it (10.128.0.0/12).", show_default=False
        ),
    ] = None,
    database: Database = None,
    only: Only = None,
    quota_clusters: Annotated[
        int | None, typer.Option(help="Clusters a project may have (20).", show_default=False)
    ] = None,
    quota_nodes: Annotated[
        int | None, typer.Option(help="Nodes a project may have (100).", show_default=False)
    ] = None,
    memory_overcommit: Annotated[
        float | None,
        typer.Option(help="Promise nodes this many times the memory (1.0).", show_default=False),
    ] = None,
    key_lost: Annotated[
        bool,
        typer.Option(
            "--key-lost", help="The key that sealed the clusters' CA keys is lost: start anyway."
        ),
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and log to this terminal.")
    ] = False,
) -> None:
    options = {
        "host": host,
        "port": port,
        "keystone": keystone,
        "keystone_port": keystone_port,
        "metrics_port": metrics_port,
        "sign_in_port": sign_in_port,
        "public_address": public_address,
        "pool": pool,
        "database_url": database,
        "only": only and only.value,
        "quota_clusters": quota_clusters,
        "quota_nodes": quota_nodes,
        "memory_overcommit": memory_overcommit,
    }
    from moorage.cli import choices, server

    settings = choices.load(choices.state_of(state), options)
    if foreground:
        server.serve(server.kept(settings, key_lost=key_lost))
        return
    started = server.up(settings, Progress(), key_lost=key_lost)
    if not started and (key_lost or any(value is not None for value in options.values())):
        complain("it is up already, with the options it was started with: `moorage down` first")
    server.tell_what_next(choices.load(settings.state), started)


@app.command(
    help=teach(
        "Be the server, for a supervisor such as systemd: no fork, JSON logs on stderr, "
        "ends on SIGTERM. Clusters go on without it. `moorage up` keeps the options; "
        "what is said here holds for this time.",
        "moorage serve --state /var/lib/moorage",
        "moorage serve --only conductor   # on each machine that has nodes; one PostgreSQL for all",
        "moorage serve --only api         # as many as are needed, with one --keystone",
    )
)
def serve(state: State = None, database: Database = None, only: Only = None) -> None:
    from moorage.cli import choices, server

    options = {"database_url": database, "only": only and only.value}
    server.serve(choices.load(choices.state_of(state), options))


@app.command(
    help=teach(
        "Stop Moorage and its Keystone. Clusters go on running; with --purge, nothing does.",
        "moorage down",
        "moorage down --purge --yes   # every cluster, link, rule, cgroup and file of it",
    )
)
def down(
    state: State = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete all clusters and all that Moorage made.")
    ] = False,
    yes: Yes = False,
) -> None:
    from moorage.cli import choices, server

    where = choices.state_of(state)
    settings = choices.load(where) if purge else None
    if purge and not yes:
        _confirm(f"Delete every cluster and all files of the install in {where}?")
    stopped = server.down(where, Progress())
    if settings is None:
        say(f"Moorage is down{'' if stopped else ' already'}.")
        return
    if os.geteuid() != 0:
        raise Failure("only root can purge", code=Code.DENIED, mend="sudo moorage down --purge")
    server.purge(settings, Progress())
    say(f"Nothing of {where} is left.")
    if settings.database_url is not None:
        say("The database that was chosen by --database stays as it is: drop it where it is.")


File = Annotated[str, typer.Argument(metavar="FILE", help="The backup; `-`: stdout or stdin.")]


@app.command(
    help=teach(
        "Save all of this install in one file, while it runs: database, keys, users, "
        "settings.\n\nThe file is checked as it is made, and readable by its owner only. It "
        "holds every secret of the install: `-` leads it through a program that encrypts.",
        "moorage backup /srv/backup/moorage-$(date +%F).tar",
        "moorage backup --check /srv/backup/moorage-2026-01-31.tar",
        "moorage backup - | age -r age1… > moorage.tar.age",
    )
)
def backup(
    file: File,
    check: Annotated[
        bool, typer.Option("--check", help="Look into the file instead: is it whole and sound?")
    ] = False,
    state: State = None,
) -> None:
    from moorage.cli import backups, choices

    if check:
        backups.check(file, Progress())
    else:
        backups.back_up(choices.state_of(state), file, Progress())


@app.command(
    help=teach(
        "Bring an install back from its backup, here or in another state directory.\n\n"
        "Nodes that still run are taken over as they are. A file that is damaged, foreign or "
        "of a newer Moorage is refused, and nothing has changed then.",
        "moorage restore moorage.tar --state /srv/moorage && moorage up --state /srv/moorage",
        "age -d -i key.txt moorage.tar.age | moorage restore -",
    )
)
def restore(
    file: File,
    state: State = None,
    database: Database = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace this very install, which is set aside (and down)."),
    ] = False,
) -> None:
    from moorage.cli import backups, choices

    database = database or os.environ.get("MOORAGE_DATABASE_URL")
    where = choices.state_of(state)
    backups.restore(where, file, Progress(), database=database, force=force)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise Failure(f"{question} There is nobody to ask", code=Code.USAGE, mend="say --yes")
    typer.confirm(question, abort=True, err=True)


@app.command(
    help=teach(
        "Say what this machine has and lacks, what that costs, and the line that mends it.\n\n"
        "Exit code 1 where something is missing that Moorage can't work without.",
        "moorage doctor",
        "moorage doctor -o json | jq '.[] | select(.verdict != \"ok\")'",
    )
)
def doctor(state: State = None, output: OutputAs = Output.TABLE) -> None:
    from moorage.cli import choices, server
    from moorage.cli.doctor import missing
    from moorage.cli.prescription import show

    findings = server.findings(choices.load(choices.state_of(state)))
    if output is Output.JSON:
        show_json([finding.as_dict() for finding in findings])
    else:
        show(findings)
    if missing(findings):
        raise typer.Exit(Code.FAILED)


@app.command(
    help=teach(
        "Show it all on this machine: a tenant, a Swarm cluster, a service on it, a worker "
        "lost and replaced. Needs root and a docker client; may be run again.",
        "moorage demo",
        "moorage demo --state /var/lib/moorage-demo --port 9600 --keystone-port 5600 "
        "--metrics-port 9601 --sign-in-port 9602",
    )
)
def demo(
    state: State = None,
    port: Annotated[
        int | None, typer.Option(help="The API's port (9511).", show_default=False)
    ] = None,
    keystone_port: Annotated[
        int | None, typer.Option(help="The embedded Keystone's port (5000).", show_default=False)
    ] = None,
    metrics_port: MetricsPort = None,
    sign_in_port: SignInPort = None,
    database: Database = None,
) -> None:
    from moorage.cli import choices
    from moorage.cli.demo import run as show

    options = {
        "port": port,
        "keystone_port": keystone_port,
        "metrics_port": metrics_port,
        "sign_in_port": sign_in_port,
        "database_url": database,
    }
    show(choices.load(choices.state_of(state), options))


def main() -> None:
    """Entry point: every end that is not a bug is one sentence on stderr and a code."""
    _spare_the_proxy()
    try:
        app()
    except Failure as failure:
        complain(str(failure))
        sys.exit(failure.code)
    except Exception as wrong:
        from moorage.model.errors import MoorageError

        if os.environ.get("MOORAGE_DEBUG"):
            raise
        if isinstance(wrong, MoorageError):
            complain(wrong.reason)
        else:
            complain(f"a bug: {type(wrong).__name__}: {wrong}\n  MOORAGE_DEBUG=1 shows where")
        sys.exit(Code.FAILED)


def _spare_the_proxy() -> None:
    """This machine's own services are reached directly, whatever proxy is set."""
    for name in ("no_proxy", "NO_PROXY"):
        given = os.environ.get(name, "")
        os.environ[name] = ",".join(filter(None, [given, "127.0.0.1", "localhost", "::1"]))


if __name__ == "__main__":
    main()
