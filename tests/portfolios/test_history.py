"""The values of portfolios by day: summed in the database, they are exactly the sums of their parts."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from apps.portfolios.history import ONE_DAY, History
from apps.portfolios.models import LedgerCopy
from tests.builders import make_owner
from tests.portfolios.making import noon
from tests.portfolios.rows import bought, close, make_asset, make_portfolio, quote, record, sold, split_of

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

FIRST, DAYS = date(2024, 1, 1), 60
LAST = FIRST + (DAYS - 1) * ONE_DAY


def price(chance):
    return Decimal(chance.randint(1, 10**9)).scaleb(-chance.choice([0, 2, 9, 18]))


def make_prices(chance, asset, *, first, gaps):
    """Store closes of an asset from a day on, some days without one, and perhaps a newest price."""
    last = first
    for number in range(first, DAYS):
        if chance.random() > gaps:
            close(asset, FIRST + number * ONE_DAY, price(chance))
            last = number
    if chance.random() < 0.6:
        day = FIRST + chance.randint(last, DAYS - 1) * ONE_DAY
        quote(asset, price(chance), at=noon(day).replace(hour=22))


def make_trades(chance, portfolio, asset):
    """Record purchases and sales of an asset, of which all may be sold."""
    held = Decimal(0)
    for number in sorted(chance.sample(range(DAYS), chance.randint(1, 6))):
        day = str(FIRST + number * ONE_DAY)
        quantity = Decimal(chance.randint(1, 10**6)).scaleb(-chance.choice([0, 3, 12]))
        if held and chance.random() < 0.5:
            quantity = chance.choice([held, held / 2]) if held == held.quantize(Decimal("1e-11")) else held
            record(portfolio, sold(asset, day, quantity, "1", rate="1", currency="USD"))
            held -= quantity
        else:
            record(portfolio, bought(asset, day, quantity, "1", rate="1", currency="USD"))
            held += quantity


@pytest.fixture(params=range(12))
def chance(request):
    return random.Random(request.param)


@pytest.fixture
def portfolio(chance):
    """Return a portfolio of assets in currencies with and without a rate, with and without prices and splits."""
    make_prices(chance, make_asset("EUR-USD", "USD", base_currency="EUR"), first=chance.choice([0, 5]), gaps=0.3)
    make_prices(chance, make_asset("USD-BRL", "BRL", base_currency="USD"), first=chance.choice([0, 9]), gaps=0.5)
    portfolio = make_portfolio(make_owner(), tracks_cash=False)
    for number in range(chance.randint(1, 6)):
        currency = chance.choice(["EUR", "USD", "USD", "BRL", "XAU" if chance.random() < 0.2 else "EUR"])
        asset = make_asset(f"A{number}", currency)
        if chance.random() < 0.85:
            make_prices(chance, asset, first=chance.choice([0, 0, 0, 20]), gaps=chance.choice([0, 0.3, 0.9]))
        make_trades(chance, portfolio, asset)
        if number == 0 and chance.random() < 0.5:
            split_of(asset, FIRST + chance.randint(1, DAYS) * ONE_DAY, 3)
    return portfolio


def test_the_sums_of_days_are_those_of_their_parts(portfolio, chance):
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    for _ in range(4):
        since = FIRST + timedelta(days=chance.randint(-3, DAYS - 1))
        until = since + timedelta(days=chance.randint(-1, DAYS))
        now = datetime(LAST.year, LAST.month, LAST.day, 23, tzinfo=UTC) if chance.random() < 0.5 else noon("2030-01-01")
        ends = {"now": max(now, noon(until).replace(hour=23)), "is_exact": chance.random() < 0.3}
        history = History(portfolio, copy, since=since, until=until, **ends)
        days = history.days(since=since, until=until)
        assert days == [history.day(since + number * ONE_DAY) for number in range((until - since).days + 1)]
