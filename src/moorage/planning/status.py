"""What a turn means for its cluster: decided here, purely, written down by the conductor.

The rules, which every path below must keep:

- COMPLETE is only what an observation with an empty plan has shown. After steps were
  performed the cluster falls due again at once, to be looked at.
- Every verdict has a `due_in`: nothing alive is ever left alone, failed clusters included.
- What may pass is tried again after its delay, doubled with each attempt. A deadline turns
  IN_PROGRESS into FAILED, and FAILED turns into COMPLETE when the plan becomes empty after all.
- A refusal ends CREATE and UPDATE at once, and is asked again rarely. While a create is
  refused, what was made for it is undone. A delete can't be refused; it only takes longer.
- A cluster that was complete keeps that status while it heals: its health tells. So it does
  where healing is off, or on hold (planning/healing).
- A change that failed goes back to what was wanted before, where it was asked for so.
- A CA that is being changed goes one phase further with each empty plan.
- Old nodes whose renewal is on hold are no empty plan: the change stays failed until
  somebody asks for it again, or for what was there before.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus, Rotation
from moorage.model.node import Role
from moorage.model.ports import Observed
from moorage.planning.outcomes import Kind, Outcome, Trouble, counted, worst

PROGRESS_CAP = 60.0
"""The longest wait, in seconds, of a cluster that somebody is waiting for."""
FAILED_CAP = 300.0
"""The longest wait, in seconds, of any other; and how often a refusal is asked again."""

_DOING = {"CREATE": "creating", "UPDATE": "updating", "ROLLBACK": "rolling back"}
_DID = {"CREATE": "created", "UPDATE": "updated", "ROLLBACK": "rolled back"}
_AFTER = {Rotation.TRUST: Rotation.SERVE, Rotation.SERVE: None}
_REACHED = {
    Rotation.TRUST: "every node trusts the new CA beside the old one",
    Rotation.SERVE: "every node has a certificate of the new CA",
}
ON_HOLD = "; on hold: "
UNDONE = "; what was made for it is deleted"
UNDOING = "; what was made for it is being deleted"
"""The end of a refused create's reason until all is deleted: it tells the next turn to go on."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one turn found and did.

    `seen` is None where nothing could be observed. `again`: this very plan has been carried
    out before without a fault, and is needed still. `undone`: whether the nodes of a refused
    create could be deleted; None where there were none to delete. `held`: old nodes whose
    renewal is on hold. `withheld`: why nothing is done though something is to be healed, and
    `more_in` the seconds until it may be. `elapsed` is the turn's length so far,
    `next_look` how long a cluster with nothing to do is left alone, both in seconds;
    `jitter` is at least 0 and below 1.
    """

    now: datetime.datetime
    next_look: float
    jitter: float = 0.0
    seen: Observed | None = None
    outcomes: Sequence[Outcome] = ()
    elapsed: float = 0.0
    again: bool = False
    undone: bool | None = None
    held: Sequence[str] = ()
    withheld: str = ""
    more_in: float | None = None

    @property
    def as_wanted(self) -> bool:
        """Whether it was looked, and nothing was to be done."""
        return self.seen is not None and not self.outcomes and not self.withheld


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be written down; `sentence` is the turn in one line, `due_in` is in seconds.

    `idle`: there was nothing to do and nothing new to tell. `rotation` is the phase that
    the exchange of the CA has now; `back`: what was wanted before is wanted again.
    """

    status: ClusterStatus
    status_reason: str | None
    health: Health
    attempts: int
    due_in: float
    sentence: str
    idle: bool = False
    troubled: bool = False
    rotation: Rotation | None = None
    back: bool = False


def settle(cluster: Cluster, found: Findings) -> Verdict:
    """The verdict on one turn of a cluster that is to live."""
    verdict = _settled(cluster, found)
    failed = verdict.status is ClusterStatus.UPDATE_FAILED
    if failed and cluster.fallback is not None and not (found.held and found.as_wanted):
        return replace(
            verdict,
            status=ClusterStatus.ROLLBACK_IN_PROGRESS,
            status_reason=f"going back, for the update failed: {verdict.status_reason}",
            attempts=0,
            due_in=0.0,
            back=True,
        )
    return verdict


def _settled(cluster: Cluster, found: Findings) -> Verdict:
    if found.withheld and not found.outcomes and found.seen is not None:
        return _withheld(cluster, found, found.seen)
    if found.as_wanted and found.seen is not None:
        if cluster.rotation is not None:
            return _further(cluster, found.seen, cluster.rotation)
        if found.held:
            return _on_hold(cluster, found, found.seen)
        return _complete(cluster, found, found.seen)
    trouble = worst(found.outcomes)
    if trouble is None and found.again:
        done = counted([outcome.step for outcome in found.outcomes])
        trouble = Trouble(Kind.RETRY, f"{done} done, and needed again")
    if trouble is None:
        return _going_on(cluster, found)
    return _troubled(cluster, found, trouble)


def settle_delete(cluster: Cluster, found: Findings) -> Verdict:
    """The verdict on one turn of a cluster that is to go and of which something is left."""
    trouble = worst(found.outcomes)
    if trouble is None:
        left = sorted(found.seen.nodes) if found.seen else []
        trouble = Trouble(Kind.RETRY, f"still there after their delete: {', '.join(left)}")
    status, reason = cluster.status, trouble.reason
    if late(cluster, found.now):
        status, reason = ClusterStatus.DELETE_FAILED, _overdue(cluster, reason)
    due_in = _wait(cluster, status, trouble.delay, found)
    return Verdict(
        status=status,
        status_reason=reason,
        health=Health(),
        attempts=cluster.attempts + 1,
        due_in=due_in,
        sentence=f"deleting: {reason}; again in {due_in:.1f} s",
        troubled=True,
        rotation=cluster.rotation,
    )


def refused(cluster: Cluster, outcomes: Sequence[Outcome], *, empty: bool) -> bool:
    """Whether a create was refused, so that what was made for it has to go.

    `empty`: there was no node of it before. A create that failed by its deadline may be in
    use, all but a node: it keeps what it has. One whose undoing has begun is undone.
    """
    trouble = worst(outcomes)
    if trouble is None or trouble.kind is not Kind.REFUSED:
        return False
    if cluster.status is ClusterStatus.CREATE_FAILED:
        return empty or (cluster.status_reason or "").endswith(UNDOING)
    return cluster.status is ClusterStatus.CREATE_IN_PROGRESS


def backoff(delay: float, attempts: int, cap: float, jitter: float) -> float:
    """Seconds until the next try: the delay doubled per attempt, capped, up to a quarter less."""
    return min(cap, delay * 2.0 ** min(attempts, 16)) * (1.0 - jitter / 4.0)


def late(cluster: Cluster, now: datetime.datetime) -> bool:
    """Whether the deadline of what is going on with the cluster has passed."""
    return cluster.deadline is not None and now >= cluster.deadline and not cluster.status.complete


def some(count: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def made_of(cluster: Cluster, seen: Observed) -> str:
    """The cluster in words: `3 nodes, swarm of 1 master and 2 workers`."""
    masters = sum(node.role is Role.MASTER for node in seen.nodes.values())
    workers = len(seen.nodes) - masters
    return (
        f"{some(len(seen.nodes), 'node')}, {cluster.coe} of "
        f"{some(masters, 'master')} and {some(workers, 'worker')}"
    )


def _complete(cluster: Cluster, found: Findings, seen: Observed) -> Verdict:
    status, reason = cluster.status, cluster.status_reason
    whole = made_of(cluster, seen)
    sentence = f"as wanted: {whole}"
    if not status.complete:
        status = ClusterStatus(f"{status.verb}_COMPLETE")
        began = _began(cluster)
        taken = f" in {(found.now - began).total_seconds():.1f} s" if began else ""
        reason = sentence = f"{_DID[status.verb]}: {whole}{taken}"
    elif cluster.attempts:
        reason = sentence = f"healed: {whole}"
    due_in = found.next_look
    idle = cluster.status.complete and not cluster.attempts
    if seen.health.reasons and seen.health != cluster.health:  # nothing that steps could mend
        idle, said = False, [f"{name}: {why}" for name, why in sorted(seen.health.reasons.items())]
        sentence = f"{sentence}, but unhealthy: {'; '.join(said)}"
    return Verdict(status, reason, seen.health, 0, due_in, sentence, idle=idle)


def _further(cluster: Cluster, seen: Observed, phase: Rotation) -> Verdict:
    sentence = f"{_doing(cluster)}: {_REACHED[phase]}"
    reason = cluster.status_reason if cluster.status.failed else sentence
    return Verdict(cluster.status, reason, seen.health, 0, 0.0, sentence, rotation=_AFTER[phase])


def _on_hold(cluster: Cluster, found: Findings, seen: Observed) -> Verdict:
    status, why = cluster.status, (cluster.status_reason or "").partition(ON_HOLD)[0]
    if not status.failed:  # another wish, and done: what is on hold is so still
        status = ClusterStatus.UPDATE_FAILED if status.complete else _failed(cluster)
        why = f"all else is as wanted: {made_of(cluster, seen)}"
    rest = (
        f"{some(len(found.held), 'node')} still as before ({', '.join(found.held)}); ask for the "
        "upgrade again to go on, or for the former template to go back"
    )
    due_in = found.next_look
    reason = f"{why}{ON_HOLD}{rest}"
    idle = reason == cluster.status_reason
    return Verdict(status, reason, seen.health, 0, due_in, f"on hold: {rest}", idle=idle)


def _withheld(cluster: Cluster, found: Findings, seen: Observed) -> Verdict:
    due_in = min(found.next_look, found.more_in or math.inf)
    return Verdict(
        cluster.status,
        cluster.status_reason,
        seen.health,
        cluster.attempts,
        max(1.0, due_in),
        f"not healed: {found.withheld}",
        idle=seen.health == cluster.health,
        troubled=True,
    )


def _going_on(cluster: Cluster, found: Findings) -> Verdict:
    """Every step is done: due again at once, since only an observation says COMPLETE.

    It got somewhere, so it is the first attempt again, however many turns a change takes.
    """
    done = counted([o.step for o in found.outcomes if o.done]) or "nothing yet"
    sentence = f"{_doing(cluster)}: {done} in {found.elapsed:.1f} s"
    status, reason = cluster.status, cluster.status_reason
    if not status.failed:  # what made it fail is the answer until it is whole
        reason = sentence
        if late(cluster, found.now):
            status, reason = _failed(cluster), _overdue(cluster, sentence)
    return Verdict(
        status,
        reason,
        _health(cluster, found),
        1,
        0.0,
        sentence,
        rotation=cluster.rotation,
    )


def _troubled(cluster: Cluster, found: Findings, trouble: Trouble) -> Verdict:
    status, reason, delay = cluster.status, trouble.reason, trouble.delay
    if found.undone is not None:
        reason += UNDONE if found.undone else UNDOING
    if trouble.kind is Kind.REFUSED:
        delay = found.next_look
        if not cluster.status.complete:
            status = _failed(cluster)
            delay = 1.0 if found.undone is False else FAILED_CAP
    elif late(cluster, found.now):
        status, reason = _failed(cluster), _overdue(cluster, reason)
    due_in = _wait(cluster, status, delay, found)
    sentence = f"{_doing(cluster)}: {reason}"
    return Verdict(
        status=status,
        status_reason=sentence if cluster.status.complete else reason,
        health=_health(cluster, found),
        attempts=cluster.attempts + 1,
        due_in=due_in,
        sentence=f"{sentence}; again in {due_in:.1f} s",
        troubled=True,
        rotation=cluster.rotation,
    )


def _wait(cluster: Cluster, status: ClusterStatus, delay: float, found: Findings) -> float:
    """The backoff; nobody in progress sleeps through its deadline."""
    cap = PROGRESS_CAP if status.in_progress else FAILED_CAP
    due_in = backoff(delay, cluster.attempts, cap, found.jitter)
    if status.in_progress and cluster.deadline is not None:
        due_in = min(due_in, max(0.0, (cluster.deadline - found.now).total_seconds()))
    return due_in


def _overdue(cluster: Cluster, reason: str) -> str:
    if cluster.status.deleting:
        return f"not done in time: {reason}"
    return f"not done within {some(cluster.create_timeout, 'minute')}: {reason}"


def _health(cluster: Cluster, found: Findings) -> Health:
    """What the observation says, or why there was none; a cluster in the making has no health."""
    if found.undone is not None or cluster.status is ClusterStatus.CREATE_IN_PROGRESS:
        return Health()
    if found.seen is not None:
        return found.seen.health
    trouble = worst(found.outcomes)
    return Health(HealthStatus.UNKNOWN, {"cluster": trouble.reason} if trouble else {})


def _began(cluster: Cluster) -> datetime.datetime | None:
    """When what is going on was asked for: its deadline was set then."""
    if cluster.deadline is None:
        return None
    return cluster.deadline - datetime.timedelta(minutes=cluster.create_timeout)


def _failed(cluster: Cluster) -> ClusterStatus:
    return ClusterStatus(f"{cluster.status.verb}_FAILED")


def _doing(cluster: Cluster) -> str:
    return "healing" if cluster.status.complete else _DOING[cluster.status.verb]
