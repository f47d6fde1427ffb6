"""The catalog's database: connections, schema, what is read and written."""
