"""nft(8) as a client: JSON in, JSON out, one transaction a call (libnftables-json(5))."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from moorage.model.errors import Refused, RetryLater
from moorage.threads import to_its_end

Command = dict[str, Any]
"""One command of libnftables-json(5), e.g. `{"add": {"table": {…}}}`."""
Listed = dict[str, Any]
"""One listed object, e.g. `{"chain": {…}}`."""

PATIENCE = 10.0
"""Seconds for one call. Whoever is cancelled meanwhile waits for its end as well."""
_ABSENT = "No such file or directory"


class NftError(Exception):
    """nft did not do it. Nothing of the transaction is in force."""


async def apply(commands: Sequence[Command]) -> None:
    """Put all of the commands in force at once, or none of them (NftError)."""
    if commands:
        text = json.dumps({"nftables": list(commands)})
        code, _, err = await _run(["-j", "-f", "-"], text.encode())
        if code != 0:
            raise NftError(f"{err.strip()} (for {text})")


async def table(family: str, name: str) -> list[Listed] | None:
    """All that is in the table: sets with elements, chains, rules. None: no such table."""
    code, out, err = await _run(["-j", "list", "table", family, name])
    if code == 0:
        objects: list[Listed] = json.loads(out)["nftables"]
        return objects
    if _ABSENT in err:
        return None
    raise NftError(f"{err.strip()} (listing table {family} {name})")


async def _run(options: Sequence[str], stdin: bytes = b"") -> tuple[int, bytes, str]:
    # In a thread, because asyncio gives a child a socket as its stdin, and nft opens
    # /dev/stdin by name, which the kernel refuses for a socket.
    try:
        done = await to_its_end(
            subprocess.run,
            ["nft", *options],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            env={**os.environ, "LC_ALL": "C"},  # _ABSENT is its English text
        )
    except FileNotFoundError:
        raise Refused("this machine has no nft: apt-get install nftables") from None
    except subprocess.TimeoutExpired:
        raise RetryLater(f"nft did not end within {PATIENCE:g} s") from None
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")
