from __future__ import annotations

import asyncio

import pytest

from moorage.conductor.execute import execute
from moorage.model.errors import RetryLater
from moorage.model.plan import Step
from moorage.planning.outcomes import Kind


def chain(*names: str) -> list[Step]:
    """Each after the one before."""
    pairs = zip(names, ("", *names[:-1]), strict=True)
    return [Step(name, after=frozenset({before} - {""})) for name, before in pairs]


async def test_a_failure_skips_what_waits_for_it_and_nothing_else() -> None:
    done = []

    async def perform(step: Step) -> None:
        if step.verb == "b":
            raise RetryLater("not yet", delay=7.0)
        done.append(step.verb)

    outcomes = await execute([*chain("a", "b", "c", "d"), *chain("x", "y")], perform, turn="t")
    assert sorted(done) == ["a", "x", "y"]
    assert [str(outcome).partition(" after")[0].partition(" in")[0] for outcome in outcomes] == [
        "a done",
        "b failed",
        "c skipped",
        "d skipped",
        "x done",
        "y done",
    ]
    assert outcomes[1].trouble
    assert outcomes[1].trouble.delay == 7.0


async def test_steps_run_side_by_side() -> None:
    barrier = asyncio.Barrier(20)

    async def perform(step: Step) -> None:
        await barrier.wait()

    steps = [Step("a", str(i), timeout=5.0) for i in range(20)]
    assert all(outcome.done for outcome in await execute(steps, perform, turn="t"))


async def test_only_our_own_timeout_may_be_retried() -> None:
    async def perform(step: Step) -> None:
        if step.verb == "slow":
            await asyncio.Event().wait()
        raise TimeoutError

    slow, own = await execute([Step("slow", timeout=0.01), Step("own")], perform, turn="t")
    assert slow.trouble
    assert (slow.trouble.kind, slow.trouble.reason) == (Kind.RETRY, "slow: not done within 0.01 s")
    assert own.trouble
    assert own.trouble.kind is Kind.BUG


async def test_cancelled_it_waits_until_its_steps_have_let_go() -> None:
    started, let_go = asyncio.Event(), []

    async def perform(step: Step) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            let_go.append(step.key)

    task = asyncio.create_task(execute([Step("a"), Step("b")], perform, turn="t"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(let_go) == ["a", "b"]


async def test_halted_it_starts_nothing_more() -> None:
    halt = asyncio.Event()

    async def perform(step: Step) -> None:
        halt.set()

    outcomes = await execute(chain("a", "b"), perform, turn="t", halt=halt)
    assert [outcome.skipped for outcome in outcomes] == [False, True]


async def test_a_plan_without_an_order_does_nothing() -> None:
    async def perform(step: Step) -> None:
        raise AssertionError("it did something")

    with pytest.raises(ValueError, match="wait for each other"):
        await execute(
            [Step("free"), Step("a", after=frozenset({"b"})), Step("b", after=frozenset({"a"}))],
            perform,
            turn="t",
        )


async def test_the_empty_plan() -> None:
    async def perform(step: Step) -> None:
        raise AssertionError("it did something")

    assert await execute([], perform, turn="t") == []
