"""Leases, answers and failures: what becomes of a fetch."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError

from apps.market import cache, queries, services
from apps.market.models import FeedEntry, FeedHead, LatestQuote, Quote
from apps.sources import services as sources
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable
from apps.sources.providers.registry import PROVIDERS
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed
from tests.market.rows import fetch, head_of, log_of, newest_prices, record, stored_quotes
from tests.sources.scripted import Scripted, answer_with
from tests.threads import at_once

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def recording(monkeypatch):
    """Return a recording under the name `recording`."""
    provider = Scripted(is_live=False, slug="recording")
    monkeypatch.setitem(PROVIDERS, "recording", provider)
    return provider


# Leases


def test_a_slot_is_fetched_by_one_at_a_time():
    feed = make_feed()
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    assert (lease.feed, lease.slot, lease.fence) == (feed, START, 1)
    assert sources.take_fetch_lease(feed_id=feed.pk, slot=START) is None


def test_an_answered_slot_and_those_before_it_have_no_lease():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    assert sources.take_fetch_lease(feed_id=feed.pk, slot=START) is None
    assert sources.take_fetch_lease(feed_id=feed.pk, slot=at(-1)) is None
    assert sources.take_fetch_lease(feed_id=feed.pk, slot=at(1)).fence == 2


def test_a_feed_that_was_paused_after_its_wake_up_was_sent_has_no_lease():
    feed = make_feed()
    services.pause_feeds([feed.pk])
    assert sources.take_fetch_lease(feed_id=feed.pk, slot=START) is None
    services.resume_feeds([feed.pk])
    assert sources.take_fetch_lease(feed_id=feed.pk, slot=START).fence == 1


def test_a_lease_that_has_run_out_passes_to_the_next_with_a_higher_fence():
    feed = make_feed()
    sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    FeedHead.objects.update(lease_until=LONG_AGO)
    assert sources.take_fetch_lease(feed_id=feed.pk, slot=START).fence == 2


def test_who_lost_the_lease_writes_no_answer():
    feed = make_feed("BTC")
    lost = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    FeedHead.objects.update(lease_until=LONG_AGO)
    kept = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    head = FeedHead.objects.values().get()
    assert record(lost, ("BTC", START, "11")) is None
    assert FeedHead.objects.values().get() == head
    assert (FeedEntry.objects.count(), Quote.objects.count(), LatestQuote.objects.count()) == (0, 0, 0)
    assert record(kept, ("BTC", START, "10")).seq == 1
    assert record(lost, ("BTC", START, "11")) is None
    assert stored_quotes() == [("BTC", START, "10")]


def test_who_lost_the_lease_writes_no_failure():
    feed = make_feed()
    lost = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    FeedHead.objects.update(lease_until=LONG_AGO)
    sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    head = FeedHead.objects.values().get()
    failed = sources.record_failure(lease=lost, failure="timeout", retry_after_seconds=None, now=START, trace_id=TRACE)
    assert failed is None
    assert FeedHead.objects.values().get() == head
    assert FeedEntry.objects.count() == 0


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_fetches_of_one_slot_at_once_one_gets_the_lease():
    feed = make_feed()
    leases = at_once(*[lambda: sources.take_fetch_lease(feed_id=feed.pk, slot=START)] * 4)
    assert sorted(lease.fence for lease in leases if lease) == [1]
    assert head_of(feed).fence == 1


# Answers


def test_an_answer_recorded_twice_for_one_slot_is_stored_once():
    feed = make_feed("BTC")
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    record(lease, ("BTC", START, "10"))
    head = FeedHead.objects.values().get()
    with pytest.raises(IntegrityError):
        record(lease, ("BTC", at(1), "11"), as_of=at(1))
    assert log_of(feed) == [(1, "quotes")]
    assert stored_quotes() == [("BTC", START, "10")]
    assert FeedHead.objects.values().get() == head


def test_a_fetch_that_runs_twice_stores_once(scripted):
    feed = make_feed("BTC", provider="scripted")
    scripted.gives = [answer_with(("BTC", START, "10"), as_of=START)]
    assert fetch(feed).accepted == 1
    assert fetch(feed) is None
    assert (len(scripted.asked), log_of(feed)) == (1, [(1, "quotes")])


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_fetch_that_runs_twice_at_once_stores_once():
    feed = make_feed("BTC", "ETH")
    entries = at_once(*[lambda: fetch(feed)] * 4)
    assert [entry.seq for entry in entries if entry] == [1]
    assert log_of(feed) == [(1, "quotes")]
    assert stored_quotes() == [("BTC", START, "100"), ("ETH", START, "100")]


def test_an_answer_is_one_entry_with_its_counts_and_the_head_goes_on():
    feed = make_feed("BTC", "ETH", interval_seconds=10)
    entry = append_quotes(
        feed,
        [("BTC", at(1), "10"), ("BTC", at(2), "11"), ("ETH", at(1.5), "2"), ("ETH", at(1), "0"), ("DOGE", at(1), "1")],
        as_of=at(3),
    )
    entry.refresh_from_db()
    assert (entry.seq, entry.kind, entry.slot, entry.as_of, entry.received_at) == (1, "quotes", START, at(3), at(3))
    assert (entry.accepted, entry.late, entry.failure, entry.missed_slots) == (3, 0, "", 0)
    assert entry.rejected == {"out_of_range": 1, "unknown_asset": 1}
    assert (entry.first_at, entry.last_at) == (at(1), at(2))
    assert (entry.provider, entry.trace_id, entry.evaluated_at) == ("simulated", TRACE, None)
    assert stored_quotes() == [("BTC", at(1), "10"), ("ETH", at(1.5), "2"), ("BTC", at(2), "11")]
    assert newest_prices() == [("BTC", at(2), "11"), ("ETH", at(1.5), "2")]
    head = head_of(feed)
    assert (head.seq, head.as_of, head.began_at, head.next_slot) == (1, at(3), START, at(10))
    assert (head.lease_until, head.redispatch_at) == (None, None)


def test_an_answer_stands_in_the_cache_once_it_is_stored():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10"), ("BTC", at(1), "11")])
    btc = asset_ids(feed)["BTC"]
    assert cache.get_latest([btc], now=at(1)) == {btc: (at(1), Decimal(11))}


def test_an_empty_answer_is_an_entry_too():
    feed = make_feed("BTC")
    entry = append_quotes(feed, [], as_of=at(5))
    assert (entry.seq, entry.accepted, entry.first_at, entry.last_at) == (1, 0, None, None)
    assert (head_of(feed).as_of, head_of(feed).next_slot) == (at(5), at(1))


def test_a_quote_without_a_time_has_the_time_of_its_slot():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", None, "10")], as_of=at(0.25))
    assert stored_quotes() == [("BTC", START, "10")]


def test_a_quote_ahead_of_the_feeds_clock_is_cut_to_it_and_far_ahead_is_rejected():
    feed = make_feed("BTC", "ETH")
    entry = append_quotes(feed, [("BTC", at(60), "10"), ("ETH", at(60.001), "10")], as_of=START)
    assert entry.rejected == {"time_in_future": 1}
    assert stored_quotes() == [("BTC", START, "10")]


def test_a_late_quote_is_kept_and_not_evaluated_and_the_newest_stays():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", at(5), "10")])
    entry = append_quotes(feed, [("BTC", at(4), "9"), ("ETH", at(4), "2")], as_of=at(6))
    assert (entry.accepted, entry.late, entry.rejected) == (1, 1, {})
    assert (entry.first_at, entry.last_at) == (at(4), at(4))
    assert stored_quotes(late=True) == [("BTC", at(4), "9")]
    assert newest_prices() == [("BTC", at(5), "10"), ("ETH", at(4), "2")]
    assert [asset_id for asset_id, _, _ in queries.evaluated_quotes(entry)] == [asset_ids(feed)["ETH"]]
    assert cache.get_latest([asset_ids(feed)["BTC"]], now=at(6)) == {asset_ids(feed)["BTC"]: (at(5), Decimal(10))}


def test_an_entry_of_late_quotes_alone_has_their_bounds_and_nothing_to_evaluate():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(5), "10")])
    entry = append_quotes(feed, [("BTC", at(3), "9"), ("BTC", at(4), "8")], as_of=at(6))
    assert (entry.accepted, entry.late, entry.first_at, entry.last_at) == (0, 2, at(3), at(4))
    assert queries.evaluated_quotes(entry) == []
    assert newest_prices() == [("BTC", at(5), "10")]


def test_a_repeated_quote_is_counted_and_a_differing_one_is_a_conflict():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", at(1), "10"), ("ETH", at(1), "2"), ("BTC", at(2), "11")])
    entry = append_quotes(feed, [("BTC", at(1), "99"), ("ETH", at(1), "2.0")], as_of=at(3))
    assert (entry.accepted, entry.late, entry.repeated, entry.rejected) == (0, 0, 1, {"conflict": 1})
    assert stored_quotes() == [("BTC", at(1), "10"), ("ETH", at(1), "2"), ("BTC", at(2), "11")]
    assert newest_prices() == [("BTC", at(2), "11"), ("ETH", at(1), "2")]


def test_a_late_quote_given_again_is_repeated():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(5), "10")])
    append_quotes(feed, [("BTC", at(4), "9")], as_of=at(6))
    entry = append_quotes(feed, [("BTC", at(4), "9")], as_of=at(7))
    assert (entry.late, entry.repeated, entry.rejected) == (0, 1, {})


def test_a_quote_older_than_quotes_are_kept_is_rejected_as_too_old(settings):
    settings.QUOTE_RETENTION_DAYS = 2
    feed = make_feed("BTC", "ETH")
    kept, gone = START - timedelta(days=2), START - timedelta(days=2, microseconds=1)
    entry = append_quotes(feed, [("BTC", kept, "10"), ("ETH", gone, "2")], as_of=START)
    assert entry.rejected == {"too_old": 1}
    assert stored_quotes() == [("BTC", kept, "10")]


def test_the_logs_clock_does_not_go_back():
    feed = make_feed("BTC")
    append_quotes(feed, [], as_of=at(10))
    entry = append_quotes(feed, [], as_of=at(5))
    assert (entry.as_of, head_of(feed).as_of) == (at(10), at(10))


def test_slots_that_passed_without_a_fetch_are_counted(scripted):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [
        answer_with(as_of=START),
        answer_with(as_of=at(40)),
        ProviderUnavailable("timeout"),
        answer_with(as_of=at(90)),
    ]
    entries = [fetch(feed, slot=slot) for slot in (START, at(40), at(60), at(90))]
    assert [entry.missed_slots for entry in entries] == [0, 3, 1, 1]


def test_what_waited_in_the_queue_is_one_fetch_of_the_slot_that_is_now(scripted):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [answer_with(("BTC", None, "10"), as_of=at(125))]
    entries = [fetch(feed, slot=at(seconds), now=at(125)) for seconds in range(0, 130, 10)]
    assert [entry.slot for entry in entries if entry] == [at(120)]
    assert stored_quotes() == [("BTC", at(120), "10")]
    assert head_of(feed).next_slot == at(130)


def test_a_slot_that_has_just_passed_is_fetched_as_itself(scripted):
    feed = make_feed("BTC", interval_seconds=1, provider="scripted")
    scripted.gives = [answer_with(as_of=at(2))]
    assert (fetch(feed, now=at(2)).slot, head_of(feed).next_slot) == (START, at(1))


def test_slots_before_the_first_answer_are_not_missed():
    feed = make_feed()
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=at(500))
    assert record(lease, as_of=at(500)).missed_slots == 0


def test_a_provider_is_given_the_position_of_the_feed(scripted):
    feed = make_feed("ETH", "BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [answer_with(("BTC", at(1), "10"), as_of=at(2)), answer_with(as_of=at(12))]
    fetch(feed)
    fetch(feed, slot=at(10))
    first, second = scripted.asked
    assert (first.external_ids, first.slot, first.began_at, first.position) == (["BTC", "ETH"], START, START, None)
    assert (second.slot, second.began_at, second.position) == (at(10), START, at(2))
    assert (second.interval_seconds, second.options) == (10, {})
    assert dict(second.latest) == {"BTC": (at(1), Decimal(10))}


# Failures


@pytest.mark.parametrize("error", [ProviderUnavailable, ProviderRejected])
def test_a_failure_is_an_entry_with_its_reason(scripted, error):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [error("bad_payload")]
    entry = fetch(feed)
    entry.refresh_from_db()
    assert (entry.seq, entry.kind, entry.slot, entry.failure) == (1, "quotes", START, "bad_payload")
    assert (entry.accepted, entry.provider, entry.trace_id) == (0, "", TRACE)
    assert (Quote.objects.count(), LatestQuote.objects.count()) == (0, 0)
    head = head_of(feed)
    assert (head.failures, head.next_slot, head.began_at, head.lease_until) == (1, at(20), None, None)


def test_each_failure_in_a_row_doubles_the_wait_and_an_answer_ends_it(scripted):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [ProviderUnavailable("timeout")] * 3 + [answer_with(as_of=at(140))]
    due = []
    for _ in range(4):
        slot = head_of(feed).next_slot
        fetch(feed, slot=slot)
        due.append((head_of(feed).next_slot - slot, head_of(feed).failures))
    assert due == [(timedelta(seconds=seconds), failures) for seconds, failures in ((20, 1), (40, 2), (80, 3), (10, 0))]


def test_a_feed_waits_as_long_as_its_provider_asks(scripted):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [ProviderUnavailable("rate_limited", retry_after_seconds=120)]
    fetch(feed)
    assert sources.claim_due_feeds(now=at(119)) == []
    assert sources.claim_due_feeds(now=at(120)) == [(feed.pk, at(120))]


def test_a_live_feeds_clock_goes_on_while_its_provider_fails(scripted):
    feed = make_feed("BTC", provider="scripted")
    scripted.gives = [answer_with(as_of=START), ProviderUnavailable("timeout")]
    fetch(feed)
    entry = fetch(feed, slot=at(5), now=at(5.5))
    assert (entry.as_of, entry.received_at, head_of(feed).as_of) == (at(5.5), at(5.5), at(5.5))


def test_a_recordings_clock_stands_while_it_fails(recording):
    feed = make_feed("BTC", provider="recording")
    recording_time = datetime(2023, 3, 10, tzinfo=UTC)
    recording.gives = [answer_with(as_of=recording_time), ProviderUnavailable("outage")]
    fetch(feed)
    entry = fetch(feed, slot=at(5))
    assert (entry.as_of, entry.received_at, head_of(feed).as_of) == (recording_time, at(5), recording_time)


def test_a_feed_that_fails_leaves_the_others_alone(scripted):
    failing, sound = make_feed("BTC", name="failing", provider="scripted"), make_feed("ETH", name="sound")
    scripted.gives = [ProviderUnavailable("timeout")]
    before = FeedHead.objects.values().get(feed=sound)
    fetch(failing)
    assert FeedHead.objects.values().get(feed=sound) == before
    assert sources.claim_due_feeds(now=START) == [(sound.pk, START)]
    assert fetch(sound).accepted == 1


def test_the_first_healthy_provider_answers(scripted, recording):
    feed = sources.create_feed(
        name="feed", interval_seconds=10, sources=[("scripted", {}), ("recording", {}), ("simulated", {})], now=START
    )
    scripted.gives = [ProviderUnavailable("timeout")]
    recording.gives = [answer_with(as_of=START)]
    entry = fetch(feed)
    assert (entry.provider, entry.failure, head_of(feed).failures) == ("recording", "", 0)


def test_a_feed_without_a_provider_fails_and_says_so():
    feed = sources.create_feed(name="feed", interval_seconds=10, sources=[], now=START)
    assert fetch(feed).failure == "no_provider"
