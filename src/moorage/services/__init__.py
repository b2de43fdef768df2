"""Use cases: who may do what, by which rules, and what is then wanted."""

from moorage.services.catalogue import Catalogue
from moorage.services.certificates import CertificateService
from moorage.services.clusters import ClusterService
from moorage.services.labels import LabelDifferences
from moorage.services.requests import NewCluster, NewTemplate, PatchOp
from moorage.services.templates import TemplateService
from moorage.store.clusters import Limits

__all__ = [
    "Catalogue",
    "CertificateService",
    "ClusterService",
    "LabelDifferences",
    "Limits",
    "NewCluster",
    "NewTemplate",
    "PatchOp",
    "TemplateService",
]
