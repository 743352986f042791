"""A provider that bans is asked by nobody until the ban ends, unless a person says so; the feed's clock goes on."""

from datetime import timedelta
from itertools import pairwise

import pytest

from apps.alerts.models import Alert
from apps.market.models import FeedHead
from apps.pipeline.flow import evaluate_pending
from apps.sources import services as sources
from apps.sources.models import Circuit, FeedSource
from apps.sources.providers import http
from apps.sources.providers.protocol import Limits, ProviderUnavailable
from tests.builders import START, TRACE, at, make_feed, make_owner, make_rule
from tests.sources.scripted import answer_with

pytestmark = pytest.mark.django_db
DAY = 86_400
BANNED = ProviderUnavailable("rate_limited", retry_after_seconds=3 * DAY)


@pytest.fixture
def feed(scripted):
    scripted.limits = Limits(batch_size=100, shortest_interval_seconds=1)
    return make_feed("A", provider="scripted", interval_seconds=60)


def fetch(feed, now):
    return sources.fetch(feed_id=feed.pk, slot=now, now=now, trace_id=TRACE)


def live_until(feed, end):
    """Fetch the feed whenever it is due, up to a time, and return the entries."""
    entries = []
    while (due := FeedHead.objects.get(feed=feed).next_slot) < end:
        entries.append(fetch(feed, due))
    return entries


def test_a_ban_of_three_days_is_obeyed_for_three_days_and_the_clock_goes_on(feed, scripted):
    scripted.gives = [answer_with(("A", START, "1"), as_of=START), BANNED]
    scripted.gives.append(answer_with(("A", at(60 + 3 * DAY), "2"), as_of=at(60 + 3 * DAY)))
    make_rule(make_owner(), assets=["A"], condition={"kind": "stale", "after": "2d"})
    entries = live_until(feed, at(60 + 3 * DAY))

    assert (len(scripted.asked), entries[1].failure) == (2, "rate_limited")
    assert {entry.failure for entry in entries[2:]} == {"circuit_open"}
    gaps = [later.received_at - before.received_at for before, later in pairwise(entries)]
    assert max(gaps) <= timedelta(hours=1)
    evaluate_pending(feed_id=feed.pk)
    assert at(2 * DAY) <= Alert.objects.get().opened_at <= at(2 * DAY + 3_600)

    assert live_until(feed, at(60 + 3 * DAY + 3_600))[0].failure == ""


def test_a_ban_that_only_the_text_names_keeps_every_feed_from_asking(httpserver, monkeypatch):
    monkeypatch.setattr(http, "now", lambda: START)
    ends_at = int((START + timedelta(days=3)).timestamp() * 1_000)
    body = {"code": -1003, "msg": f"Way too much request weight used; IP banned until {ends_at}."}
    httpserver.expect_request("/api/v3/ticker/price").respond_with_json(body, status=418)
    feeds = [make_feed(symbol, name=symbol.lower(), provider="binance") for symbol in ("BTCUSDT", "ETHUSDT")]
    FeedSource.objects.update(options={"base_url": httpserver.url_for("").rstrip("/")})

    assert [fetch(feed, START).failure for feed in feeds] == ["rate_limited", "circuit_open"]
    assert (Circuit.objects.get().open_until, len(httpserver.log)) == (at(3 * DAY), 1)


def test_fetch_now_does_not_ask_who_bans_unless_one_is_sure_and_then_asks_once(feed, scripted):
    scripted.gives = [BANNED, answer_with(("A", at(40), "1"), as_of=at(40))]
    fetch(feed, START)
    with pytest.raises(sources.FetchRefused, match="scripted is left alone until 2026-03-05 12:00:00 UTC"):
        sources.fetch_now(feed_id=feed.pk, now=at(20))
    assert FeedHead.objects.get(feed=feed).next_slot > at(20)

    assert sources.fetch_now(feed_id=feed.pk, now=at(30), is_sure=True) == at(30)
    assert fetch(feed, at(30)).failure == ""
    assert fetch(feed, at(60)).failure == "circuit_open"
    assert len(scripted.asked) == 2


def test_who_is_asked_all_the_same_and_fails_by_something_else_is_banned_as_before(feed, scripted):
    scripted.gives = [BANNED, ProviderUnavailable("timeout")]
    fetch(feed, START)
    sources.fetch_now(feed_id=feed.pk, now=at(30), is_sure=True)

    assert fetch(feed, at(30)).failure == "timeout"
    assert Circuit.objects.get().open_until == at(3 * DAY)


def test_a_feed_that_was_let_through_and_did_not_ask_is_not_let_through_the_next_ban(feed, scripted):
    scripted.gives = [ProviderUnavailable("rate_limited", retry_after_seconds=20), BANNED]
    fetch(feed, START)
    sources.fetch_now(feed_id=feed.pk, now=at(10), is_sure=True)
    fetch(feed, at(30))

    assert Circuit.objects.get().open_until == at(30 + 3 * DAY)
    assert live_until(feed, at(7_200))[0].failure == "circuit_open"
    assert len(scripted.asked) == 2


def test_an_answer_to_what_was_asked_before_the_ban_does_not_end_it(feed, scripted):
    scripted.gives = [BANNED]
    fetch(feed, at(5))
    source = feed.sources.get()
    for _ in range(2):
        sources.note_success(source=source, asked_at=START)

    assert Circuit.objects.get().open_until == at(5 + 3 * DAY)
