"""Compressed streams with their seek points; image directories with what they tell."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add six tables."""
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("first_volume", sa.Integer, nullable=False),
        sa.Column("volume_count", sa.Integer, nullable=False),
        sa.Column("codec", sa.Text, nullable=False),
        sa.Column("library", sa.Text, nullable=False),
        sa.Column("index_version", sa.Integer, nullable=False),
        sa.Column("plain_bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("span_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_streams"),
        sa.ForeignKeyConstraint(
            ["index_id"], ["indexes.id"], name="fk_streams_index_id_indexes", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("index_id", "ordinal", name="uq_streams_index_id_ordinal"),
        # An id is never used again: a daemon may still read by an old one.
        sqlite_autoincrement=True,
    )
    op.create_table(
        "seek_points",
        sa.Column("stream_id", sa.Integer, nullable=False),
        sa.Column("plain_offset", sa.BigInteger, nullable=False),
        sa.Column("stored_offset", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("window_bytes", sa.Integer, nullable=False),
        sa.Column("window", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "plain_offset", name="pk_seek_points"),
        sa.ForeignKeyConstraint(
            ["stream_id"],
            ["streams.id"],
            name="fk_seek_points_stream_id_streams",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "page_hashes",
        sa.Column("stream_id", sa.Integer, nullable=False),
        sa.Column("page_group", sa.Integer, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "page_group", name="pk_page_hashes"),
        sa.ForeignKeyConstraint(
            ["stream_id"],
            ["streams.id"],
            name="fk_page_hashes_stream_id_streams",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "image_directories",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("clonezilla_version", sa.Text),
        sa.Column("saved_at", sa.Text),
        sa.Column("is_broken", sa.Integer, nullable=False),
        sa.Column("scanned_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_directories"),
        sa.UniqueConstraint("path", name="uq_image_directories_path"),
    )
    op.create_table(
        "directory_images",
        sa.Column("directory_id", sa.Integer, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("image_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("directory_id", "role", "device", name="pk_directory_images"),
        sa.ForeignKeyConstraint(
            ["directory_id"],
            ["image_directories.id"],
            name="fk_directory_images_directory_id_image_directories",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["image_id"],
            ["images.id"],
            name="fk_directory_images_image_id_images",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "directory_facts",
        sa.Column("directory_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("directory_id", "kind", "ordinal", name="pk_directory_facts"),
        sa.ForeignKeyConstraint(
            ["directory_id"],
            ["image_directories.id"],
            name="fk_directory_facts_directory_id_image_directories",
            ondelete="CASCADE",
        ),
    )
