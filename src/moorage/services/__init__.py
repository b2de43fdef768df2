"""Use cases: who may do what, by which rules, and what is then wanted."""

from dataclasses import dataclass

from moorage.model.quota import UNLIMITED, Amounts
from moorage.services.catalogue import Catalogue
from moorage.services.certificates import CertificateService
from moorage.services.clusters import HEAL_SECONDS, ClusterService
from moorage.services.history import AuditService, EventService, Heartbeats
from moorage.services.labels import LabelDifferences, differences
from moorage.services.nodegroups import NodeGroupService
from moorage.services.orphans import OrphanService
from moorage.services.quotas import QuotaService
from moorage.services.requests import (
    NewCluster,
    NewNodeGroup,
    NewOffer,
    NewQuota,
    NewRelease,
    NewSize,
    NewTemplate,
    PatchOp,
)
from moorage.services.sign_in import SignInService
from moorage.services.templates import TemplateService
from moorage.store import Store

__all__ = [
    "AuditService",
    "Catalogue",
    "CertificateService",
    "ClusterService",
    "EventService",
    "Heartbeats",
    "LabelDifferences",
    "NewCluster",
    "NewNodeGroup",
    "NewOffer",
    "NewQuota",
    "NewRelease",
    "NewSize",
    "NewTemplate",
    "NodeGroupService",
    "OrphanService",
    "PatchOp",
    "QuotaService",
    "Services",
    "SignInService",
    "TemplateService",
    "differences",
    "open_services",
]


@dataclass(frozen=True, slots=True)
class Services:
    """All use cases, as the API holds them."""

    templates: TemplateService
    clusters: ClusterService
    nodegroups: NodeGroupService
    certificates: CertificateService
    quotas: QuotaService
    heartbeats: Heartbeats
    orphans: OrphanService
    events: EventService
    audit: AuditService
    catalogue: Catalogue


def open_services(
    store: Store,
    catalogue: Catalogue,
    defaults: Amounts,
    *,
    templates: int = UNLIMITED,
    heal_seconds: float = HEAL_SECONDS,
) -> Services:
    """The use cases over one store. `defaults`: the quotas of projects without their own.

    `templates`: how many a project may have; `heal_seconds`: how often the conductor looks
    at a cluster.
    """
    clusters = ClusterService(store, catalogue, defaults, heal_seconds)
    return Services(
        templates=TemplateService(store, catalogue, templates),
        clusters=clusters,
        nodegroups=NodeGroupService(clusters, catalogue),
        certificates=CertificateService(store, clusters),
        quotas=QuotaService(store, defaults),
        heartbeats=Heartbeats(store),
        orphans=OrphanService(store, catalogue.providers, conducting=catalogue.conducting),
        events=EventService(store),
        audit=AuditService(store),
        catalogue=catalogue,
    )
