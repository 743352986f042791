"""What tests of the market's services do and look at again and again."""

from collections.abc import Sequence

from django.db import connection

from apps.market.models import FeedEntry, FeedHead, LatestQuote, Quote
from apps.sources import services as sources
from tests.builders import START, TRACE, append_quotes, asset_ids, make_feed
from tests.sources.scripted import answer_with


def fetch(feed, *, slot=START, now=None):
    return sources.fetch(feed_id=feed.pk, slot=slot, now=now or slot, trace_id=TRACE)


def record(lease, *quotes, as_of=START):
    part = sources.admit_answer(
        lease=lease,
        provider="simulated",
        answer=answer_with(*quotes, as_of=as_of),
        asset_ids=asset_ids(lease.feed),
        signed=(),
    )
    entries = sources.record_answers(lease=lease, parts=[part], now=as_of, trace_id=TRACE)
    return entries[0] if entries else None


def head_of(feed):
    return FeedHead.objects.get(feed=feed)


def stored_quotes(*, late=False) -> Sequence[tuple]:
    rows = Quote.objects.filter(late=late).order_by("at", "asset__symbol")
    return [
        (symbol, moment, f"{price.normalize():f}")
        for symbol, moment, price in rows.values_list("asset__symbol", "at", "price")
    ]


def newest_prices():
    rows = LatestQuote.objects.order_by("asset__symbol").values_list("asset__symbol", "at", "price")
    return [(symbol, moment, f"{price.normalize():f}") for symbol, moment, price in rows]


def log_of(feed):
    return list(FeedEntry.objects.filter(feed=feed).order_by("seq").values_list("seq", "kind"))


def make_long_logs(*names):
    """Make a feed of each name with 5000 entries in its log, all alike but for their number. On PostgreSQL."""
    for name in names:
        append_quotes(make_feed(name=name), [])
    columns = (
        "feed_id, kind, part, as_of, received_at, provider, failure, accepted, late, repeated, unconfirmed, rejected"
    )
    columns += ", missed_slots, first_at, last_at, trace_id, is_superseded"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO market_feedentry (seq, {columns}) "
            f"SELECT number, {columns} FROM market_feedentry, generate_series(2, 5000) AS number"
        )
        cursor.execute("ANALYZE market_feedentry, market_feedhead")
    FeedHead.objects.update(seq=5_000)


def rows_read(context):
    """Return how many rows of logs PostgreSQL reads for the captured statements, those that it throws away too."""
    return sum(map(_rows_in, _plans_of(context)))


def pages_read(context):
    """Return how many pages, those of indexes too, PostgreSQL looks at for the captured statements about logs."""
    return sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in _plans_of(context))


def _plans_of(context):
    plans = []
    for statement in [query["sql"] for query in context if 'FROM "market_feedentry"' in query["sql"]]:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
            plans.append(cursor.fetchone()[0][0]["Plan"])
    assert plans
    return plans


def _rows_in(node):
    removed = sum(rows for name, rows in node.items() if name.startswith("Rows Removed"))
    return (node["Actual Rows"] + removed) * node["Actual Loops"] + sum(map(_rows_in, node.get("Plans", [])))
