"""Certificates and keys: pure cryptography, with no network and no database."""

from moorage.trust.authority import ClusterAuthority, new_ca
from moorage.trust.seal import Seal, SealBroken

__all__ = ["ClusterAuthority", "Seal", "SealBroken", "new_ca"]
