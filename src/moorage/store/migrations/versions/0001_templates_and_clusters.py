"""Cluster templates and clusters."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "cluster_templates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255)),
        sa.Column("coe", sa.String(64), nullable=False),
        sa.Column("flavor_id", sa.String(255), nullable=False),
        sa.Column("master_flavor_id", sa.String(255), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_cluster_templates"),
        sa.UniqueConstraint("uuid", name="uq_cluster_templates_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_cluster_templates_project_id", "cluster_templates", ["project_id"])
    op.create_index("ix_cluster_templates_name", "cluster_templates", ["name"])
    op.create_table(
        "clusters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(242), nullable=False),
        sa.Column("template_uuid", sa.String(36), nullable=False),
        sa.Column("coe", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("flavor_id", sa.String(255), nullable=False),
        sa.Column("master_flavor_id", sa.String(255), nullable=False),
        sa.Column("master_count", sa.Integer(), nullable=False),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("create_timeout", sa.Integer(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("deadline", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger()),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("status_reason", sa.Text()),
        sa.Column("health_status", sa.String(16), nullable=False),
        sa.Column("health_reasons", sa.JSON(), nullable=False),
        sa.Column("api_address", sa.Text()),
        sa.Column("coe_version", sa.Text()),
        sa.Column("container_version", sa.Text()),
        sa.Column("master_addresses", sa.JSON(), nullable=False),
        sa.Column("node_addresses", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("ca_certificate", sa.LargeBinary(), nullable=False),
        sa.Column("ca_key", sa.LargeBinary(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("lease_until", sa.Float()),
        sa.Column("lease_worker", sa.String(255)),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_uuid"],
            ["cluster_templates.uuid"],
            name="fk_clusters_template_uuid",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_clusters"),
        sa.UniqueConstraint("uuid", name="uq_clusters_uuid"),
        sa.UniqueConstraint("project_id", "name", name="uq_clusters_project_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_clusters_template_uuid", "clusters", ["template_uuid"])
    op.create_index("ix_clusters_due_at", "clusters", ["due_at"])
