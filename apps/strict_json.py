"""JSON from outside, read strictly: UTF-8 with or without a byte order mark, nothing after the value. Pure."""

import json
from decimal import Decimal
from typing import Any, NoReturn

# What JSON may come under, beside its own type, from senders that do not know what they send.
UNTYPED = ("text/plain", "application/octet-stream")
# A longer number is not a price, and costs time to read.
NUMBER_LONGEST = 64


class NotJson(ValueError):
    """The content is not JSON."""


def read_json(content: bytes, *, exact: bool = False, with_nan: bool = False) -> Any:
    """Return the value that `content` holds.

    exact: numbers with a fraction or an exponent are Decimal, not float; with_nan: a bare NaN or Infinity, which is no
    JSON, is a Decimal that is not finite, so that it costs the place that it stands in. Raises NotJson.
    """
    try:
        return json.loads(
            content.decode("utf-8-sig"),
            parse_float=_decimal if exact else None,
            parse_constant=Decimal if with_nan else _refuse_constant,
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
