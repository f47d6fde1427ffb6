"""zstd frames."""
