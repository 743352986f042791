"""Exact numbers as columns."""

from decimal import Context, Decimal
from typing import Any

from django.db import models

from apps.notation import write_number

DECIMALS = 18
# Of more digits than any of these numbers has.
_EXACT = Context(prec=60)
_ZERO, _ONE = Decimal(0), Decimal(1)


def _plain(value: Decimal) -> Decimal:
    """Return a number without trailing zeros and without exponent."""
    short = _EXACT.normalize(value)
    return _EXACT.quantize(short, _ONE) if "E+" in str(short) else short


class ExactField(models.DecimalField):
    """A decimal to its last digit: SQLite's own numbers have fewer, so there it is text without trailing zeros."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"max_digits": 20 + DECIMALS, "decimal_places": DECIMALS})

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, args, kwargs

    def get_internal_type(self) -> str:
        # Not Django's own, which SQLite reads over a float.
        return "ExactField"

    def db_type(self, connection: Any) -> str:
        return "text" if connection.vendor == "sqlite" else f"numeric({self.max_digits}, {self.decimal_places})"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        if value is None:
            return None
        value = Decimal(value)
        # Most costs are 0.
        return _plain(value) if value else _ZERO

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        value = self.to_python(value)
        return write_number(value) if value is not None and connection.vendor == "sqlite" else value
