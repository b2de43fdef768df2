"""How a command ends when it does not end well: one sentence, and a code for scripts."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator


class Code(enum.IntEnum):
    """Exit codes. Scripts rely on them: they never change their meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    TIMED_OUT = 6
    UNREACHABLE = 7


MEANINGS = {
    Code.OK: "done",
    Code.FAILED: "it was tried and failed (a cluster ended in *_FAILED, a check did not pass)",
    Code.USAGE: "the command or a value in it is wrong",
    Code.NOT_FOUND: "no such cluster, template, file or cloud",
    Code.DENIED: "not signed in, or not allowed",
    Code.CONFLICT: "in use, in the wrong state, taken already, or over the quota",
    Code.TIMED_OUT: "it did not happen in time (and may still happen)",
    Code.UNREACHABLE: "the server can't be reached, or is not ready",
}


class Failure(Exception):
    """`reason`: what is wrong, with which value. `mend`: what to type or do next."""

    def __init__(self, reason: str, *, code: Code = Code.FAILED, mend: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.reason}\n  {self.mend}" if self.mend else self.reason


@contextlib.contextmanager
def on_disk(what: str, mend: Callable[[], str] = str) -> Iterator[None]:
    """A disk that is full or failing, or a file that isn't ours, is no bug.

    `mend`: asked for what to do next, when it has failed.
    """
    try:
        yield
    except OSError as error:
        code = Code.DENIED if isinstance(error, PermissionError) else Code.FAILED
        raise Failure(f"{what}: {error.strerror or error}", code=code, mend=mend()) from None
