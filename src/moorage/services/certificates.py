"""Certificates of clusters: the CA's own, and those it signs for tenants."""

from __future__ import annotations

from moorage.model.caller import Caller, Permission
from moorage.model.errors import Conflict, Invalid
from moorage.services.access import reach, require
from moorage.store import Store
from moorage.trust.authority import ClusterAuthority


class CertificateService:
    """`ident` is a cluster's uuid or name; NotFound for one that the caller can't see."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ca(self, caller: Caller, ident: str) -> str:
        """The cluster's CA certificate, PEM. A reader may have it."""
        require(caller, Permission.READER)
        cluster = await self._store.clusters.get(ident, reach(caller, ident))
        return (await self._store.clusters.ca(cluster.uuid)).certificate.decode()

    async def sign(self, caller: Caller, ident: str, csr: str) -> str:
        """A client certificate, PEM, for a PEM request.

        Members only: a client certificate is full access to the engine. Raises
        Forbidden, Invalid (field `csr`), Conflict once the cluster is being deleted.
        """
        require(caller, Permission.MEMBER)
        cluster = await self._store.clusters.get(ident, reach(caller, ident))
        if cluster.status.deleting:
            raise Conflict(f"Cluster {cluster.name} is being deleted.")
        if not csr.isascii():
            raise Invalid("The certificate request is not PEM: it must be ASCII.", field="csr")
        authority = ClusterAuthority(await self._store.clusters.ca(cluster.uuid))
        return authority.sign(csr.encode()).decode()
