"""The catalog's own identity; hashes of what is stored; how far a damaged stream can be trusted."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SHELF = """
CREATE VIEW shelf AS
SELECT images.id, name, format, fs_type,
       round(size_bytes / 1073741824.0, 2) AS size_gib,
       round(used_bytes / 1073741824.0, 2) AS used_gib,
       round(stored_bytes / 1073741824.0, 2) AS stored_gib,
       CASE WHEN size_bytes > 0 THEN round(100.0 * used_bytes / size_bytes, 1) END AS used_percent,
       status, scanned_at, verified_at, verify_result, sealed_at, path
FROM images JOIN indexes ON indexes.id = images.index_id
"""

# A path that is not UTF-8 is a BLOB, and so is the directory in it.
_DIRECTORIES = """
CREATE VIEW directories AS
SELECT CASE WHEN instr(path, '/') = 0 THEN ''
            WHEN typeof(path) = 'blob'
            THEN CAST(rtrim(path, replace(path, '/', '')) AS BLOB)
            ELSE rtrim(path, replace(path, '/', '')) END AS directory,
       count(*) AS images,
       CAST(total(size_bytes) AS INTEGER) AS size_bytes,
       CAST(total(used_bytes) AS INTEGER) AS used_bytes,
       CAST(total(stored_bytes) AS INTEGER) AS stored_bytes
FROM images WHERE path IS NOT NULL GROUP BY 1
"""

_VIEWS = {"shelf": _SHELF, "directories": _DIRECTORIES}


def upgrade() -> None:
    """Add two tables and three columns, and make two views anew."""
    op.create_table(
        "identity",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("key", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
        sa.CheckConstraint("id = 1", name="ck_identity_one"),
    )
    op.execute("INSERT INTO identity (id, key) VALUES (1, random())")
    op.create_table(
        "seals",
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("page_group", sa.Integer, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("index_id", "page_group", name="pk_seals"),
        sa.ForeignKeyConstraint(
            ["index_id"], ["indexes.id"], name="fk_seals_index_id_indexes", ondelete="CASCADE"
        ),
    )
    for column in (sa.Column("sealed_at", sa.Text), sa.Column("digest", sa.LargeBinary)):
        op.add_column("indexes", column)
    op.create_index("ix_indexes_digest", "indexes", ["digest"])
    op.add_column(
        "streams",
        sa.Column("trusted_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.execute("UPDATE streams SET trusted_bytes = plain_bytes")
    for name, statement in _VIEWS.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(statement)
