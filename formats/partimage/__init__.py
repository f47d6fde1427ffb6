"""The room of the partimage format."""
