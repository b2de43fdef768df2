"""A Moorage that a test kills at the failpoints it names, and starts again.

The one kill that was asked for is the only way in which the server may end: whoever asks it
something while it is dead has it revived, and asks again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import urllib.error
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moorage import failpoints
from moorage.cli import choices, daemon
from moorage.cli.daemon import Home
from moorage.cli.failure import Failure
from moorage.install import install_id
from moorage.model.quota import Resource
from tests.real.books import contradictions, imbalance, known, unsound
from tests.real.install import Answer, Install, Tenant

PATIENCE = 120.0
LOOK_EVERY = 0.05
GONE = (OSError, urllib.error.URLError)
"""What a client sees of a server that dies on it."""


@dataclass
class Crash:
    """One install with failpoints. `tenant` works in it, `admin` is its administrator."""

    install: Install
    tenant: Tenant
    admin: Tenant
    directory: Path
    ahead: deque[str] = field(default_factory=deque)
    """Where it is to be killed next, in order."""
    struck: list[str] = field(default_factory=list)
    _planned: list[str] = field(default_factory=list)
    _passed: list[str] = field(default_factory=list)
    _counts: bool = False
    _born: int = 0
    """How many of those are of processes that died; 0 where none has, since the last event that
    was asked for."""
    _server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Bring it up, however often it is killed while it starts.

        After the first time without the command line, which takes as long as the server.
        """
        if self._server is None:
            self.install.up()
            self.install.down()
        home = Home(self.install.state)
        environment = {**choices.environment(), **self.install.variables}
        while True:
            self._born = len(self.passed())
            self._server = daemon.spawn(home, environment)
            try:
                daemon.await_ready(
                    self._server,
                    home,
                    ("127.0.0.1", self.install.port),
                    seconds=120,
                    tell=lambda _: None,
                )
            except Failure:
                if not self._was_struck():
                    raise
            else:
                return

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def plan(self, points: Iterable[str]) -> None:
        """The next `strike` is at these."""
        self.tenant.token = self.admin.token = ""  # it lasts an hour, and a sweep may be longer
        self._planned, self.struck = list(points), []

    def strike(self) -> None:
        """From now on it is killed, at the first of what is planned."""
        self.passed()
        self._passed, self._born, self._counts = [], 0, True
        self.ahead = deque(self._planned)
        self._arm_next()

    def disarm(self) -> None:
        """What comes now is no part of what is tried."""
        self.passed()
        self._counts = False
        self.ahead.clear()
        (self.directory / failpoints.KILL).unlink(missing_ok=True)

    def _arm_next(self) -> None:
        if self.ahead:
            draft = self.directory / "draft"
            draft.write_text(self.ahead[0])
            draft.rename(self.directory / failpoints.KILL)

    def _was_struck(self) -> bool:
        """Whether the kill that was asked for has been done; then the next one is asked for."""
        if not self.ahead or (self.directory / failpoints.KILL).exists():
            return False
        self.struck.append(self.ahead.popleft())
        self._arm_next()
        return True

    def passed(self) -> list[str]:
        """The failpoints that were passed since `strike`, until it was disarmed."""
        with contextlib.suppress(FileNotFoundError):
            file = self.directory / failpoints.PASSED
            lines = file.read_text().splitlines()
            os.truncate(file, 0)
            self._passed += lines if self._counts else []
        return self._passed

    def _turned(self) -> bool:
        """Whether a turn has ended in a process that came after one that died."""
        return self._born > 0 and "after claims.apply" in self.passed()[self._born :]

    def dead(self, seconds: float = 0.0) -> bool:
        assert self._server is not None
        if not seconds:
            return self._server.poll() is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.wait(seconds)
        return self._server.poll() is not None

    def revive(self) -> None:
        assert self.dead(5), "it doesn't answer, and lives"
        assert self._was_struck(), f"it died, and not where it was to die\n{self.log_end()}"
        self.start()

    def stop(self) -> None:
        """As an operator does; killed on its way out where that was asked for. And start again."""
        assert self._server is not None
        self._server.terminate()
        assert self.dead(20), "it doesn't stop"
        self._was_struck()
        self.start()

    def log_end(self) -> str:
        """What it said last, but for requests that it answered."""
        said = [line for line in self.install.log().splitlines() if '"status":200' not in line]
        return "\n".join(said[-15:])

    def attend(self, look: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Until `look` says so, the server revived meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            if self.dead():
                self.revive()
            try:
                if look():
                    return
            except GONE:
                self.revive()
                continue
            assert time.monotonic() < deadline, f"not {what} within {seconds} s\n{self.log_end()}"
            time.sleep(LOOK_EVERY)

    def ask(
        self,
        who: Tenant,
        method: str,
        path: str,
        body: Any = None,
        *,
        done: Callable[[], bool] | None = None,
    ) -> Answer | None:
        """One request, asked again where the server died of it.

        None where it died of it and `done` says, or what was deleted tells by being gone, that
        the request was done.
        """
        died = False
        while True:
            try:
                if died and done is not None and done():
                    return None
                answer = who.ask(method, path, body)
            except GONE:
                self.revive()
                died = True
                continue
            gone = died and method == "DELETE" and answer.status == 404
            return None if gone else answer

    def got(self, who: Tenant, path: str) -> Any:
        """The body of what is there; None where nothing is."""
        answer = self.ask(who, "GET", path)
        assert answer is not None
        assert answer.status in (200, 404), answer
        return answer.body if answer.status == 200 else None

    def shown(self, uuid: str) -> dict[str, Any]:
        answer = self.tenant.ask("GET", f"/clusters/{uuid}")
        assert answer.status == 200, answer
        body: dict[str, Any] = answer.body
        return body

    def complete(self, uuid: str, since: int = -1) -> None:
        """Until it is whole, and was looked at after the event `since`; then the books are right.

        A cluster may be UNHEALTHY for a while; one that failed has failed the test. What was done
        by a process that died before it told of it is an event of nobody's: the next one finds the
        cluster whole, and says nothing.
        """

        def look() -> bool:
            turned = self._turned()
            shown = self.shown(uuid)
            assert not shown["status"].endswith("_FAILED"), (shown, self.log_end())
            return (
                shown["status"].endswith("_COMPLETE")
                and shown["health_status"] == "HEALTHY"
                and (turned or self.last_event(uuid, turn=True) > since)
            )

        self.attend(look, f"complete: {uuid}")

    def events(self, uuid: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        marker = ""
        while True:
            answer = self.tenant.ask("GET", f"/clusters/{uuid}/events?limit=1000{marker}")
            assert answer.status == 200, answer
            events += answer.body["events"]
            if not answer.body["next"]:
                return events
            marker = f"&marker={events[-1]['id']}"

    def last_event(self, uuid: str, *, turn: bool = False) -> int:
        """Its id; what dies from now on, dies after it."""
        if not turn:
            self._born = 0
        events = [e for e in self.events(uuid) if not turn or (e["kind"] == "turn" and e["ok"])]
        return int(events[-1]["id"]) if events else -1

    def check(self, *gone: str) -> None:
        """All books balance; `gone` are clusters that were deleted."""
        deadline = time.monotonic() + 5.0
        while (found := imbalance(self.install)) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)  # a process that was killed takes its time to go
        assert found == [], "\n".join(found)
        assert unsound(self.install) == []
        clusters = known(self.install)
        for uuid in [*gone, *(c.uuid for c in clusters)]:
            told = contradictions(self.events(uuid))
            assert told == [], "\n".join(told)
        mine = [cluster.takes for cluster in clusters]
        stats = self.tenant.ask("GET", "/stats?type=all").body
        assert stats["clusters"] == sum(takes[Resource.CLUSTER] for takes in mine)
        assert stats["nodes"] == sum(takes[Resource.NODE] for takes in mine)
        assert stats["vcpus"] == sum(takes[Resource.CPU] for takes in mine)

    def runc(self, uuid: str, node: str, *argv: str) -> str:
        root = f"/run/moorage/{install_id(self.install.state)}"
        done = subprocess.run(
            ["runc", "--root", root, "exec", f"{uuid}.{node}", *argv],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout.strip()


def there(crash: Crash, name: str) -> Any:
    return crash.got(crash.tenant, f"/clusters/{name}")


def ask(
    crash: Crash, method: str, path: str, body: Any = None, done: Callable[[], bool] | None = None
) -> None:
    """A request of the tenant's that is accepted, whether the server dies of it or not."""
    answer = crash.ask(crash.tenant, method, path, body, done=done)
    assert answer is None or answer.status in (202, 204), answer


def last_event(crash: Crash, uuid: str) -> int:
    while True:
        with contextlib.suppress(*GONE):
            return crash.last_event(uuid)
        crash.revive()


Operation = Callable[[Crash], None]


@dataclass(frozen=True)
class Killed:
    operation: Operation
    at: str
    """The acts before and after each of which it is killed."""
    slow: bool = False


def before_and_after(operations: Sequence[Killed]) -> Callable[[Any], Any]:
    """For a test of `killed` and `when`. What says so is slow, and each `after`."""
    slow = pytest.mark.slow
    each = [pytest.param(k, id=k.operation.__name__, marks=[slow] if k.slow else [])
            for k in operations]  # fmt: skip

    def decorate(test: Any) -> Any:
        made = pytest.mark.parametrize("when", ["before", pytest.param("after", marks=slow)])(test)
        return pytest.mark.parametrize("killed", each)(made)

    return decorate


def kill_at_each(crash: Crash, killed: Killed, when: str) -> None:
    """The operation, begun as often as it takes to be killed at all of its acts: `before` or
    `after`."""
    left = [f"{when} {act}" for act in killed.at.split()]
    while left:
        crash.plan(left)
        try:
            killed.operation(crash)
        finally:
            crash.disarm()
        crash.check()
        assert crash.struck, f"{left[0]} is never reached"
        left = [point for point in left if point not in crash.struck]
