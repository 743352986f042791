"""Portfolios: computing all transactions, the page, and years of daily value. Ratios."""

import random
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.market.models import Asset, LatestQuote
from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.ledger import compute
from apps.portfolios.domain.records import Settings
from apps.portfolios.importing import import_activities
from apps.portfolios.models import Transaction
from apps.portfolios.queries import transactions_of
from apps.portfolios.services import recompute, record_transactions
from apps.portfolios.valuing import performance_of
from tests.benchmarks.sizes import (
    PORTFOLIO_DAYS,
    PORTFOLIO_POSITIONS,
    PORTFOLIO_ROWS,
    PORTFOLIO_RUNS,
    PORTFOLIO_TRANSACTIONS,
)
from tests.benchmarks.timing import milliseconds
from tests.builders import make_owner
from tests.portfolios.making import noon
from tests.portfolios.rows import make_portfolio

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db]


def trade(portfolio, assets, transactions):
    """Have so many purchases and sales of these assets, in turns."""
    chosen, held, rows = random.Random(1), dict.fromkeys(assets, 0), []
    for number in range(transactions):
        asset, at = assets[number % len(assets)], noon(date(2015, 1, 1)) + timedelta(hours=number)
        quantity = chosen.randint(1, 900)
        kind = "sell" if held[asset] > quantity and chosen.random() < 0.4 else "buy"
        held[asset] += quantity if kind == "buy" else -quantity
        money = {"amount": Decimal(chosen.randint(100, 99_999)) / 100, "fee": Decimal("1.5"), "currency": "USD"}
        rate = Decimal(chosen.randint(8_000, 12_000)) / 10_000
        given = {"portfolio": portfolio, "asset": asset, "kind": kind, "at": at, "day": at.date(), "rate": rate}
        rows.append(Transaction(**given, **money, quantity=Decimal(quantity) / 100))
    Transaction.objects.bulk_create(rows, batch_size=1_000)
    recompute(portfolio=portfolio)


def record_one(portfolio):
    asset = portfolio.positions.order_by("asset").first().asset
    row = {"asset": asset, "kind": "buy", "at": noon(date(2026, 1, 1)), "quantity": Decimal(1), "amount": Decimal(1)}
    record_transactions(portfolio=portfolio, rows=[row | {"currency": "USD", "rate": Decimal(1)}], now=timezone.now())


def make_assets(count, name):
    assets = Asset.objects.bulk_create(Asset(symbol=f"{name}-{number}", currency="USD") for number in range(count))
    LatestQuote.objects.bulk_create(
        LatestQuote(asset=asset, at=timezone.now(), price=Decimal(100), provider="kraken") for asset in assets
    )
    return assets


@pytest.fixture
def portfolios():
    """A portfolio of one trade and a large one, of one owner."""
    owner = make_owner()
    rate = Asset.objects.create(symbol="EUR-USD", currency="USD", base_currency="EUR")
    LatestQuote.objects.create(asset=rate, at=timezone.now(), price=Decimal("1.1"), provider="kraken")
    small, large = make_portfolio(owner, "Small"), make_portfolio(owner, "Large")
    trade(small, make_assets(1, "SMALL"), 1)
    trade(large, make_assets(PORTFOLIO_POSITIONS, "LARGE"), PORTFOLIO_TRANSACTIONS)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return small, large


def test_all_transactions_computed_and_the_page(portfolios):
    small, large = portfolios
    rows = transactions_of([large.pk])
    settings = {large.pk: Settings("EUR", tracks_cash=False)}

    def bare():
        return sum(one.quantity * one.amount * one.rate for one in rows)

    computing = milliseconds(lambda: compute(rows, settings=settings), runs=PORTFOLIO_RUNS)
    multiplying = milliseconds(bare, runs=PORTFOLIO_RUNS)
    storing = milliseconds(lambda: recompute(portfolio=large), runs=PORTFOLIO_RUNS)
    recording = milliseconds(lambda: record_one(large), runs=PORTFOLIO_RUNS)
    client = Client()
    client.force_login(User.objects.get())
    pages = {}
    for portfolio in portfolios:
        address = reverse("portfolio", args=[portfolio.pk])
        with CaptureQueriesContext(connection) as asked:
            assert client.get(address).status_code == 200
        statements = len(asked)
        pages[portfolio] = (milliseconds(lambda at=address: client.get(at), runs=PORTFOLIO_RUNS), statements)
    (little, few), (much, statements) = pages[small], pages[large]
    assert 0 < few == statements <= 12
    print(f"\n  {len(rows):,} transactions of {PORTFOLIO_POSITIONS:,} assets")
    print(
        f"  computed            {computing:>10.2f} ms   = {computing / multiplying:.0f} x two multiplications of each"
    )
    print(f"  read and stored too {storing:>10.2f} ms   = {storing / computing:.1f} x")
    print(f"  one more recorded   {recording:>10.2f} ms   = {recording / computing:.1f} x")
    print(f"  the page            {much:>10.2f} ms   = {much / little:.1f} x of one position; {statements} statements")


def test_a_large_file_imported():
    make_assets(PORTFOLIO_POSITIONS, "ASSET")
    lines = [
        f"{date(2015, 1, 1) + timedelta(days=number // 20)},ASSET-{number % PORTFOLIO_POSITIONS},USD,10.25,3,BUY,0.5"
        for number in range(PORTFOLIO_ROWS)
    ]
    content = "\n".join(["date,symbol,currency,unitprice,quantity,type,fee", *lines]).encode()
    portfolio = make_portfolio(make_owner(), base="USD")
    reading = milliseconds(lambda: read_activities(content), runs=1)
    read = read_activities(content)
    importing = milliseconds(lambda: import_activities(portfolio=portfolio, read=read, now=timezone.now()), runs=1)
    again = milliseconds(lambda: import_activities(portfolio=portfolio, read=read, now=timezone.now()), runs=1)
    assert Transaction.objects.count() == PORTFOLIO_ROWS
    print(f"\n  {PORTFOLIO_ROWS:,} rows read {reading:>10.2f} ms")
    print(f"  recorded            {importing:>10.2f} ms   = {importing / reading:.1f} x")
    print(f"  the same file again {again:>10.2f} ms   = {again / reading:.1f} x")


# Each asset's close of each of so many days.
_CLOSES = """
    INSERT INTO market_candle (asset_id, resolution, at, open, high, low, close, count, first_at, last_at, low_at,
        high_at, price_time, square_time)
    SELECT id, 86400, day, price, price, price, price, 1, noon, noon, noon, noon, 0, 0
    FROM generate_series(0, %(days)s - 1) back, market_asset,
        LATERAL (SELECT (%(today)s::date - back)::timestamp AT TIME ZONE 'UTC' AS day) one,
        LATERAL (SELECT day + interval '12 hours' AS noon, 100 + (back * 7 + id * 3) %% 50 AS price) its"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_large", [False, True])
def test_years_of_daily_value(portfolios, is_large):
    _, large = portfolios
    today = timezone.now().date()
    with connection.cursor() as cursor:
        cursor.execute(_CLOSES, {"days": PORTFOLIO_DAYS, "today": today})
        # As the server does by itself, some time after so many rows.
        cursor.execute("VACUUM ANALYZE market_candle")
    chosen = large
    if not is_large:
        chosen = make_portfolio(User.objects.get(), "Few")
        trade(chosen, list(Asset.objects.filter(transactions__portfolio=large).distinct()[:10]), 10)
    count = chosen.positions.count()
    since = today - timedelta(days=PORTFOLIO_DAYS)

    def performed(days):
        return performance_of(chosen, since=since, until=since + timedelta(days=days), now=timezone.now())

    month = milliseconds(lambda: performed(min(PORTFOLIO_DAYS, 30)), runs=PORTFOLIO_RUNS)
    years = milliseconds(lambda: performed(PORTFOLIO_DAYS), runs=PORTFOLIO_RUNS)
    print(f"\n  {PORTFOLIO_DAYS:,} days of {count} assets {years:>10.2f} ms   = {years / month:.1f} x a month")
