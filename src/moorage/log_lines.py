"""The server's log: one line of JSON for each event, on standard error.

A line is written whole, by one call and without a buffer: none is lost when the process dies.
Where it can't be written, because the disk is full, it is lost, and whoever logged goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import msgspec
import structlog


def configure() -> None:
    """For every logger of this process, from now on."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Never the local variables of a traceback: keys and tokens are among them.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(serializer=as_line),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.BytesLoggerFactory(file=Lines(2)),  # type: ignore[arg-type]
    )


class Lines:
    """Writes lines to a descriptor. One that fails never fails whoever writes.

    How many were lost is told by the first line that gets through again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._torn = False
        """The last line there is not whole."""

    def write(self, line: bytes) -> int:
        text = line
        if self._lost:
            told = {"event": "log lines were lost", "count": self._lost, "level": "error"}
            text = (b"\n" if self._torn else b"") + as_line(told, repr) + b"\n" + line
        try:
            written = os.write(self._descriptor, text)
        except OSError:
            self._lost += 1
        else:
            torn = written < len(text)
            self._torn = torn or (self._torn and not written)
            self._lost = self._lost + 1 if torn else 0
        return len(line)

    def flush(self) -> None:
        """Nothing is kept back."""


def as_line(event: object, default: Callable[[Any], Any]) -> bytes:
    """One line of JSON. `default` shows what JSON has no word for.

    msgspec takes a fifth of the standard library's time, but knows no half of a surrogate
    pair, which is how Python writes a file's name that isn't UTF-8.
    """
    try:
        return msgspec.json.encode(event, enc_hook=default)
    except UnicodeEncodeError:
        return json.dumps(event, default=default).encode()
