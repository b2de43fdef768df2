"""The one server process of a state directory: found, started, awaited, stopped.

`<state>/moorage.pid` is locked for as long as that process lives, so that there is one conductor
in it; and it names the process by pid, start time and boot, so that no other can be taken for it,
however the last one ended.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moorage import lock_file
from moorage.cli.failure import Code, Failure

if TYPE_CHECKING:
    from moorage.settings import Settings

POLL_SECONDS = 0.1


BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that can't be mistaken: `started` is in clock ticks since `boot`."""

    pid: int
    started: int
    boot: str

    @classmethod
    def current(cls) -> Process:
        pid = os.getpid()
        return cls(pid, _start_time(pid) or 0, BOOT.read_text().strip())

    def alive(self) -> bool:
        return BOOT.read_text().strip() == self.boot and _start_time(self.pid) == self.started


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None for a process that is gone, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command, which may hold blanks and brackets, ends at the last bracket.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Home:
    """The files of a server process below the state directory.

    `api`: of the one that is the API and no more, which may run beside the conductor.
    """

    state: Path
    api: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Home:
        return cls(settings.state, settings.only == "api")

    @property
    def _stem(self) -> str:
        return "moorage-api" if self.api else "moorage"

    @property
    def pidfile(self) -> Path:
        return self.state / f"{self._stem}.pid"

    @property
    def log(self) -> Path:
        return self.state / "log" / f"{self._stem}.log"

    @property
    def settings(self) -> Path:
        """What `moorage up` was told, so that the next one needs to be told nothing."""
        return self.state / "settings.json"

    @property
    def clouds(self) -> Path:
        return self.state / "clouds.yaml"

    def prepare(self) -> None:
        # A node's root passes through the state directory (x) and reads nothing there.
        self.state.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def held(home: Home) -> Iterator[None]:
    """Be the server of this state directory. Raises Failure where there is one."""
    home.prepare()
    try:
        with lock_file.held(home.pidfile, json.dumps(asdict(Process.current())).encode()):
            yield
    except lock_file.HeldError:
        raise Failure(
            f"Moorage is up already in {home.state}", code=Code.CONFLICT, mend="moorage down"
        ) from None


def running(home: Home) -> Process | None:
    """The server of this state directory, if one lives."""
    try:
        process = Process(**json.loads(home.pidfile.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None  # none, or one that was cut short while it wrote this
    except PermissionError:
        raise Failure(
            f"{home.pidfile} is not yours to read", code=Code.DENIED, mend="run it as root"
        ) from None
    return process if process.alive() else None


def spawn(home: Home, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `moorage serve` detached from this terminal, its stderr in the log.

    The server is told of the file, and sets it aside itself when it is large.
    """
    home.prepare()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(home.log, flags, 0o600), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "moorage.cli.main", "serve", "--state", str(home.state)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**environment, "MOORAGE_LOG_FILE": str(home.log)},
            start_new_session=True,
        )


def await_ready(
    child: subprocess.Popen[bytes],
    home: Home,
    address: tuple[str, int],
    *,
    seconds: float,
    tell: Callable[[str], None],
) -> None:
    """Return when `/readyz` says yes. Raises Failure with the log's end where it never does."""
    begin = home.log.stat().st_size if home.log.exists() else 0
    deadline = time.monotonic() + seconds
    while True:
        ready, said = probe(*address)
        if child.poll() is not None:
            raise Failure(
                f"the server ended with code {child.returncode} before it was ready: "
                f"{last_words(home.log, begin)}",
                mend=f"all that it said: {home.log}",
            )
        if ready:
            return
        tell(said)
        if time.monotonic() > deadline:
            raise Failure(
                f"not ready after {seconds:.0f} s: {said}",
                code=Code.TIMED_OUT,
                mend=f"it goes on trying; see {home.log}, or: moorage down",
            )
        time.sleep(POLL_SECONDS)


def probe(host: str, port: int) -> tuple[bool, str]:
    """Whether the server at this address is ready, and what it says to that."""
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = _reason(answer.read(4096))
    except (OSError, http.client.HTTPException):
        return False, "starting"
    else:
        return answer.status == 200, body or f"/readyz answers {answer.status}"
    finally:
        connection.close()


def _reason(body: bytes) -> str:
    """What /readyz says is not well."""
    try:
        parts = json.loads(body)["parts"]
        return "; ".join(f"{part['name']}: {part['reason']}" for part in parts if not part["ok"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def last_words(log: Path, begin: int = 0) -> str:
    """What a server said last after byte `begin`: why it ended, if it said that."""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    if not lines:
        return "it said nothing"
    for line in reversed(lines):
        if line.startswith("moorage: "):
            return line.removeprefix("moorage: ")
    with contextlib.suppress(ValueError):
        event = json.loads(lines[-1])
        if isinstance(event, dict):
            return str(event.get("reason") or event.get("error") or event.get("event") or event)
    return lines[-1]


def stop(process: Process, *, seconds: float) -> bool:
    """SIGTERM, and SIGKILL after `seconds`. Returns whether it ended by itself.

    A pidfd is taken before the start time is compared: what is signalled is the
    process that was meant, whatever becomes of its number meanwhile.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.alive():
            return True
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience)[0]:
                return number is signal.SIGTERM
        raise Failure(f"process {process.pid} does not end after SIGKILL", code=Code.TIMED_OUT)
    finally:
        os.close(handle)
