"""`moorage up`, `down` and `serve`: the server of this machine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moorage.cli import choices, daemon
from moorage.cli.daemon import Home
from moorage.cli.failure import Code, Failure
from moorage.cli.screen import Progress, say

if TYPE_CHECKING:
    from moorage.cli.doctor import Finding
    from moorage.settings import Settings

READY_SECONDS = 120.0
"""A first start makes Keystone's database, which takes seconds on a fast machine."""
STOP_SECONDS = 30.0
"""Beside what `stop_seconds` gives load balancers."""
PORT_PATIENCE = 3.0
"""A server that was killed just now leaves its ports within that time."""


def up(settings: Settings, progress: Progress, *, key_lost: bool = False) -> bool:
    """Start the server if it is not up, and return when it is ready: whether it was started."""
    home = Home.of(settings)
    if daemon.running(home) is not None:
        return False
    settings = kept(settings, key_lost=key_lost)
    with progress.step("Moorage starts") as step:
        child = daemon.spawn(home, choices.environment())
        daemon.await_ready(
            child, home, (settings.host, settings.port), seconds=READY_SECONDS, tell=step.say
        )
        step.result(f"http://{settings.host}:{settings.port} answers")
    return True


def kept(settings: Settings, *, key_lost: bool = False) -> Settings:
    """What is served now, and by the next `moorage up`. Raises Failure on an unfit machine.

    `key_lost`: what the key file of now does not open is lost. This is kept by its key's name:
    it must not hold for another file, which is there by mistake some day.
    """
    refuse_if_unfit(settings)
    Home.of(settings).prepare()
    if key_lost:
        from moorage import app

        settings = settings.model_copy(update={"key_lost": app.current_key(settings)})
    choices.keep(settings)
    return settings


def serve(settings: Settings) -> None:
    """Be the server until SIGTERM; structured JSON on stderr."""
    from moorage import app

    with daemon.held(Home.of(settings)):
        app.serve(settings)


def down(state: Path, progress: Progress) -> bool:
    """Stop the server and its Keystone; nodes go on. Returns whether one ran."""
    found = [daemon.running(Home(state, api)) for api in (True, False)]
    processes = [process for process in found if process is not None]
    seconds = STOP_SECONDS + (_stop_seconds(state) if processes else 0)
    for process in processes:
        with progress.step("Moorage stops") as step:
            if not daemon.stop(process, seconds=seconds):
                step.result(f"it was killed, for it did not end within {seconds:.0f} s")
    return bool(processes)


def _stop_seconds(state: Path) -> float:
    """So long its API was told to answer on; 0 where what is kept can't be read."""
    try:
        return choices.load(state).stop_seconds
    except Failure:
        return 0.0


def purge(settings: Settings, progress: Progress) -> None:
    """Take everything of the install off this machine: what was never there is gone as well."""
    from moorage import app

    with progress.step(f"everything of {settings.state} is removed"):
        with daemon.held(Home(settings.state)), daemon.held(Home(settings.state, api=True)):
            app.wipe(settings)
        _remove_own_files(Home(settings.state))


def _remove_own_files(home: Home) -> None:
    """What this room keeps in the state directory, and the directory if it is empty then."""
    shutil.rmtree(home.state / "demo", ignore_errors=True)
    for path in (home.settings, home.pidfile, *home.log.parent.glob("moorage*.log*")):
        path.unlink(missing_ok=True)
    for directory in (home.log.parent, home.state):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def ports(settings: Settings) -> dict[int, str]:
    """The TCP ports that the server takes, each with the name of its setting."""
    own_keystone = not settings.keystone and settings.only != "conductor"
    return {
        settings.port: "port",
        **({settings.metrics_port: "metrics_port"} if settings.metrics_port else {}),
        **(
            {settings.sign_in_port: "sign_in_port"}
            if settings.sign_in_port and settings.only != "conductor"
            else {}
        ),
        **({settings.keystone_port: "keystone_port"} if own_keystone else {}),
    }


def findings(settings: Settings) -> list[Finding]:
    """What `doctor` finds on this machine for these settings."""
    from moorage.cli.doctor import examine
    from moorage.cli.facts import gather

    taken = {} if daemon.running(Home.of(settings)) else ports(settings)
    facts = gather(settings.state, settings.host, taken)
    return examine(facts, settings.pool, taken)


def refuse_if_unfit(settings: Settings) -> None:
    """Raises Failure where the machine lacks something without which the server can't work."""
    from moorage.cli.doctor import missing

    deadline = time.monotonic() + PORT_PATIENCE
    while True:
        lacks = missing(findings(settings))
        only_ports = all(finding.name.startswith("port ") for finding in lacks)
        if not lacks:
            return
        if not only_ports or time.monotonic() > deadline:
            raise _unfit(lacks)
        time.sleep(daemon.POLL_SECONDS)


def _unfit(lacks: Sequence[Finding]) -> Failure:
    lines = [f"{lack.name}: {lack.seen} ({lack.cost})\n    {lack.mend}" for lack in lacks]
    taken = all(lack.name.startswith("port ") for lack in lacks)
    return Failure(
        "this machine is not ready for Moorage:\n  " + "\n  ".join(lines),
        code=Code.CONFLICT if taken else Code.FAILED,
        mend="`moorage doctor` tells more",
    )


def tell_what_next(settings: Settings, started: bool) -> None:
    """Where the server is, and what to type now."""
    clouds = Home(settings.state).clouds
    log = Home.of(settings).log
    if settings.only == "conductor":
        say(f"The conductor is {'up' if started else 'up already'}; its log: {log}")
        return
    say(f"Moorage is {'up' if started else 'up already'}: http://{settings.host}:{settings.port}")
    say(f"  clouds.yaml   {clouds}  (cloud `moorage`, the operator's own)")
    say(f"  log           {log}")
    say("")
    say("What to type next:")
    say("  moorage template create swarm --coe swarm --flavor small --public")
    say("  moorage cluster create fleet --template swarm --masters 1 --nodes 2 --wait")
    say(f"  export OS_CLIENT_CONFIG_FILE={clouds}")
    say("  openstack --os-cloud moorage coe cluster list")
