"""Cluster ranges, what an image leaves out, and where verification found damage."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add two tables and a column."""
    op.create_table(
        "cluster_ranges",
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("first_cluster", sa.BigInteger, nullable=False),
        sa.Column("cluster_count", sa.BigInteger, nullable=False),
        sa.Column("source_offset", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("index_id", "first_cluster", name="pk_cluster_ranges"),
        sa.ForeignKeyConstraint(
            ["index_id"],
            ["indexes.id"],
            name="fk_cluster_ranges_index_id_indexes",
            ondelete="CASCADE",
        ),
        # A million of these is nothing unusual: the rows are kept in the key's own tree.
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bad_ranges",
        sa.Column("image_id", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("start_byte", sa.BigInteger),
        sa.Column("stop_byte", sa.BigInteger),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "ordinal", name="pk_bad_ranges"),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_bad_ranges_image_id_images", ondelete="CASCADE"
        ),
    )
    op.add_column(
        "images", sa.Column("content", sa.Text, nullable=False, server_default=sa.text("'full'"))
    )
