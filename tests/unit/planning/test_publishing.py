"""The one endpoint of a cluster leads to a master that is ready, and stays so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.plan import Step, as_text
from moorage.planning.publishing import published

MASTERS = ("m0", "m1", "m2")


def seen(at: str | None) -> dict[str, ObservedNode]:
    return {
        name: ObservedNode(
            NodeRef("web", name), Role.MASTER, NodeState.RUNNING, published=name == at
        )
        for name in MASTERS
    }


def plan(at: str | None, ready: Sequence[str], *steps: Step) -> str:
    return as_text(published(steps, seen(at), ready, {"trust", "end"}, ()))


def trust(name: str, *after: str) -> Step:
    return Step("trust", name, frozenset(f"trust {each}" for each in after))


CHAIN = (trust("m0"), trust("m1", "m0"), trust("m2", "m1"))


@pytest.mark.parametrize("at", MASTERS)
def test_it_stays_where_it_is_of_use(at: str) -> None:
    assert plan(at, MASTERS) == ""
    assert plan(at, [at]) == ""


def test_it_leaves_who_is_not_ready_at_once_for_one_who_is() -> None:
    assert plan("m0", ["m2"]) == "publish m2"
    end = Step("end", "m1")
    assert plan("m0", ["m1", "m2"], end) == "publish m2\nend m1", "and stays"
    mended = Step("end", "m0")
    assert plan("m0", ["m1", "m2"], mended) == "publish m1\nend m0 after [publish m1]"


def test_before_who_has_it_is_away_it_leads_elsewhere() -> None:
    end = Step("end", "m1")
    assert plan("m1", MASTERS, end) == "publish m0\nend m1 after [publish m0]"
    assert plan("m0", MASTERS, end) == "end m1"
    further = Step("end", "m1", frozenset({"drain m1"}))
    told = plan("m1", MASTERS, Step("drain", "m1"), further)
    assert told == "publish m0\ndrain m1\nend m1 after [drain m1, publish m0]"


def test_where_all_are_away_in_turn_it_is_always_at_one_that_is_there() -> None:
    assert plan("m0", MASTERS, *CHAIN) == (
        "publish m2\n"
        "publish m0 after [trust m0]\n"
        "trust m0 after [publish m2]\n"
        "trust m1 after [trust m0]\n"
        "trust m2 after [publish m0, trust m1]"
    )
    assert plan("m1", MASTERS, *CHAIN) == (
        "publish m0 after [trust m0]\n"
        "trust m0\n"
        "trust m1 after [publish m0, trust m0]\n"
        "trust m2 after [trust m1]"
    )
    two = plan("m1", ["m0", "m1"], *CHAIN[:2])
    assert two == "publish m0 after [trust m0]\ntrust m0\ntrust m1 after [publish m0, trust m0]"


@pytest.mark.parametrize(("at", "ready"), [(None, MASTERS), ("m0", []), ("m0", ["m0"])])
def test_where_nothing_helps_the_plan_is_what_it_was(at: str | None, ready: list[str]) -> None:
    """Nobody knows where it leads, nobody is ready, or nobody else is."""
    assert plan(at, ready, *CHAIN) == as_text(CHAIN)
