"""A local node as a host: argv by `runc exec`, files by a shell inside the node.

Files are never written through the node's directory from outside: its root may
have put a link there that leads to a file of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from moorage.clients.docker_wire import plain
from moorage.model.errors import RetryLater
from moorage.model.ports import Completed
from moorage.providers.local.runtime import Runc

PUT = """set -e
umask 077
mkdir -p "$(dirname "$1")"
draft=$(mktemp "$1.XXXXXX")
trap 'rm -f "$draft"' EXIT
cat > "$draft"
chmod "$2" "$draft"
mv -fT "$draft" "$1"
trap - EXIT
"""


class LocalHost:
    """Implements `Host` for one node."""

    def __init__(self, runc: Runc, container: str, name: str) -> None:
        self._runc = runc
        self._container = container
        self._name = name

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        self._require()
        done = await self._runc.run(self._container, argv, stdin=stdin, timeout=timeout)
        if done.returncode:
            self._require()  # an exit code of a node that stopped meanwhile says nothing
        return done

    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        done = await self.run(["/bin/sh", "-c", PUT, "put", path, f"{mode:o}"], stdin=data)
        if done.returncode:
            why = plain(done.stderr.decode(errors="replace"), 300)
            raise RetryLater(f"{path} could not be written on {self._name}: {why}")

    def _require(self) -> None:
        init = self._runc.init(self._container)
        if init is None or init.created_only:
            raise RetryLater(f"node {self._name} is not running")
