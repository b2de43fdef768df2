"""How nodes reach each other and the world, and how they must not."""

from moorage.networks.local import LocalNetwork
from moorage.networks.rules import Door

__all__ = ["Door", "LocalNetwork"]
