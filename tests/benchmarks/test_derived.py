"""Ratios on legs that tick each second: how much of a core their derivation takes. One run."""

import time
from itertools import islice, permutations

import pytest

from apps.market.derived.deriving import derive_next
from apps.market.derived.models import DerivedFeed, DerivedSeries, SeriesLeg
from apps.market.models import Asset, Quote
from tests import builders
from tests.benchmarks.sizes import DERIVED_LEGS, DERIVED_RATIOS, DERIVED_SECONDS, DERIVED_WARM_UP
from tests.market.derived_rows import make_series

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]


def test_ratios_of_legs_that_tick_each_second():
    symbols = [f"LEG-{number}" for number in range(DERIVED_LEGS)]
    feed = builders.make_feed(*symbols)

    def tick(second):
        quotes = [
            (symbol, builders.at(second), f"{100 + second % 7}.{number:02}") for number, symbol in enumerate(symbols)
        ]
        builders.append_quotes(feed, quotes)

    tick(0)
    first = make_series("R-0", "ratio", *symbols[:2])
    # The others are made at once: only their derivation is measured.
    pairs = list(islice(permutations(Asset.objects.filter(feed=feed).order_by("pk"), 2), DERIVED_RATIOS))[1:]
    made = Asset.objects.bulk_create(
        Asset(symbol=f"R-{number}", feed_id=first.feed_id) for number in range(1, len(pairs) + 1)
    )
    document = DerivedSeries.objects.get().document

    def of(pair):
        legs = [leg | {"asset": asset.pk} for leg, asset in zip(document["legs"], pair, strict=True)]
        return document | {"legs": legs}

    DerivedSeries.objects.bulk_create(
        DerivedSeries(asset=asset, document=of(pair)) for asset, pair in zip(made, pairs, strict=True)
    )
    SeriesLeg.objects.bulk_create(
        SeriesLeg(series_id=asset.pk, asset=one) for asset, pair in zip(made, pairs, strict=True) for one in pair
    )
    DerivedFeed.objects.update(version=2)

    seconds = own = 0.0
    for second in range(1, DERIVED_WARM_UP + DERIVED_SECONDS + 1):
        tick(second)
        began, used = time.monotonic(), time.process_time()
        entry = derive_next(feed_id=first.feed_id, now=builders.at(second), trace_id=builders.TRACE)
        if second > DERIVED_WARM_UP:
            seconds += time.monotonic() - began
            own += time.process_time() - used
        assert entry.accepted == DERIVED_RATIOS
    assert Quote.objects.filter(entry=entry).count() == DERIVED_RATIOS
    share = seconds / DERIVED_SECONDS
    print(f"\n  {DERIVED_RATIOS:,} ratios of {DERIVED_LEGS} legs that tick each second")
    # The database's work is in the first figure, since this process waits for it.
    print(f"  derived and stored  {share * 1_000:>10,.1f} ms for each second   = {share:.1%} of a core")
    print(f"  of that here        {own / DERIVED_SECONDS * 1_000:>10,.1f} ms")
