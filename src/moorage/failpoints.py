"""Failpoints: the places at which a test may have this process killed.

There is one before and one after every act that changes or asks something outside of the
process: each write of the store by the name of its operation (`claims.apply`), each call of
a provider, of a node's host and of the network by the name of the port and the method
(`provider.ensure`, `host.run`, `network.attach`), each step and each look of a driver
(`driver.observe`, `driver.join`). A write is killed *before* within its transaction, with
all of its statements done, and *after* it is committed, with nobody told yet.

In production they do not exist: the acts are wrapped where `MOORAGE_FAILPOINTS` names a
directory, and nothing at all is done where it doesn't. In that directory

    passed    has a line for each failpoint that was passed, in order
    kill      says where to die, in one line such as `after claims.apply` or, for the third
              time that it is passed, `after claims.apply #3`

The process removes `kill` and ends itself with SIGKILL, so that the next one lives.

The names come from the code itself: methods of the ports, and methods of the store whose
code calls its database's `write`. A new one has its failpoints without being told of.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

from sqlalchemy import Connection

from moorage import store
from moorage.model.plan import Step
from moorage.model.ports import (
    ClusterDriver,
    HasRoom,
    Host,
    NodeNetwork,
    NodeProvider,
    Publishes,
)
from moorage.store import Store

T = TypeVar("T")
VARIABLE = "MOORAGE_FAILPOINTS"
PASSED, KILL = "passed", "kill"
PORTS: dict[str, tuple[type, ...]] = {
    "provider": (NodeProvider, HasRoom, Publishes),
    "host": (Host,),
    "network": (NodeNetwork,),
    "driver": (ClusterDriver,),
}
"""The ports whose acts are wrapped; a driver's `perform` is known by its step's verb."""


def catalogue(verbs: Iterable[str]) -> list[str]:
    """Every act that has failpoints, by name. `verbs`: those of a driver's steps."""
    acts = [f"{port}.{name}" for port in PORTS for name in _methods(port)]
    acts.remove("driver.perform")
    return sorted([*acts, *(f"driver.{verb}" for verb in verbs), *_writes()])


def arm_store(opened: Store) -> Store:
    """Wrap the writes of the store."""
    if points := _points():
        points.over_writes(opened._database)
    return opened


def arm(port: str, thing: T) -> T:
    """Wrap the acts of `thing`, which is of the port of that name in PORTS."""
    if points := _points():
        points.over_port(port, thing)
    return thing


class _Points:
    """Where the process is to die, as the directory says."""

    def __init__(self, directory: Path) -> None:
        self._kill = directory / KILL
        self._passed = (directory / PASSED).open("a", buffering=1)
        self._times: Counter[str] = Counter()

    def pass_by(self, point: str) -> None:
        self._passed.write(f"{point}\n")
        try:
            wanted = self._kill.read_text().strip()
        except FileNotFoundError:
            self._times.clear()
            return
        name, _, times = wanted.partition(" #")
        if name == point:
            self._times[wanted] += 1
            if self._times[wanted] >= int(times or 1):
                self._kill.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    def over_port(self, port: str, thing: Any) -> None:
        for name in _methods(port):
            method = getattr(thing, name, None)
            if method is not None:  # else it hasn't the optional ability
                setattr(thing, name, self._around(port, name, method))
        if port == "provider":
            host = thing.host
            thing.host = lambda ref: arm("host", host(ref))

    def _around(
        self, port: str, name: str, method: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def act(*args: Any, **kwargs: Any) -> Any:
            step = args[0] if args and isinstance(args[0], Step) else None
            point = f"{port}.{step.verb if step else name}"
            self.pass_by(f"before {point}")
            result = await method(*args, **kwargs)
            self.pass_by(f"after {point}")
            return result

        return act

    def over_writes(self, database: Any) -> None:
        write = database.write

        def at(
            work: Callable[[Connection], Any],
            then: Callable[[Any], object] | None = None,
            **options: Any,
        ) -> Awaitable[Any]:
            point = _operation(sys._getframe(1).f_code)

            def all_but_commit(connection: Connection) -> Any:
                result = work(connection)
                self.pass_by(f"before {point}")
                return result

            def committed(result: Any) -> None:
                self.pass_by(f"after {point}")
                if then is not None:
                    then(result)

            done: Awaitable[Any] = write(all_but_commit, committed, **options)
            return done

        database.write = at


@functools.cache
def _points() -> _Points | None:
    directory = os.environ.get(VARIABLE)
    return _Points(Path(directory)) if directory else None


def _methods(port: str) -> list[str]:
    """The acts of a port: the methods of its Protocols that are awaited."""
    return [
        name
        for protocol in PORTS[port]
        for name, member in vars(protocol).items()
        if inspect.iscoroutinefunction(member) and not name.startswith("_")
    ]


def _writes() -> Iterator[str]:
    """The operations of the store that write, each by its class and its own name."""
    for found in pkgutil.iter_modules(store.__path__, f"{store.__name__}."):
        module = importlib.import_module(found.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__:
                for _, method in inspect.getmembers(kind, inspect.iscoroutinefunction):
                    if {"_database", "write"} <= set(method.__code__.co_names):
                        yield _operation(method.__code__)


def _operation(code: CodeType) -> str:
    """`claims.apply` of `Claims.apply`."""
    kind, _, name = code.co_qualname.partition(".")
    return f"{kind.lower()}.{name}"
