"""What tests do with a real swarm in local nodes: bring it about, and act in its nodes."""

from __future__ import annotations

from moorage.drivers.swarm.seen import SwarmObserved
from moorage.model.cluster import HealthStatus
from tests.contract.test_drivers import Site


async def whole(site: Site) -> SwarmObserved:
    seen = await site.converge()
    assert isinstance(seen, SwarmObserved)
    assert seen.health.status is HealthStatus.HEALTHY, seen.health
    return seen


async def shell(site: Site, node: str, script: str) -> str:
    done = await site.members[node].host.run(["/bin/sh", "-c", script])
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()
