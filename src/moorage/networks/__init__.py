"""How nodes reach each other and the world, and how they must not."""

from moorage.networks.local import LocalNetwork

__all__ = ["LocalNetwork"]
