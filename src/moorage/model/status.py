"""How far a cluster, or a node group, has got with what is wanted of it."""

from __future__ import annotations

import enum


class ClusterStatus(enum.StrEnum):
    """The statuses of the container-infra API that Moorage uses."""

    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    CREATE_FAILED = "CREATE_FAILED"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    UPDATE_FAILED = "UPDATE_FAILED"
    ROLLBACK_IN_PROGRESS = "ROLLBACK_IN_PROGRESS"
    ROLLBACK_COMPLETE = "ROLLBACK_COMPLETE"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_FAILED = "DELETE_FAILED"

    @property
    def in_progress(self) -> bool:
        return self.value.endswith("_IN_PROGRESS")

    @property
    def complete(self) -> bool:
        return self.value.endswith("_COMPLETE")

    @property
    def failed(self) -> bool:
        return self.value.endswith("_FAILED")

    @property
    def deleting(self) -> bool:
        return self.value.startswith("DELETE_")

    @property
    def verb(self) -> str:
        """CREATE, UPDATE, ROLLBACK or DELETE."""
        return self.value.partition("_")[0]
