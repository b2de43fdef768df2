"""Names for clusters that were given none: readable, and unlikely to meet again."""

from __future__ import annotations

import secrets

COLOURS = (
    "amber", "azure", "bronze", "cobalt", "copper", "coral", "crimson", "golden", "indigo",
    "ivory", "jade", "maroon", "ochre", "pearl", "russet", "scarlet", "silver", "teal",
)  # fmt: skip
PLACES = (
    "anchorage", "bay", "beacon", "berth", "channel", "cove", "delta", "dock", "estuary",
    "fjord", "harbour", "haven", "inlet", "island", "jetty", "lagoon", "pier", "quay", "reef",
)  # fmt: skip


def generated(coe: str) -> str:
    """For example `swarm-amber-harbour-7f3a`."""
    return f"{coe}-{secrets.choice(COLOURS)}-{secrets.choice(PLACES)}-{secrets.token_hex(2)}"
