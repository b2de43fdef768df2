"""What may still be said of a cluster that nobody has looked at for some time. Pure."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus
from moorage.planning.status import FAILED_CAP, late

LOOKS = 20.0
"""Looks a second, on average, while nothing happens to very many clusters."""
SPREAD, WIDE = 0.25, 0.5
"""Part of the longest pause by which chance shortens it. Very many clusters that were made
together, or looked at together by a server that starts, would else be a crowd for hours."""
TURN_SECONDS = 120.0
"""A turn that looks and acts, and one that waits for its turn, may take so long."""
_A_TURN = datetime.timedelta(seconds=TURN_SECONDS)
CLOCKS = 5.0
"""Seconds by which the clocks of two machines of one install may differ."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two looks at a cluster with nothing to do: `longest`, less by chance."""

    longest: float
    spread: float = SPREAD

    def after(self, jitter: float) -> float:
        """Seconds until the next look. `jitter` is at least 0 and below 1."""
        return self.longest * (1.0 - self.spread * jitter)


def paced(heal_seconds: float, clusters: int) -> Pace:
    """The pace where there are so many.

    Looking thus costs the same from 600 clusters on (at 40 s), however many there are.
    Watchers and engines tell of most that happens in between.
    """
    wide = Pace(clusters / (LOOKS * (1.0 - WIDE / 2.0)), WIDE)
    return wide if wide.longest > heal_seconds else Pace(heal_seconds)


def latest(pace: Pace) -> float:
    """Seconds from now after which no row falls due that was written by a clock like ours.

    Twice what is needed, since other processes may count clusters by their own last look.
    """
    return 2.0 * max(pace.longest, FAILED_CAP)


def as_known(cluster: Cluster, now: datetime.datetime, heal_seconds: float) -> Cluster:
    """The cluster as it may be shown `now`.

    Its health is what was seen when it was looked at last. Where that is longer ago than
    the conductor ever leaves it, there is no conductor, and nobody knows. Nor is there one
    where it is in progress long after its deadline: no conductor lets that stand. And nobody
    knows what was seen in the future: the clock was set back since, none says by how much.
    """
    if cluster.status.in_progress and late(cluster, now - _A_TURN):
        cluster = replace(
            cluster,
            status=ClusterStatus(f"{cluster.status.verb}_FAILED"),
            status_reason="not done in time, and nobody works on it: no conductor runs that "
            f"could. It goes on when one does. Last said: {cluster.status_reason or 'nothing'}",
        )
    if cluster.seen_at is None or cluster.status.deleting:
        return cluster
    silence = (now - cluster.seen_at).total_seconds()
    if -CLOCKS <= silence <= longest(cluster, heal_seconds):
        return cluster
    reason = f"{cluster.seen_at:%Y-%m-%d %H:%M:%S} UTC"
    if silence < 0.0:
        reason = f"the clock was set back, from {reason} or later"
    reason = f"not looked at since {reason}"
    if cluster.health.status is not HealthStatus.UNKNOWN:
        reason += f", when it was {cluster.health.status}"
    elif why := cluster.health.reasons.get("cluster"):
        reason += f": {why}"  # e.g. that its machine has no conductor
    return replace(cluster, health=Health(HealthStatus.UNKNOWN, {"cluster": reason}))


def longest(cluster: Cluster, heal_seconds: float) -> float:
    """Seconds that may pass between two looks at it while its conductor is there."""
    calm = cluster.status.complete and not cluster.attempts
    return (heal_seconds if calm else max(heal_seconds, FAILED_CAP)) + TURN_SECONDS
