"""What the conductor does: turns, their steps, and what went wrong in them."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from time import monotonic

from prometheus_client import Counter, Gauge, Histogram

from moorage.metrics.registry import REGISTRY, Bounded
from moorage.model import errors

MOST_VERBS = 100
"""Verbs come from the drivers; each of ours has a dozen."""
STEP_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

_TURNS = Counter(
    "moorage_turns",
    "Turns that ended, by how. idle: all is as wanted. acted: something was done, without "
    "trouble. troubled: something failed and will be tried again or was refused. cut_off: "
    "halted by a stop or a deletion. lost: another conductor has the cluster. store: the "
    "database did not answer. bug: an error of Moorage's own; its log has the traceback.",
    ["outcome"],
    registry=REGISTRY,
)
_RUNNING = Gauge(
    "moorage_turns_running",
    "Clusters that have their turn now. At the limit (64 a process) for long, the queue grows.",
    registry=REGISTRY,
)
_TURN_SECONDS = Histogram(
    "moorage_turn_duration_seconds",
    "How long turns take, from the claim to the last write, whatever their outcome.",
    buckets=STEP_SECONDS,
    registry=REGISTRY,
)
_STEPS = Histogram(
    "moorage_step_duration_seconds",
    "How long the steps of turns take. The verbs observe, plan, room and undo are the stages of "
    "every turn; others are the plan's. outcome: done, retry, refused, bug.",
    ["verb", "outcome"],
    buckets=STEP_SECONDS,
    registry=REGISTRY,
)
_FAILURES = Counter(
    "moorage_step_failures",
    "Steps that failed, by the type of their error: NoRoom and the like are refusals, RetryLater "
    "passes by itself or has its cause in `moorage cluster explain`, timeout is a step that "
    "took too long, bug is Moorage's own.",
    ["verb", "error"],
    registry=REGISTRY,
)
_HEALING = Counter(
    "moorage_healing_steps",
    "Steps done on clusters that nobody had asked to change: nodes made anew, engines started "
    "again. A storm of them means that something kills nodes.",
    ["verb"],
    registry=REGISTRY,
)
_LOST = Counter(
    "moorage_claims_lost",
    "Claims that another conductor took, because this one slept past its lease. Nothing is "
    "written then. More than a few: the process is starved, paused, or its clock jumps.",
    registry=REGISTRY,
)
_ERRORS = (
    errors.NoRoom, errors.QuotaExceeded, errors.Conflict, errors.NotFound, errors.Forbidden,
    errors.Unauthenticated, errors.Invalid, errors.Refused, errors.RetryLater,
    errors.MoorageError,
)  # fmt: skip
"""Subclasses before their classes."""
_verb = Bounded(MOST_VERBS)


class TurnEnd(enum.StrEnum):
    IDLE = "idle"
    ACTED = "acted"
    TROUBLED = "troubled"
    CUT_OFF = "cut_off"
    LOST = "lost"
    STORE = "store"
    BUG = "bug"


_ENDS = {end: _TURNS.labels(end.value) for end in TurnEnd}


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Around a turn, however it ends."""
    began = monotonic()
    _RUNNING.inc()
    try:
        yield
    finally:
        _RUNNING.dec()
        _TURN_SECONDS.observe(monotonic() - began)


def turn_ended(end: TurnEnd) -> None:
    _ENDS[end].inc()


def claim_lost() -> None:
    _LOST.inc()


def step_ended(verb: str, outcome: str, seconds: float, error: Exception | None = None) -> None:
    """A step was tried. `outcome`: done, or the kind of its trouble."""
    verb = _verb(verb)
    _STEPS.labels(verb, outcome).observe(seconds)
    if error is not None:
        _FAILURES.labels(verb, _name_of(error)).inc()


def healed(verb: str) -> None:
    """A step was done on a cluster that nobody had asked to change."""
    _HEALING.labels(_verb(verb)).inc()


def _name_of(error: Exception) -> str:
    if isinstance(error.__cause__, TimeoutError):
        return "timeout"
    return next((kind.__name__ for kind in _ERRORS if isinstance(error, kind)), "bug")
