"""From files to rows: scanning, writing, looking again."""
