"""The order of a plan: which steps may start, given which have succeeded."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from moorage.model.plan import Step


def ordered(steps: Sequence[Step]) -> TopologicalSorter[str]:
    """The plan as a prepared graph of step keys: `get_ready`, and `done` for each success.

    A key in `after` that is not in the plan counts as done. A key that occurs twice, or a
    circle of steps that wait for each other, is a bug of whoever planned: ValueError.
    """
    keys = [step.key for step in steps]
    if len(set(keys)) != len(keys):
        raise ValueError(f"a step occurs twice in the plan: {sorted(keys)}")
    graph: TopologicalSorter[str] = TopologicalSorter(
        {step.key: step.after.intersection(keys) for step in steps}
    )
    try:
        graph.prepare()
    except CycleError as error:
        raise ValueError(f"steps wait for each other: {' <- '.join(error.args[1])}") from error
    return graph
