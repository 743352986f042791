"""Portfolios and transactions as tests of rows make them."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from apps.market.models import Asset, Candle, FeedEntry, LatestQuote, Split
from apps.portfolios.services import create_portfolio, record_transactions
from apps.sources.models import Listing
from tests.builders import START, make_feed
from tests.portfolios.making import NUMBERS, noon

NOW = datetime(2024, 12, 31, 18, tzinfo=UTC)


def make_asset(symbol="ACME", currency="EUR", **columns):
    return Asset.objects.create(symbol=symbol, currency=currency, **columns)


def make_portfolio(owner, name="Savings", *, base="EUR", method="fifo", tracks_cash=False):
    return create_portfolio(owner=owner, name=name, base_currency=base, method=method, tracks_cash=tracks_cash)


def columns(day, kind, **values):
    """Return the columns of a transaction with only a date; numbers may be written as texts."""
    values = {name: Decimal(value) if name in NUMBERS else value for name, value in values.items()}
    return {"at": noon(day), "has_time": False, "kind": kind, **values}


def record(portfolio, *rows, now=NOW):
    return record_transactions(portfolio=portfolio, rows=rows, now=now)


def bought(asset, day="2024-01-02", quantity="10", amount="1000", currency="EUR", **values):
    return columns(day, "buy", asset=asset, quantity=quantity, amount=amount, currency=currency, **values)


def sold(asset, day="2024-02-01", quantity="4", amount="500", currency="EUR", **values):
    return columns(day, "sell", asset=asset, quantity=quantity, amount=amount, currency=currency, **values)


def quote(asset, price, at=NOW, provider="kraken"):
    """Store the newest price of an asset."""
    LatestQuote.objects.update_or_create(
        asset=asset, defaults={"at": at, "price": Decimal(price), "provider": provider}
    )


def close(asset, day, price, *, at=None):
    """Store the candle of a day with one price."""
    at = at or noon(day).replace(hour=20)
    prices = dict.fromkeys(("open", "high", "low", "close"), Decimal(price))
    times = dict.fromkeys(("first_at", "last_at", "low_at", "high_at"), at)
    begins = at.replace(hour=0, minute=0, second=0, microsecond=0)
    fixed = {"count": 1, "price_time": 0, "square_time": 0, "resolution": Candle.Resolution.DAY}
    Candle.objects.create(asset=asset, at=begins, **prices, **times, **fixed)


def correct_closes(asset, price):
    """Let every stored day of an asset have another price."""
    Candle.objects.filter(asset=asset).update(**dict.fromkeys(("open", "high", "low", "close"), Decimal(price)))


def split_of(asset, day, numerator=2, denominator=1):
    """Store a split as the log of the asset's feed has it."""
    feed = asset.feed or make_feed(name="splits")
    times = {"as_of": START, "received_at": START}
    seq = FeedEntry.objects.filter(feed=feed).count() + 1
    entry = FeedEntry.objects.create(feed=feed, seq=seq, kind="split", trace_id="0" * 32, **times)
    ratio = {"numerator": numerator, "denominator": denominator}
    return Split.objects.create(asset=asset, entry=entry, effective_at=noon(day), **ratio)


def list_index(code, *closes):
    """Have an index of the Banco Central with these values, each at the end of its day."""
    asset = make_asset(f"BCB-{code}", "BRL")
    Listing.objects.create(asset=asset, provider="bcb_sgs", external_id=code)
    for day, price in closes:
        at = noon(day).replace(hour=0) + timedelta(days=1)
        close(asset, day, price, at=at)
        quote(asset, price, at=at)


def make_four_days(owner):
    """Return a portfolio of four days from 2024-01-02 on: 10 for 1000, which rise to 1100, fall to 990, and of which 4
    are sold."""
    portfolio, acme = make_portfolio(owner), make_asset()
    for day, price in (("2024-01-02", "100"), ("2024-01-03", "110"), ("2024-01-04", "99"), ("2024-01-05", "101")):
        close(acme, day, price)
    record(portfolio, bought(acme, "2024-01-02"), sold(acme, "2024-01-05", "4", "404"))
    return portfolio


def make_two_rates(owner, *, apart):
    """Return a portfolio whose flows two rates fit, and their days: -1600, 10000 and -10000, so many days apart."""
    portfolio, acme = make_portfolio(owner), make_asset()
    days = [str(date(2023, 1, 1) + timedelta(days=apart * number)) for number in range(3)]
    for day, price in zip(days, ("160", "1000", "0.0000000001"), strict=True):
        close(acme, day, price)
    record(
        portfolio,
        bought(acme, days[0], amount="1600"),
        sold(acme, days[1], quantity="9.999", amount="10000"),
        bought(acme, days[2], quantity="1", amount="10000"),
    )
    return portfolio, days


def make_reais(owner):
    """Return a portfolio in reais that gave 21 % in January and February 2024, and 10 % of it in January."""
    petr = make_asset("PETR4", "BRL")
    for day, price in (("2024-01-01", "100"), ("2024-01-31", "110"), ("2024-02-29", "121")):
        close(petr, day, price)
    portfolio = make_portfolio(owner, "Reais", base="BRL")
    record(portfolio, bought(petr, "2024-01-01", currency="BRL"))
    return portfolio
