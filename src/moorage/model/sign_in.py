"""Sign-in to a cluster with a token of Keystone's: what its API servers and Moorage agree on.

An API server asks by a webhook whether a token is good. It shows the credential of its own
cluster, which opens nothing else: a tenant is root where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from moorage.model.ports import Authority

PURPOSE = "sign-in"
"""What a cluster's credential is derived for (`Authority.secret`), and the listener's CA."""
SERVER = "sign-in.moorage.internal"
"""The name in the listener's certificate, whatever its address is."""
CACHE_SECONDS = 10
"""So long an API server is told to believe an answer."""
BELIEVED_SECONDS = CACHE_SECONDS + 10
"""So long it may: before all of its kinds of token it has a cache more, that no flag bounds
(https://github.com/kubernetes/kubernetes/pull/50258)."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Where API servers ask: `https://address:port`, and the CA of who answers there (PEM)."""

    url: str
    ca: bytes = field(repr=False)

    @property
    def address(self) -> IPv4Address | None:
        """None where it is said by a name: what that means is for each master to find."""
        try:
            return IPv4Address(urlsplit(self.url).hostname or "")
        except ValueError:
            return None


def path_of(cluster: str) -> str:
    """Where the API servers of the cluster (its uuid) ask."""
    return f"/clusters/{cluster}/token-reviews"


def credential_of(authority: Authority) -> str:
    """What the API servers of the authority's cluster show. Raises as `Authority.secret`."""
    return authority.secret(PURPOSE).hex()
