"""The three values that GraphQL has no type for, and enums from choices."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal as PythonDecimal
from typing import Any

import graphene


class Decimal(graphene.Scalar):
    """An exact number as a string, like "61230.5": never rounded, never with an exponent."""

    @staticmethod
    def serialize(value: PythonDecimal) -> str:
        """Return the digits without an exponent and without zeros at the end."""
        digits = f"{value:f}"
        if "." in digits:
            digits = digits.rstrip("0").rstrip(".")
        return "0" if digits == "-0" else digits


class DateTime(graphene.Scalar):
    """A moment in UTC by ISO 8601, like "2026-03-02T12:00:00Z"."""

    @staticmethod
    def serialize(value: datetime) -> str:
        """Return the moment with as many digits of a second as it has."""
        return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


class JSON(graphene.Scalar):
    """Data as it is stored: objects, lists, texts, numbers, true, false, null."""

    @staticmethod
    def serialize(value: Any) -> Any:
        """Return the value itself."""
        return value


def enum(name: str, values: Iterable[str], *, description: str) -> graphene.Enum:
    """Return an enum; the name of each value is the value in capitals."""
    return graphene.Enum(
        name, [(value.upper(), value) for value in values], description=lambda value: None if value else description
    )
