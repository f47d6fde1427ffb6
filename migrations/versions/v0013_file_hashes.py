"""The hash of what a file holds is of one backup: a version may hold other bytes in another.

A file that was written anew with its size and time of before is one version in both backups. The
hashes that there are do not tell which of the backups was read: they are not kept.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

_TABLE = """
CREATE TABLE file_hashes (
	generation_id INTEGER NOT NULL,
	directory_id INTEGER NOT NULL,
	name_id INTEGER NOT NULL,
	sha256 BLOB NOT NULL,
	CONSTRAINT pk_file_hashes PRIMARY KEY (generation_id, directory_id, name_id),
	CONSTRAINT fk_file_hashes_generation_id_file_generations FOREIGN KEY(generation_id)
		REFERENCES file_generations (id) ON DELETE CASCADE
) WITHOUT ROWID
"""

_PATH = """(
	WITH RECURSIVE above(id, path, is_raw) AS (
		SELECT file_versions.directory_id, file_names.name, typeof(file_names.name) = 'blob'
		UNION ALL
		SELECT file_directories.parent_id, coalesce(names.name, '') || '/' || path,
			is_raw OR typeof(names.name) = 'blob'
		FROM above
		JOIN file_directories ON file_directories.id = above.id
		LEFT JOIN file_names AS names ON names.id = file_directories.name_id
	)
	SELECT CASE WHEN is_raw THEN CAST(path AS BLOB) ELSE path END FROM above WHERE id IS NULL
)"""

_TYPE = """CASE mode >> 12 WHEN 8 THEN 'file' WHEN 4 THEN 'directory' WHEN 10 THEN 'symlink'
       WHEN 1 THEN 'fifo' WHEN 12 THEN 'socket' WHEN 2 THEN 'character device'
       WHEN 6 THEN 'block device' END"""

_MODIFIED = "strftime('%Y-%m-%dT%H:%M:%SZ', mtime_ns / 1000000000, 'unixepoch')"

_STANDS = """file_generations.lineage_id = file_versions.lineage_id
  AND file_generations.number >= file_versions.first_generation
  AND (file_versions.last_generation IS NULL
       OR file_generations.number <= file_versions.last_generation)"""

_HASHED = """file_hashes.generation_id = file_generations.id
  AND file_hashes.directory_id = file_versions.directory_id
  AND file_hashes.name_id = file_versions.name_id"""

_NAME = "coalesce(images.name, file_generations.snapshot_name)"

_NAMES = rf"""json_group_array(CASE typeof({_NAME})
        WHEN 'blob' THEN '\x' || hex({_NAME}) ELSE {_NAME} END)"""

_VIEWS = (
    f"""
CREATE VIEW files AS
SELECT {_NAME} AS backup, taken_at, {_PATH} AS path, file_names.name,
       {_TYPE} AS type, mode & 4095 AS mode, file_versions.size_bytes,
       {_MODIFIED} AS modified, mtime_ns, inode,
       CASE WHEN sha256 IS NOT NULL THEN lower(hex(sha256)) END AS sha256,
       file_versions.lineage_id
FROM file_generations
JOIN file_versions ON {_STANDS}
JOIN file_names ON file_names.id = file_versions.name_id
LEFT JOIN images ON images.id = file_generations.image_id
LEFT JOIN file_hashes ON {_HASHED}
""",
    f"""
CREATE VIEW file_history AS
SELECT file_versions.lineage_id, {_PATH} AS path, file_names.name,
       {_TYPE} AS type, mode & 4095 AS mode, file_versions.size_bytes,
       {_MODIFIED} AS modified, mtime_ns, inode,
       (SELECT CASE count(DISTINCT sha256) WHEN 1 THEN lower(hex(sha256)) END
        FROM file_generations JOIN file_hashes ON {_HASHED}
        WHERE {_STANDS}) AS sha256,
       (SELECT {_NAMES} FROM file_generations
        LEFT JOIN images ON images.id = file_generations.image_id
        WHERE {_STANDS}) AS backups
FROM file_versions
JOIN file_names ON file_names.id = file_versions.name_id
""",
)


def upgrade() -> None:
    """Keep hashes by backup, and show them so."""
    op.execute("DROP VIEW files")
    op.execute("DROP VIEW file_history")
    op.execute("ALTER TABLE file_versions DROP COLUMN sha256")
    op.execute(_TABLE.strip())
    for statement in _VIEWS:
        op.execute(statement.strip())
