"""JSON from outside, read strictly: UTF-8, no NaN, no Infinity, nothing after the value. Pure."""

import json
from decimal import Decimal
from typing import Any, NoReturn

# A longer number is not a price, and costs time to read.
NUMBER_LONGEST = 64


class NotJson(ValueError):
    """The content is not JSON."""


def read_json(content: bytes, *, exact: bool = False) -> Any:
    """Return the value that `content` holds. exact: numbers with a fraction or an exponent are Decimal, not float.

    Raises NotJson.
    """
    try:
        return json.loads(
            content.decode("utf-8"), parse_float=_decimal if exact else None, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise NotJson from None


def _decimal(text: str) -> Decimal:
    if len(text) > NUMBER_LONGEST:
        raise ValueError
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError from None


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(name)
