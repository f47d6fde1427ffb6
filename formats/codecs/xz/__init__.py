"""xz, and lzma alone."""
