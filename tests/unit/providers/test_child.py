"""Child processes, and the descriptors that lead to them."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from moorage.providers.local import child


class Watched(io.FileIO):
    """Notes whether its descriptor was still its own when it was closed."""

    owned: bool | None = None

    def close(self) -> None:
        if self.owned is None:
            try:
                os.fstat(self.fileno())
            except OSError:
                self.owned = False
            else:
                self.owned = True
        super().close()


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("most", [3, 100])
def test_a_pipe_is_closed_once(runner: Callable[..., Any], most: int) -> None:
    """A second close may hit what another thread has opened meanwhile."""
    reading, writing = os.pipe()
    os.write(writing, b"four")
    os.close(writing)
    pipe = Watched(reading)
    assert runner(child._bounded(pipe, most)) == b"four"[:most]
    assert pipe.owned


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_what_a_child_prints_is_bounded(runner: Callable[..., Any]) -> None:
    argv = ["sh", "-c", "cat; echo wrong >&2; exit 3"]
    done = runner(child.output(argv, stdin=b"x" * 200_000, timeout=10, most=100_000))
    assert done == (3, b"x" * 100_000, b"wrong\n")
    with pytest.raises(TimeoutError):
        runner(child.output(["sleep", "60"], stdin=b"", timeout=0.05, most=1))
