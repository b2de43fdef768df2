"""How the steps of a plan went, as data, and as words."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moorage.model.errors import MoorageError, Refused, RetryLater
from moorage.model.plan import Step


class Kind(enum.Enum):
    """What a failure asks for."""

    RETRY = "retry"
    REFUSED = "refused"
    BUG = "bug"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A step that failed: what to do about it, and what its tenant may read.

    `delay` is in seconds, from RetryLater.
    """

    kind: Kind
    reason: str
    delay: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step's end after `seconds`: done, failed (`trouble`), or never started (`skipped`).

    `began` is when it started, on the monotonic clock.
    """

    step: Step
    seconds: float = 0.0
    trouble: Trouble | None = None
    skipped: bool = False
    began: float = 0.0

    @property
    def done(self) -> bool:
        return self.trouble is None and not self.skipped

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.step.key} skipped"
        if self.trouble is None:
            return f"{self.step.key} done in {self.seconds:.1f} s"
        return f"{self.step.key} failed after {self.seconds:.1f} s: {self.trouble.reason}"


def trouble_of(error: BaseException, what: str, turn: str) -> Trouble:
    """What an error raised while doing `what` means.

    Only RetryLater and Refused may speak to a tenant in their own words. Anything else is
    a bug: its text stays in the log, where the turn's id finds it.
    """
    match error:
        case RetryLater():
            return Trouble(Kind.RETRY, f"{what}: {error.reason}", error.delay)
        case Refused():
            return Trouble(Kind.REFUSED, f"{what}: {error.reason}")
        case MoorageError():
            return Trouble(Kind.RETRY, f"{what}: {error.reason}")
        case _:
            return Trouble(Kind.BUG, f"internal error in step {what} (turn {turn})")


def worst(outcomes: Iterable[Outcome]) -> Trouble | None:
    """The trouble that decides: a refusal before a bug, a bug before what may pass by itself.

    Among equals the first speaks and the others are counted; the longest delay holds.
    """
    troubles = [outcome.trouble for outcome in outcomes if outcome.trouble is not None]
    for kind in (Kind.REFUSED, Kind.BUG, Kind.RETRY):
        same = [trouble for trouble in troubles if trouble.kind is kind]
        if same:
            reason = same[0].reason
            if len(troubles) > 1:
                reason += f" (and {len(troubles) - 1} more)"
            return Trouble(kind, reason, max(trouble.delay for trouble in same))
    return None


def counted(steps: Sequence[Step]) -> str:
    """The steps by verb, in the plan's order: `3 ensure-node, swarm-init`."""
    counts = Counter(step.verb for step in steps)
    return ", ".join(f"{n} {verb}" if n > 1 else verb for verb, n in counts.items())
