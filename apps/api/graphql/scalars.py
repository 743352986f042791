"""The values that GraphQL has no type for, and enums from choices. A scalar refuses what is none of its values before
anything is executed."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal as PythonDecimal
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from graphql import GraphQLError, IntValueNode, StringValueNode, value_from_ast_untyped

from apps.market.models import slug_validator, symbol_validator
from apps.owned_ids import OWNED_ID_FORM

NESTED_DEEPEST = 30
PAGE_DEFAULT = 20
PAGE_LARGEST = 100
SKIPPED_MOST = 1_000_000

_DECIMAL = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,18})?\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_ASSET = re.compile(f"{symbol_validator.regex.pattern}|{OWNED_ID_FORM.pattern}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)


class Decimal(graphene.Scalar):
    """An exact number as a string, like "61230.5": never rounded, never with an exponent."""

    @staticmethod
    def serialize(value: PythonDecimal) -> str:
        """Return the digits without an exponent and without zeros at the end."""
        digits = f"{value:f}"
        if "." in digits:
            digits = digits.rstrip("0").rstrip(".")
        return "0" if digits == "-0" else digits

    @staticmethod
    def parse_value(value: Any) -> PythonDecimal:
        """Return the number that a text is. Raises GraphQLError: a float is not exact."""
        if not isinstance(value, str) or not _DECIMAL.match(value):
            raise GraphQLError('Write a number as a text like "61230.5", with at most 18 decimals.')
        return PythonDecimal(value)

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> PythonDecimal:
        """Return the same of a literal."""
        return cls.parse_value(node.value if isinstance(node, StringValueNode) else None)


class DateTime(graphene.Scalar):
    """A moment in UTC by ISO 8601, like "2026-03-02T12:00:00Z"."""

    @staticmethod
    def serialize(value: datetime) -> str:
        """Return the moment with as many digits of a second as it has."""
        return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"

    @staticmethod
    def parse_value(value: Any) -> datetime:
        """Return the moment in UTC. Raises GraphQLError: also without an offset, as it could be any zone's."""
        try:
            if not isinstance(value, str) or not _MOMENT.match(value):
                raise ValueError
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            raise GraphQLError('Write a moment like "2026-03-02T12:00:00Z", with Z or an offset.') from None

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> datetime:
        """Return the same of a literal."""
        return cls.parse_value(node.value if isinstance(node, StringValueNode) else None)


class UUID(graphene.Scalar):
    """The id of what has an owner, like "0f8fad5b-d9cb-469f-a165-70867728950e"."""

    @staticmethod
    def serialize(value: PythonUUID) -> str:
        """Return its 36 characters."""
        return str(value)

    @staticmethod
    def parse_value(value: Any) -> PythonUUID:
        """Return the UUID that a text is. Raises GraphQLError."""
        if not isinstance(value, str) or not _UUID.match(value):
            raise GraphQLError('Write an id like "0f8fad5b-d9cb-469f-a165-70867728950e", as `id` gives it.')
        return PythonUUID(value)

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> PythonUUID:
        """Return the same of a literal."""
        return cls.parse_value(node.value if isinstance(node, StringValueNode) else None)


class AssetId(graphene.Scalar):
    """The name of an asset: a symbol or an alias, like "BTC-USD"; of one that has an owner, also its random
    "owned-…"."""

    @staticmethod
    def serialize(value: str) -> str:
        """Return the name itself."""
        return value

    @staticmethod
    def parse_value(value: Any) -> str:
        """Return the name itself. Raises GraphQLError where no asset can have it."""
        if not isinstance(value, str) or not _ASSET.match(value):
            raise GraphQLError('Write a symbol or an alias like "BTC-USD".')
        return value

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> str:
        """Return the same of a literal."""
        return cls.parse_value(node.value if isinstance(node, StringValueNode) else None)


class FeedId(graphene.Scalar):
    """The name of a feed, like "crypto-spot"."""

    @staticmethod
    def serialize(value: str) -> str:
        """Return the name itself."""
        return value

    @staticmethod
    def parse_value(value: Any) -> str:
        """Return the name itself. Raises GraphQLError where no feed can have it."""
        if not isinstance(value, str) or not slug_validator.regex.match(value):
            raise GraphQLError('Write the name of a feed, like "crypto-spot".')
        return value

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> str:
        """Return the same of a literal."""
        return cls.parse_value(node.value if isinstance(node, StringValueNode) else None)


class _WholeNumber(graphene.Scalar):
    """A whole number from LEAST to MOST."""

    LEAST: int
    MOST: int

    class Meta:
        abstract = True

    @staticmethod
    def serialize(value: int) -> int:
        """Return the number itself."""
        return value

    @classmethod
    def parse_value(cls, value: Any) -> int:
        """Return the number itself. Raises GraphQLError."""
        if not isinstance(value, int) or isinstance(value, bool) or not cls.LEAST <= value <= cls.MOST:
            raise GraphQLError(f"Write a whole number from {cls.LEAST} to {cls.MOST}.")
        return value

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> int:
        """Return the same of a literal."""
        is_short = isinstance(node, IntValueNode) and len(node.value) <= len(str(cls.MOST))
        return cls.parse_value(int(node.value) if is_short else None)


class PageSize(_WholeNumber):
    """How many rows of a list: a whole number from 1 to 100."""

    LEAST, MOST = 1, PAGE_LARGEST


class Skip(_WholeNumber):
    """How many rows of a list are left out: a whole number from 0 to 1000000."""

    LEAST, MOST = 0, SKIPPED_MOST


class JSON(graphene.Scalar):
    """Data as it is stored: objects, lists, texts, numbers, true, false, null."""

    @staticmethod
    def serialize(value: Any) -> Any:
        """Return the value itself."""
        return value

    @staticmethod
    def parse_value(value: Any) -> Any:
        """Return the value itself. Raises GraphQLError where it is nested too deep."""
        level, depth = [value], 0
        while level:
            depth += 1
            if depth > NESTED_DEEPEST:
                raise GraphQLError(f"It is nested more than {NESTED_DEEPEST} levels deep.")
            level = [inner for one in level for inner in _inner(one)]
        return value

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> Any:
        """Return the same of a literal."""
        try:
            return cls.parse_value(value_from_ast_untyped(node, variables))
        except RecursionError:
            raise GraphQLError(f"It is nested more than {NESTED_DEEPEST} levels deep.") from None


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def enum(name: str, values: Iterable[str], *, description: str) -> graphene.Enum:
    """Return an enum; the name of each value is the value in capitals."""
    return graphene.Enum(
        name, [(value.upper(), value) for value in values], description=lambda value: None if value else description
    )
