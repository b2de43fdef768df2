"""On which machine an abandoned cluster is. Of those of before nobody knows."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("abandoned", sa.Column("home", sa.String(255), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("abandoned", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_column("home")
