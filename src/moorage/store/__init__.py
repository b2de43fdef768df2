"""What is wanted, kept: the tables, their queries, and the claims on them.

store = await Store.open("sqlite:////var/lib/moorage/moorage.db", seal)
await store.templates.get("swarm", Scope("project"))
await store.clusters.add(cluster, ca, {Resource.CLUSTER: 20}, by="alice")
claim = await store.claims.take("worker-1", lease=30.0)
await store.hints.wait(timeout=15.0)
await store.close()
"""

from moorage.store.claims import Claim, Claims, LostClaim
from moorage.store.clusters import Clusters
from moorage.store.hints import Hints
from moorage.store.ident import storable
from moorage.store.scope import EVERYTHING, Scope
from moorage.store.store import Store
from moorage.store.templates import Templates

__all__ = [
    "EVERYTHING",
    "Claim",
    "Claims",
    "Clusters",
    "Hints",
    "LostClaim",
    "Scope",
    "Store",
    "Templates",
    "storable",
]
