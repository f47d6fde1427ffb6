"""The two kinds of index that serve every format."""
