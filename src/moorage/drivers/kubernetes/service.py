"""A program that runs in a node for ever: supervised by runit, its log by svlogd.

What ends is started again a second later. Controller-manager and scheduler need it: they
end whenever they lose their lease.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from moorage.drivers.kubernetes.place import LOGS

LOG_BYTES, LOG_FILES = 2_000_000, 3


@dataclass(frozen=True, slots=True)
class Service:
    """`before`: lines of shell that must succeed before each start. `reads`: what of its files,
    by path, makes another start necessary where it changes; keys and certificates aside."""

    name: str
    argv: tuple[str, ...]
    before: str = ""
    reads: tuple[str, ...] = ()

    def run(self, files: Mapping[str, bytes], trust: str) -> str:
        """The script that runit starts. It changes when the program has to be started again:

        with its arguments, what it reads, and `trust`, what its certificates are.
        """
        told = hashlib.sha256(trust.encode())
        for path in self.reads:
            told.update(files[path])
        before = f"{self.before.strip()}\n" if self.before else ""
        command = " \\\n  ".join(shlex.quote(word) for word in self.argv)
        head = f"#!/bin/sh\n# {told.hexdigest()[:16]}\n"
        # Images are unpacked with these modes, for whoever runs in them.
        return f"{head}set -e\numask 022\nexec 2>&1\n{before}exec {command}\n"


def log_run(name: str) -> str:
    """The script that keeps a service's log, of a bounded size, at LOGS/<name>/current."""
    directory = f"{LOGS}/{name}"
    return (
        "#!/bin/sh\n"
        f"mkdir -p {directory}\n"
        f"printf 's{LOG_BYTES}\\nn{LOG_FILES}\\n' > {directory}/config\n"
        f"exec svlogd {directory}\n"
    )
