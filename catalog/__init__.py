"""The catalog: what every scan found, kept in one SQLite database."""
