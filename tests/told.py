"""What is logged, as the server would write it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import structlog

from moorage import log_lines


class Told:
    """The lines so far."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == "request"]


@contextlib.contextmanager
def listening() -> Iterator[Told]:
    before, handlers = structlog.get_config(), logging.root.handlers[:]
    told = Told()
    log_lines.configure()
    structlog.configure(logger_factory=structlog.BytesLoggerFactory(file=told.file))
    try:
        yield told
    finally:
        structlog.configure(**before)
        logging.root.handlers[:] = handlers
