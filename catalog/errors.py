"""What can be wrong with a catalog, or with an image that it names."""

from __future__ import annotations


class CatalogError(Exception):
    """The catalog could not be used; the message says what to do."""


class CatalogMissingError(CatalogError):
    """There is no catalog at the path."""


class CatalogReplacedError(CatalogError):
    """The file at the catalog's path is another catalog than the one that was opened."""


class CatalogBusyError(CatalogError):
    """Another process holds the catalog for longer than one waits."""


class UntrustedCatalogError(CatalogError):
    """Somebody else could have written the catalog, and so chosen which files are read."""


class CatalogSchemaError(CatalogError):
    """The file is not a catalog, or its schema cannot be used as it is."""


class SchemaOutdatedError(CatalogSchemaError):
    """The catalog is of an older schema and could not be upgraded in passing."""


class SchemaTooNewError(CatalogSchemaError):
    """The catalog was written by a newer imgcat."""


class ImageNotFoundError(CatalogError):
    """No image in the catalog answers to the name, id or path."""


class NameTakenError(CatalogError):
    """Another image already has the name, or the name cannot be one."""


class ImageChangedError(CatalogError):
    """The file of an image is gone, or is not the one that was scanned."""


class ScannedAnewError(ImageChangedError):
    """The catalog holds another content of the image than the caller believes."""


class NeedsRepackError(CatalogError):
    """The image is compressed in a way that reading any of it means decoding all of it."""
