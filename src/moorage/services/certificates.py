"""Certificates of clusters: the CA's own, and those it signs for tenants."""

from __future__ import annotations

from moorage.model.caller import Caller, Permission
from moorage.model.cluster import Cluster
from moorage.model.errors import Invalid, RetryLater
from moorage.services import rules, wishes
from moorage.services.access import require
from moorage.services.clusters import ClusterService, found
from moorage.services.engine_users import GROUPS, engine_user
from moorage.store import Store
from moorage.trust.authority import ClusterAuthority, new_ca, subject_of
from moorage.trust.seal import SealBroken


class CertificateService:
    """`ident` is a cluster's uuid or name; NotFound for one that the caller can't see."""

    def __init__(self, store: Store, clusters: ClusterService) -> None:
        self._store = store
        self._clusters = clusters

    async def ca(self, caller: Caller, ident: str) -> str:
        """What to trust, PEM: the cluster's CA; two while it is being changed. For readers."""
        require(caller, Permission.READER)
        cluster = await found(self._store, caller, ident)
        return (await self._authority(cluster)).certificate.decode()

    async def sign(self, caller: Caller, ident: str, csr: str) -> str:
        """A client certificate, PEM, for a PEM request. The cluster's events tell of it.

        Of a Swarm, members only: a client certificate is full access to the engine. In
        Kubernetes it is for what the caller's role lets it do, whatever the request says. Raises
        Forbidden, Invalid (field `csr`), Conflict once the cluster is being deleted.
        """
        require(caller, Permission.READER)
        cluster = await found(self._store, caller, ident)
        if cluster.coe not in GROUPS:
            require(caller, Permission.MEMBER)
        wishes.refuse_deleting(cluster)
        if not csr.isascii():
            raise Invalid("The certificate request is not PEM: it must be ASCII.", field="csr")
        authority = await self._authority(cluster)
        if cluster.coe in GROUPS:
            user = engine_user(caller, cluster.coe)
            signed = authority.sign_as(csr.encode(), user.name, user.group)
        else:
            signed = authority.sign(csr.encode())
        told = f"sign a client certificate: {rules.shown(subject_of(signed))}"
        # Before it is handed out: nobody holds a certificate that nobody can find.
        await self._store.events.tell(
            cluster, told, by=caller.user_name, request_id=caller.request_id
        )
        return signed.decode()

    async def rotate(self, caller: Caller, ident: str) -> Cluster:
        """Change the cluster's CA for a new one.

        Certificates of both are good until the last node carries the new one. While a CA
        is being changed, asking again brings no third one: it goes on with what failed.
        """
        require(caller, Permission.MEMBER)
        cluster = await found(self._store, caller, ident)
        return await self._clusters.wish(
            caller, cluster.uuid, wishes.rotating_ca, coming=new_ca(cluster.name)
        )

    async def _authority(self, cluster: Cluster) -> ClusterAuthority:
        try:
            return ClusterAuthority(await self._store.clusters.ca(cluster.uuid))
        except SealBroken:
            raise RetryLater(
                f"The key of cluster {cluster.name}'s CA does not open: the cloud's operator "
                "has to put the key file back that sealed it.",
                delay=60.0,
            ) from None
