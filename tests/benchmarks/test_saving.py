"""Rules saved over much history: how long saving takes, and how long the feed's log waits for it, beside reading the
candles of every hour. One run, ratios."""

import time
from datetime import timedelta

import pytest
from django.db import connection

from apps.market import partitions
from apps.market.domain import UNITS_PER_ONE
from apps.market.models import Candle, RollupCursor
from apps.pipeline.flow import evaluate_next
from tests import builders
from tests.benchmarks.sizes import SAVED_RULES

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]

# A price a minute of each asset, in SQL; candles as roll-up makes them.
_PRICE = "(100 + (minute * 13 + asset.id * 7) %% 700 / 100.0)::numeric(31, 18)"
_MINUTES = f"""
    SELECT asset.id AS asset_id, at, {_PRICE} AS price
    FROM market_asset asset, generate_series(0, %(minutes)s - 1) AS minute,
        LATERAL (SELECT %(start)s + minute * interval '1 minute' AS at) moment"""
_QUOTES = (
    f"INSERT INTO market_quote (asset_id, at, price, entry_id, late) SELECT *, %(entry)s, false FROM ({_MINUTES}) q"
)
_CANDLES = f"""
    INSERT INTO market_candle (asset_id, resolution, at, open, high, low, close, count, first_at, last_at,
        low_at, high_at, price_time, square_time)
    SELECT asset_id, %(resolution)s, bin, (array_agg(price ORDER BY at))[1], max(price), min(price),
        (array_agg(price ORDER BY at DESC))[1], count(*), min(at), max(at), (array_agg(at ORDER BY price, at DESC))[1],
        (array_agg(at ORDER BY price DESC, at DESC))[1],
        coalesce(sum(before), 0) * 60000000 * {UNITS_PER_ONE},
        coalesce(sum(before * before), 0) * 60000000 * {UNITS_PER_ONE**2}
    FROM (
        SELECT *, lag(price) OVER (PARTITION BY asset_id, bin ORDER BY at) AS before
        FROM ({_MINUTES}) q, LATERAL (SELECT date_bin(%(resolution)s * interval '1 second', at, 'epoch') AS bin) b
    ) binned
    GROUP BY asset_id, bin"""


def make_history(feed, *, days):
    """Give each asset a quote a minute for so many days before START, rolled up."""
    start = builders.at(-days * 86_400)
    entry = feed.entries.create(
        seq=2, kind="history", as_of=builders.START, received_at=builders.START, accepted=1,
        first_at=start, last_at=builders.at(-60), trace_id=builders.TRACE,
    )  # fmt: skip
    facts = {"minutes": days * 1_440, "start": start, "entry": entry.pk}
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(_QUOTES, facts)
        for resolution in Candle.Resolution:
            cursor.execute(_CANDLES, facts | {"resolution": int(resolution)})
        cursor.execute(
            "INSERT INTO market_latestquote (asset_id, at, price, provider) SELECT id, %s, 100, '' FROM market_asset "
            "ON CONFLICT (asset_id) DO UPDATE SET at = excluded.at",
            [builders.at(-60)],
        )
        cursor.execute("ANALYZE")
        cursor.execute("RESET statement_timeout")
    feed.head.__class__.objects.filter(pk=feed.pk).update(seq=2)
    RollupCursor.objects.update_or_create(pk=feed.pk, defaults={"seq": 2})


@pytest.mark.parametrize(("rules", "assets", "days"), SAVED_RULES)
def test_rules_are_saved_over_much_history(rules, assets, days):
    feed = builders.make_feed(*(f"A{number}" for number in range(assets)), provider="push")
    builders.append_quotes(feed, [], as_of=builders.START)
    evaluate_next(feed_id=feed.pk)
    if days:
        make_days(days)
        make_history(feed, days=days)
        evaluate_next(feed_id=feed.pk)
    owner = builders.make_owner()
    windows = [{"kind": "rises", "percent": "5", "window": window} for window in ("1h", "30d")]

    began = time.monotonic()
    for number in range(rules):
        builders.make_rule(owner, name=f"rule {number}", assets={"feed": "feed"}, condition={"any": windows})
    saved = time.monotonic() - began
    waited = []
    while True:
        began = time.monotonic()
        if not evaluate_next(feed_id=feed.pk):
            break
        waited.append(time.monotonic() - began)
    reading = seconds_to_read_hours()

    assert len(waited) == rules
    print(f"\n  {rules:,} rules over {assets:,} assets with {days} days of a quote a minute")
    print(
        f"  saved               {saved:>10.2f} s" + (f"   = {saved / reading:.1f} x reading the hours" if days else "")
    )
    print(f"  the log waits       {sum(waited):>10.2f} s in all, {max(waited):.2f} s for one rule at most")


def make_days(days):
    """Make the days of quotes."""
    partitions.ensure([builders.START.date() - timedelta(days=day) for day in range(days + 1)])


def seconds_to_read_hours() -> float:
    """Return how long it takes to read every hour's candle."""
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM market_candle WHERE resolution = 3600")
        cursor.fetchall()
    return time.monotonic() - began
