"""The catalog's schema, revision by revision. Found by path from `catalog.database.schema`."""
