"""Transactions as tests write them."""

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

from apps.portfolios.domain.ledger import compute
from apps.portfolios.domain.rates import FoundRate
from apps.portfolios.domain.records import Ledger, Settings
from apps.portfolios.domain.transactions import Kind, Method, Transaction, refusals_of
from apps.portfolios.domain.valuation import Priced, value_of

SHARE, OTHER, COIN = 1, 2, 3
NUMBERS = {"quantity", "amount", "fee", "tax", "rate", "counter_amount", "cost_share", "fee_quantity"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def noon(day: str | date) -> datetime:
    """Return 12:00 UTC of a day, which is the time of a row with only a date."""
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def made(day: str, kind: Kind, **values) -> Transaction:
    """Return a transaction with only a date; numbers may be written as texts."""
    values = {name: Decimal(value) if name in NUMBERS else value for name, value in values.items()}
    if isinstance(values.get("acquired_at"), str):
        values["acquired_at"] = noon(values["acquired_at"])
    return Transaction(values.pop("portfolio", 1), kind, noon(day), has_time=False, **values)


def buy(day: str, quantity: str, amount: str, currency: str = "EUR", asset: int = SHARE, **values) -> Transaction:
    return made(day, Kind.BUY, quantity=quantity, amount=amount, currency=currency, asset=asset, **values)


def sell(day: str, quantity: str, amount: str, currency: str = "EUR", asset: int = SHARE, **values) -> Transaction:
    return made(day, Kind.SELL, quantity=quantity, amount=amount, currency=currency, asset=asset, **values)


def ledger_of(
    *transactions: Transaction,
    base: str = "EUR",
    method: Method = Method.FIFO,
    tracks_cash: bool = False,
    rates=None,
    prices=None,
) -> Ledger:
    """Return the ledger of portfolio 1. Each transaction is right by itself, and none is refused."""
    for one in transactions:
        assert refusals_of(one, tracks_cash=tracks_cash, currencies={"EUR", "USD", "CHF", "BRL"}, now=NOW) == []
    settings = {1: Settings(base, method, tracks_cash)}
    computed = compute(transactions, settings=settings, rates=rates, prices=prices)
    assert computed.refusals == []
    return computed.ledgers[1]


def cost_of(ledger: Ledger, asset: int = SHARE) -> Fraction:
    return sum((lot.cost for lot in ledger.lots.get(asset, ())), Fraction(0))


def valued(ledger: Ledger, prices: dict[int, tuple[str, str]], rates: dict[str, str] | None = None):
    """Return a valuation; prices: asset -> (price, currency); rates: currency -> what 1 unit costs in the base."""
    known = {ledger.settings.base: FoundRate(Fraction(1))}
    known |= {currency: FoundRate(Fraction(rate)) for currency, rate in (rates or {}).items()}
    given = {asset: Priced(Decimal(price), currency, NOW) for asset, (price, currency) in prices.items()}
    return value_of(ledger, prices=given, find_rate=known.get)
