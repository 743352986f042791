"""Prices of what is held: the newest, and those of many times."""

from datetime import timedelta
from decimal import Decimal

import pytest

from apps.market.models import Asset, Candle
from apps.market.queries import day_closes, held_prices, prices_then, rate_assets, splits_of
from tests.builders import append_quotes, at, make_feed
from tests.portfolios.rows import close, quote, split_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme():
    return make_feed("ACME").assets.get()


def test_the_price_of_a_time_is_the_last_close_before_it(acme):
    close(acme, "2024-01-01", "10")
    close(acme, "2024-01-02", "20")
    moments = {day: at(0).replace(year=2024, month=1, day=day) for day in (1, 2, 3)}
    found = prices_then((acme.pk, moment) for moment in moments.values())
    assert {day: found[acme.pk, moment].price for day, moment in moments.items() if (acme.pk, moment) in found} == {
        2: 10,
        3: 20,
    }
    assert found[acme.pk, moments[3]].at.day == 2


def hour_close(asset, day, hour, minute, price):
    """Store the candle of an hour whose last quote was at this minute of it."""
    close(asset, day, price, at=at(0).replace(year=2024, month=1, day=int(day[-2:]), hour=hour, minute=minute))
    candle = Candle.objects.filter(asset=asset, at__day=int(day[-2:]), resolution=Candle.Resolution.DAY)
    candle.update(resolution=Candle.Resolution.HOUR, at=at(0).replace(year=2024, month=1, day=int(day[-2:]), hour=hour))


@pytest.mark.parametrize(
    ("hour", "minute", "price"),
    [
        # Of the hour itself, up to the moment; of the hour before; else of the day before.
        (14, 30, 14),
        (14, 29, 13),
        (14, 0, 13),
        (15, 0, 14),
        (15, 59, 14),
        (16, 0, 10),
        (13, 9, 10),
    ],
)
def test_the_price_of_a_time_is_of_its_hour_or_the_one_before_where_these_are_stored(acme, hour, minute, price):
    close(acme, "2024-01-01", "10")
    hour_close(acme, "2024-01-02", 13, 10, "13")
    hour_close(acme, "2024-01-02", 14, 30, "14")
    close(acme, "2024-01-02", "20")
    moment = at(0).replace(year=2024, month=1, day=2, hour=hour, minute=minute)
    assert prices_then([(acme.pk, moment)])[acme.pk, moment].price == price


def test_the_close_of_an_hour_is_per_unit_of_then(acme):
    hour_close(acme, "2024-01-02", 14, 30, "14")
    split_of(acme, "2024-06-01")
    moment = at(0).replace(year=2024, month=1, day=2, hour=14, minute=30)
    assert prices_then([(acme.pk, moment)])[acme.pk, moment].price == 14


def test_where_no_close_is_near_a_quote_counts_with_its_time(acme):
    close(acme, "2026-02-20", "9")
    append_quotes(make_feed(name="other"), [])
    append_quotes(acme.feed, [("ACME", at(0), "10")])
    moment = at(60)
    assert prices_then([(acme.pk, moment)]) == {(acme.pk, moment): (at(0), Decimal(10), "")}


def test_a_price_of_then_is_per_unit_of_then(acme):
    close(acme, "2024-01-01", "100")
    split_of(acme, "2024-06-01")
    moment = at(0).replace(year=2024, month=1, day=2)
    assert prices_then([(acme.pk, moment)])[acme.pk, moment].price == 100
    closes = day_closes([acme.pk], splits=splits_of([acme.pk]), since=moment, until=moment)
    assert closes[acme.pk] == [(moment.replace(day=1, hour=20), 50)]
    later = at(0).replace(year=2024, month=6, day=2)
    assert prices_then([(acme.pk, later)])[acme.pk, later].price == 50


def test_the_newest_price_names_its_provider(acme):
    quote(acme, "12", at=at(0))
    assert held_prices([acme.pk]) == {acme.pk: (at(0), Decimal(12), "kraken")}


def test_statements_do_not_grow_with_moments(acme, django_assert_num_queries):
    close(acme, "2024-01-01", "10")
    begin = at(0).replace(year=2024, month=1, day=2)
    # One for splits, two for the closes of days, and one for those of hours.
    with django_assert_num_queries(4):
        prices_then((acme.pk, begin + timedelta(minutes=number)) for number in range(500))


def test_exchange_rates_are_the_assets_that_name_a_base_currency(acme):
    rate = Asset.objects.create(symbol="EUR-USD", currency="USD", base_currency="EUR")
    assert rate_assets() == [rate]
