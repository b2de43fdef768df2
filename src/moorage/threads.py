"""Blocking work in a thread that its caller never leaves behind.

Nothing can stop a thread. `asyncio.to_thread`, cancelled, returns at once while the thread goes
on: the caller's locks are let go, and whoever takes them next works on the same files, links or
rules as the thread does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def to_its_end(
    work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """Do blocking work in a thread, and raise what it raises.

    Cancelled, however often, it waits for the thread before it lets the cancellation through;
    what the thread returns or raises by then is dropped.
    """
    # The executor's future and no task: a loop that ends cancels all tasks by itself.
    ending = asyncio.get_running_loop().run_in_executor(None, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        while not ending.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
        if not ending.cancelled():
            ending.exception()  # taken note of, or asyncio complains that nobody did
        raise
