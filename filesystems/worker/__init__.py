"""The process that parses file systems: confined, and with no file of its own."""
