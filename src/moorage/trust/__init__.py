"""Certificates and keys: pure cryptography, with no network and no database."""

from moorage.trust.authority import ClusterAuthority, authority_from, new_ca
from moorage.trust.seal import Seal, SealBroken

__all__ = ["ClusterAuthority", "Seal", "SealBroken", "authority_from", "new_ca"]
