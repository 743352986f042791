"""What a check finds wrong with feeds and assets, and what it leaves alone."""

from datetime import timedelta

import pytest

from apps.health.checks.feeds import feed_findings
from apps.health.domain import Code, Level, Subject
from apps.health.wording import describe
from apps.market.models import Asset, Feed, FeedEntry, FeedHead, LatestQuote
from apps.sources import services as sources
from apps.sources.models import FeedSource, Listing, RefusedListing, SenderClock
from tests.builders import START, TRACE, append_quotes, at, make_feed

pytestmark = pytest.mark.django_db


def found(second):
    """Return (subject, id, code, level) of what is wrong at so many seconds after START."""
    return {(one.subject, one.subject_id, one.code, one.level) for one in feed_findings(now=at(second))}


def wrong(feed, code, level=Level.STOPPED):
    return {(Subject.FEED, feed.pk, code, level)}


def finding(second):
    (one,) = feed_findings(now=at(second))
    return one


def fail(feed, *, second, reason="timeout"):
    """Let every provider of a feed fail in the slot that is due."""
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=FeedHead.objects.get(feed=feed).next_slot)
    columns = {"retry_after_seconds": None, "now": at(second), "trace_id": TRACE}
    sources.record_failure(lease=lease, failure=reason, **columns)
    FeedEntry.objects.update(evaluated_at=at(second))


@pytest.fixture
def live():
    """Return a live feed of 10 s with a price at START that is evaluated."""
    feed = make_feed("BTC-USD", interval_seconds=10, provider="kraken", is_live=True)
    append_quotes(feed, [("BTC-USD", START, "10")], provider="kraken")
    FeedEntry.objects.update(evaluated_at=START)
    return feed


def test_nothing_is_wrong_with_a_feed_that_answers(live):
    assert found(40) == set()


def test_a_paused_feed_has_stopped_and_nothing_else_is_said_of_it(live):
    Feed.objects.update(is_enabled=False)
    assert found(4_000) == wrong(live, Code.PAUSED)


def test_a_feed_without_a_source_or_without_an_asset_gives_nothing():
    empty, mute = make_feed(name="empty"), make_feed("ETH-USD", name="mute")
    mute.sources.all().delete()
    assert found(0) == wrong(empty, Code.NO_FEED_ASSET) | wrong(mute, Code.NO_SOURCE)
    # Its rounds fail.
    FeedHead.objects.filter(feed=mute).update(failures=1)
    assert found(0) == wrong(empty, Code.NO_FEED_ASSET) | wrong(mute, Code.NO_SOURCE)


def test_a_missing_key_stops_a_feed_that_has_no_other_source(live, monkeypatch):
    monkeypatch.delenv("COINCAP_API_KEY", raising=False)
    live.sources.update(provider="coincap")
    assert found(5) == wrong(live, Code.NO_KEY)
    assert finding(5).facts == {"provider": "coincap", "variable": "COINCAP_API_KEY"}
    FeedSource.objects.create(feed=live, position=2, provider="kraken")
    assert found(5) == wrong(live, Code.NO_KEY, Level.DEGRADED)
    monkeypatch.setenv("COINCAP_API_KEY", "a key")
    assert found(5) == set()


def test_a_feed_that_fails_is_degraded_and_has_stopped_after_three_intervals_and_a_minute(live):
    fail(live, second=10)
    assert found(11) == wrong(live, Code.FAILING, Level.DEGRADED)
    one = finding(60)
    assert (one.level, one.since, one.facts) == (
        Level.DEGRADED,
        START,
        {"reason": "timeout", "hint": "no answer within 10 s"},
    )
    assert found(61) == wrong(live, Code.FAILING)


def test_a_slow_feed_that_fails_has_stopped_after_three_of_its_intervals():
    feed = make_feed("BTC-USD", interval_seconds=100, provider="kraken", is_live=True)
    append_quotes(feed, [("BTC-USD", START, "10")], provider="kraken")
    FeedEntry.objects.update(evaluated_at=START)
    fail(feed, second=100)
    assert found(300) == wrong(feed, Code.FAILING, Level.DEGRADED)
    assert found(301) == wrong(feed, Code.FAILING)


def test_a_feed_says_itself_after_how_long_it_is_silent(live):
    btc = Asset.objects.get()
    silent = {(Subject.ASSET, btc.pk, Code.SILENT, Level.STOPPED)}
    FeedHead.objects.update(next_slot=at(300))
    Feed.objects.update(interval_seconds=20, silent_after_seconds=20)
    FeedHead.objects.update(next_slot=at(30))
    assert (found(20), found(21)) == (set(), silent)
    Feed.objects.update(interval_seconds=100, silent_after_seconds=150)
    FeedHead.objects.update(next_slot=at(200))
    assert (found(150), found(151)) == (set(), silent)
    fail(live, second=200)
    assert found(150) == wrong(live, Code.FAILING, Level.DEGRADED)
    assert found(151) == wrong(live, Code.FAILING)


def test_the_patience_of_a_paused_feed_is_not_that_of_others(live):
    paused = make_feed(name="paused", is_enabled=False, silent_after_seconds=3_600)
    FeedHead.objects.update(next_slot=at(70))
    silent = {(Subject.ASSET, Asset.objects.get().pk, Code.SILENT, Level.STOPPED)}
    assert found(61) == silent | wrong(paused, Code.PAUSED)


def test_a_feed_of_prices_by_the_day_may_be_given_a_shorter_patience(live):
    live.sources.update(provider="frankfurter")
    FeedHead.objects.update(next_slot=at(3 * 86_400))
    Feed.objects.update(interval_seconds=86_400, silent_after_seconds=2 * 86_400)
    assert found(2 * 86_400) == set()
    assert [one.code for one in feed_findings(now=at(2 * 86_400 + 1))] == [Code.SILENT]


def ban(source, *, second, seconds):
    """Let a provider say that it takes no calls for so long."""
    columns = {"is_refusal": False, "retry_after_seconds": seconds, "now": at(second)}
    sources.note_failure(source=source, reason="rate_limited", **columns)


def test_a_feed_whose_providers_all_ban_says_so_and_until_when(live):
    ban(live.sources.get(), second=10, seconds=3_600)
    assert found(10) == wrong(live, Code.BANNED, Level.DEGRADED)
    fail(live, second=10, reason="rate_limited")
    assert found(60) == wrong(live, Code.BANNED, Level.DEGRADED)
    assert found(61) == wrong(live, Code.BANNED)
    one = finding(61)
    assert (one.since, one.facts) == (START, {"provider": "kraken", "until": "2026-03-02T13:00:10+00:00"})
    assert describe(one.code, since=one.since, facts=one.facts).clause == (
        "kraken takes no calls from here until 2026-03-02 13:00:10 UTC, since it was asked too often"
    )
    assert found(3_610) == wrong(live, Code.FAILING)


def test_a_feed_of_which_one_provider_bans_is_degraded_and_its_assets_are_looked_at(live):
    FeedSource.objects.create(feed=live, position=2, provider="coinbase")
    ban(live.sources.get(provider="kraken"), second=1, seconds=3_600)
    assert found(2) == wrong(live, Code.BANNED, Level.DEGRADED)
    FeedHead.objects.update(next_slot=at(70))
    silent = {(Subject.ASSET, Asset.objects.get().pk, Code.SILENT, Level.STOPPED)}
    assert found(61) == wrong(live, Code.BANNED, Level.DEGRADED) | silent
    fail(live, second=70)
    assert found(71) == wrong(live, Code.FAILING)


def test_a_provider_that_is_left_alone_after_failures_has_not_banned(live):
    for second in range(5):
        columns = {"is_refusal": False, "retry_after_seconds": None, "now": at(second)}
        sources.note_failure(source=live.sources.get(), reason="timeout", **columns)
    fail(live, second=10, reason="circuit_open")
    assert found(11) == wrong(live, Code.FAILING, Level.DEGRADED)


def test_a_source_without_its_key_does_not_hide_that_nobody_fetches(live, monkeypatch):
    monkeypatch.delenv("COINCAP_API_KEY", raising=False)
    FeedSource.objects.create(feed=live, position=2, provider="coincap")
    assert found(41) == wrong(live, Code.NO_KEY, Level.DEGRADED) | wrong(live, Code.NOT_FETCHED)


def test_a_feed_that_nobody_fetches_has_stopped(live):
    assert found(41) == wrong(live, Code.NOT_FETCHED)
    assert finding(41).since == at(10)


def test_a_feed_that_is_due_far_ahead_has_stopped(live):
    FeedHead.objects.update(next_slot=at(3_600))
    assert found(1) == wrong(live, Code.DUE_TOO_LATE)


def test_a_feed_that_its_providers_limits_slow_down_is_well(monkeypatch, live):
    live.sources.update(provider="alphavantage", options={})
    monkeypatch.setenv("ALPHAVANTAGE_API_KEY", "a key")
    # 25 calls a day: a round each 58 minutes.
    FeedHead.objects.update(next_slot=at(3_456))
    assert found(60) == set()


def test_prices_that_nobody_evaluates_stop_a_feed(live):
    append_quotes(live, [("BTC-USD", at(10), "11")], provider="kraken")
    FeedHead.objects.update(next_slot=at(60))
    assert found(40) == set()
    assert found(41) == wrong(live, Code.NOT_EVALUATED)
    assert finding(41).since == at(10)


def test_a_recording_that_has_ended_is_well():
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", START, "10")])
    FeedEntry.objects.update(evaluated_at=START)
    FeedHead.objects.update(next_slot=at(100_000))
    assert found(99_999) == set()


def test_a_push_feed_is_silent_only_where_it_says_how_often_it_expects_a_push():
    feed = make_feed("BTC-USD", provider="push", is_live=True, interval_seconds=10)
    FeedHead.objects.update(began_at=START, next_slot=at(300))
    Feed.objects.update(created_at=START)
    assert found(301) == set()
    feed.sources.update(options={"expect_every": "5m"})
    assert found(300) == set()
    assert found(301) == wrong(feed, Code.NOTHING_PUSHED)
    assert finding(301).facts == {"expect_every": 300}


def test_a_sender_whose_clock_is_ahead_degrades_its_feed_for_an_hour(live):
    clock = SenderClock.objects.create(feed=live, sender="token:1", skew_seconds=4, ahead_at=at(0))
    SenderClock.objects.create(feed=live, sender="token:2", skew_seconds=3, ahead_at=at(0))
    assert found(1) == set()
    SenderClock.objects.filter(pk=clock.pk).update(skew_seconds=30)
    assert found(1) == wrong(live, Code.SENDER_AHEAD, Level.DEGRADED)
    assert finding(1).facts == {"seconds": 30, "is_refused": False}
    SenderClock.objects.filter(pk=clock.pk).update(refused_seconds=3_600, refused_at=at(1))
    assert finding(2).facts == {"seconds": 3_600, "is_refused": True}
    FeedHead.objects.update(next_slot=at(3_601))
    LatestQuote.objects.update(at=at(3_590))
    Feed.objects.update(interval_seconds=1_000)
    assert found(3_601) == set()


def test_an_asset_without_a_price_while_its_feed_is_answered_has_stopped(live):
    never = Asset.objects.create(symbol="ETH-USD", feed=live)
    FeedHead.objects.update(next_slot=at(4_000))
    Feed.objects.update(interval_seconds=4_000)
    assert found(60) == set()
    Feed.objects.update(interval_seconds=10)
    FeedHead.objects.update(next_slot=at(70))
    silent = Asset.objects.get(symbol="BTC-USD")
    assert found(60) == set()
    assert found(61) == {
        (Subject.ASSET, never.pk, Code.NO_PRICE, Level.STOPPED),
        (Subject.ASSET, silent.pk, Code.SILENT, Level.STOPPED),
    }


def test_an_asset_says_that_its_name_is_refused_or_in_another_currency(live):
    btc = Asset.objects.get()
    FeedHead.objects.update(next_slot=at(70))
    columns = {"provider": "kraken", "external_id": "BTC-USD", "reason": "unknown_symbol"}
    refused = RefusedListing.objects.create(asset=btc, since=at(1), next_ask_at=at(601), **columns)
    assert found(61) == {(Subject.ASSET, btc.pk, Code.REFUSED, Level.STOPPED)}
    assert finding(61).since == at(1)
    refused.delete()
    Asset.objects.update(currency="EUR")
    Listing.objects.create(asset=btc, provider="kraken", external_id="XBTUSD")
    live.sources.update(provider="coinbase")
    Listing.objects.update(provider="coinbase", external_id="BTC-USD")
    assert found(61) == {(Subject.ASSET, btc.pk, Code.NO_LISTING, Level.STOPPED)}


def test_an_asset_is_not_silent_while_its_exchange_is_closed(live):
    # Monday 2026-03-02 12:00 in UTC: New York opens at 14:30.
    Asset.objects.update(calendar="XNYS")
    LatestQuote.objects.update(at=START - timedelta(days=2, hours=15))
    opens = 2.5 * 3_600
    FeedHead.objects.update(next_slot=at(opens + 40))
    assert found(opens) == set()
    assert found(opens + 60) == set()
    assert [one.code for one in feed_findings(now=at(opens + 61))] == [Code.SILENT]


def test_an_asset_is_not_silent_in_its_first_interval_after_an_opening(live):
    Asset.objects.update(calendar="XNYS")
    # New York closed on Friday at 21:00, 63 h before START, and opens at 14:30.
    closed, opens = -63 * 3_600, 2.5 * 3_600
    Feed.objects.update(interval_seconds=100)
    FeedHead.objects.update(next_slot=at(opens + 100))
    LatestQuote.objects.update(at=at(closed - 290))
    assert found(opens - 1) == found(opens + 11) == found(opens + 100) == set()
    assert [one.code for one in feed_findings(now=at(opens + 101))] == [Code.SILENT]
    Feed.objects.update(interval_seconds=10)
    FeedHead.objects.update(next_slot=at(opens + 40))
    LatestQuote.objects.update(at=at(closed - 59))
    assert found(opens + 2) == found(opens + 60) == set()
    assert [one.code for one in feed_findings(now=at(opens + 61))] == [Code.SILENT]


def test_an_asset_that_was_silent_at_the_close_is_so_at_the_opening(live):
    Asset.objects.update(calendar="XNYS")
    closed, opens = -63 * 3_600, 2.5 * 3_600
    LatestQuote.objects.update(at=at(closed - 61))
    FeedHead.objects.update(next_slot=at(opens))
    for second in (closed + 10, 0, opens - 1, opens + 1):
        FeedHead.objects.update(next_slot=at(second))
        assert [one.code for one in feed_findings(now=at(second))] == [Code.SILENT]


def test_prices_of_which_only_the_day_is_known_may_be_days_apart(live):
    live.sources.update(provider="frankfurter")
    FeedHead.objects.update(next_slot=at(5 * 86_400))
    Feed.objects.update(interval_seconds=86_400)
    assert found(5 * 86_400) == set()
    assert [one.code for one in feed_findings(now=at(5 * 86_400 + 1))] == [Code.SILENT]


def test_an_asset_in_no_feed_gets_no_price():
    asset = Asset.objects.create(symbol="GOLD")
    assert found(0) == {(Subject.ASSET, asset.pk, Code.NO_FEED, Level.STOPPED)}


def test_the_statements_do_not_grow_with_feeds_and_assets(django_assert_max_num_queries, django_assert_num_queries):
    def make(name):
        feed = make_feed(f"{name}-A", f"{name}-B", name=name.lower(), provider="kraken", is_live=True)
        append_quotes(feed, [(f"{name}-A", START, "10")], provider="kraken")
        Feed.objects.update(interval_seconds=10)
        FeedHead.objects.update(next_slot=at(60))

    make("ONE")
    with django_assert_max_num_queries(30) as few:
        feed_findings(now=at(59))
    for number in range(5):
        make(f"MORE{number}")
    with django_assert_num_queries(len(few)):
        feed_findings(now=at(59))
