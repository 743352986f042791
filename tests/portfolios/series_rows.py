"""What tests of portfolios' series do: legs with prices, and series made."""

from datetime import UTC, datetime, timedelta

from apps.pipeline import flow
from apps.portfolios.services import create_series
from tests.builders import append_quotes, make_feed
from tests.portfolios.rows import columns

DAY = datetime(2024, 3, 4, tzinfo=UTC)


def at(hours, day=0):
    return DAY + timedelta(days=day, hours=hours)


def make_legs():
    """Return a feed with ACME and BOLT in euros and a rate, which have a price on the day before and at midnight."""
    feed = make_feed("ACME", "BOLT", "EUR-USD", jump_percent=0, interval_seconds=3_600)
    feed.assets.filter(symbol__in=["ACME", "BOLT"]).update(currency="EUR")
    feed.assets.filter(symbol="EUR-USD").update(currency="USD", base_currency="EUR")
    for moment in (at(0, -1), at(0)):
        quote(feed, moment, ACME="10", BOLT="20", EUR_USD="2")
    roll_up(feed)
    return feed


def quote(feed, moment, **prices):
    append_quotes(feed, [(symbol.replace("_", "-"), moment, price) for symbol, price in prices.items()])


def roll_up(feed):
    flow.evaluate_pending(feed_id=feed.pk)
    flow.roll_up()


def series_of(portfolio, kind, *, every=60, target=None):
    given = {"every_seconds": every, "target": target or {}, "now": at(0)}
    return create_series(portfolio=portfolio, kind=kind, symbol=kind.name, **given)


def trade(kind, held, moment, quantity, amount):
    """Return the columns of a transaction with a time."""
    given = columns("2024-03-04", kind, asset=held, quantity=quantity, amount=amount, currency="EUR")
    return given | {"at": moment, "has_time": True}
