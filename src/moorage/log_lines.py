"""The server's log: one line of JSON for each event, on standard error.

A line is written whole, by one call and without a buffer: none is lost when the process dies.
Where it can't be written, because the disk is full, it is lost, and whoever logged goes on.

What is bound by `structlog.contextvars` stands in every line: a request's id, a turn's, and the
uuid of their cluster. What libraries tell the standard library's logging is told here as well,
warnings and above.

Under a supervisor, standard error is all there is to it. `moorage up` leads it into a file; then
the server itself sets that aside when it is large, and opens it again on SIGHUP (`reopen`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from moorage.metrics.registry import LOG_LINES_LOST

STDOUT, STDERR = 1, 2


def configure(file: Path | None = None, most_bytes: int = 0) -> Lines:
    """For every logger of this process, from now on.

    `file`: the one that standard error leads to, set aside when it passes `most_bytes`.
    """
    _keep_stderr_taken()
    lines = Lines(STDERR) if file is None else FileLines(file, most_bytes)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Never the local variables of a traceback: keys and tokens are among them.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(serializer=as_line),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.BytesLoggerFactory(file=lines),  # type: ignore[arg-type]
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Handler()], force=True)
    return lines


class _Handler(logging.Handler):
    """What libraries log, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        text = record.getMessage()
        log.log(record.levelno, text, logger=record.name, exc_info=record.exc_info or None)


def _keep_stderr_taken() -> None:
    """A closed descriptor 2 would be given to the next file that is opened: a database, say."""
    try:
        os.fstat(STDERR)
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing != STDERR:
            os.dup2(nothing, STDERR)
            os.close(nothing)


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
            LOG_LINES_LOST.inc()
        else:
            torn = written < len(text)
            self._torn = torn or (self._torn and not written)
            self._lost = self._lost + 1 if torn else 0
        return len(line)

    def flush(self) -> None:
        """Nothing is kept back."""

    def reopen(self) -> None:
        """A descriptor that we were given stays what it is."""


class FileLines(Lines):
    """As Lines, to a file that standard error leads to: one that can be set aside.

    The descriptor stays the same, so that what the interpreter itself says when it dies
    goes to the new file as well. At most `most_bytes` and one line in it, and as much in the
    one before, which is named `<name>.1`.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__(STDERR)
        self._path = path
        self._most_bytes = most_bytes
        self._bytes = os.fstat(STDERR).st_size

    def write(self, line: bytes) -> int:
        if self._bytes + len(line) > self._most_bytes and self._bytes:
            # Where the directory can't be written, it goes on as it is.
            with contextlib.suppress(OSError):
                self._path.rename(f"{self._path}.1")
            self.reopen()
        self._bytes += len(line)
        return super().write(line)

    def reopen(self) -> None:
        """Write to what bears the name now; made where somebody has moved it away."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            opened = os.open(self._path, flags, 0o600)
        except OSError:
            self._bytes = 0  # we stay with the old one, and try again when as much was written
            return
        for descriptor in (STDOUT, STDERR):
            os.dup2(opened, descriptor)
        self._bytes = os.fstat(opened).st_size
        os.close(opened)


def as_line(event: object, default: Callable[[Any], Any]) -> bytes:
    """One line of JSON. `default` shows what JSON has no word for.

    msgspec takes a fifth of the standard library's time, but knows no half of a surrogate
    pair, which is how Python writes a file's name that isn't UTF-8.
    """
    try:
        return msgspec.json.encode(event, enc_hook=default)
    except UnicodeEncodeError:
        return json.dumps(event, default=default).encode()
