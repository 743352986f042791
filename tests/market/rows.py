"""What tests of the market's services do and look at again and again."""

from collections.abc import Sequence

from apps.market import services
from apps.market.models import Batch, FeedHead, LatestQuote, Quote
from tests.builders import START, TRACE, asset_ids
from tests.market.scripted import answer_with


def fetch(feed, *, slot=START, now=None):
    return services.fetch(feed_id=feed.pk, slot=slot, now=now or slot, trace_id=TRACE)


def record(lease, *quotes, as_of=START):
    part = services.admit_answer(
        lease=lease, provider="simulated", answer=answer_with(*quotes, as_of=as_of), asset_ids=asset_ids(lease.feed)
    )
    entries = services.record_answers(lease=lease, parts=[part], now=as_of, trace_id=TRACE)
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
    return list(Batch.objects.filter(feed=feed).order_by("seq").values_list("seq", "kind"))
