"""What is wanted, kept: the tables, their queries, and the claims on them.

store = await Store.open("sqlite:////var/lib/moorage/moorage.db", seal)
await store.templates.get("swarm", Scope("project"))
await store.clusters.add(cluster, ca, Limits(clusters=20, nodes=100))
claim = await store.claims.take("worker-1", lease=30.0)
await store.hints.wait(timeout=15.0)
await store.close()
"""

from moorage.store.claims import Claim, Claims, LostClaim
from moorage.store.clusters import Clusters, Limits, Usage
from moorage.store.hints import Hints
from moorage.store.scope import EVERYTHING, Scope
from moorage.store.store import Store
from moorage.store.templates import Templates

__all__ = [
    "EVERYTHING",
    "Claim",
    "Claims",
    "Clusters",
    "Hints",
    "Limits",
    "LostClaim",
    "Scope",
    "Store",
    "Templates",
    "Usage",
]
