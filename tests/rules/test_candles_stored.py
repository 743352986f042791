"""New windows filled from what is stored: from candles where the quotes are kept no more."""

import random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.alerts.models import Alert
from apps.alerts.replay import ReplayRefused, replay
from apps.market import partitions
from apps.market import queries as market
from apps.market.domain import PathCandle, RawQuote
from apps.market.models import Candle, FeedHead, Quote
from apps.market.queries import past
from apps.market.services import roll_up
from apps.notation import SECOND
from apps.pipeline.flow import evaluate_pending
from apps.rules import queries
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.windows import COARSE, filled, needs_of, reach_of
from apps.sources.services import import_history
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.rules.test_candles import seen

pytestmark = pytest.mark.django_db
HOUR, DAY = 3_600, 86_400
KEYS = [
    (name, hours * HOUR * SECOND)
    for name in ("lowest", "highest", "path", "spread")
    for hours in (1, 5, 30, 60, 100, 24 * 60, 24 * 70)
]


def rolled_up(feed):
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass


@pytest.fixture
def feed():
    """Return a feed with quotes of 80 days, rolled up: some hours apart, the last three days minutes apart."""
    chance = random.Random(1)
    feed = make_feed("BTC", jump_percent=0)
    seconds = -80.0 * DAY
    past = []
    while seconds < 0:
        past.append(RawQuote("BTC", str(chance.randint(5, 15)), at(seconds)))
        # Some on grid points.
        step = chance.choice([10, 50, 600]) if seconds > -3 * DAY else chance.choice([30, 3_600, 20_000, 50_000])
        seconds += step if chance.random() < 0.5 else step - seconds % step
    append_quotes(feed, [("BTC", START, "10")])
    imported = import_history(feed_id=feed.pk, quotes=past, now=START, trace_id=TRACE)
    assert imported.accepted == len(past) > 1_000
    append_quotes(feed, [], as_of=at(60))
    rolled_up(feed)
    return feed


def windows(feed, key):
    """Return the window for this key as it is filled now, and what it was filled from."""
    asset_id = asset_ids(feed)["BTC"]
    history = queries.history_of(feed_id=feed.pk, seq=FeedHead.objects.get(feed=feed).seq)
    # As those of a rule with several windows: the longest decides what is read.
    past = list(history({asset_id: KEYS})[asset_id])
    return filled(key, past), past


def drop_before(moment):
    """Forget the quotes of the days before this one."""
    partitions.drop([day for day in partitions.days() if day < moment.date()])


@pytest.mark.parametrize("days_kept", [0, 1, 2, 30])
def test_new_windows_are_the_same_when_their_quotes_are_gone(feed, days_kept, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(past, "grouped_paths", lambda *_, **__: {})
        known, quotes = zip(*(windows(feed, key) for key in KEYS), strict=True)
    drop_before(at(-days_kept * DAY))
    rebuilt, pasts = zip(*(windows(feed, key) for key in KEYS), strict=True)

    assert any(isinstance(one, PathCandle) for one in pasts[0])
    assert len(pasts[0]) < len(quotes[0])
    assert [seen(one) for one in rebuilt] == [seen(one) for one in known]
    now = known[0].at
    for step in (1, 60, 3_600, 40 * HOUR, 70 * DAY):
        now += step * SECOND
        for window in (*known, *rebuilt):
            window.push(now, 11)
        assert [seen(one) for one in rebuilt] == [seen(one) for one in known]


def test_a_day_made_again_for_quotes_of_the_past_does_not_stand_for_what_was_lost(feed):
    key = ("path", 60 * DAY * SECOND)
    known, _ = windows(feed, key)
    drop_before(START)
    import_history(feed_id=feed.pk, quotes=[RawQuote("BTC", "99", at(-20 * DAY + 1))], now=at(60), trace_id=TRACE)
    rebuilt, _ = windows(feed, key)
    # The quote is in no candle yet, and its day's others are in theirs.
    assert seen(rebuilt) == seen(known)


def test_where_minutes_are_gone_too_a_window_of_a_day_grows_from_there_and_one_of_a_week_is_whole(feed):
    week, day = ("path", 100 * HOUR * SECOND), ("path", 30 * HOUR * SECOND)
    known, _ = windows(feed, week)
    drop_before(START)
    Candle.objects.filter(resolution=Candle.Resolution.MINUTE, at__lt=START.replace(hour=0)).delete()
    assert seen(windows(feed, week)[0]) == seen(known)
    rebuilt = windows(feed, day)[0]
    assert rebuilt.duration < 13 * HOUR * SECOND


def test_a_rule_of_a_long_window_can_be_evaluated_at_once_though_the_quotes_are_gone(feed):
    drop_before(START)
    condition = {"kind": "below_average", "percent": "50", "window": "70d", "min_coverage": "1"}
    spec = RuleSpec.read({"assets": ["BTC"], "condition": condition})
    (outlook,) = queries.first_evaluated(spec).assets
    assert outlook.outlook.summary == "can be evaluated now"

    make_rule(make_owner(), assets=["BTC"], condition=condition)
    append_quotes(feed, [("BTC", at(120), "1")])
    evaluate_pending(feed_id=feed.pk)

    assert [alert.opened_at for alert in Alert.objects.all()] == [at(120)]
    with pytest.raises(ReplayRefused, match="those quotes are no longer stored"):
        replay(feed, since=at(61), until=at(1_000), progress=lambda done: None)


def test_an_asset_without_any_quote_left_is_known_from_its_candles(feed):
    key = ("highest", 100 * HOUR * SECOND)
    known, _ = windows(feed, key)
    append_quotes(feed, [], as_of=at(DAY))
    rolled_up(feed)
    drop_before(at(DAY))
    assert not Quote.objects.exists()
    rebuilt, _ = windows(feed, key)
    assert seen(rebuilt) == seen(known)


def test_for_however_many_assets_three_statements_say_who_has_quotes_and_who_needs_candles_and_one_who_has_factors(
    django_assert_num_queries, monkeypatch
):
    monkeypatch.setattr(past, "grouped_paths", lambda *_, **__: {})
    for count in (2, 5):
        feed = make_feed(*(f"A{count}-{one}" for one in range(count)), name=f"feed-{count}")
        append_quotes(feed, [(symbol, at(0), "10") for symbol in asset_ids(feed)])
        reach = dict.fromkeys(asset_ids(feed).values(), reach_of(KEYS))
        with CaptureQueriesContext(connection) as quoted:
            market.quoted_path(reach, feed_id=feed.pk, up_to_seq=1)
        with django_assert_num_queries(len(quoted) + 4):
            needs = dict.fromkeys(reach, needs_of(KEYS))
            market.stored_path(needs, with_sums=True, feed_id=feed.pk, up_to_seq=1, coarse=COARSE)
