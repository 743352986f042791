"""Listings that a provider refuses: the feed goes on without them, says so, and asks for them again."""

import json
from datetime import timedelta

import pytest
from werkzeug import Response

from apps.market.models import Asset, FeedEntry, FeedHead, LatestQuote
from apps.sources import domain
from apps.sources import services as sources
from apps.sources.models import FeedSource, Listing, RefusedListing
from apps.sources.providers import http
from apps.sources.providers.protocol import Answer, Limits, ProviderRejected
from apps.sources.providers.registry import PROVIDERS
from tests.builders import START, TRACE, asset_ids, at, make_feed
from tests.sources.scripted import Scripted, answer_with

pytestmark = pytest.mark.django_db
MINUTE, HOUR = 60, 3_600
ASKED_AT = []


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """Let answers be received when they are asked for."""
    monkeypatch.setattr(http, "now", lambda: at(ASKED_AT[-1]))


def fetch(feed, seconds=0):
    ASKED_AT.append(seconds)
    return sources.fetch(feed_id=feed.pk, slot=at(seconds), now=at(seconds), trace_id=TRACE)


def rows():
    fields = ("asset__symbol", "provider", "external_id", "reason", "since", "next_ask_at")
    return {*RefusedListing.objects.values_list(*fields)}


class Exchange:
    """Binance's call for prices: refused as a whole where one of the symbols is not listed."""

    def __init__(self, httpserver, *listed):
        self.listed, self.asked = {*listed}, []
        httpserver.expect_request("/api/v3/ticker/price").respond_with_handler(self.answer)

    def answer(self, request):
        symbols = json.loads(request.args["symbols"])
        self.asked.append({*symbols})
        if {*symbols} - self.listed:
            body = {"code": -1121, "msg": "Invalid symbol."}
            return Response(json.dumps(body), status=400, content_type="application/json")
        body = [{"symbol": symbol, "price": "1"} for symbol in symbols]
        return Response(json.dumps(body), content_type="application/json")

    def taken(self):
        """Return what was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def exchange(httpserver):
    return Exchange(httpserver, "BTCUSDT", "ETHUSDT")


@pytest.fixture
def feed(httpserver):
    """Return a feed of three pairs, of which one was delisted."""
    feed = make_feed("BTCUSDT", "ETHUSDT", "GONEUSDT", provider="binance")
    feed.sources.update(options={"base_url": httpserver.url_for("").rstrip("/")})
    return feed


def test_one_delisted_name_of_three_costs_the_others_nothing_for_six_hours(feed, exchange):
    for seconds in range(0, 6 * HOUR, 15 * MINUTE):
        entry = fetch(feed, seconds)
        assert (entry.failure, entry.rejected["missing"]) == ("", 1)

    assert {*LatestQuote.objects.values_list("asset__symbol", flat=True)} == {"BTCUSDT", "ETHUSDT"}
    assert FeedHead.objects.get(feed=feed).failures == 0
    assert {(row[0], row[1], row[3], row[4]) for row in rows()} == {("GONEUSDT", "binance", "http_400", START)}


def test_a_refused_listing_is_not_asked_for_until_its_time_and_then_by_itself(feed, exchange):
    fetch(feed)
    assert 3 <= len(exchange.taken()) <= 4
    assert rows() == {("GONEUSDT", "binance", "GONEUSDT", "http_400", START, at(10 * MINUTE))}

    fetch(feed, 10 * MINUTE - 1)
    assert exchange.taken() == [{"BTCUSDT", "ETHUSDT"}]
    fetch(feed, 10 * MINUTE)
    assert exchange.taken() == [{"BTCUSDT", "ETHUSDT"}, {"GONEUSDT"}]
    assert rows() == {("GONEUSDT", "binance", "GONEUSDT", "http_400", START, at(20 * MINUTE))}


def test_the_pause_grows_to_a_day():
    asked, now = [], START
    while now < START + timedelta(days=5):
        due = domain.ask_again_after(since=START, now=now)
        asked.append((due - now) // timedelta(minutes=1))
        now = due

    assert asked == [10, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440, 1440]


def test_a_price_ends_it(feed, exchange):
    fetch(feed)
    exchange.listed.add("GONEUSDT")
    entry = fetch(feed, 10 * MINUTE)

    assert (rows(), entry.rejected, entry.accepted) == (set(), {}, 3)
    exchange.taken()
    fetch(feed, 11 * MINUTE)
    assert exchange.taken() == [{"BTCUSDT", "ETHUSDT", "GONEUSDT"}]


def test_another_name_in_the_listing_is_asked_for_at_once(feed, exchange):
    fetch(feed)
    exchange.taken()
    Listing.objects.create(asset=Asset.objects.get(symbol="GONEUSDT"), provider="binance", external_id="NEWUSDT")
    exchange.listed.add("NEWUSDT")

    assert (fetch(feed, 1).accepted, exchange.taken()) == (3, [{"BTCUSDT", "ETHUSDT", "NEWUSDT"}])
    assert rows() == set()


def test_a_wrong_name_after_a_wrong_name_is_refused_since_its_own_refusal(feed, exchange):
    fetch(feed)
    Listing.objects.create(asset=Asset.objects.get(symbol="GONEUSDT"), provider="binance", external_id="NEWUSDT")
    fetch(feed, 5)

    assert rows() == {("GONEUSDT", "binance", "NEWUSDT", "http_400", at(5), at(5 + 10 * MINUTE))}


def test_where_the_provider_refuses_all_names_none_is_blamed_and_the_feed_fails(feed, exchange):
    exchange.listed.clear()
    entry = fetch(feed)

    assert (entry.failure, rows()) == ("http_400", set())
    assert len(exchange.taken()) == 4


def test_where_the_last_good_name_is_refused_too_the_feed_fails_and_asks_for_all_of_them(feed, exchange):
    exchange.listed.remove("ETHUSDT")
    for seconds in range(60):
        fetch(feed, seconds)
    assert {row[0] for row in rows()} == {"ETHUSDT", "GONEUSDT"}

    exchange.listed.clear()
    before = rows()
    assert (fetch(feed, 60).failure, rows()) == ("http_400", before)
    Asset.objects.filter(symbol="BTCUSDT").update(feed=None)
    exchange.taken()
    assert (fetch(feed, 90).failure, rows()) == ("http_400", before)
    assert exchange.taken()[0] == {"ETHUSDT", "GONEUSDT"}


def test_the_only_asset_of_a_feed_is_never_blamed(exchange, httpserver):
    feed = make_feed("GONEUSDT", provider="binance")
    feed.sources.update(options={"base_url": httpserver.url_for("").rstrip("/")})

    assert (fetch(feed).failure, rows()) == ("http_400", set())


def test_a_refused_listing_is_asked_of_the_next_provider_in_every_round(feed, exchange, scripted):
    scripted.limits = Limits(batch_size=100, shortest_interval_seconds=1)
    FeedSource.objects.create(feed=feed, position=2, provider="scripted")
    scripted.gives = [answer_with(("GONEUSDT", at(one), "3"), as_of=at(one)) for one in range(3)]
    for one in range(3):
        fetch(feed, one)

    assert [request.external_ids for request in scripted.asked] == [["GONEUSDT"]] * 3
    assert LatestQuote.objects.get(asset__symbol="GONEUSDT").provider == "scripted"
    # A price of another provider says nothing about this one.
    assert {(row[0], row[1]) for row in rows()} == {("GONEUSDT", "binance")}


def test_what_an_answer_leaves_out_is_counted_as_missing(scripted):
    scripted.limits = Limits(batch_size=100, shortest_interval_seconds=1)
    feed = make_feed("A", "B", "C", provider="scripted")
    scripted.gives = [answer_with(("A", START, "1"), as_of=START)]

    assert (fetch(feed).rejected, rows()) == ({"missing": 2}, set())


@pytest.fixture
def limited(monkeypatch):
    """Return a provider of 30 calls a minute at its public address."""
    limits = Limits(batch_size=100, shortest_interval_seconds=1, calls_per_minute=30)
    provider = Scripted(slug="limited", limits=limits)
    monkeypatch.setitem(PROVIDERS, "limited", provider)
    return provider


@pytest.mark.parametrize(("base_url", "due"), [("https://public.example", 14), ("http://127.0.0.1:1", 1)])
def test_the_calls_of_a_search_put_the_next_round_off_as_the_limits_want(limited, base_url, due):
    feed = make_feed("A", "B", provider="limited")
    feed.sources.update(options={"base_url": base_url})
    quotes = answer_with(("A", START, "1"), as_of=START).quotes
    limited.gives = [Answer(quotes, as_of=START, refused={"B": "http_400"}, extra_calls=6)]
    # A second feed, so that what the limits want is not the interval.
    make_feed("C", name="other", provider="simulated")
    fetch(feed)

    assert FeedHead.objects.get(feed=feed).next_slot == at(due)


def test_the_calls_of_a_search_in_vain_put_the_next_round_off_too(limited):
    feed = make_feed("A", "B", provider="limited")
    feed.sources.update(options={"base_url": "https://public.example"})
    limited.gives = [ProviderRejected("http_400", extra_calls=6)]
    fetch(feed)

    # A feed that failed waits a slot more than the limits want.
    assert FeedHead.objects.get(feed=feed).next_slot == at(15)


def test_who_lost_the_lease_writes_no_refusal():
    feed = make_feed("A", "B")
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    FeedHead.objects.update(lease_until=None)
    sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    answer = answer_with(("A", START, "1"), as_of=START)
    ids = asset_ids(feed)
    part = sources.admit_answer(lease=lease, provider="binance", answer=answer, asset_ids=ids, signed=())
    part.refused[ids["B"]] = ("B", "http_400")
    sources.record_answers(lease=lease, parts=[part], now=START, trace_id=TRACE)

    assert (rows(), FeedEntry.objects.count()) == (set(), 0)


def test_an_asset_that_is_gone_meanwhile_is_no_refused_listing():
    feed = make_feed("A", "B")
    ids = asset_ids(feed)
    Asset.objects.filter(symbol="B").delete()
    facts = {"provider": "binance", "refused": {ids["B"]: ("B", "http_400")}, "answered": (), "now": START}
    sources.note_refusals(feed_id=feed.pk, **facts)

    assert rows() == set()
