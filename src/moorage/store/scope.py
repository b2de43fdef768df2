"""Whose rows a query may see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows of one project, or of all of them where `project_id` is None.

    Public templates that are not hidden are seen in every scope.
    """

    project_id: str | None


EVERYTHING = Scope(None)
"""For an admin, and for Moorage itself."""
