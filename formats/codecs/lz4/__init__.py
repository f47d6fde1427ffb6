"""lz4 frames, and legacy ones."""
