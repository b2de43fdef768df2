"""conntrack(8) as a client: the kernel's table of connections."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Network

from moorage.model.errors import Refused, RetryLater
from moorage.threads import to_its_end

PATIENCE = 10.0
"""Seconds for one call. Whoever is cancelled meanwhile waits for its end as well."""
_DONE = "have been deleted"
"""It says how many, also of none, when it ends with 1."""


async def forget(network: IPv4Network) -> None:
    """No connection goes on that addresses of the network began, or were to get. RetryLater where
    that can't be done now."""
    for end in ("--orig-src", "--orig-dst"):
        await _delete(end, network)


async def _delete(end: str, network: IPv4Network) -> None:
    try:
        done = await to_its_end(
            subprocess.run,
            ["conntrack", "--delete", end, str(network)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=PATIENCE,
        )
    except FileNotFoundError:
        raise Refused("this machine has no conntrack: apt-get install conntrack") from None
    except subprocess.TimeoutExpired:
        raise RetryLater(f"conntrack did not end within {PATIENCE:g} s") from None
    said = done.stderr.decode(errors="replace").strip()
    if _DONE not in said:
        raise RetryLater(f"conntrack did not forget connections of {network}: {said}")
