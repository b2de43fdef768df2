"""The embedded Keystone, seen from the process that starts it.

Keystone runs as a child (`moorage.identity.server`): its 140 MB and its imports stay
out of Moorage's own process, and the kernel ends it with its parent. So start it from
the main thread: the kernel's "parent" is the thread that forked.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moorage.clients.keystone import Credentials
from moorage.identity.home import ADMIN, SERVICE_PROJECT, SERVICE_USER, KeystoneHome
from moorage.model.errors import Refused

START_SECONDS = 60.0
"""A first start takes some 3 s, and more on a machine that is busy."""
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KeystoneSpec:
    """Where the embedded Keystone lives, listens and is found.

    `public_host` is the host name or address by which clients reach it;
    `container_infra_url` is Moorage's own public URL, with `/v1`. Both go into the
    catalogue, and are corrected there at the next start when they change. `connections` and
    `each` bound those that are open, in all and of one address (0: any number).
    """

    state: Path
    host: str
    port: int
    public_host: str
    container_infra_url: str
    connections: int = 1000
    each: int = 200

    @property
    def identity_url(self) -> str:
        return f"http://{_bracketed(self.public_host)}:{self.port}/v3"

    @property
    def local_url(self) -> str:
        """The URL by which this machine itself reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{_bracketed(host)}:{self.port}/v3"


class EmbeddedKeystone:
    """One child process, from `start` to `stop`."""

    def __init__(self, spec: KeystoneSpec) -> None:
        self._spec = spec
        self._home = KeystoneHome(spec.state)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Make what is missing, start it, and return when it answers.

        Raises Refused with the last thing it said, where it does not come up.
        """
        self._home.prepare()
        spec = self._spec
        argv = [
            *(sys.executable, "-m", "moorage.identity.server"),
            *("--state", str(spec.state)),
            *("--host", spec.host, "--port", str(spec.port)),
            *("--identity-url", spec.identity_url),
            *("--container-infra-url", spec.container_infra_url),
            *("--connections", str(spec.connections)),
            *("--connections-per-address", str(spec.each)),
            *("--parent", str(os.getpid())),
        ]
        with self._home.stderr.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                # Ctrl-C in a terminal is for the parent, which then stops the child.
                start_new_session=True,
            )
        self._process = process
        assert process.stdout is not None  # noqa: S101 - for the type checker
        try:
            async with asyncio.timeout(START_SECONDS):
                said = await process.stdout.readline()
        except TimeoutError:
            said = b""
        except BaseException:
            await self.stop()
            raise
        if said != b"ready\n":
            await self.stop()
            raise Refused(f"Keystone does not start: {self._last_words()}")

    async def stop(self) -> None:
        """End it, and return when it is gone. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def keep(self, say: Callable[[str], None]) -> None:
        """Start it again whenever it ends by itself, until cancelled or stopped.

        `say` is told each time, in a sentence.
        """
        delay = 0.5
        while self._process is not None:
            process = self._process
            code = await process.wait()
            if self._process is not process:
                return
            say(f"Keystone ended ({code}); starting it again.")
            try:
                await self.start()
                delay = 0.5
            except Refused as refusal:
                say(refusal.reason)
                self._process = process
                await asyncio.sleep(delay)
                delay = min(delay * 2, 30.0)

    def admin(self) -> Credentials:
        """The operator's own credentials, for clients anywhere."""
        return Credentials(self._spec.identity_url, ADMIN, self._home.password(ADMIN), ADMIN)

    def service(self) -> Credentials:
        """Those by which Moorage on this machine validates tokens."""
        password = self._home.password(SERVICE_USER)
        return Credentials(self._spec.local_url, SERVICE_USER, password, SERVICE_PROJECT)

    def _last_words(self) -> str:
        lines = self._home.stderr.read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return f"{last} (more in {self._home.stderr} and {self._home.root / 'keystone.log'})"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
