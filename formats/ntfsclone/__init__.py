"""The room of ntfsclone's special image format."""
