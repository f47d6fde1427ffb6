"""From rows to readers."""
