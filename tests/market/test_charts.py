"""The candles that charts draw: of stored candles and of quotes that are not rolled up yet, with splits."""

from datetime import timedelta
from decimal import Decimal

import pytest

from apps.market.models import Candle
from apps.market.queries import bars_of, newest_quotes_between, sparklines, width_of
from apps.market.queries.charts import BARS_MOST, WIDTHS, Sparkline
from apps.market.services import append_split, roll_up
from apps.pipeline.flow import evaluate_pending
from apps.wording import format_plain
from tests.builders import TRACE, append_quotes, asset_ids, at, make_feed

pytestmark = pytest.mark.django_db


@pytest.fixture
def feed():
    return make_feed("BTC-USD", jump_percent=0)


def roll_all_up(feed):
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass


def bars(feed, *, until, width, since=0):
    found = bars_of(asset_ids(feed)["BTC-USD"], since=at(since), until=at(until), width=width)
    return [(one.at, *(format_plain(price) for price in one[1:5])) for one in found]


@pytest.mark.parametrize("seconds", [1, 1_999, 2_001, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400, 3_650 * 86_400])
def test_a_chart_has_at_most_so_many_candles(seconds):
    width = width_of(timedelta(seconds=seconds))
    assert seconds / width <= BARS_MOST
    narrower = [one for one in WIDTHS if one < width]
    assert all(seconds / one > BARS_MOST for one in narrower)


def test_what_no_candle_has_yet_is_drawn_from_quotes(feed):
    append_quotes(feed, [("BTC-USD", at(0), "10"), ("BTC-USD", at(20), "13"), ("BTC-USD", at(40), "9")])
    append_quotes(feed, [("BTC-USD", at(70), "11")])
    roll_all_up(feed)
    append_quotes(feed, [("BTC-USD", at(80), "12")])
    assert Candle.objects.filter(resolution=60).count() == 1
    assert bars(feed, until=80, width=60) == [(at(0), "10", "13", "9", "9"), (at(60), "11", "12", "11", "12")]


def test_candles_are_merged_into_wider_ones(feed):
    for minute, price in enumerate(("10", "14", "8", "12", "11", "20", "21")):
        append_quotes(feed, [("BTC-USD", at(60 * minute), price)])
    roll_all_up(feed)
    assert bars(feed, until=360, width=300) == [(at(0), "10", "14", "8", "11"), (at(300), "20", "21", "20", "21")]


def test_narrow_candles_are_made_of_quotes(feed):
    append_quotes(feed, [("BTC-USD", at(second), str(10 + second)) for second in range(8)])
    assert bars(feed, until=8, width=5) == [(at(0), "10", "14", "10", "14"), (at(5), "15", "17", "15", "17")]


def test_where_quotes_are_too_many_candles_of_minutes_are_drawn(feed, monkeypatch):
    monkeypatch.setattr("apps.market.queries.charts.QUOTES_MOST", 3)
    append_quotes(feed, [("BTC-USD", at(second), str(10 + second)) for second in range(8)])
    append_quotes(feed, [("BTC-USD", at(60), "30")])
    roll_all_up(feed)
    assert bars(feed, until=60, width=5) == [(at(0), "10", "17", "10", "17"), (at(60), "30", "30", "30", "30")]


def test_prices_from_before_a_split_are_drawn_as_they_count_now(feed):
    append_quotes(feed, [("BTC-USD", at(0), "100"), ("BTC-USD", at(60), "120")])
    append_quotes(feed, [("BTC-USD", at(120), "6")])
    roll_all_up(feed)
    pk = asset_ids(feed)["BTC-USD"]
    append_split(asset_id=pk, effective_at=at(120), numerator=20, denominator=1, now=at(121), trace_id=TRACE)
    drawn = [(at(0), *4 * ["5"]), (at(60), *4 * ["6"]), (at(120), *4 * ["6"])]
    assert bars(feed, until=120, width=60) == drawn
    assert newest_quotes_between(pk, since=at(0), until=at(120), limit=2) == [(at(60), 6, None), (at(120), 6, None)]


def test_a_sparkline_has_the_last_day_of_the_feeds_clock(feed):
    append_quotes(feed, [("BTC-USD", at(0), "1")])
    for hour in range(1, 27):
        append_quotes(feed, [("BTC-USD", at(3_600 * hour), str(hour + 1))])
    roll_all_up(feed)
    pk = asset_ids(feed)["BTC-USD"]
    found = sparklines([pk])[pk].points
    assert found[0] == (at(7_200), 3)
    assert [price for _, price in found] == list(range(3, 27))


def test_assets_without_candles_have_an_empty_sparkline(feed):
    pk = asset_ids(feed)["BTC-USD"]
    assert sparklines([pk]) == {pk: Sparkline([], 0)}


def test_a_sparkline_has_the_decimals_of_its_prices_as_they_were_quoted(feed):
    append_quotes(feed, [("BTC-USD", at(0), "100.25"), ("BTC-USD", at(60), "100.50")])
    append_quotes(feed, [("BTC-USD", at(120), "34")])
    roll_all_up(feed)
    pk = asset_ids(feed)["BTC-USD"]
    append_split(asset_id=pk, effective_at=at(120), numerator=3, denominator=1, now=at(121), trace_id=TRACE)
    found = sparklines([pk])[pk]
    assert (found.points[0][1], found.decimals) == (Decimal("33.4166666666667"), 2)
