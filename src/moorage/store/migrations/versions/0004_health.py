"""When each cluster was looked at last, and what its healing remembers."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("seen_at", sa.BigInteger()))
        table.add_column(sa.Column("healing", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.alter_column("healing", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_column("healing")
        table.drop_column("seen_at")
