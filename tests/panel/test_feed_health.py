"""A feed at a glance: what its page says of its sources, its quotes and its log."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.api.tokens.services import create_token
from apps.market.domain import RawQuote
from apps.market.models import FeedEntry
from apps.sources import services as sources
from apps.sources.models import Circuit, FeedSource, Listing, RefusedListing, SenderClock
from tests.builders import TRACE, append_quotes, at, make_feed, make_operator, make_owner


def _table(client, feed, title):
    """Return the table of a feed's page whose title begins so."""
    answer = client.get(reverse("admin:market_feed_change", args=[feed.pk]))
    (table,) = [one for one in answer.context["tables"] if one.title.startswith(title)]
    return table


@pytest.mark.django_db
def test_a_feeds_page_shows_the_end_of_its_log_with_its_counts(admin_client):
    feed = make_feed("FEED-0")
    append_quotes(feed, [("FEED-0", at(-1), "1.50"), ("FEED-0", at(0), "1.50")])
    append_quotes(feed, [("FEED-0", at(-1), "1.6"), ("NOBODY", at(1), "2"), ("FEED-0", at(-2), "1")])
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=at(5))
    sources.record_failure(lease=lease, failure="timeout", retry_after_seconds=None, now=at(5), trace_id=TRACE)
    log = _table(admin_client, feed, "Last entries of its log")
    assert [row[4:11] for row in log.rows] == [
        ["failed: timeout", 0, 0, 0, 0, "0", 3],
        ["simulated", 0, 1, 0, 0, "1 conflict, 1 unknown_asset", 0],
        ["simulated", 2, 0, 0, 0, "0", 0],
    ]
    assert reverse("admin:market_feedentry_change", args=[FeedEntry.objects.first().pk]) in log.rows[0][0]
    assert log.rows[0][11] == "waits to be evaluated"


@pytest.mark.django_db
def test_a_feeds_page_says_of_each_source_how_it_is(admin_client, monkeypatch):
    monkeypatch.delenv("ALPHAVANTAGE_API_KEY", raising=False)
    feed = make_feed("BTC-USD", provider="coinbase")
    for position, provider in [(2, "binance"), (3, "alphavantage")]:
        source = FeedSource(feed=feed, position=position, provider=provider, options={})
        source.full_clean()
        source.save()
    Listing.objects.create(asset=feed.assets.get(), provider="binance", external_id="BTCUSDT")
    now = timezone.now()
    Circuit.objects.create(
        **{"provider": "binance", "address": "https://data-api.binance.vision", "failures": 5, "reason": "timeout"},
        **{"open_until": now + timedelta(minutes=1), "failed_at": now},
    )
    rows = _table(admin_client, feed, "Sources").rows

    assert [row[:2] for row in rows] == [[1, "coinbase"], [2, "binance"], [3, "alphavantage"]]
    assert rows[0][2:] == ["no failures lately", "no daily limit", "needs none", "no answer lately", ""]
    assert rows[1][2] == (
        f"left alone until {now + timedelta(minutes=1):%Y-%m-%d %H:%M:%S} UTC: timeout, 5 failures in a row"
    )
    assert rows[1][6] == "BTC-USD (BTCUSDT is in USDT)"
    assert rows[2][3:5] == ["about 25 of 25", "ALPHAVANTAGE_API_KEY is missing"]


@pytest.mark.django_db
def test_the_calls_of_the_last_day_are_taken_off_a_providers_budget(admin_client):
    feed = make_feed("MSFT", "AAPL", provider="alphavantage")
    now = timezone.now()
    for seq, (failure, provider) in enumerate([("", "alphavantage")] * 3 + [("timeout", ""), ("no_key", "")], start=1):
        FeedEntry.objects.create(
            **{"feed": feed, "seq": seq, "kind": "quotes", "slot": at(seq), "as_of": now, "received_at": now},
            **{"failure": failure, "provider": provider, "trace_id": TRACE},
        )
    # One call a round, whatever the assets; one that failed was a call, one without a key was none.
    assert _table(admin_client, feed, "Sources").rows[0][3] == "about 21 of 25"


@pytest.mark.django_db
def test_a_feeds_page_draws_what_became_of_its_quotes_hour_by_hour(admin_client):
    feed = make_feed("BTC-USD")
    now = timezone.now()
    entries = [(0, 5, {}), (90, 7, {"jump": 2}), (25 * 60, 100, {"jump": 100})]
    for seq, (minutes, accepted, rejected) in enumerate(entries, start=1):
        came = now - timedelta(minutes=minutes)
        FeedEntry.objects.create(
            **{"feed": feed, "seq": seq, "kind": "quotes", "slot": at(seq), "as_of": came, "received_at": came},
            **{"accepted": accepted, "rejected": rejected, "trace_id": TRACE},
        )
    rows = _table(admin_client, feed, "Quotes of the last 24 hours").rows

    assert [row[:2] for row in rows] == [["accepted", "12"], ["late", "0"], ["rejected: jump", "2"]]
    assert "accepted by the hour: " + "0, " * 22 + "7, 5" in rows[0][2]
    assert rows[0][2].count("<rect") == 24 + 1


@pytest.mark.django_db
def test_a_feeds_page_lists_the_changes_of_provider_and_what_waits(admin_client):
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "10")], provider="coinbase")
    entry = append_quotes(feed, [("BTC-USD", at(1), "10")], provider="kraken")
    append_quotes(feed, [("BTC-USD", at(2), "10.3")], provider="binance")
    append_quotes(feed, [("BTC-USD", at(3), "1000")], provider="binance")

    other, row = _table(admin_client, feed, "Changes of provider").rows
    assert (f"#{entry.seq}" in row[0], row[2:]) == (True, ["coinbase", "kraken", "BTC-USD"])
    assert other[2:] == ["kraken", "binance", "BTC-USD × 0.971"]
    ((*waiting, split),) = _table(admin_client, feed, "Prices that jumped").rows
    assert waiting == ["BTC-USD", at(3), "1\u202f000.0", "10.3", "binance"]
    assert "this was a split" in split
    page = admin_client.get(reverse("admin:market_feedentry_changelist"), {"switched": "yes"})
    assert [one.seq for one in page.context["cl"].result_list] == [entry.seq + 1, entry.seq]


@pytest.mark.django_db
def test_a_feed_says_how_often_its_provider_allows_it_to_be_asked(admin_client):
    limited = make_feed("bitcoin", name="limited", interval_seconds=60, provider="coincap")
    free = make_feed("A", name="free")
    pages = [admin_client.get(reverse("admin:market_feed_change", args=[feed.pk])).text for feed in (limited, free)]

    # 4 000 credits in 31 days, three for a call: one in 2 009 s, in whole slots of a minute.
    assert "asked every 60 s, effective every 34 min (coincap: 43 calls a day, for all feeds together)" in pages[0]
    assert "asked every 1 s, not measured yet" in pages[1]


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["feed", "asset"])
def test_a_refused_listing_is_shown_on_the_pages_of_its_feed_and_its_asset(admin_client, page):
    feed = make_feed("BTC-USD", "GONE-USD", provider="coinbase")
    gone = feed.assets.get(symbol="GONE-USD")
    for provider in ("coinbase", "kraken"):
        facts = {"external_id": "GONE-USD", "reason": "http_400", "since": at(0), "next_ask_at": at(600)}
        RefusedListing.objects.create(asset=gone, provider=provider, **facts)
    pk = {"feed": feed.pk, "asset": gone.pk}[page]
    answer = admin_client.get(reverse(f"admin:market_{page}_change", args=[pk]))
    (table,) = [one for one in answer.context["tables"] if one.title.startswith("Refused listings")]

    # Of a provider that the feed does not name any more, nothing is said.
    assert [row[1:] for row in table.rows] == [
        [
            "coinbase",
            "GONE-USD",
            "http_400: the request is refused; a name in it may not be known there",
            at(0),
            at(600),
        ]
    ]


@pytest.mark.django_db
def test_a_feed_without_a_refused_listing_says_nothing_of_them(admin_client):
    feed = make_feed("BTC-USD")
    answer = admin_client.get(reverse("admin:market_feed_change", args=[feed.pk]))
    assert [one for one in answer.context["tables"] if one.title.startswith("Refused")] == []


@pytest.mark.django_db
def test_a_feeds_page_counts_the_answers_that_say_the_same(admin_client):
    feed = make_feed("BTC-USD", provider="coinbase")
    for second, price in enumerate(["1", "1.2", "1.2", "1.2"]):
        append_quotes(feed, [("BTC-USD", at(second), price)], provider="coinbase", as_of=at(second))

    assert _table(admin_client, feed, "Sources").rows[0][5] == f"3 in a row, since {at(1):%Y-%m-%d %H:%M:%S} UTC"


@pytest.mark.django_db
def test_a_feeds_page_says_by_how_much_the_clock_of_a_sender_is_ahead(admin_client, client):
    feed = make_feed("A", name="own", provider="push")
    token, _ = create_token(owner=make_owner(), name="script")
    now = timezone.now().replace(microsecond=0)
    for sender, ahead in [(f"token:{token.pk}", (30, 4_000)), ("queue:own-prices", (5,)), ("queue:", (61,))]:
        quotes = [RawQuote("A", "1", now + timedelta(seconds=seconds)) for seconds in ahead]
        sources.record_pushed(feed_name="own", pushes=[sources.Pushed(now, quotes, sender)], now=now, trace_id=TRACE)

    assert _table(admin_client, feed, "Senders whose clock is ahead").rows == [
        ["queue, no user named", "", None, "61 s", now],
        ["queue, user own-prices", "5 s", now, "", None],
        ["token script of ada", "30 s", now, "4000 s", now],
    ]
    # The name of a token is shown to its owner and to superusers.
    client.force_login(make_operator("grace", "market.view_feed"))
    assert _table(client, feed, "Senders").rows[2][0] == f"token {token.pk}"


@pytest.mark.django_db
def test_a_clock_that_was_ahead_more_than_a_day_ago_is_shown_no_more(admin_client):
    feed = make_feed("A", name="own", provider="push")
    long_ago = timezone.now() - timedelta(hours=24, seconds=1)
    SenderClock.objects.create(feed=feed, sender="token:1", skew_seconds=30, ahead_at=long_ago, refused_at=long_ago)
    answer = admin_client.get(reverse("admin:market_feed_change", args=[feed.pk]))

    assert not [one for one in answer.context["tables"] if one.title.startswith("Senders")]
