"""Homes of clusters, and one column that says when a row is to be taken.

A claimed row is due when its lease ends: `due_at` says so by itself. No cluster of before
has a home: the first conductor that takes one gives it its own.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("clusters", sa.Column("home", sa.String(255), nullable=False, server_default=""))
    op.execute("UPDATE clusters SET due_at = lease_until WHERE lease_until > due_at")
    op.drop_index("ix_clusters_due_at", "clusters")
    op.create_index("ix_clusters_home_due_at", "clusters", ["home", "due_at"])
    op.create_table(
        "homes",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_homes"),
    )


def downgrade() -> None:
    """Where each cluster's nodes are is not known any more: one conductor is to be left."""
    op.drop_table("homes")
    op.drop_index("ix_clusters_home_due_at", "clusters")
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_column("home")
    op.create_index("ix_clusters_due_at", "clusters", ["due_at"])
