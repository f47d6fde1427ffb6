"""What can be wrong with one file: apart from `errors`, which the worker too imports."""

from __future__ import annotations

from ..formats.errors import FormatError
from ..formats.files.new_file import TargetError
from ..formats.index.rank_chunk import ChunkMissingError

OF_ONE_FILE = (FormatError, ChunkMissingError, OSError, TargetError)
"""What can be wrong with one file, and must not end the work on the others."""
