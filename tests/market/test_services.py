import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, connection, transaction

from apps.market import cache, domain, queries, services
from apps.market.domain import RawQuote
from apps.market.models import Asset, Batch, Feed, FeedHead, FeedSource, JudgePosition, LatestQuote, Quote
from apps.market.providers.protocol import Answer, ProviderRejected, ProviderUnavailable
from apps.market.providers.registry import PROVIDERS
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed
from tests.market.scripted import Scripted, answer_with
from tests.threads import at_once, elsewhere

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def film(monkeypatch):
    """Return a recording under the name `film`."""
    provider = Scripted(is_live=False, slug="film")
    monkeypatch.setitem(PROVIDERS, "film", provider)
    return provider


def _fetch(feed, *, slot=START, now=None):
    return services.fetch(feed_id=feed.pk, slot=slot, now=now or slot, trace_id=TRACE)


def _record(lease, *quotes, as_of=START):
    part = services.admit_answer(
        lease=lease, provider="simulated", answer=answer_with(*quotes, as_of=as_of), asset_ids=asset_ids(lease.feed)
    )
    entries = services.record_answers(lease=lease, parts=[part], now=as_of, trace_id=TRACE)
    return entries[0] if entries else None


def _head(feed):
    return FeedHead.objects.get(feed=feed)


def _stored(*, late=False) -> Sequence[tuple]:
    rows = Quote.objects.filter(late=late).order_by("at", "asset__symbol")
    return [
        (symbol, moment, f"{price.normalize():f}")
        for symbol, moment, price in rows.values_list("asset__symbol", "at", "price")
    ]


def _newest():
    rows = LatestQuote.objects.order_by("asset__symbol").values_list("asset__symbol", "at", "price")
    return [(symbol, moment, f"{price.normalize():f}") for symbol, moment, price in rows]


def _log(feed):
    return list(Batch.objects.filter(feed=feed).order_by("seq").values_list("seq", "kind"))


# Feeds


def test_a_new_feed_has_its_head_its_judge_and_its_sources_in_order():
    feed = services.create_feed(
        name="crypto-spot",
        interval_seconds=15,
        sources=[("simulated", {"seed": 7}), ("coincap", {})],
        now=at(16),
    )
    head = _head(feed)
    assert (head.seq, head.next_slot, head.fence, head.failures) == (0, at(15), 0, 0)
    assert (head.as_of, head.began_at, head.lease_until, head.hurried_until) == (None, None, None, None)
    assert JudgePosition.objects.get(feed=feed).seq == 0
    assert list(feed.sources.values_list("position", "provider")) == [(1, "simulated"), (2, "coincap")]
    assert feed.sources.first().options["seed"] == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Crypto Spot"},
        {"name": ""},
        {"name": "taken"},
        {"interval_seconds": 0},
        {"interval_seconds": 604_801},
        {"sources": [("simulated", {}), ("nobody", {})]},
        {"sources": [("simulated", {"seed": "seven"})]},
    ],
)
def test_a_feed_that_cannot_work_is_refused_and_leaves_nothing(wrong):
    make_feed(name="taken")
    right = {"name": "crypto", "interval_seconds": 15, "sources": [("simulated", {})], "now": START}
    with pytest.raises(ValidationError):
        services.create_feed(**right | wrong)
    assert [model.objects.count() for model in (Feed, FeedHead, JudgePosition, FeedSource)] == [1, 1, 1, 1]


def test_a_due_feed_is_claimed_once_with_the_slot_that_is_now():
    feed = make_feed(interval_seconds=10)
    assert services.claim_due_feeds(now=at(34)) == [(feed.pk, at(30))]
    assert services.claim_due_feeds(now=at(35)) == []
    assert _head(feed).hurried_until == at(44)


def test_a_claim_that_came_to_nothing_is_made_again_after_ten_seconds():
    feed = make_feed()
    services.claim_due_feeds(now=START)
    assert services.claim_due_feeds(now=at(10)) == []
    assert services.claim_due_feeds(now=at(11)) == [(feed.pk, at(11))]


def test_a_feed_that_is_not_due_or_not_enabled_is_not_claimed():
    make_feed(name="later")
    make_feed(name="off")
    Feed.objects.filter(name="off").update(is_enabled=False)
    FeedHead.objects.filter(feed__name="later").update(next_slot=at(1))
    assert services.claim_due_feeds(now=START) == []


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_claim_each_feed_once():
    feeds = [make_feed(name=f"feed-{number}") for number in range(30)]
    claims = at_once(*[lambda: services.claim_due_feeds(now=START)] * 4)
    assert sorted(claim for claimed in claims for claim in claimed) == [(feed.pk, START) for feed in feeds]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_claim_skips_a_feed_whose_head_is_locked_and_does_not_wait():
    locked, free = make_feed(name="locked"), make_feed(name="free")
    with transaction.atomic():
        FeedHead.objects.select_for_update(no_key=True).get(feed=locked)
        assert elsewhere(lambda: services.claim_due_feeds(now=START)) == [(free.pk, START)]
    assert services.claim_due_feeds(now=START) == [(locked.pk, START)]


# What operators ask for


def test_a_feed_that_is_asked_for_now_is_due_out_of_its_turn_and_then_at_its_slots_again(scripted):
    feed = make_feed("BTC", interval_seconds=60, provider="scripted")
    scripted.gives = [answer_with(as_of=at(seconds)) for seconds in (0, 20, 60)]
    _fetch(feed)
    assert services.fetch_now(feed_id=feed.pk, now=at(20.7)) == at(20)
    assert services.claim_due_feeds(now=at(21)) == [(feed.pk, at(20))]
    _fetch(feed, slot=at(20), now=at(21))
    assert _head(feed).next_slot == at(60)
    assert services.claim_due_feeds(now=at(59)) == []
    assert services.claim_due_feeds(now=at(60)) == [(feed.pk, at(60))]
    _fetch(feed, slot=at(60))
    assert list(Batch.objects.order_by("seq").values_list("slot", "missed_slots")) == [
        (START, 0),
        (at(20), 0),
        (at(60), 0),
    ]


def test_a_claim_out_of_turn_that_is_late_is_for_the_slot_that_has_come_meanwhile():
    feed = make_feed("BTC", interval_seconds=60)
    append_quotes(feed, [("BTC", START, "10")])
    services.fetch_now(feed_id=feed.pk, now=at(59))
    assert services.claim_due_feeds(now=at(61)) == [(feed.pk, at(60))]


def test_a_recording_that_is_asked_for_now_gives_what_it_has_since_its_position():
    sources = [("simulated", {"step_seconds": 5})]
    feed = services.create_feed(name="feed", interval_seconds=60, sources=sources, now=START)
    Asset.objects.create(symbol="MOON", feed=feed)
    _fetch(feed)
    services.fetch_now(feed_id=feed.pk, now=at(20))
    assert _fetch(feed, slot=at(20)).accepted == 4
    assert _fetch(feed, slot=at(60)).accepted == 8


def test_a_feed_that_fails_is_asked_for_now_and_waits_twice_as_long_if_it_fails_again(scripted):
    feed = make_feed(interval_seconds=10, provider="scripted")
    scripted.gives = [ProviderUnavailable("timeout")] * 2
    _fetch(feed)
    assert _head(feed).next_slot == at(20)
    services.fetch_now(feed_id=feed.pk, now=at(13))
    _fetch(feed, slot=at(13))
    assert _head(feed).next_slot == at(50)


def test_a_feed_that_is_due_stays_due_when_it_is_asked_for_now():
    feed = make_feed(interval_seconds=60)
    assert services.fetch_now(feed_id=feed.pk, now=at(30)) == START
    assert _head(feed).next_slot == START


def _pause(feed):
    services.pause_feeds([feed.pk])


def _begin_to_fetch(feed):
    services.take_fetch_lease(feed_id=feed.pk, slot=at(60))


def _answer_this_second(feed):
    FeedHead.objects.update(next_slot=at(60))
    append_quotes(feed, [])


@pytest.mark.parametrize(
    ("meanwhile", "second", "why"),
    [
        (_pause, 30, "feed is paused. Resume it first."),
        (_begin_to_fetch, 30, "feed is being fetched at this moment."),
        (_answer_this_second, 60.5, "feed was fetched this second, or its log is ahead of this machine's clock."),
    ],
)
def test_a_feed_is_not_asked_for_now_when_it_is_paused_under_way_or_just_asked(meanwhile, second, why):
    feed = make_feed(interval_seconds=60)
    append_quotes(feed, [])
    meanwhile(feed)
    before = FeedHead.objects.values().get()
    with pytest.raises(services.FetchRefused, match=why):
        services.fetch_now(feed_id=feed.pk, now=at(second))
    assert FeedHead.objects.values().get() == before


def test_feeds_are_paused_and_resumed_and_counted_where_that_changed_them():
    running, paused = make_feed(name="running"), make_feed(name="paused")
    assert services.pause_feeds([paused.pk]) == 1
    assert services.pause_feeds([running.pk, paused.pk]) == 1
    assert services.claim_due_feeds(now=START) == []
    assert services.resume_feeds([paused.pk]) == 1
    assert services.resume_feeds([paused.pk]) == 0
    assert services.claim_due_feeds(now=START) == [(paused.pk, START)]


@pytest.mark.parametrize(
    ("interval_seconds", "next_slot"),
    # At 22 s, of each interval the slot that has begun, or the next where that one is answered.
    [(10, 20), (15, 15), (60, 60), (3_600, 3_600)],
)
def test_another_interval_takes_effect_at_once(interval_seconds, next_slot):
    feed = make_feed("BTC", interval_seconds=300)
    append_quotes(feed, [("BTC", START, "10")])
    services.change_interval(feed_id=feed.pk, interval_seconds=interval_seconds, now=at(22))
    assert Feed.objects.get().interval_seconds == interval_seconds
    assert _head(feed).next_slot == at(next_slot)


def test_another_interval_leaves_what_is_due_and_what_must_wait():
    due, failing = make_feed(name="due", interval_seconds=60), make_feed(name="failing", interval_seconds=60)
    FeedHead.objects.filter(feed=failing).update(failures=3, next_slot=at(480))
    services.change_interval(feed_id=due.pk, interval_seconds=10, now=at(42))
    services.change_interval(feed_id=failing.pk, interval_seconds=10, now=at(42))
    assert (_head(due).next_slot, _head(failing).next_slot) == (START, at(480))


def test_another_interval_holds_for_the_answer_that_is_under_way():
    feed = make_feed("BTC", interval_seconds=3_600)
    lease = services.take_fetch_lease(feed_id=feed.pk, slot=START)
    services.change_interval(feed_id=feed.pk, interval_seconds=10, now=at(1))
    _record(lease)
    assert _head(feed).next_slot == at(10)


@pytest.mark.parametrize("interval_seconds", [0, 604_801])
def test_an_interval_out_of_bounds_is_refused(interval_seconds):
    feed = make_feed(interval_seconds=60)
    with pytest.raises(ValidationError):
        services.change_interval(feed_id=feed.pk, interval_seconds=interval_seconds, now=START)
    assert Feed.objects.get().interval_seconds == 60


# Leases


def test_a_slot_is_fetched_by_one_at_a_time():
    feed = make_feed()
    lease = services.take_fetch_lease(feed_id=feed.pk, slot=START)
    assert (lease.feed, lease.slot, lease.fence) == (feed, START, 1)
    assert services.take_fetch_lease(feed_id=feed.pk, slot=START) is None


def test_an_answered_slot_and_those_before_it_have_no_lease():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    assert services.take_fetch_lease(feed_id=feed.pk, slot=START) is None
    assert services.take_fetch_lease(feed_id=feed.pk, slot=at(-1)) is None
    assert services.take_fetch_lease(feed_id=feed.pk, slot=at(1)).fence == 2


def test_a_lease_that_has_run_out_passes_to_the_next_with_a_higher_fence():
    feed = make_feed()
    services.take_fetch_lease(feed_id=feed.pk, slot=START)
    FeedHead.objects.update(lease_until=LONG_AGO)
    assert services.take_fetch_lease(feed_id=feed.pk, slot=START).fence == 2


def test_who_lost_the_lease_writes_no_answer():
    feed = make_feed("BTC")
    lost = services.take_fetch_lease(feed_id=feed.pk, slot=START)
    FeedHead.objects.update(lease_until=LONG_AGO)
    kept = services.take_fetch_lease(feed_id=feed.pk, slot=START)
    head = FeedHead.objects.values().get()
    assert _record(lost, ("BTC", START, "11")) is None
    assert FeedHead.objects.values().get() == head
    assert (Batch.objects.count(), Quote.objects.count(), LatestQuote.objects.count()) == (0, 0, 0)
    assert _record(kept, ("BTC", START, "10")).seq == 1
    assert _record(lost, ("BTC", START, "11")) is None
    assert _stored() == [("BTC", START, "10")]


def test_who_lost_the_lease_writes_no_failure():
    feed = make_feed()
    lost = services.take_fetch_lease(feed_id=feed.pk, slot=START)
    FeedHead.objects.update(lease_until=LONG_AGO)
    services.take_fetch_lease(feed_id=feed.pk, slot=START)
    head = FeedHead.objects.values().get()
    failed = services.record_failure(lease=lost, failure="timeout", retry_after_seconds=None, now=START, trace_id=TRACE)
    assert failed is None
    assert FeedHead.objects.values().get() == head
    assert Batch.objects.count() == 0


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_fetches_of_one_slot_at_once_one_gets_the_lease():
    feed = make_feed()
    leases = at_once(*[lambda: services.take_fetch_lease(feed_id=feed.pk, slot=START)] * 4)
    assert sorted(lease.fence for lease in leases if lease) == [1]
    assert _head(feed).fence == 1


# Answers


def test_an_answer_recorded_twice_for_one_slot_is_stored_once():
    feed = make_feed("BTC")
    lease = services.take_fetch_lease(feed_id=feed.pk, slot=START)
    _record(lease, ("BTC", START, "10"))
    head = FeedHead.objects.values().get()
    with pytest.raises(IntegrityError):
        _record(lease, ("BTC", at(1), "11"), as_of=at(1))
    assert _log(feed) == [(1, "quotes")]
    assert _stored() == [("BTC", START, "10")]
    assert FeedHead.objects.values().get() == head


def test_a_fetch_that_runs_twice_stores_once(scripted):
    feed = make_feed("BTC", provider="scripted")
    scripted.gives = [answer_with(("BTC", START, "10"), as_of=START)]
    assert _fetch(feed).accepted == 1
    assert _fetch(feed) is None
    assert (len(scripted.asked), _log(feed)) == (1, [(1, "quotes")])


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_fetch_that_runs_twice_at_once_stores_once():
    feed = make_feed("BTC", "ETH")
    batches = at_once(*[lambda: _fetch(feed)] * 4)
    assert [batch.seq for batch in batches if batch] == [1]
    assert _log(feed) == [(1, "quotes")]
    assert _stored() == [("BTC", START, "100"), ("ETH", START, "100")]


def test_an_answer_is_one_entry_with_its_counts_and_the_head_goes_on():
    feed = make_feed("BTC", "ETH", interval_seconds=10)
    batch = append_quotes(
        feed,
        [("BTC", at(1), "10"), ("BTC", at(2), "11"), ("ETH", at(1.5), "2"), ("ETH", at(1), "0"), ("DOGE", at(1), "1")],
        as_of=at(3),
    )
    batch.refresh_from_db()
    assert (batch.seq, batch.kind, batch.slot, batch.as_of, batch.received_at) == (1, "quotes", START, at(3), at(3))
    assert (batch.accepted, batch.late, batch.failure, batch.missed_slots) == (3, 0, "", 0)
    assert batch.rejected == {"out_of_range": 1, "unknown_asset": 1}
    assert (batch.first_at, batch.last_at) == (at(1), at(2))
    assert (batch.provider, batch.trace_id, batch.evaluated_at) == ("simulated", TRACE, None)
    assert _stored() == [("BTC", at(1), "10"), ("ETH", at(1.5), "2"), ("BTC", at(2), "11")]
    assert _newest() == [("BTC", at(2), "11"), ("ETH", at(1.5), "2")]
    head = _head(feed)
    assert (head.seq, head.as_of, head.began_at, head.next_slot) == (1, at(3), START, at(10))
    assert (head.lease_until, head.hurried_until) == (None, None)


def test_an_answer_stands_in_the_cache_once_it_is_stored():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10"), ("BTC", at(1), "11")])
    btc = asset_ids(feed)["BTC"]
    assert cache.get_latest([btc], now=at(1)) == {btc: (at(1), Decimal(11))}


def test_an_empty_answer_is_an_entry_too():
    feed = make_feed("BTC")
    batch = append_quotes(feed, [], as_of=at(5))
    assert (batch.seq, batch.accepted, batch.first_at, batch.last_at) == (1, 0, None, None)
    assert (_head(feed).as_of, _head(feed).next_slot) == (at(5), at(1))


def test_a_quote_without_a_time_has_the_time_of_its_slot():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", None, "10")], as_of=at(0.25))
    assert _stored() == [("BTC", START, "10")]


def test_a_quote_ahead_of_the_feeds_clock_is_cut_to_it_and_far_ahead_is_rejected():
    feed = make_feed("BTC", "ETH")
    batch = append_quotes(feed, [("BTC", at(60), "10"), ("ETH", at(60.001), "10")], as_of=START)
    assert batch.rejected == {"time_in_future": 1}
    assert _stored() == [("BTC", START, "10")]


def test_a_late_quote_is_kept_and_not_judged_and_the_newest_stays():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", at(5), "10")])
    batch = append_quotes(feed, [("BTC", at(4), "9"), ("ETH", at(4), "2")], as_of=at(6))
    assert (batch.accepted, batch.late, batch.rejected) == (1, 1, {})
    assert (batch.first_at, batch.last_at) == (at(4), at(4))
    assert _stored(late=True) == [("BTC", at(4), "9")]
    assert _newest() == [("BTC", at(5), "10"), ("ETH", at(4), "2")]
    assert [asset_id for asset_id, _, _ in queries.judged_quotes(batch)] == [asset_ids(feed)["ETH"]]
    assert cache.get_latest([asset_ids(feed)["BTC"]], now=at(6)) == {asset_ids(feed)["BTC"]: (at(5), Decimal(10))}


def test_an_entry_of_late_quotes_alone_has_their_bounds_and_nothing_to_judge():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(5), "10")])
    batch = append_quotes(feed, [("BTC", at(3), "9"), ("BTC", at(4), "8")], as_of=at(6))
    assert (batch.accepted, batch.late, batch.first_at, batch.last_at) == (0, 2, at(3), at(4))
    assert queries.judged_quotes(batch) == []
    assert _newest() == [("BTC", at(5), "10")]


def test_a_repeated_quote_is_counted_and_a_differing_one_is_a_conflict():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", at(1), "10"), ("ETH", at(1), "2"), ("BTC", at(2), "11")])
    batch = append_quotes(feed, [("BTC", at(1), "99"), ("ETH", at(1), "2.0"), ("BTC", at(2), "99")], as_of=at(3))
    assert (batch.accepted, batch.late, batch.repeated, batch.rejected) == (0, 0, 1, {"conflict": 2})
    assert _stored() == [("BTC", at(1), "10"), ("ETH", at(1), "2"), ("BTC", at(2), "11")]
    assert _newest() == [("BTC", at(2), "11"), ("ETH", at(1), "2")]


def test_a_late_quote_given_again_is_repeated():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(5), "10")])
    append_quotes(feed, [("BTC", at(4), "9")], as_of=at(6))
    batch = append_quotes(feed, [("BTC", at(4), "9")], as_of=at(7))
    assert (batch.late, batch.repeated, batch.rejected) == (0, 1, {})


def test_a_quote_older_than_quotes_are_kept_is_rejected_as_too_old(settings):
    settings.QUOTE_RETENTION_DAYS = 2
    feed = make_feed("BTC", "ETH")
    kept, gone = START - timedelta(days=2), START - timedelta(days=2, microseconds=1)
    batch = append_quotes(feed, [("BTC", kept, "10"), ("ETH", gone, "2")], as_of=START)
    assert batch.rejected == {"too_old": 1}
    assert _stored() == [("BTC", kept, "10")]


def test_the_logs_clock_does_not_go_back():
    feed = make_feed("BTC")
    append_quotes(feed, [], as_of=at(10))
    batch = append_quotes(feed, [], as_of=at(5))
    assert (batch.as_of, _head(feed).as_of) == (at(10), at(10))


def test_slots_that_passed_without_a_fetch_are_counted(scripted):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [
        answer_with(as_of=START),
        answer_with(as_of=at(40)),
        ProviderUnavailable("timeout"),
        answer_with(as_of=at(90)),
    ]
    batches = [_fetch(feed, slot=slot) for slot in (START, at(40), at(60), at(90))]
    assert [batch.missed_slots for batch in batches] == [0, 3, 1, 1]


def test_slots_before_the_first_answer_are_not_missed():
    feed = make_feed()
    lease = services.take_fetch_lease(feed_id=feed.pk, slot=at(500))
    assert _record(lease, as_of=at(500)).missed_slots == 0


def test_a_provider_is_told_where_the_feed_stands(scripted):
    feed = make_feed("ETH", "BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [answer_with(("BTC", at(1), "10"), as_of=at(2)), answer_with(as_of=at(12))]
    _fetch(feed)
    _fetch(feed, slot=at(10))
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
    batch = _fetch(feed)
    batch.refresh_from_db()
    assert (batch.seq, batch.kind, batch.slot, batch.failure) == (1, "quotes", START, "bad_payload")
    assert (batch.accepted, batch.provider, batch.trace_id) == (0, "", TRACE)
    assert (Quote.objects.count(), LatestQuote.objects.count()) == (0, 0)
    head = _head(feed)
    assert (head.failures, head.next_slot, head.began_at, head.lease_until) == (1, at(20), None, None)


def test_each_failure_in_a_row_doubles_the_wait_and_an_answer_ends_it(scripted):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [ProviderUnavailable("timeout")] * 3 + [answer_with(as_of=at(140))]
    due = []
    for _ in range(4):
        slot = _head(feed).next_slot
        _fetch(feed, slot=slot)
        due.append((_head(feed).next_slot - slot, _head(feed).failures))
    assert due == [(timedelta(seconds=seconds), failures) for seconds, failures in ((20, 1), (40, 2), (80, 3), (10, 0))]


def test_a_feed_waits_as_long_as_its_provider_asks(scripted):
    feed = make_feed("BTC", interval_seconds=10, provider="scripted")
    scripted.gives = [ProviderUnavailable("rate_limited", retry_after_seconds=120)]
    _fetch(feed)
    assert services.claim_due_feeds(now=at(119)) == []
    assert services.claim_due_feeds(now=at(120)) == [(feed.pk, at(120))]


def test_a_live_feeds_clock_goes_on_while_its_provider_fails(scripted):
    feed = make_feed("BTC", provider="scripted")
    scripted.gives = [answer_with(as_of=START), ProviderUnavailable("timeout")]
    _fetch(feed)
    batch = _fetch(feed, slot=at(5), now=at(5.5))
    assert (batch.as_of, batch.received_at, _head(feed).as_of) == (at(5.5), at(5.5), at(5.5))


def test_a_recordings_clock_stands_while_it_fails(film):
    feed = make_feed("BTC", provider="film")
    film_time = datetime(2023, 3, 10, tzinfo=UTC)
    film.gives = [answer_with(as_of=film_time), ProviderUnavailable("outage")]
    _fetch(feed)
    batch = _fetch(feed, slot=at(5))
    assert (batch.as_of, batch.received_at, _head(feed).as_of) == (film_time, at(5), film_time)


def test_a_feed_that_fails_leaves_the_others_alone(scripted):
    failing, sound = make_feed("BTC", name="failing", provider="scripted"), make_feed("ETH", name="sound")
    scripted.gives = [ProviderUnavailable("timeout")]
    before = FeedHead.objects.values().get(feed=sound)
    _fetch(failing)
    assert FeedHead.objects.values().get(feed=sound) == before
    assert services.claim_due_feeds(now=START) == [(sound.pk, START)]
    assert _fetch(sound).accepted == 1


def test_the_first_healthy_provider_answers(scripted, film):
    feed = services.create_feed(
        name="feed", interval_seconds=10, sources=[("scripted", {}), ("film", {}), ("simulated", {})], now=START
    )
    scripted.gives = [ProviderUnavailable("timeout")]
    film.gives = [answer_with(as_of=START)]
    batch = _fetch(feed)
    assert (batch.provider, batch.failure, _head(feed).failures) == ("film", "", 0)


def test_a_feed_without_a_provider_fails_and_says_so():
    feed = services.create_feed(name="feed", interval_seconds=10, sources=[], now=START)
    assert _fetch(feed).failure == "no_provider"


# History


def test_history_is_an_entry_before_the_quotes_of_its_answer():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")], history=[("BTC", at(-20), "8"), ("BTC", at(-10), "9")])
    history, quotes = Batch.objects.order_by("seq")
    assert (history.kind, history.slot, history.as_of) == ("history", None, at(-10))
    assert (history.accepted, history.first_at, history.last_at) == (2, at(-20), at(-10))
    assert (quotes.kind, quotes.slot, quotes.as_of, quotes.accepted) == ("quotes", START, START, 1)
    assert _stored() == [("BTC", at(-20), "8"), ("BTC", at(-10), "9"), ("BTC", START, "10")]
    assert _newest() == [("BTC", START, "10")]
    assert _head(feed).seq == 2


def test_history_gives_an_asset_without_quotes_its_newest():
    feed = make_feed("BTC")
    append_quotes(feed, [], as_of=START, history=[("BTC", at(-20), "8"), ("BTC", at(-10), "9")])
    assert _newest() == [("BTC", at(-10), "9")]


def test_history_does_not_move_the_newest_quote_back():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [], as_of=at(1), history=[("BTC", at(-20), "8")])
    assert _newest() == [("BTC", START, "10")]
    assert _stored() == [("BTC", at(-20), "8"), ("BTC", START, "10")]


def test_history_passes_over_what_is_stored():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10"), ("BTC", at(1), "11")])
    append_quotes(feed, [], as_of=at(2), history=[("BTC", at(-1), "9"), ("BTC", START, "10"), ("BTC", at(1), "99")])
    history = Batch.objects.get(kind="history")
    assert (history.accepted, history.repeated, history.rejected) == (1, 1, {"conflict": 1})
    assert (history.first_at, history.last_at) == (at(-1), at(-1))
    assert _stored() == [("BTC", at(-1), "9"), ("BTC", START, "10"), ("BTC", at(1), "11")]


def test_history_that_is_stored_already_is_an_entry_without_quotes():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [], as_of=at(1), history=[("BTC", START, "10")])
    history = Batch.objects.get(kind="history")
    assert (history.seq, history.accepted, history.first_at, history.last_at) == (2, 0, None, None)


# The log


def test_a_change_of_rules_has_its_place_in_the_log_and_does_not_move_the_clock():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    entry = services.append_rules_entry(feed_id=feed.pk, now=at(500), trace_id=TRACE)
    append_quotes(feed, [("BTC", at(1), "11")])
    assert (entry.as_of, entry.received_at) == (START, at(500))
    assert _log(feed) == [(1, "quotes"), (2, "rules"), (3, "quotes")]


def test_a_change_of_rules_before_the_first_answer_has_the_wall_clocks_time():
    feed = make_feed("BTC")
    assert services.append_rules_entry(feed_id=feed.pk, now=START, trace_id=TRACE).as_of == START
    assert _head(feed).as_of is None


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_entries_appended_at_once_are_numbered_without_gaps():
    feed = make_feed("BTC")

    def change_rules():
        for _ in range(10):
            with transaction.atomic():
                services.append_rules_entry(feed_id=feed.pk, now=START, trace_id=TRACE)

    def answer():
        for second in range(10):
            append_quotes(feed, [("BTC", at(second), "10")])

    at_once(change_rules, change_rules, change_rules, answer)
    assert [seq for seq, _ in _log(feed)] == list(range(1, 41))
    assert _head(feed).seq == 40
    assert _newest() == [("BTC", at(9), "10")]


def test_an_entry_that_is_rolled_back_leaves_no_gap():
    feed = make_feed("BTC")
    with pytest.raises(RuntimeError, match="power cut"), transaction.atomic():
        services.append_rules_entry(feed_id=feed.pk, now=START, trace_id=TRACE)
        raise RuntimeError("power cut")
    assert append_quotes(feed, []).seq == 1


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_an_entry_is_appended_while_the_judge_is_at_work():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    with transaction.atomic():
        JudgePosition.objects.select_for_update(no_key=True).get(feed=feed)
        batch = elsewhere(lambda: append_quotes(feed, [("BTC", at(1), "11")]))
    assert (batch.seq, _newest()) == (2, [("BTC", at(1), "11")])


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_feed_is_claimed_while_the_judge_is_at_work():
    feed = make_feed()
    with transaction.atomic():
        JudgePosition.objects.select_for_update(no_key=True).get(feed=feed)
        assert elsewhere(lambda: services.claim_due_feeds(now=START)) == [(feed.pk, START)]


# What is judged is what is stored


def test_a_price_is_read_back_as_it_was_admitted():
    chance = random.Random(20260302)
    written = ["1e-10", "1e12", "999999999999.9995", "0.1", "0.00000000015", "123456.7890123455", "9.99999999999999999"]
    written += [f"{chance.uniform(0.1, 1) * 10 ** chance.randint(-9, 12):.17g}" for _ in range(300)]
    feed = make_feed("BTC", jump_percent=0)
    batch = append_quotes(feed, [("BTC", at(place), price) for place, price in enumerate(written)])
    admitted = [domain.admit_price(price) for price in written]
    assert list(Quote.objects.order_by("at").values_list("price", flat=True)) == admitted
    assert [units for _, _, units in queries.judged_quotes(batch)] == [int(price * 10**10) for price in admitted]
    assert LatestQuote.objects.get().price == admitted[-1]


@pytest.mark.parametrize("price", ["1e-10", "1e12", "999999999999.999", "123456.789012345", "0.0123456789"])
def test_the_newest_price_is_read_back_as_it_was_admitted(price):
    feed = make_feed("BTC", jump_percent=0)
    append_quotes(feed, [("BTC", START, "5")])
    append_quotes(feed, [("BTC", at(1), price)])
    assert LatestQuote.objects.get().price == Decimal(price)


def test_a_time_is_read_back_to_the_microsecond():
    feed = make_feed("BTC", jump_percent=0)
    moment = START + timedelta(microseconds=999_999)
    batch = append_quotes(feed, [("BTC", START, "1"), ("BTC", moment, "2")])
    assert _stored() == [("BTC", START, "1"), ("BTC", moment, "2")]
    assert [microseconds for _, microseconds, _ in queries.judged_quotes(batch)] == [
        1_772_452_800_000_000,
        1_772_452_800_999_999,
    ]
    assert _newest() == [("BTC", moment, "2")]


@pytest.mark.parametrize("price", ["NaN", "0", "-1", "1e13", "1000000000000.01", "1e-11"])
@pytest.mark.parametrize("table", ["market_quote", "market_latestquote"])
def test_the_database_refuses_a_price_out_of_range(table, price):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET price = %s", [price])
    assert _stored() == _newest() == [("BTC", START, "10")]


@pytest.mark.parametrize("volume", ["NaN", "-1", "2e20"])
def test_the_database_refuses_a_volume_out_of_range(volume):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE market_quote SET volume = %s", [volume])
    assert Quote.objects.get().volume is None


def test_a_volume_is_stored_beside_its_price():
    feed = make_feed("BTC", "ETH")
    lease = services.take_fetch_lease(feed_id=feed.pk, slot=START)
    quotes = [RawQuote("BTC", "10", START, "1.5"), RawQuote("ETH", "2", START, "-1")]
    answer = Answer(quotes=quotes, as_of=START)
    part = services.admit_answer(lease=lease, provider="simulated", answer=answer, asset_ids=asset_ids(feed))
    services.record_answers(lease=lease, parts=[part], now=START, trace_id=TRACE)
    volumes = Quote.objects.order_by("asset__symbol").values_list("asset__symbol", "volume")
    assert list(volumes) == [("BTC", Decimal("1.5")), ("ETH", None)]


def test_a_provider_that_raises_or_is_misconfigured_is_counted_and_put_off(monkeypatch):
    feed = make_feed("BTC-USD")
    FeedSource.objects.filter(feed=feed).update(provider="no-such-provider")
    services.fetch(feed_id=feed.pk, slot=at(0), now=at(0), trace_id=TRACE)
    FeedSource.objects.filter(feed=feed).update(provider="simulated")
    monkeypatch.setattr("apps.market.providers.simulated._steps", lambda *_, **__: 1 / 0)

    services.fetch(feed_id=feed.pk, slot=at(2), now=at(2), trace_id=TRACE)

    assert list(Batch.objects.order_by("seq").values_list("failure", flat=True)) == ["misconfigured", "crashed"]
    assert FeedHead.objects.get(feed=feed).next_slot == at(6)


def test_a_feed_that_lags_is_hurried_once_and_again_after_a_while():
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "100")])

    claims = [services.claim_feeds_behind(before=at(5), now=at(seconds)) for seconds in (10, 15, 39, 41)]

    assert claims == [[feed.pk], [], [], [feed.pk]]
