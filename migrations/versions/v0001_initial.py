"""Images, their volumes, and the rank index."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SHELF = """
CREATE VIEW shelf AS
SELECT id, name, format, fs_type,
       round(size_bytes / 1073741824.0, 2) AS size_gib,
       round(used_bytes / 1073741824.0, 2) AS used_gib,
       round(stored_bytes / 1073741824.0, 2) AS stored_gib,
       CASE WHEN size_bytes > 0 THEN round(100.0 * used_bytes / size_bytes, 1) END AS used_percent,
       status, scanned_at, verified_at, verify_result, path
FROM images
"""

# total(), not sum(): three images that claim eight exbibytes would overflow an integer.
_TOTALS = """
CREATE VIEW totals AS
SELECT count(*) AS images,
       CAST(total(size_bytes) AS INTEGER) AS size_bytes,
       CAST(total(used_bytes) AS INTEGER) AS used_bytes,
       CAST(total(stored_bytes) AS INTEGER) AS stored_bytes,
       count(*) FILTER (WHERE status <> 'ready') AS not_ready,
       count(*) FILTER (WHERE verified_at IS NULL) AS never_verified
FROM images
"""

_ATTENTION = """
CREATE VIEW attention AS
SELECT id, name, status AS what, status_detail AS detail, path FROM images WHERE status <> 'ready'
UNION ALL
SELECT id, name, 'verify ' || verify_result, verify_detail, path FROM images
WHERE verify_result <> 'ok'
UNION ALL
SELECT images.id, images.name, 'warning', warning.value, images.path
FROM images, json_each(images.warnings) AS warning
"""

_DIRECTORIES = """
CREATE VIEW directories AS
SELECT CASE WHEN instr(path, '/') THEN rtrim(path, replace(path, '/', '')) ELSE '' END AS directory,
       count(*) AS images,
       CAST(total(size_bytes) AS INTEGER) AS size_bytes,
       CAST(total(used_bytes) AS INTEGER) AS used_bytes,
       CAST(total(stored_bytes) AS INTEGER) AS stored_bytes
FROM images GROUP BY 1
"""


def upgrade() -> None:
    """Make the first schema."""
    op.create_table(
        "indexes",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("total_units", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_indexes"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rank_chunks",
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("chunk", sa.Integer, nullable=False),
        sa.Column("rank", sa.BigInteger, nullable=False),
        sa.Column("bitmap", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("index_id", "chunk", name="pk_rank_chunks"),
        sa.ForeignKeyConstraint(
            ["index_id"], ["indexes.id"], name="fk_rank_chunks_index_id_indexes", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("format_version", sa.Text, nullable=False),
        sa.Column("creator", sa.Text),
        sa.Column("fs_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("block_size", sa.Integer, nullable=False),
        sa.Column("total_blocks", sa.BigInteger, nullable=False),
        sa.Column("used_blocks", sa.BigInteger, nullable=False),
        sa.Column("used_bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("compression", sa.Text),
        sa.Column("volume_count", sa.Integer, nullable=False),
        sa.Column("checksum", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_detail", sa.Text),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("header", sa.JSON, nullable=False),
        sa.Column("layout", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("added_at", sa.Text, nullable=False),
        sa.Column("scanned_at", sa.Text, nullable=False),
        sa.Column("scan_seconds", sa.Float, nullable=False),
        sa.Column("verified_at", sa.Text),
        sa.Column("verify_result", sa.Text),
        sa.Column("verify_detail", sa.Text),
        sa.CheckConstraint(
            "status IN ('ready', 'stale', 'missing', 'damaged', 'failed', 'needs-repack')",
            name=op.f("ck_images_status"),
        ),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name="fk_images_index_id_indexes"),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("name", name="uq_images_name"),
        sa.UniqueConstraint("path", name="uq_images_path"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_images_fingerprint", "images", ["fingerprint"])
    op.create_table(
        "volumes",
        sa.Column("image_id", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False),
        sa.Column("mode", sa.Integer, nullable=False),
        sa.Column("uid", sa.Integer, nullable=False),
        sa.Column("gid", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "ordinal", name="pk_volumes"),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_volumes_image_id_images", ondelete="CASCADE"
        ),
    )
    for view in (_SHELF, _TOTALS, _ATTENTION, _DIRECTORIES):
        op.execute(view)
