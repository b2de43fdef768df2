"""`moorage backup` and `moorage restore`: all of an install in one file, and back."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from moorage.cli import choices, daemon
from moorage.cli.daemon import Home
from moorage.cli.failure import Code, Failure, on_disk
from moorage.cli.screen import Progress, complain, say

if TYPE_CHECKING:
    from moorage.backup import Manifest

PIPE = "-"


def back_up(state: Path, file: str, progress: Progress) -> None:
    """Write the backup to `file`, whole or not at all, or to stdout. Raises Failure, Refused."""
    from moorage.backup import take

    settings = choices.load(state)
    with (
        progress.step(f"{state} is saved") as step,
        on_disk(f"{state} can't be saved"),
        _target(file) as stream,
    ):
        manifest = take(settings, stream)
        step.result(_told(manifest))
    if file != PIPE:
        say(f"Saved and checked: {file}. It holds every secret of this install: keep it safe.")


def check(file: str, progress: Progress) -> None:
    """Say whether the backup is whole and would be taken. Raises Refused with the reason."""
    from moorage.backup import opened

    near = Path.cwd() / "backup" if file == PIPE else Path(file).absolute()
    with (
        progress.step(f"{file} is checked") as step,
        on_disk(f"{file} can't be checked"),
        _source(file) as stream,
        opened(stream, near) as backup,
    ):
        made = backup.manifest
        step.result(_told(made))
    say(
        f"A good backup, with {backup.clusters} clusters: of {made.state} on {made.host}, "
        f"{made.made_at}."
    )


def restore(
    state: Path, file: str, progress: Progress, *, database: str | None, force: bool
) -> None:
    """Put the backup into `state`. Raises Refused, with nothing changed, and Failure.

    After a Failure of the disk in the midst of it, which says so, Moorage does not start on what
    is half there: run again, it goes on.
    """
    from moorage import install
    from moorage.backup import opened, place, refuse_occupied

    home = Home(state)
    if any(daemon.running(Home(state, api)) for api in (False, True)):
        raise Failure(
            f"Moorage is up in {state}", code=Code.CONFLICT, mend=f"moorage down --state {state}"
        )
    with (
        progress.step(f"{file} is restored to {state}") as step,
        on_disk(f"{file} can't be restored", lambda: _how_it_goes_on(state)),
        _source(file) as stream,
        opened(stream, state) as backup,
    ):
        name = backup.manifest.install
        refuse_occupied(state, name, force=force)
        with install.held(name, state), _held(home):
            placed = place(backup, state, database=database, force=force)
        step.result(_told(backup.manifest))
    say(f"Restored: {backup.clusters} clusters, as they were {backup.manifest.made_at}.")
    if placed.nodes is None:
        say("No nodes were found here: the clusters' nodes will be made anew, and empty.")
    else:
        say(f"Nodes that are in {placed.nodes} will be taken over as they are.")
        say("Clusters that were resized since go back: nodes that were added then are deleted.")
    if placed.aside is not None:
        say(f"What was there is in {placed.aside}: remove it when it is of no more use.")
    if backup.manifest.state != str(state):
        say(f"Never start the install in {backup.manifest.state} again: this one is it now.")
    say("What to type next:")
    say(f"  moorage up --state {state}")
    say("  # what was made after the backup, and is unknown now:")
    say(f"  MOORAGE_STATE={shlex.quote(str(state))} moorage orphan list")


@contextlib.contextmanager
def _held(home: Home) -> Iterator[None]:
    """Hold the state directory; where nothing was put into it, none is left."""
    made = [path for path in (home.log.parent, home.state) if not path.exists()]
    try:
        with daemon.held(home):
            yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it is in use now
                path.rmdir()


def _how_it_goes_on(state: Path) -> str:
    from moorage.backup import RESTORING

    if not (state / RESTORING).exists():
        return ""
    return (
        "it is half there, and Moorage doesn't start on that: make room, and run it again. "
        f"What was there before is in {state}/before-restore-…"
    )


def _told(manifest: Manifest) -> str:
    return f"{len(manifest.parts)} parts, {manifest.size / 2**20:.1f} MiB"


@contextlib.contextmanager
def _target(file: str) -> Iterator[IO[bytes]]:
    if file == PIPE:
        if sys.stdout.isatty():
            raise Failure("a backup is no text for a terminal", code=Code.USAGE, mend="pipe it")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file).absolute()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}", code=Code.USAGE) from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _source(file: str) -> Iterator[IO[bytes]]:
    if file == PIPE:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        code = Code.NOT_FOUND if isinstance(error, FileNotFoundError) else Code.DENIED
        raise Failure(f"{file} can't be read: {error.strerror}", code=code) from None
    with stream:
        mode = os.fstat(stream.fileno()).st_mode
        if mode & 0o077:
            complain(f"{file} may be read by others (chmod 600 it): it holds every secret")
        yield stream
