"""Images that are made of others are rows; keys of contents; which stream a file belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

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

_TOTALS = """
CREATE VIEW totals AS
SELECT count(*) AS images,
       CAST(total(size_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS size_bytes,
       CAST(total(used_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS used_bytes,
       CAST(total(stored_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS stored_bytes,
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
FROM images WHERE path IS NOT NULL GROUP BY 1
"""

_VIEWS = {
    "shelf": _SHELF,
    "totals": _TOTALS,
    "attention": _ATTENTION,
    "directories": _DIRECTORIES,
}


def upgrade() -> None:
    """Add a table, columns and indexes; let an image be without a file."""
    for view in _VIEWS:
        op.execute(f"DROP VIEW {view}")
    _key_contents()
    _number_streams()
    _compose()
    for statement in _VIEWS.values():
        op.execute(statement)


def _key_contents() -> None:
    """Give every index a random key, by which whatever is kept of it elsewhere is known."""
    op.add_column(
        "indexes",
        sa.Column("content_key", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.execute("UPDATE indexes SET content_key = random()")


def _number_streams() -> None:
    """Say of each file which stream it is part of, and no more of each stream which files make it.

    Facts that were kept among the numbers of a layout have columns now, or follow from the format.
    """
    op.add_column(
        "volumes", sa.Column("stream", sa.Integer, nullable=False, server_default=sa.text("0"))
    )
    op.execute(
        """
        UPDATE volumes SET stream = (
            SELECT streams.ordinal FROM images JOIN streams ON streams.index_id = images.index_id
            WHERE images.id = volumes.image_id
              AND volumes.ordinal >= streams.first_volume
              AND volumes.ordinal < streams.first_volume + streams.volume_count)
        WHERE image_id IN (SELECT images.id FROM images
                           JOIN streams ON streams.index_id = images.index_id)
        """
    )
    # Volumes that are not compressed, each with a header of its own, are told by their names' end.
    # What was cut into chunks by letters is one volume. A name cannot tell volumes from chunks that
    # are numbered: so the time of each is forgotten, and the fingerprint decides at every opening
    # whether they were joined rightly, until a rescan has looked at them again.
    op.execute(
        """
        UPDATE volumes SET stream = ordinal
        WHERE (path GLOB '*.[0-9][0-9][0-9]' OR path GLOB '*.[0-9][0-9][0-9][0-9]')
          AND image_id IN (SELECT id FROM images WHERE format = 'partimage' AND compression IS NULL)
        """
    )
    op.execute(
        """
        UPDATE volumes SET mtime_ns = 0
        WHERE image_id IN (
            SELECT id FROM images
            WHERE format = 'partimage' AND compression IS NULL AND volume_count > 1)
        """
    )
    op.execute("ALTER TABLE streams DROP COLUMN first_volume")
    op.execute("ALTER TABLE streams DROP COLUMN volume_count")
    op.execute(
        "UPDATE images SET layout = json_remove(layout, '$.volume_header_size', '$.streams')"
    )


def _compose() -> None:
    """Let an image be made of others.

    What disks of image directories are made of is not known here: each becomes one piece that
    cannot be read, until the catalog has looked at its directory again, which follows at once.
    """
    _let_images_be_without_files()
    op.create_index("ix_images_index_id", "images", ["index_id"])
    op.create_index("ix_directory_images_image_id", "directory_images", ["image_id"])
    op.create_table(
        "segments",
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("start_byte", sa.BigInteger, nullable=False),
        sa.Column("stop_byte", sa.BigInteger, nullable=False),
        sa.Column("child_name", sa.Text),
        sa.Column("child_id", sa.Integer),
        sa.Column("child_key", sa.BigInteger),
        sa.Column("child_offset", sa.BigInteger),
        sa.Column("literal", sa.LargeBinary),
        sa.PrimaryKeyConstraint("index_id", "start_byte", name="pk_segments"),
        sa.ForeignKeyConstraint(
            ["index_id"], ["indexes.id"], name="fk_segments_index_id_indexes", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["child_id"], ["images.id"], name="fk_segments_child_id_images", ondelete="SET NULL"
        ),
        sa.CheckConstraint(
            "stop_byte > start_byte AND (literal IS NULL) <> (child_name IS NULL)",
            name=op.f("ck_segments_content"),
        ),
    )
    op.create_index("ix_segments_child_id", "segments", ["child_id"])
    op.execute(
        "DELETE FROM volumes WHERE image_id IN (SELECT id FROM images WHERE format = 'disk')"
    )
    op.execute(
        """
        UPDATE indexes SET kind = 'segments'
        WHERE id IN (SELECT index_id FROM images WHERE format = 'disk')
        """
    )
    op.execute(
        """
        INSERT INTO segments (index_id, start_byte, stop_byte, child_name, child_offset)
        SELECT index_id, 0, size_bytes, name, 0 FROM images WHERE format = 'disk'
        """
    )
    op.execute(
        "UPDATE images SET path = NULL, volume_count = 0, stored_bytes = 0 WHERE format = 'disk'"
    )


_IMAGES = """
CREATE TABLE images_0004 (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    path TEXT,
    format TEXT NOT NULL,
    format_version TEXT NOT NULL,
    creator TEXT,
    fs_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    block_size INTEGER NOT NULL,
    total_blocks BIGINT NOT NULL,
    used_blocks BIGINT NOT NULL,
    used_bytes BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    compression TEXT,
    volume_count INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    status TEXT NOT NULL,
    status_detail TEXT,
    warnings JSON NOT NULL,
    header JSON NOT NULL,
    layout JSON NOT NULL,
    fingerprint BLOB NOT NULL,
    index_id INTEGER NOT NULL,
    added_at TEXT NOT NULL,
    scanned_at TEXT NOT NULL,
    scan_seconds FLOAT NOT NULL,
    verified_at TEXT,
    verify_result TEXT,
    verify_detail TEXT,
    content TEXT DEFAULT 'full' NOT NULL,
    parent_id INTEGER,
    CONSTRAINT ck_images_status CHECK (status IN
        ('ready', 'stale', 'missing', 'damaged', 'failed', 'needs-repack')),
    CONSTRAINT fk_images_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id),
    CONSTRAINT fk_images_parent_id_images FOREIGN KEY(parent_id) REFERENCES images (id)
        ON DELETE CASCADE,
    CONSTRAINT uq_images_name UNIQUE (name),
    CONSTRAINT uq_images_path UNIQUE (path)
)
"""


def _let_images_be_without_files() -> None:
    """Make the table anew, for SQLite cannot take back that a column is never null.

    An id is never used again, also not one of an image that was removed: what the next one will be
    goes with the table.
    """
    last_id = (
        op.get_bind()
        .exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'images'")
        .scalar()
    )
    op.execute(_IMAGES)
    op.execute("INSERT INTO images_0004 SELECT *, NULL FROM images")
    op.execute("DROP TABLE images")
    op.execute("ALTER TABLE images_0004 RENAME TO images")
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'images'")
    if last_id is not None:
        insert = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('images', :last_id)")
        op.execute(insert.bindparams(last_id=last_id))
    op.create_index("ix_images_fingerprint", "images", ["fingerprint"])
