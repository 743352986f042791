"""Feeds made, claimed, asked for out of their turn."""

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction

from apps.market import services
from apps.market.models import Asset, EvaluationCursor, Feed, FeedEntry, FeedHead
from apps.sources import services as sources
from apps.sources.models import FeedSource
from apps.sources.providers.protocol import ProviderUnavailable
from tests.builders import START, append_quotes, at, make_feed
from tests.market.rows import fetch, head_of, record
from tests.sources.scripted import answer_with
from tests.threads import at_once, elsewhere

pytestmark = pytest.mark.django_db


# Feeds


def test_a_new_feed_has_its_head_its_evaluate_and_its_sources_in_order():
    feed = sources.create_feed(
        name="crypto-spot",
        interval_seconds=15,
        sources=[("simulated", {"seed": 7}), ("coincap", {})],
        now=at(16),
    )
    head = head_of(feed)
    assert (head.seq, head.next_slot, head.fence, head.failures) == (0, at(15), 0, 0)
    assert (head.as_of, head.began_at, head.lease_until, head.redispatch_at) == (None, None, None, None)
    assert EvaluationCursor.objects.get(feed=feed).seq == 0
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
        sources.create_feed(**right | wrong)
    assert [model.objects.count() for model in (Feed, FeedHead, EvaluationCursor, FeedSource)] == [1, 1, 1, 1]


def test_a_due_feed_is_claimed_once_with_the_slot_that_is_now():
    feed = make_feed(interval_seconds=10)
    assert sources.claim_due_feeds(now=at(34)) == [(feed.pk, at(30))]
    assert sources.claim_due_feeds(now=at(35)) == []
    assert head_of(feed).redispatch_at == at(44)


def test_a_claim_that_came_to_nothing_is_made_again_after_ten_seconds():
    feed = make_feed()
    sources.claim_due_feeds(now=START)
    assert sources.claim_due_feeds(now=at(10)) == []
    assert sources.claim_due_feeds(now=at(11)) == [(feed.pk, at(11))]


def test_a_feed_that_is_not_due_or_not_enabled_is_not_claimed():
    make_feed(name="later")
    make_feed(name="off")
    Feed.objects.filter(name="off").update(is_enabled=False)
    FeedHead.objects.filter(feed__name="later").update(next_slot=at(1))
    assert sources.claim_due_feeds(now=START) == []


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_claim_each_feed_once():
    feeds = [make_feed(name=f"feed-{number}") for number in range(30)]
    claims = at_once(*[lambda: sources.claim_due_feeds(now=START)] * 4)
    assert sorted(claim for claimed in claims for claim in claimed) == [(feed.pk, START) for feed in feeds]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_claim_skips_a_feed_whose_head_is_locked_and_does_not_wait():
    locked, free = make_feed(name="locked"), make_feed(name="free")
    with transaction.atomic():
        FeedHead.objects.select_for_update(no_key=True).get(feed=locked)
        assert elsewhere(lambda: sources.claim_due_feeds(now=START)) == [(free.pk, START)]
    assert sources.claim_due_feeds(now=START) == [(locked.pk, START)]


# What operators ask for


def test_a_feed_that_is_asked_for_now_is_due_out_of_its_turn_and_then_at_its_slots_again(scripted):
    feed = make_feed("BTC", interval_seconds=60, provider="scripted")
    scripted.gives = [answer_with(as_of=at(seconds)) for seconds in (0, 20, 60)]
    fetch(feed)
    assert sources.fetch_now(feed_id=feed.pk, now=at(20.7)) == at(20)
    assert sources.claim_due_feeds(now=at(21)) == [(feed.pk, at(20))]
    fetch(feed, slot=at(20), now=at(21))
    assert head_of(feed).next_slot == at(60)
    assert sources.claim_due_feeds(now=at(59)) == []
    assert sources.claim_due_feeds(now=at(60)) == [(feed.pk, at(60))]
    fetch(feed, slot=at(60))
    assert list(FeedEntry.objects.order_by("seq").values_list("slot", "missed_slots")) == [
        (START, 0),
        (at(20), 0),
        (at(60), 0),
    ]


def test_a_claim_out_of_turn_that_is_late_is_for_the_slot_that_has_come_meanwhile():
    feed = make_feed("BTC", interval_seconds=60)
    append_quotes(feed, [("BTC", START, "10")])
    sources.fetch_now(feed_id=feed.pk, now=at(59))
    assert sources.claim_due_feeds(now=at(61)) == [(feed.pk, at(60))]


def test_a_recording_that_is_asked_for_now_gives_what_it_has_since_its_position():
    simulated = [("simulated", {"step_seconds": 5})]
    feed = sources.create_feed(name="feed", interval_seconds=60, sources=simulated, now=START)
    Asset.objects.create(symbol="MOON", feed=feed)
    fetch(feed)
    sources.fetch_now(feed_id=feed.pk, now=at(20))
    assert fetch(feed, slot=at(20)).accepted == 4
    assert fetch(feed, slot=at(60)).accepted == 8


def test_a_feed_that_fails_is_asked_for_now_and_waits_twice_as_long_if_it_fails_again(scripted):
    feed = make_feed(interval_seconds=10, provider="scripted")
    scripted.gives = [ProviderUnavailable("timeout")] * 2
    fetch(feed)
    assert head_of(feed).next_slot == at(20)
    sources.fetch_now(feed_id=feed.pk, now=at(13))
    fetch(feed, slot=at(13))
    assert head_of(feed).next_slot == at(50)


def test_a_feed_that_is_due_stays_due_when_it_is_asked_for_now():
    feed = make_feed(interval_seconds=60)
    assert sources.fetch_now(feed_id=feed.pk, now=at(30)) == START
    assert head_of(feed).next_slot == START


def _pause(feed):
    services.pause_feeds([feed.pk])


def _begin_to_fetch(feed):
    sources.take_fetch_lease(feed_id=feed.pk, slot=at(60))


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
    with pytest.raises(sources.FetchRefused, match=why):
        sources.fetch_now(feed_id=feed.pk, now=at(second))
    assert FeedHead.objects.values().get() == before


def test_feeds_are_paused_and_resumed_and_counted_where_that_changed_them():
    running, paused = make_feed(name="running"), make_feed(name="paused")
    assert services.pause_feeds([paused.pk]) == 1
    assert services.pause_feeds([running.pk, paused.pk]) == 1
    assert sources.claim_due_feeds(now=START) == []
    assert services.resume_feeds([paused.pk]) == 1
    assert services.resume_feeds([paused.pk]) == 0
    assert sources.claim_due_feeds(now=START) == [(paused.pk, START)]


@pytest.mark.parametrize(
    ("interval_seconds", "next_slot"),
    # At 22 s, of each interval the slot that has begun, or the next where that one is answered.
    [(10, 20), (15, 15), (60, 60), (3_600, 3_600)],
)
def test_another_interval_takes_effect_at_once(interval_seconds, next_slot):
    feed = make_feed("BTC", interval_seconds=300)
    append_quotes(feed, [("BTC", START, "10")])
    sources.change_interval(feed_id=feed.pk, interval_seconds=interval_seconds, now=at(22))
    assert Feed.objects.get().interval_seconds == interval_seconds
    assert head_of(feed).next_slot == at(next_slot)
    assert Feed.objects.get().interval_changed_at == at(22)
    sources.change_interval(feed_id=feed.pk, interval_seconds=interval_seconds, now=at(23))
    assert Feed.objects.get().interval_changed_at == at(22)


def test_another_interval_leaves_what_is_due_and_what_must_wait():
    due, failing = make_feed(name="due", interval_seconds=60), make_feed(name="failing", interval_seconds=60)
    FeedHead.objects.filter(feed=failing).update(failures=3, next_slot=at(480))
    sources.change_interval(feed_id=due.pk, interval_seconds=10, now=at(42))
    sources.change_interval(feed_id=failing.pk, interval_seconds=10, now=at(42))
    assert (head_of(due).next_slot, head_of(failing).next_slot) == (START, at(480))


def test_another_interval_holds_for_the_answer_that_is_under_way():
    feed = make_feed("BTC", interval_seconds=3_600)
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    sources.change_interval(feed_id=feed.pk, interval_seconds=10, now=at(1))
    record(lease)
    assert head_of(feed).next_slot == at(10)


@pytest.mark.parametrize("interval_seconds", [0, 604_801])
def test_an_interval_out_of_bounds_is_refused(interval_seconds):
    feed = make_feed(interval_seconds=60)
    with pytest.raises(ValidationError):
        sources.change_interval(feed_id=feed.pk, interval_seconds=interval_seconds, now=START)
    assert Feed.objects.get().interval_seconds == 60
