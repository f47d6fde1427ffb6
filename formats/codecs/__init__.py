"""Compressed streams as byte sources: seek points from one pass, and reading from any of them."""
