"""Carrying a plan out: every step as soon as those before it have succeeded, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import structlog

from moorage.metrics.turns import step_ended
from moorage.model.errors import RetryLater
from moorage.model.plan import Step
from moorage.planning.order import ordered
from moorage.planning.outcomes import Kind, Outcome, trouble_of
from moorage.store.claims import LostClaim

log = structlog.get_logger(__name__)

Perform = Callable[[Step], Awaitable[None]]
"""Does one step. What it raises is the step's outcome."""


async def execute(
    steps: Sequence[Step], perform: Perform, *, turn: str, halt: asyncio.Event | None = None
) -> list[Outcome]:
    """Run the plan to its end and say how each step went, in the plan's order.

    A step that fails takes the steps after it along; all others go on. Once `halt` is set,
    no further step starts. Raises ValueError for a plan that has no order, before anything
    is done, and LostClaim. Cancelled, it cancels the steps that run and waits until they have
    let go.
    """
    graph = ordered(steps)
    by_key = {step.key: step for step in steps}
    outcomes: dict[str, Outcome] = {}
    running: set[asyncio.Task[Outcome]] = set()
    try:
        while graph.is_active():
            if halt is None or not halt.is_set():
                for key in graph.get_ready():
                    running.add(asyncio.create_task(attempt(by_key[key], perform, turn)))
            if not running:
                break
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                outcome = task.result()
                outcomes[outcome.step.key] = outcome
                if outcome.done:
                    graph.done(outcome.step.key)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return [outcomes.get(step.key) or Outcome(step, skipped=True) for step in steps]


async def attempt(step: Step, perform: Perform, turn: str) -> Outcome:
    """Do one step within its time, and say how it went.

    Only a cancellation gets through, and LostClaim: then nothing more is to be done.
    """
    began = monotonic()
    try:
        async with asyncio.timeout(step.timeout) as limit:
            await perform(step)
    except LostClaim:
        raise
    except Exception as error:
        failure: Exception = error
        if isinstance(error, TimeoutError) and limit.expired():
            failure = RetryLater(f"not done within {step.timeout:g} s")
            failure.__cause__ = error
        trouble = trouble_of(failure, step.key, turn)
        if trouble.kind is Kind.BUG:
            log.exception("internal error", step=step.key, turn=turn)
        step_ended(step.verb, trouble.kind.value, monotonic() - began, failure)
        return Outcome(step, monotonic() - began, trouble, began=began)
    step_ended(step.verb, "done", monotonic() - began)
    return Outcome(step, monotonic() - began, began=began)
