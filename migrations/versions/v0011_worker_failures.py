"""What the programs that read file systems have died of."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "worker_failures",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("image_id", sa.Integer, nullable=False),
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("failed_at", sa.Text, nullable=False),
        sa.Column("fs_type", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("ending", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_worker_failures"),
        sa.ForeignKeyConstraint(
            ["image_id"],
            ["images.id"],
            name="fk_worker_failures_image_id_images",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["index_id"],
            ["indexes.id"],
            name="fk_worker_failures_index_id_indexes",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_worker_failures_image_id", "worker_failures", ["image_id"])
    op.create_index("ix_worker_failures_index_id", "worker_failures", ["index_id"])
