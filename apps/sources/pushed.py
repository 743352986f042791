"""Quotes in JSON as other systems push them, by HTTP or by the queue: read, and refused where they are malformed.

What is well formed is not believed yet: that is admission's business.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from apps.market.domain import QuoteRejected, RawQuote, parse_number
from apps.strict_json import NotJson, read_json

BODY_LARGEST_BYTES = 1_000_000
QUOTES_AT_MOST = 5_000
_KEYS = {"symbol", "price", "at", "volume"}


class PushMalformed(ValueError):
    """The content is nothing that can be taken. The text is for people: the place, and what is wrong there."""


def read_quotes(content: bytes) -> list[RawQuote]:
    """Return the quotes of {"quotes": [{"symbol": …, "price": …, "at": …, "volume": …}, …]}, in their order.

    Prices and volumes are finite Decimals; `at` is a text, a number, or None where it is absent. Raises PushMalformed.
    """
    return _quotes_of(_object_of(content), keys={"quotes"})


def read_message(content: bytes) -> tuple[str, list[RawQuote]]:
    """Return the name of the feed and the quotes of the same object with a further key "feed". Raises PushMalformed."""
    given = _object_of(content)
    quotes = _quotes_of(given, keys={"feed", "quotes"})
    return _text(given.get("feed"), place="feed"), quotes


def _object_of(content: bytes) -> dict[str, Any]:
    if len(content) > BODY_LARGEST_BYTES:
        raise PushMalformed(f"the body is larger than {BODY_LARGEST_BYTES} bytes")
    try:
        # Floats would have rounded already.
        given = read_json(content, exact=True)
    except NotJson:
        raise PushMalformed("the body is not JSON") from None
    if not isinstance(given, dict):
        raise PushMalformed('the body must be an object like {"quotes": […]}')
    return given


def _quotes_of(given: Mapping[str, Any], *, keys: set[str]) -> list[RawQuote]:
    _refuse_unknown(given, keys=keys, place="")
    quotes = given.get("quotes")
    if not isinstance(quotes, list) or not 1 <= len(quotes) <= QUOTES_AT_MOST:
        raise PushMalformed(f"quotes: must be a list of 1 to {QUOTES_AT_MOST} quotes")
    return [_quote_of(quote, place=f"quotes[{number}]") for number, quote in enumerate(quotes)]


def _quote_of(quote: Any, *, place: str) -> RawQuote:
    if not isinstance(quote, dict):
        raise PushMalformed(f'{place}: must be an object like {{"symbol": "BTC-USD", "price": "61230.5"}}')
    _refuse_unknown(quote, keys=_KEYS, place=f"{place}.")
    at, volume = quote.get("at"), quote.get("volume")
    if isinstance(at, bool) or not isinstance(at, str | int | Decimal | None):
        raise PushMalformed(f"{place}.at: must be a time in ISO 8601 with its zone, or an epoch")
    return RawQuote(
        external_id=_text(quote.get("symbol"), place=f"{place}.symbol"),
        price=_number(quote.get("price"), place=f"{place}.price"),
        at=at,
        volume=None if volume is None else _number(volume, place=f"{place}.volume"),
    )


def _refuse_unknown(given: Mapping[str, Any], *, keys: set[str], place: str) -> None:
    unknown = sorted(given.keys() - keys)
    if unknown:
        # Cut, and as JSON: it comes from outside, and stands in answers and logs.
        raise PushMalformed(f"{place}{json.dumps(unknown[0][:40])}: is not known; known are {', '.join(sorted(keys))}")


def _text(value: Any, *, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise PushMalformed(f"{place}: must be a text that is not empty")
    return value


def _number(value: Any, *, place: str) -> Decimal:
    try:
        number = parse_number(value)
    except QuoteRejected:
        number = None
    if number is None or not number.is_finite():
        raise PushMalformed(f"{place}: must be a number, or a text that is one")
    return number
