"""Stored bytes as one flat sequence: files, several of them joined, streams that come."""
