"""Imported quotes rolled up into candles per second, beside bare COPY of the same rows. One run, ratios."""

import time
from datetime import timedelta

import pytest
from django.db.models import Sum

from apps.market.domain import RawQuote
from apps.market.models import Candle, FeedEntry
from apps.market.queries import has_pending
from apps.market.services import roll_up
from apps.pipeline.flow import evaluate_pending
from apps.sources.services import import_history
from tests import builders
from tests.benchmarks.bare_copy import copy_rate
from tests.benchmarks.sizes import ROLLED_UP

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("assets", "quotes", "seconds_apart"), ROLLED_UP)
def test_imported_quotes_become_candles(assets, quotes, seconds_apart):
    symbols = [f"A{number}" for number in range(assets)]
    feed = builders.make_feed(*symbols, provider="push")
    steps = quotes // assets
    rows = (
        RawQuote(symbol, str(100 + (13 * step + number) % 700 / 100), builders.at(step * seconds_apart))
        for step in range(steps)
        for number, symbol in enumerate(symbols)
    )
    end = builders.at(steps * seconds_apart)
    import_history(feed_id=feed.pk, quotes=rows, now=end, trace_id=builders.TRACE)
    builders.append_quotes(feed, [], as_of=end + timedelta(minutes=2))
    while has_pending(feed.pk):
        evaluate_pending(feed_id=feed.pk)

    began = time.monotonic()
    while roll_up(feed_id=feed.pk):
        pass
    seconds = time.monotonic() - began

    counted = Candle.objects.values("resolution").order_by("resolution").annotate(quotes=Sum("count"))
    assert list(counted.values_list("resolution", "quotes")) == [(60, quotes), (3_600, quotes), (86_400, quotes)]
    copied = copy_rate(FeedEntry.objects.filter(feed=feed, accepted__gt=0))
    minutes = Candle.objects.filter(resolution=Candle.Resolution.MINUTE).count()
    print(f"\n  {quotes:,} quotes of {assets:,} assets, {minutes:,} minutes")
    print(f"  rolled up           {quotes / seconds:>10,.0f} quotes/s")
    print(f"  bare COPY           {copied:>10,.0f} quotes/s   roll-up / COPY = 1/{copied * seconds / quotes:.1f}")
