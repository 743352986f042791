"""Derived series in sentences. Pure."""

from collections.abc import Sequence
from decimal import Decimal

from apps.locales import STANDARD, Reader
from apps.market.derived.series import Definition, Kind
from apps.wording import format_duration, format_number


def describe_series(definition: Definition, symbols: Sequence[str], *, reader: Reader = STANDARD) -> str:
    """Return what a series computes, and when. symbols: of its legs, in their order; reader: whom it is for."""
    skews = [leg.max_skew for leg in definition.legs]
    if len(set(skews)) == 1:
        when = f"no leg's quote is older than {format_duration(skews[0])}"
    else:
        each = [f"{symbol}'s {format_duration(skew)}" for symbol, skew in zip(symbols, skews, strict=True)]
        when = f"no leg's quote is older than its limit: {', '.join(each)}"
    return f"{formula_of(definition, symbols, reader=reader)}, at each time at which a leg has a quote and {when}."


def formula_of(definition: Definition, symbols: Sequence[str], *, reader: Reader = STANDARD) -> str:
    """Return what a series computes: "BTC-USD divided by BTC-USDC"."""
    if definition.kind == Kind.RATIO:
        return f"{symbols[0]} divided by {symbols[1]}"
    if definition.kind == Kind.SPREAD:
        return f"{symbols[0]} minus {symbols[1]}"
    terms = [
        f"{'−' if leg.weight < 0 else '+'} {_times(abs(leg.weight), reader)}{symbol}"
        for leg, symbol in zip(definition.legs, symbols, strict=True)
    ]
    return " ".join(terms).removeprefix("+ ")


def _times(weight: Decimal, reader: Reader) -> str:
    return "" if weight == 1 else f"{format_number(weight, reader=reader)} × "
