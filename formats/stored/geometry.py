"""Geometry as the catalog keeps it: a record of numbers, to JSON and back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import CorruptImageError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Geometry:
    """A frozen dataclass whose fields are all integers."""

    __slots__ = ()

    # Of older catalogs: a field that is missing there, and the one that has its value.
    _defaults: ClassVar[Mapping[str, str]] = {}

    def to_json(self) -> dict[str, int]:
        """Return the fields by name."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, fields: Mapping[str, int]) -> Self:
        """Return the record that `to_json` gave; fields that it does not know are passed over.

        Raises:
            CorruptImageError: a field is missing, or no number.
        """
        names: Any = dataclasses.fields(cls)  # type: ignore[arg-type]
        try:
            known = {new: fields[old] for new, old in cls._defaults.items()} | dict(fields)
            given = [field for field in names if field.name in known or _is_needed(field)]
            return cls(**{field.name: int(known[field.name]) for field in given})
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptImageError("layout", 0, f"{error!r}: add the image again") from error


def _is_needed(field: Any) -> bool:  # noqa: ANN401 - a field of a dataclass
    return field.default is dataclasses.MISSING
