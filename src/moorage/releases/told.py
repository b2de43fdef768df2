"""What a program says its version is.

It is run for that, and so only once its sum is known to be the published one, and it is
known to be made for this machine. Even so it is no program of this machine's: it runs as
nobody, with an empty environment, for a few seconds, and what it says is bounded.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from moorage.model.errors import Invalid, Refused
from moorage.releases.version import Version

NOBODY = 65534
SECONDS = 20.0
"""Each takes a tenth of one; a busy machine's disk may have to bring 130 MB first."""
MOST_BYTES = 4096
_SAYS = "Kubernetes "


def version_of(program: Path) -> Version:
    """Raises Refused where it doesn't say one."""
    line = _said(program).decode(errors="replace").strip()
    _, _, version = line.rpartition(_SAYS)
    with contextlib.suppress(Invalid):
        if line == f"{_SAYS}{version}":
            return Version.parse(version)
    heard = f"it says {line[:80]!r}" if line else "it says nothing"
    raise Refused(f"The version of {program.name} can't be found out: {heard}.")


def _said(program: Path) -> bytes:
    """What `program --version` writes. By its descriptor: nobody may not walk to where it lies."""
    rights = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    descriptor = os.open(program, os.O_RDONLY)
    try:
        child = subprocess.Popen(
            [program.name, "--version"],
            executable=f"/proc/self/fd/{descriptor}",
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
            **rights,  # type: ignore[call-overload]
        )
    except OSError as error:
        raise Refused(f"{program.name} can't be run: {error.strerror}.") from None
    finally:
        os.close(descriptor)
    try:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        return _heard(child.stdout.fileno())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()


def _heard(pipe: int) -> bytes:
    said, deadline = b"", time.monotonic() + SECONDS
    while len(said) < MOST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            break
        block = os.read(pipe, MOST_BYTES)
        if not block:
            break
        said += block
    return said
