"""Derived series through the real pipeline, with workers that are killed: their quotes, alerts and replay are what the
recording says."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.market.models import EvaluationCursor, FeedEntry, FeedHead, Quote
from apps.portfolios.domain.series import SeriesKind
from apps.sources.services import create_feed
from tests import builders
from tests.market.derived_oracle import rounded
from tests.market.derived_rows import expected_of, make_series, stored_of
from tests.pipeline import recorded
from tests.portfolios.rows import make_portfolio, record
from tests.portfolios.series_oracle import expected_of as expected_of_portfolio
from tests.portfolios.series_rows import series_of, trade
from tests.rig import rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

BEGIN, END = "2023-03-11T06:30:00Z", "2023-03-11T12:30:00Z"


def ratios(rows):
    """Return time -> BTC-USD / BTC-USDC of a recording whose rows of one time come together."""
    of_time = {}
    for symbol, at, price in rows:
        of_time.setdefault(at, {})[symbol] = Fraction(price)
    return {at: rounded(one["BTC-USD"] / one["BTC-USDC"]) for at, one in sorted(of_time.items())}


def episodes_below(prices, *, level, recovery):
    """Return (opened, resolved) of each time for which a price was below the level, until it is not below recovery."""
    found, opened = [], None
    for at, price in prices.items():
        if opened is None and price < level:
            opened = at
        elif opened is not None and price >= recovery:
            found.append((opened, at))
            opened = None
    return {*found, *([(opened, None)] if opened else [])}


def test_workers_that_die_derive_and_alert_what_the_recording_says(tmp_path):
    recording = tmp_path / "recording.csv"
    rows = recorded.write_recording(recording, begin=BEGIN, end=END)
    options = {"path": str(recording), "start": BEGIN, "speed": 900}
    now = datetime.now(UTC)
    feed = create_feed(name="recording", interval_seconds=1, sources=[("recording", options)], now=now)
    for symbol in recorded.SYMBOLS:
        builders.Asset.objects.create(symbol=symbol, feed=feed, currency="USD")
    owner = builders.make_owner()
    bitcoin = feed.assets.get(symbol="BTC-USD")
    portfolio = make_portfolio(owner, base="USD")
    begins = datetime.fromisoformat(BEGIN)
    record(portfolio, trade("buy", bitcoin, begins, "2", "40000") | {"currency": "USD"})
    legs = [{"asset": symbol, "max_skew": "90s"} for symbol in ("BTC-USD", "BTC-USDC")]
    asset = make_series("USDC-USD", "ratio", *legs, owner=owner)
    builders.make_rule(owner, assets=["USDC-USD"], condition={"kind": "below", "level": "0.91", "recovery": "0.915"})
    derived = FeedEntry.objects.filter(feed=asset.feed_id, kind="quotes")

    def is_over():
        heads = FeedHead.objects.filter(pk__in=[asset.feed_id, *(one.feed_id for one in of_portfolio)])
        is_derived = all(head.as_of is not None and head.as_of >= rows[-1][1] for head in heads)
        return is_derived and all(EvaluationCursor.objects.get(pk=head.pk).seq == head.seq for head in heads)

    of_portfolio = []
    with rig(tmp_path) as processes:
        processes.worker("analysis.0", name="analyzer")
        processes.beat()
        kills = 0
        for number in range(3):
            worker = processes.worker("ticks", "assets-tasks", "notifications", name=f"watcher{number}")
            goal = derived.count() + 1
            wait_until(lambda goal=goal: derived.count() > goal or is_over(), timeout_seconds=90, every_seconds=0.05)
            if not of_portfolio:
                of_portfolio += [series_of(portfolio, kind, every=1) for kind in (SeriesKind.VALUE, SeriesKind.INDEX)]
            # A purchase of before that is recorded late.
            moment = FeedHead.objects.get(pk=feed.pk).as_of - timedelta(minutes=10)
            record(portfolio, trade("buy", bitcoin, moment, "1", "20500") | {"currency": "USD"})
            kills += not is_over()
            processes.kill(worker)
        processes.worker("ticks", "assets-tasks", "notifications", name="watcher")
        wait_until(is_over, timeout_seconds=120, every_seconds=0.2)

    assert kills
    expected = ratios(rows)
    stored = Quote.objects.filter(asset=asset).values_list("at", "price")
    assert dict(stored) == expected
    assert stored_of(asset.feed_id) == expected_of(asset.feed_id)
    value, index = of_portfolio
    computed = expected_of_portfolio(value.feed_id)
    assert stored_of(value.feed_id) == computed
    assert {asset_id for _, asset_id, _, _ in computed} == {value.pk, index.pk}
    episodes = episodes_below(expected, level=Decimal("0.91"), recovery=Decimal("0.915"))
    assert set(Alert.objects.values_list("opened_at", "resolved_at")) == episodes
    assert len(episodes) > 1
    compared = replay(
        asset.feed,
        since=datetime.fromisoformat(BEGIN) - timedelta(hours=1),
        until=datetime.fromisoformat(END),
        progress=lambda done: None,
    )
    assert (compared.missing, compared.extra) == ([], [])
    assert compared.same >= len(episodes)
