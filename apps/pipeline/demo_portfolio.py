"""The portfolio of the demo: somebody's dollars and bitcoins before the morning that the demo plays."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import AbstractBaseUser

from apps.market.queries import assets_named
from apps.portfolios.domain.transactions import Method
from apps.portfolios.models import Portfolio
from apps.portfolios.services import create_portfolio, record_transactions

BITCOIN = "BTC-USD"
# (day, hour, minute of March 2023), kind, quantity, amount and fee in USD, what its owner wrote. Prices are the
# recording's.
_STORY: tuple[tuple[tuple[int, int, int], str, str | None, str, str, str], ...] = (
    ((10, 0, 30), "deposit", None, "20000", "0", "Savings."),
    ((10, 0, 40), "buy", "0.5", "10185", "10.19", "Half of it into Bitcoin."),
    (
        *((10, 12, 5), "sell", "0.2", "3951.40", "3.95"),
        "Silicon Valley Bank is closing, and Bitcoin falls too: sold in fear.",
    ),
    (
        *((11, 4, 30), "buy", "0.4", "8212", "8.21"),
        "USDC loses its peg overnight, and whoever leaves it buys Bitcoin. Bought back, and more.",
    ),
)


def own_something(owner: AbstractBaseUser, *, now: datetime) -> Portfolio:
    """Make the portfolio of the demo."""
    given = {"base_currency": "USD", "method": Method.FIFO.value, "tracks_cash": True}
    portfolio = create_portfolio(owner=owner, name="The weekend USDC broke", **given)
    bitcoin = assets_named([BITCOIN])[BITCOIN]
    rows = []
    for (day, hour, minute), kind, quantity, amount, fee, notes in _STORY:
        row: dict[str, Any] = {"kind": kind, "at": datetime(2023, 3, day, hour, minute, tzinfo=UTC), "notes": notes}
        row |= {"amount": Decimal(amount), "currency": "USD", "fee": Decimal(fee)}
        if quantity is not None:
            row |= {"asset": bitcoin, "quantity": Decimal(quantity)}
        rows.append(row)
    record_transactions(portfolio=portfolio, rows=rows, now=now)
    return portfolio
