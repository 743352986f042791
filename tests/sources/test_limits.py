"""A provider's limits, kept for all feeds that ask it together."""

import pytest

from apps.market import services
from apps.market.models import FeedHead
from apps.sources import services as sources
from apps.sources.models import FeedSource
from apps.sources.providers.protocol import Limits, ProviderUnavailable
from apps.sources.providers.registry import PROVIDERS
from tests.builders import START, TRACE, at, make_feed
from tests.sources.scripted import Scripted, answer_with

pytestmark = pytest.mark.django_db


def _fetch(feed, *, slot=START):
    return sources.fetch(feed_id=feed.pk, slot=slot, now=slot, trace_id=TRACE)


def _limited(monkeypatch, *, gives):
    provider = Scripted(slug="limited", limits=Limits(2, 10, calls_per_minute=60, calls_per_day=100), gives=gives)
    monkeypatch.setitem(PROVIDERS, "limited", provider)
    return provider


def _due_after(feed):
    return (FeedHead.objects.get(feed=feed).next_slot - START).total_seconds()


def test_all_feeds_that_ask_a_provider_share_its_calls_of_the_day(monkeypatch):
    _limited(monkeypatch, gives=[answer_with(as_of=START)] * 2)
    feed = make_feed("A", "B", "C", interval_seconds=60, provider="limited")
    make_feed("D", "E", "F", name="other", provider="limited")
    # Two calls each, so four a round: 100 a day are used up in rounds 3456 s apart. The next whole slot is the 58th.
    _fetch(feed)

    assert _due_after(feed) == 58 * 60


def test_a_paused_feed_and_an_address_of_its_own_use_up_nothing(monkeypatch):
    _limited(monkeypatch, gives=[answer_with(as_of=START)])
    feed = make_feed("A", "B", interval_seconds=60, provider="limited")
    paused = make_feed("C", name="paused", provider="limited")
    services.pause_feeds([paused.pk])
    elsewhere = make_feed("D", name="elsewhere", provider="limited")
    elsewhere.sources.update(options={"base_url": "http://127.0.0.1:1"})

    _fetch(feed)

    assert _due_after(feed) == 15 * 60  # one call a round: 864 s


def test_a_feed_without_a_limited_provider_keeps_its_interval(monkeypatch, scripted):
    scripted.gives = [answer_with(as_of=START)]
    feed = make_feed("A", interval_seconds=60, provider="scripted")
    _fetch(feed)

    assert _due_after(feed) == 60


def test_a_failure_waits_for_the_limits_of_all_that_were_asked(monkeypatch, scripted):
    _limited(monkeypatch, gives=[ProviderUnavailable("timeout")])
    scripted.gives = [ProviderUnavailable("timeout")]
    feed = make_feed("A", "B", interval_seconds=60, provider="scripted")
    FeedSource.objects.create(feed=feed, position=2, provider="limited")

    _fetch(feed)

    assert _due_after(feed) == 16 * 60


def test_feeds_that_ask_at_the_same_moment_and_are_refused_for_it_do_so_no_more(monkeypatch):
    _limited(monkeypatch, gives=[answer_with(as_of=START), ProviderUnavailable("rate_limited")])
    feed = make_feed("A", interval_seconds=60, provider="limited")
    refused = make_feed("B", name="refused", interval_seconds=60, provider="limited")
    _fetch(feed)
    _fetch(refused)

    assert (_due_after(feed), _due_after(refused)) == (29 * 60, 30 * 60)


def test_one_that_stands_behind_an_answering_provider_slows_nothing(monkeypatch, scripted):
    limited = _limited(monkeypatch, gives=[])
    scripted.gives = [answer_with(as_of=START)]
    feed = make_feed("A", interval_seconds=60, provider="scripted")
    FeedSource.objects.create(feed=feed, position=2, provider="limited")

    _fetch(feed)

    assert (_due_after(feed), limited.asked) == (60, [])


def test_another_interval_does_not_pass_the_limits(monkeypatch):
    _limited(monkeypatch, gives=[answer_with(as_of=START)])
    feed = make_feed("A", interval_seconds=60, provider="limited")
    _fetch(feed)
    sources.change_interval(feed_id=feed.pk, interval_seconds=30, now=at(1))

    assert _due_after(feed) == 29 * 30


@pytest.mark.parametrize(("interval_seconds", "due"), [(30, 29 * 30), (120, 8 * 120), (3_600, 3_600)])
def test_another_interval_long_after_the_last_round_does_not_pass_the_limits_either(monkeypatch, interval_seconds, due):
    _limited(monkeypatch, gives=[answer_with(as_of=START)])
    feed = make_feed("A", interval_seconds=60, provider="limited")
    _fetch(feed)
    sources.change_interval(feed_id=feed.pk, interval_seconds=interval_seconds, now=at(700))

    assert _due_after(feed) == due


def test_a_call_whose_worker_was_killed_is_not_forgotten(monkeypatch):
    limited = _limited(monkeypatch, gives=[SystemExit()])
    feed = make_feed("A", interval_seconds=60, provider="limited")
    with pytest.raises(SystemExit):
        _fetch(feed)
    FeedHead.objects.update(lease_until=at(-600))

    assert sources.claim_due_feeds(now=at(864)) == []
    assert sources.claim_due_feeds(now=at(900)) == [(feed.pk, at(900))]
    assert len(limited.asked) == 1


def test_an_operator_need_not_wait_for_the_limits_after_a_worker_was_killed(monkeypatch):
    _limited(monkeypatch, gives=[SystemExit()])
    feed = make_feed("A", interval_seconds=60, provider="limited")
    with pytest.raises(SystemExit):
        _fetch(feed)
    FeedHead.objects.update(lease_until=at(-600))
    sources.fetch_now(feed_id=feed.pk, now=at(40))

    assert sources.claim_due_feeds(now=at(40)) == [(feed.pk, START)]


def test_assets_that_a_round_has_no_room_for_take_turns(monkeypatch):
    limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_round=1)
    limited = Scripted(slug="limited", limits=limits, gives=[answer_with(as_of=START)] * 4)
    monkeypatch.setitem(PROVIDERS, "limited", limited)
    feed = make_feed("A", "B", "C", provider="limited")
    for second in range(4):
        _fetch(feed, slot=at(second))

    assert [request.external_ids for request in limited.asked] == [["A"], ["B"], ["C"], ["A"]]


def test_one_that_failed_before_another_answered_counts_as_asked(monkeypatch, scripted):
    _limited(monkeypatch, gives=[ProviderUnavailable("timeout")])
    scripted.gives = [answer_with(as_of=START)]
    feed = make_feed("A", "B", interval_seconds=60, provider="limited")
    FeedSource.objects.create(feed=feed, position=2, provider="scripted")

    _fetch(feed)

    assert _due_after(feed) == 15 * 60
