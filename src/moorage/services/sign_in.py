"""Tokens of Keystone's that are brought to a cluster, whose API servers ask about them here.

What must stay true:

- Only a cluster's own API servers are answered, known by the cluster's credential; of no
  cluster but theirs, and of no project's tokens but its own. That credential is its tenant's.
- A token lets its bearer do what a certificate would (`engine_users`).
- What is refused is refused in one way, whatever the reason: a token of another project is told
  from a forged one by nobody who could not ask Keystone.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from moorage.model.errors import NotFound, Refused, RetryLater, Unauthenticated
from moorage.model.ports import TokenValidator
from moorage.model.sign_in import credential_of
from moorage.services.access import looks_like_uuid
from moorage.services.engine_users import GROUPS, EngineUser, engine_user
from moorage.store import EVERYTHING, Store
from moorage.trust.authority import ClusterAuthority
from moorage.trust.seal import SealBroken

KNOWN_SECONDS = 300.0
"""So long a cluster is not looked up again: its project and its secret are what they are."""
KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Asker:
    """The API servers of one cluster."""

    cluster: str
    """Its uuid."""
    project_id: str
    coe: str
    proof: bytes = field(repr=False)
    """SHA-256 of the credential."""
    until: float


class SignInService:
    """`cluster` is a uuid as the URL names it, `credential` what the request shows."""

    def __init__(
        self, store: Store, validator: TokenValidator, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._validator = validator
        self._clock = clock
        self._known: OrderedDict[str, Asker] = OrderedDict()

    def known(self, cluster: str, credential: str) -> Asker | None:
        """Who asks, if it was found a while ago: without a question to the store."""
        asker = self._known.get(cluster)
        if asker is None or self._clock() >= asker.until:
            return None
        return asker if hmac.compare_digest(asker.proof, _proof(credential)) else None

    async def find(self, cluster: str, credential: str) -> Asker:
        """Who asks. Raises Unauthenticated where it is no cluster's own API server;
        RetryLater where the key of the cluster's secret is not here."""
        stranger = Unauthenticated("Only a cluster's own API servers may ask here.")
        if not looks_like_uuid(cluster):
            raise stranger
        try:
            row = await self._store.clusters.get(cluster, EVERYTHING)
            authority = ClusterAuthority(await self._store.clusters.ca(cluster))
            proof = _proof(credential_of(authority))
        except SealBroken:
            raise RetryLater("The secret of the cluster does not open.", delay=60.0) from None
        except (NotFound, Refused):
            raise stranger from None
        if row.coe not in GROUPS or not hmac.compare_digest(proof, _proof(credential)):
            raise stranger
        asker = Asker(cluster, row.project_id, row.coe, proof, self._clock() + KNOWN_SECONDS)
        self._known[cluster] = asker
        self._known.move_to_end(cluster)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return asker

    async def review(self, asker: Asker, token: str) -> EngineUser | None:
        """Who bears the token, in that cluster; None where it is not good there.

        Raises RetryLater where Keystone is silent, or the cluster has too many tokens waiting.
        """
        try:
            caller = await self._validator.validate(token, asker.cluster)
            if caller.project_id != asker.project_id:
                return None
            return engine_user(caller, asker.coe)
        except Refused:
            return None


def _proof(credential: str) -> bytes:
    return hashlib.sha256(credential.encode(errors="surrogatepass")).digest()
