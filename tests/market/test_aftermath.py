"""What prices did after moments of the past."""

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.market.models import Asset, Candle
from apps.market.queries import Moment, aftermaths
from apps.market.queries.aftermath import NO_PRICE, NOT_YET, SPANS, Later
from apps.market.services import append_split, roll_up
from apps.pipeline.flow import evaluate_pending
from tests.builders import TRACE, append_quotes, asset_ids, at, make_feed

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY, WEEK = 60, 3_600, 86_400, 7 * 86_400


@pytest.fixture
def feed():
    return make_feed("BTC-USD", jump_percent=0)


def quote(feed, *quotes):
    for seconds, price in quotes:
        append_quotes(feed, [("BTC-USD", at(seconds), price)])
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass


def after(feed, *moments):
    pk = asset_ids(feed)["BTC-USD"]
    return aftermaths([Moment(pk, at(seconds), Decimal(price)) for seconds, price in moments])


def test_each_span_has_the_price_that_was_in_force(feed):
    quote(feed, (0, "10"), (4 * MINUTE, "11"), (6 * MINUTE, "99"), (HOUR, "8"), (DAY, "10"), (WEEK + 120, "20"))
    (found,) = after(feed, (0, "10"))
    assert found == {
        "5 minutes": Later(Decimal(11), Decimal(1), Decimal(10)),
        "1 hour": Later(Decimal(8), Decimal(-2), Decimal(-20)),
        "1 day": Later(Decimal(10), Decimal(0), Decimal(0)),
        "1 week": Later(Decimal(10), Decimal(0), Decimal(0)),
    }


def test_what_has_not_come_yet_is_not_known_and_what_never_came_neither(feed):
    quote(feed, (0, "10"), (HOUR, "12"), (2 * HOUR, "13"))
    first, later = after(feed, (0, "10"), (HOUR + 60, "12"))
    assert first["5 minutes"] == Later(why_unknown=NO_PRICE)
    assert first["1 hour"].price == 12
    assert first["1 day"] == Later(why_unknown=NOT_YET)
    assert later["1 hour"] == Later(why_unknown=NOT_YET)


def test_where_minutes_are_kept_no_more_longer_candles_say_it(feed):
    quote(feed, (0, "10"), (60, "11"), (2 * HOUR, "12"), (DAY, "13"), (2 * DAY, "14"), (WEEK + 120, "15"))
    Candle.objects.filter(resolution=60).delete()
    (found,) = after(feed, (-30, "10"))
    assert found["5 minutes"] == Later(why_unknown=NO_PRICE)
    assert (found["1 hour"].price, found["1 week"].price) == (11, 14)


def test_a_split_in_between_is_no_change(feed):
    quote(feed, (0, "100"), (4 * MINUTE, "120"), (10 * MINUTE, "6"), (2 * HOUR, "6"))
    times = {"effective_at": at(5 * MINUTE), "now": at(2 * HOUR + 1)}
    append_split(asset_id=asset_ids(feed)["BTC-USD"], numerator=20, denominator=1, trace_id=TRACE, **times)
    (found,) = after(feed, (0, "100"))
    assert (found["5 minutes"].price, found["5 minutes"].percent) == (6, 20)
    assert (found["1 hour"].price, found["1 hour"].percent) == (6, 20)


def test_of_a_signed_asset_there_is_a_difference_and_no_percent(feed):
    Asset.objects.update(signed=True)
    quote(feed, (0, "-1"), (MINUTE, "2"), (2 * HOUR, "2"))
    (found,) = after(feed, (0, "-1"))
    assert found["1 hour"] == Later(Decimal(2), Decimal(3), None)


def test_nothing_is_asked_for_no_moments():
    assert aftermaths([]) == []


def test_many_moments_cost_few_statements(feed):
    quote(feed, (0, "10"), (60, "11"), (2 * HOUR, "12"), (WEEK + HOUR, "15"))
    with CaptureQueriesContext(connection) as one:
        after(feed, (0, "10"))
    with CaptureQueriesContext(connection) as many:
        found = after(feed, *((second, "10") for second in range(50)))
    assert len(found) == 50
    assert len(many) <= len(one) + len(SPANS)
