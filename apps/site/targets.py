"""Target allocations as people write them: BTC-USD 60, ACME 30."""

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from django.db.models import QuerySet

from apps.market.models import Asset
from apps.market.queries import assets_named
from apps.portfolios.domain.drift import Shares
from apps.portfolios.domain.numbers import to_text

ASSETS_MOST = 200
LONGEST_TARGET = 4_000


class TargetInvalid(ValueError):
    """A target cannot be read. The text says why, for people."""


def read_number(text: str) -> Decimal:
    """Return a number that may end in %. Raises TargetInvalid."""
    try:
        number = Decimal(text.strip().removesuffix("%").strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > 12:
        raise TargetInvalid(f"{text[:40].strip() or 'Nothing'} is not a number.")
    return number


def read_target(text: str, *, owner_id: int) -> dict[int | None, Fraction]:
    """Return the target of a text like "BTC-USD 60, ACME 30": what is left is cash. Nothing of an empty text. Raises
    TargetInvalid."""
    parts = [one.split() for one in text.replace(";", ",").split(",") if one.strip()]
    if any(len(one) != 2 for one in parts) or len(parts) > ASSETS_MOST:
        raise TargetInvalid("Write each asset with its share in percent, like BTC-USD 60, ACME 30.")
    named = assets_named({symbol.upper() for symbol, _ in parts}, owner_id=owner_id)
    target: dict[int | None, Fraction] = {}
    for symbol, share in parts:
        asset = named.get(symbol.upper())
        if asset is None:
            raise TargetInvalid(f"There is no asset {symbol[:64]}.")
        target[asset.pk] = target.get(asset.pk, Fraction(0)) + Fraction(read_number(share)) / 100
    if any(share < 0 for share in target.values()) or sum(target.values()) > 1:
        raise TargetInvalid("Shares are 0 or more, and 100 % together at most; what is left is cash.")
    return target | {None: 1 - sum(target.values(), Fraction(0))} if target else {}


def written_target(target: Shares, seen: QuerySet[Asset]) -> str:
    """Return the text of a target, which `read_target` reads. seen: the assets that the reader sees."""
    symbols = dict(seen.filter(pk__in=[one for one in target if one is not None]).values_list("pk", "symbol"))
    shares = [(symbols.get(asset, "(deleted)"), share) for asset, share in target.items() if asset is not None]
    return ", ".join(f"{symbol} {to_text(share * 100)}" for symbol, share in sorted(shares))
