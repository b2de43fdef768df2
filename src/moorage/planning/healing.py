"""How far a cluster that was whole may be healed by itself now. Pure.

To start a node again on its disk costs nothing and is always done. To *replace* one, with
an empty disk, costs what was on it. The rules, for clusters whose status is *_COMPLETE:

- With the label `auto_healing_enabled=false` nothing is done but to mend: that ends nothing, and
  what guards a cluster's network guards others from it, which is not its tenant's to decline.
  The health says what else would be done.
- A node whose engine can't be used is replaced after several *strikes*. A strike is a turn
  that found the node failing, STRIKE_SECONDS after the one before at the earliest: a storm of
  hints is no evidence. (The driver decides that, by `ClusterSpec.strikes`.)
- Where more than half of the nodes seem gone at once, something else is to blame, as the
  network between them and us. Then each needs WHOLESALE strikes.
- In a window of time only so many are replaced. After that, healing is on hold until the
  window has moved on, and goes on by itself.

A cluster that somebody asked to be changed is brought to what is wanted: nodes that lack are
made, and started again, without these bounds and whatever its label says. But it was whole
before, and may fail to change for weeks: a disk that it has is given up by these rules only.
A cluster in the making has nothing to lose.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from moorage.model.cluster import Cluster
from moorage.model.healing import Healing, Strikes
from moorage.model.node import NodeState
from moorage.model.plan import DELETE_NODE, ENSURE_NODE, PUBLISH, RESTART, Step
from moorage.model.ports import Observed
from moorage.model.status import ClusterStatus
from moorage.planning.outcomes import Outcome, counted

LABEL = "auto_healing_enabled"
FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
STRIKE_SECONDS = 5.0
WHOLESALE = 8
"""Strikes that a node needs which seems gone together with most others: 35 seconds."""
HEALING = "healing"
"""The key of what is said of healing itself, among the reasons of a cluster's health."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many nodes of a cluster are replaced within `window` seconds.

    `replacements`, or a `share` of the cluster's nodes where that is more.
    """

    replacements: int = 3
    share: float = 0.25
    window: float = 1800.0

    def most(self, nodes: int) -> int:
        return max(self.replacements, int(nodes * self.share))


@dataclass(frozen=True, slots=True)
class Admitted:
    """The part of a plan that may be carried out, and what is said of the rest.

    `due_in`: seconds until more may be done, where something was held back.
    """

    steps: list[Step]
    notes: Mapping[str, str] = field(default_factory=dict)
    due_in: float | None = None


def enabled(labels: Mapping[str, str]) -> bool:
    """Whether a cluster with these labels is healed: it is, unless they say no."""
    return labels.get(LABEL, "").strip().lower() not in FALSE


def remembered(
    healing: Healing, seen: Observed, wanted: Sequence[str], limits: Limits, now: datetime.datetime
) -> Healing:
    """With this turn's strikes counted, and what is too old to matter forgotten.

    What lies in the future, since the clock was set back, is as of now: else no strike would
    count, and no window end, before that time comes again.
    """
    strikes = {}
    for name in sorted(_lost(seen, wanted) | (seen.failing & set(wanted))):
        before = healing.strikes.get(name)
        if before is None:
            strikes[name] = Strikes(1, now)
        elif (now - before.at).total_seconds() >= STRIKE_SECONDS:
            strikes[name] = replace(before, count=before.count + 1, at=now)
        else:
            strikes[name] = replace(before, at=min(before.at, now))
    since = now - datetime.timedelta(seconds=limits.window)
    return Healing(
        strikes, tuple(min(moment, now) for moment in healing.replaced if moment > since)
    )


def admitted(
    cluster: Cluster,
    steps: list[Step],
    seen: Observed,
    wanted: Sequence[str],
    *,
    limits: Limits,
    now: datetime.datetime,
) -> Admitted:
    """What of the plan may be done now. `cluster.healing` is as `remembered` in this turn."""
    if not steps or cluster.status is ClusterStatus.CREATE_IN_PROGRESS:
        return Admitted(steps)
    thrown_away = _thrown_away(steps, seen, wanted)
    replacing = _replaced(steps, seen, thrown_away) if cluster.status.complete else thrown_away
    if not enabled(cluster.labels):
        return _off(cluster, steps, seen, set(thrown_away))
    held, notes, due_in = _wholesale(cluster, seen, wanted, replacing)
    left = limits.most(len(wanted)) - len(cluster.healing.replaced)
    over = [name for name in replacing if name not in held][max(0, left) :]
    if over:
        until = cluster.healing.replaced[0] if cluster.healing.replaced else now
        until += datetime.timedelta(seconds=limits.window)
        rest = max(0.0, (until - now).total_seconds())
        notes[HEALING] = (
            f"on hold until {until:%Y-%m-%d %H:%M:%S} UTC: at most "
            f"{limits.most(len(wanted))} are replaced in {limits.window / 60:g} min; "
            f"next: {', '.join(over)}"
        )
        due_in = rest if due_in is None else min(due_in, rest)
    return Admitted(_without(steps, {*held, *over}), notes, due_in)


def counted_in(
    cluster: Cluster,
    outcomes: Sequence[Outcome],
    seen: Observed,
    wanted: Sequence[str],
    now: datetime.datetime,
) -> Healing:
    """What is remembered once the turn's steps are done: what was replaced, and what restarted.

    A node that lost its disk begins anew: what was held against its predecessor is forgotten.
    """
    done = [outcome.step for outcome in outcomes if outcome.done]
    anew = {step.node for step in done if step.verb == ENSURE_NODE and not _has_disk(seen, step)}
    if cluster.status.complete:
        new = len(anew)
    elif cluster.status is ClusterStatus.CREATE_IN_PROGRESS:
        new = 0
    else:  # where nodes are made that never were, only the end of one tells
        new = len(_thrown_away(done, seen, wanted))
    restarted = {step.node for step in done if RESTART in step.detail}
    strikes = {
        name: replace(s, restarted=s.count) if name in restarted else s
        for name, s in cluster.healing.strikes.items()
        if name not in anew
    }
    return Healing(strikes, (*cluster.healing.replaced, *(now for _ in range(new))))


def _off(cluster: Cluster, steps: list[Step], seen: Observed, thrown_away: set[str]) -> Admitted:
    """A cluster that was whole is only mended; to another, all is done but what costs a disk."""
    if cluster.status.complete:
        left = [step for step in steps if _mends(seen, step)]
    else:
        left = _without(steps, thrown_away)
    held = [step for step in steps if step not in left]
    if not held:
        return Admitted(steps)
    would = f"off ({LABEL} is {cluster.labels[LABEL]}); it would do: {counted(held)}"
    return Admitted(left, {HEALING: would})


def _wholesale(
    cluster: Cluster, seen: Observed, wanted: Sequence[str], replacing: Sequence[str]
) -> tuple[set[str], dict[str, str], float | None]:
    """The nodes that are held back since most others seem gone as well; what to say; when next."""
    gone = _lost(seen, wanted) | (seen.failing & set(wanted))
    if len(gone) < 2 or 2 * len(gone) <= len(wanted):
        return set(), {}, None
    strikes = cluster.healing.strikes
    held = {
        name for name in replacing if (strikes[name].count if name in strikes else 0) < WHOLESALE
    }
    if not held:
        return held, {}, None
    said = (
        f"{len(gone)} of {len(wanted)} nodes seem gone at once: none is replaced before that was "
        f"seen {WHOLESALE} times"
    )
    return held, {HEALING: said}, STRIKE_SECONDS


def _thrown_away(steps: Sequence[Step], seen: Observed, wanted: Sequence[str]) -> list[str]:
    """The nodes that lose their disk by these steps, though they are wanted."""
    ended = [step for step in steps if step.verb == DELETE_NODE and step.node in wanted]
    return [step.node for step in ended if _has_disk(seen, step)]


def _replaced(steps: Sequence[Step], seen: Observed, thrown_away: Sequence[str]) -> list[str]:
    """The nodes that are made since their disk is lost, and then those that lose it."""
    anew = [s.node for s in steps if s.verb == ENSURE_NODE and not _has_disk(seen, s)]
    return list(dict.fromkeys([*anew, *thrown_away]))


def _without(steps: list[Step], held: set[str]) -> list[Step]:
    """The plan without these nodes' steps, and without what would have waited for them."""
    dropped: set[str] = set()
    while more := {
        step.key
        for step in steps
        if step.key not in dropped and (step.node in held or step.after & dropped)
    }:
        dropped |= more
    return [step for step in steps if step.key not in dropped]


def _mends(seen: Observed, step: Step) -> bool:
    """Whether the step only puts something right around a node that goes on running."""
    node = seen.nodes.get(step.node)
    if step.verb == PUBLISH:
        return not step.after
    return (
        step.verb == ENSURE_NODE
        and not step.after
        and node is not None
        and node.state is NodeState.RUNNING
        and node.mendable
    )


def _has_disk(seen: Observed, step: Step) -> bool:
    node = seen.nodes.get(step.node)
    return node is not None and node.state is not NodeState.BROKEN


def _lost(seen: Observed, wanted: Sequence[str]) -> set[str]:
    """The nodes that are not there, or only half."""
    return {
        name
        for name in wanted
        if (node := seen.nodes.get(name)) is None or node.state is NodeState.BROKEN
    }
