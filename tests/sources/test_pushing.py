"""Quotes that are pushed go through the same admission and placement as those of any provider."""

from datetime import timedelta
from decimal import Decimal

import pytest

from apps.alerts.models import Alert
from apps.market import services as market
from apps.market.domain import RawQuote
from apps.market.models import EvaluationCursor, Feed, FeedEntry, FeedHead, LatestQuote, Quote
from apps.market.queries import latest_prices
from apps.pipeline import flow
from apps.sources import services as sources
from apps.sources.models import FeedSource, Listing
from apps.sources.services import Pushed, PushRefused, record_pushed
from tests.builders import TRACE, above, asset_ids, at, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db


@pytest.fixture
def feed():
    return make_feed("A", "B", provider="push")


def push(*quotes, now, name="feed", sender="token:1"):
    """Push (symbol, at, price) at once."""
    raws = [RawQuote(symbol, price, moment) for symbol, moment, price in quotes]
    return record_pushed(feed_name=name, pushes=[Pushed(now, raws, sender)], now=now, trace_id=TRACE)


def stored():
    rows = Quote.objects.values_list("asset__symbol", "at", "price")
    return {(symbol, moment, f"{price.normalize():f}") for symbol, moment, price in rows}


def test_one_entry_has_them_all_and_belongs_to_no_slot(feed):
    entry = push(("A", at(1), "10"), ("B", at(2), "20"), now=at(3))

    assert entry == FeedEntry.objects.get()
    assert (entry.seq, entry.kind, entry.slot, entry.provider, entry.accepted) == (1, "quotes", None, "push", 2)
    assert (entry.as_of, entry.received_at, entry.trace_id, entry.evaluated_at) == (at(3), at(3), TRACE, None)
    assert stored() == {("A", at(1), "10"), ("B", at(2), "20")}
    ids = asset_ids(feed)
    assert dict(LatestQuote.objects.values_list("asset", "provider")) == {ids["A"]: "push", ids["B"]: "push"}
    assert latest_prices([ids["A"]], now=at(3)) == {ids["A"]: (at(1), Decimal(10))}


def test_the_feeds_schedule_is_left_alone(feed):
    FeedHead.objects.update(failures=2, fence=7, lease_until=at(30), redispatch_at=at(10))
    before = FeedHead.objects.values("next_slot", "failures", "fence", "lease_until", "redispatch_at", "turn").get()

    push(("A", at(1), "10"), now=at(3))

    assert FeedHead.objects.values(*before).get() == before
    assert FeedHead.objects.values_list("seq", "as_of").get() == (1, at(3))


def test_a_fetch_and_a_push_stand_in_one_log(feed):
    push(("A", at(1), "10"), now=at(1))
    sources.fetch(feed_id=feed.pk, slot=at(2), now=at(2), trace_id=TRACE)
    push(("A", at(3), "11"), now=at(3))

    assert list(FeedEntry.objects.order_by("seq").values_list("seq", "slot")) == [(1, None), (2, at(2)), (3, None)]


def test_what_is_pushed_again_adds_no_quote_and_is_counted(feed):
    quotes = [("A", at(1), "10"), ("B", at(1), "20")]
    push(*quotes, now=at(2))
    again = push(*quotes, now=at(4))

    assert (again.accepted, again.late, again.repeated, again.rejected) == (0, 0, 2, {})
    assert stored() == set(quotes)


def test_what_is_not_believed_is_counted_and_costs_no_other(feed):
    entry = push(
        ("A", at(1), "10"),
        ("NOBODY", at(1), "1"),
        ("A", at(2), "0"),
        ("A", at(2), "-1"),
        ("A", at(3), Decimal("1E999999")),
        ("A", at(100), "10"),
        ("A", "2026-03-02T12:00:00", "10"),
        ("A", "yesterday", "10"),
        now=at(5),
    )

    assert (entry.accepted, entry.rejected) == (
        1,
        {"unknown_asset": 1, "out_of_range": 3, "time_in_future": 1, "time_naive": 1, "time_malformed": 1},
    )
    assert stored() == {("A", at(1), "10")}


def test_an_older_quote_is_late(feed):
    push(("A", at(5), "10"), now=at(5))
    entry = push(("A", at(4), "9"), now=at(6))

    assert (entry.accepted, entry.late) == (0, 1)


def test_a_price_that_jumps_waits_for_the_next(feed):
    push(("A", at(1), "10"), now=at(1))
    assert push(("A", at(2), "100"), now=at(2)).unconfirmed == 1
    # The same message again confirms nothing.
    assert push(("A", at(2), "100"), now=at(2)).repeated == 1
    assert push(("A", at(3), "101"), now=at(3)).accepted == 2
    assert {price for _, _, price in stored()} == {"10", "100", "101"}


def test_a_quote_without_a_time_gets_that_of_its_receipt(feed):
    pushes = [Pushed(at(1), [RawQuote("A", "10")], "token:1"), Pushed(at(2), [RawQuote("A", "11")], "token:1")]
    record_pushed(feed_name="feed", pushes=pushes, now=at(3), trace_id=TRACE)

    assert stored() == {("A", at(1), "10"), ("A", at(2), "11")}


def test_where_the_time_of_receipt_is_taken_each_push_has_its_own(feed):
    Feed.objects.update(time_policy="receipt")
    quotes = [(at(1), RawQuote("A", "10", at(50))), (at(2), RawQuote("A", "11", at(-60)))]
    pushes = [Pushed(received_at, [quote], "token:1") for received_at, quote in quotes]
    record_pushed(feed_name="feed", pushes=pushes, now=at(3), trace_id=TRACE)

    assert stored() == {("A", at(1), "10"), ("A", at(2), "11")}


def test_assets_go_by_their_listings_for_push(feed):
    Listing.objects.create(asset=feed.assets.get(symbol="A"), provider="push", external_id="own/a")
    entry = push(("own/a", at(1), "10"), ("A", at(1), "11"), ("B", at(1), "12"), now=at(1))

    assert stored() == {("A", at(1), "10"), ("B", at(1), "12")}
    assert entry.rejected == {"unknown_asset": 1}


def test_the_clock_does_not_go_back(feed):
    push(("A", at(10), "10"), now=at(10))
    entry = push(("A", at(5), "11"), now=at(5))

    assert (entry.as_of, entry.received_at) == (at(10), at(5))


@pytest.mark.parametrize("name", ["other", "", "feed\0", "\ud800", "FEED", "x" * 1_000, "paused", "recording"])
def test_only_a_running_feed_with_the_source_push_is_pushed_to(feed, name):
    make_feed("X", name="other", provider="coinbase")
    make_feed("Y", name="paused", provider="push")
    market.pause_feeds(Feed.objects.filter(name="paused").values_list("pk", flat=True))
    recording = make_feed("Z", name="recording", provider="simulated")
    # The clock of a recording is not this machine's.
    FeedSource.objects.create(feed=recording, position=2, provider="push")

    with pytest.raises(PushRefused, match="^there is no feed of this name that takes quotes now$"):
        push(("X", at(1), "1"), ("Y", at(1), "1"), ("Z", at(1), "1"), now=at(1), name=name)
    assert not FeedEntry.objects.exists()
    assert not FeedHead.objects.exclude(seq=0, as_of=None).exists()


# The analyzer is sent for


def test_what_was_pushed_sends_for_the_evaluate_once(feed):
    other = make_feed("X", name="other", provider="push")
    push(("A", at(1), "10"), now=at(1))

    assert market.claim_feeds_pushed_to(now=at(2)) == [feed.pk]
    assert market.claim_feeds_pushed_to(now=at(3)) == []
    # A message may be lost.
    assert market.claim_feeds_pushed_to(now=at(2) + timedelta(seconds=31)) == [feed.pk]
    assert EvaluationCursor.objects.get(feed=other).redispatch_at is None


def test_who_pushes_each_second_has_the_evaluate_each_second(feed):
    for second in (1, 2, 3):
        push(("A", at(second), "10"), now=at(second))
        assert market.claim_feeds_pushed_to(now=at(second)) == [feed.pk]
        flow.evaluate_pending(feed_id=feed.pk)
        assert market.claim_feeds_pushed_to(now=at(second)) == []


def test_an_entry_of_a_slot_is_its_chains_matter(feed):
    sources.fetch(feed_id=feed.pk, slot=at(2), now=at(2), trace_id=TRACE)

    assert market.claim_feeds_pushed_to(now=at(3)) == []


def test_a_pushed_quote_opens_an_alert(feed):
    make_rule(make_owner(), assets=["A"], condition=above(100))
    push(("A", at(1), "101"), now=at(2))
    flow.evaluate_pending(feed_id=feed.pk)

    assert [alert.opened_at for alert in Alert.objects.all()] == [at(1)]
