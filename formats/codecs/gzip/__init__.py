"""gzip."""
