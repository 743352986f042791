"""Columns, validators and constraints that several of the market's tables have."""

from decimal import Decimal
from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from apps.market import domain

symbol_validator = RegexValidator(
    r"\A[A-Z0-9][A-Z0-9._:/-]{0,63}\Z", "Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD)."
)
currency_validator = RegexValidator(r"\A[A-Z0-9]{2,12}\Z", "Use 2 to 12 capital letters and digits (like USD).")
slug_validator = RegexValidator(r"\A[a-z0-9][a-z0-9-]{0,63}\Z", "Use 1 to 64 small letters, digits and dashes.")


def owned_by_id(name: str) -> models.CheckConstraint:
    """Return the constraint that the rows with an owner are those whose id says so (apps.owned_ids)."""
    return models.CheckConstraint(condition=Q(owner=None, id__gte=-1) | Q(owner__isnull=False, id__lt=-1), name=name)


class PriceField(models.DecimalField):
    """A price in the range that admission lets through: of a signed asset it may be 0 or less."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {"max_digits": domain.PRICE_MAX_DIGITS, "decimal_places": domain.PRICE_DECIMALS}
        super().__init__(**kwargs)


def price_in_range(name: str) -> models.CheckConstraint:
    """Return the constraint that bounds a price from both sides (PostgreSQL lets NaN through a lower bound alone)."""
    highest = Decimal(domain.PRICE_HIGHEST)
    return models.CheckConstraint(condition=Q(price__gte=-highest, price__lte=highest), name=name)


class FactorField(models.CharField):
    """A positive decimal as text: SQLite's own numbers have fewer digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"max_length": 64})

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    def get_prep_value(self, value: Any) -> Any:
        return format(value, "f") if isinstance(value, Decimal) else super().get_prep_value(value)


class WholeNumberField(models.Field):
    """A whole number of any size: SQLite's own have 64 bits, so there it is text."""

    def db_type(self, connection: Any) -> str:
        return "numeric(80, 0)" if connection.vendor == "postgresql" else "text"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return str(value) if value is not None and connection.vendor != "postgresql" else value
