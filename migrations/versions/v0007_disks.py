"""Disks and their partitions, the file systems in images, data files, and block devices."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_STATUSES = "'ready', 'stale', 'missing', 'damaged', 'failed', 'needs-repack'"

_PARTITION_LIST = """
CREATE VIEW partition_list AS
SELECT disks.name AS disk, partitions.number, partitions.start_byte, partitions.stop_byte,
       partitions.type, partitions.type_name, partitions.uuid, partitions.label,
       images.name AS image, file_systems.type AS fs_type, file_systems.uuid AS fs_uuid,
       file_systems.label AS fs_label, file_systems.journal
FROM partitions
JOIN images AS disks ON disks.id = partitions.disk_id
LEFT JOIN images ON images.id = partitions.image_id
LEFT JOIN file_systems ON file_systems.image_id = partitions.image_id
"""


def upgrade() -> None:
    """Add tables, a column and a view; let a status be that of a block device."""
    op.add_column(
        "volumes",
        sa.Column("role", sa.Text, nullable=False, server_default=sa.text("'image'")),
    )
    _let_images_be_live()
    op.add_column("images", sa.Column("looked_at", sa.Text))
    op.create_index("ix_images_parent_id", "images", ["parent_id"])
    op.create_table(
        "partition_tables",
        sa.Column("disk_id", sa.Integer, nullable=False),
        sa.Column("scheme", sa.Text, nullable=False),
        sa.Column("uuid", sa.Text),
        sa.Column("sector_size", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("disk_id", name="pk_partition_tables"),
        sa.ForeignKeyConstraint(
            ["disk_id"], ["images.id"], name="fk_partition_tables_disk_id_images",
            ondelete="CASCADE",
        ),
    )  # fmt: skip
    op.create_table(
        "partitions",
        sa.Column("disk_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("start_byte", sa.BigInteger, nullable=False),
        sa.Column("stop_byte", sa.BigInteger, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("type_name", sa.Text),
        sa.Column("uuid", sa.Text),
        sa.Column("label", sa.Text),
        sa.Column("is_bootable", sa.Integer, nullable=False),
        sa.Column("is_container", sa.Integer, nullable=False),
        sa.Column("image_id", sa.Integer),
        sa.PrimaryKeyConstraint("disk_id", "number", name="pk_partitions"),
        sa.ForeignKeyConstraint(
            ["disk_id"], ["images.id"], name="fk_partitions_disk_id_images", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_partitions_image_id_images", ondelete="SET NULL"
        ),
    )
    op.create_index("ix_partitions_image_id", "partitions", ["image_id"])
    op.create_table(
        "file_systems",
        sa.Column("image_id", sa.Integer, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("uuid", sa.Text),
        sa.Column("label", sa.Text),
        sa.Column("block_size", sa.Integer),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("journal", sa.Text, nullable=False),
        sa.Column("is_dirty", sa.Integer, nullable=False),
        sa.Column("written_at", sa.Text),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("image_id", name="pk_file_systems"),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_file_systems_image_id_images", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_file_systems_uuid", "file_systems", ["uuid"])
    op.execute(_PARTITION_LIST)


def _let_images_be_live() -> None:
    """Make the table anew, for SQLite cannot change what a column may hold.

    What stands upon it is made again as it was; what the next id will be goes with the table.
    """
    driver = op.get_bind()
    ask = "SELECT name, sql FROM sqlite_schema WHERE type = 'view'"
    views = driver.exec_driver_sql(ask).all()
    indexes = driver.exec_driver_sql(
        "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'images'"
        " AND sql IS NOT NULL"
    ).scalars().all()  # fmt: skip
    (table,) = driver.exec_driver_sql(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'images'"
    ).one()
    last_id = driver.exec_driver_sql(
        "SELECT seq FROM sqlite_sequence WHERE name = 'images'"
    ).scalar()
    for name, _statement in views:
        op.execute(f"DROP VIEW {name}")
    columns = table[table.index("(") :].replace(_STATUSES, f"{_STATUSES}, 'live'")
    assert "'live'" in columns
    driver.exec_driver_sql(f"CREATE TABLE images_0007 {columns}")
    op.execute("INSERT INTO images_0007 SELECT * FROM images")
    op.execute("DROP TABLE images")
    op.execute("ALTER TABLE images_0007 RENAME TO images")
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'images'")
    if last_id is not None:
        insert = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('images', :last_id)")
        op.execute(insert.bindparams(last_id=last_id))
    for statement in (*indexes, *(statement for _name, statement in views)):
        driver.exec_driver_sql(statement)
