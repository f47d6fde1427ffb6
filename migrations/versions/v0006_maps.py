"""Maps: where virtual disks keep their clusters."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "map_chunks",
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("chunk", sa.Integer, nullable=False),
        sa.Column("runs", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("index_id", "chunk", name="pk_map_chunks"),
        sa.ForeignKeyConstraint(
            ["index_id"], ["indexes.id"], name="fk_map_chunks_index_id_indexes", ondelete="CASCADE"
        ),
    )
