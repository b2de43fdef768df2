"""Deletes by force, and the record of what they left."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("clusters", sa.Column("forced_by", sa.String(255)))
    op.create_table(
        "abandoned",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("name", sa.String(242), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("coe", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("api_address", sa.Text()),
        sa.Column("traces", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("forced_by", sa.String(255), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_abandoned")),
        sa.UniqueConstraint("uuid", name=op.f("uq_abandoned_uuid")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("abandoned")
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_column("forced_by")
