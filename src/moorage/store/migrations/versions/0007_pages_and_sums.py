"""Indexes for a project with very many clusters: its pages in order, and the sums of its quotas."""

from collections.abc import Sequence

from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

PAGES = "ix_clusters_project_id_id"
SUMS = "ix_clusters_project_id_nodes_cpus_memory_mib_disk_gib"


def upgrade() -> None:
    op.create_index(PAGES, "clusters", ["project_id", "id"])
    sums = ["project_id", "nodes", "cpus", "memory_mib", "disk_gib"]
    op.create_index(SUMS, "clusters", sums)


def downgrade() -> None:
    op.drop_index(SUMS, "clusters")
    op.drop_index(PAGES, "clusters")
