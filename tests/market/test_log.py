"""A feed's log: history, numbers, and rows that are what was evaluated."""

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from apps.market import domain, queries, services
from apps.market.domain import RawQuote
from apps.market.models import EvaluationCursor, FeedEntry, FeedHead, LatestQuote, Quote
from apps.sources import services as sources
from apps.sources.models import FeedSource
from apps.sources.providers.protocol import Answer
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed
from tests.market.rows import head_of, log_of, newest_prices, stored_quotes
from tests.threads import at_once, elsewhere

pytestmark = pytest.mark.django_db


# History


def test_history_is_an_entry_before_the_quotes_of_its_answer():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")], history=[("BTC", at(-20), "8"), ("BTC", at(-10), "9")])
    history, quotes = FeedEntry.objects.order_by("seq")
    assert (history.kind, history.slot, history.as_of) == ("history", None, at(-10))
    assert (history.accepted, history.first_at, history.last_at) == (2, at(-20), at(-10))
    assert (quotes.kind, quotes.slot, quotes.as_of, quotes.accepted) == ("quotes", START, START, 1)
    assert stored_quotes() == [("BTC", at(-20), "8"), ("BTC", at(-10), "9"), ("BTC", START, "10")]
    assert newest_prices() == [("BTC", START, "10")]
    assert head_of(feed).seq == 2


def test_history_gives_an_asset_without_quotes_its_newest():
    feed = make_feed("BTC")
    append_quotes(feed, [], as_of=START, history=[("BTC", at(-20), "8"), ("BTC", at(-10), "9")])
    assert newest_prices() == [("BTC", at(-10), "9")]


def test_history_does_not_move_the_newest_quote_back():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [], as_of=at(1), history=[("BTC", at(-20), "8")])
    assert newest_prices() == [("BTC", START, "10")]
    assert stored_quotes() == [("BTC", at(-20), "8"), ("BTC", START, "10")]


def test_history_passes_over_what_is_stored():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10"), ("BTC", at(1), "11")])
    append_quotes(feed, [], as_of=at(2), history=[("BTC", at(-1), "9"), ("BTC", START, "10"), ("BTC", at(1), "99")])
    history = FeedEntry.objects.get(kind="history")
    assert (history.accepted, history.repeated, history.rejected) == (1, 1, {"conflict": 1})
    assert (history.first_at, history.last_at) == (at(-1), at(-1))
    assert stored_quotes() == [("BTC", at(-1), "9"), ("BTC", START, "10"), ("BTC", at(1), "11")]


def test_history_that_is_stored_already_is_an_entry_without_quotes():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [], as_of=at(1), history=[("BTC", START, "10")])
    history = FeedEntry.objects.get(kind="history")
    assert (history.seq, history.accepted, history.first_at, history.last_at) == (2, 0, None, None)


# The log


def test_a_change_of_rules_has_its_place_in_the_log_and_does_not_move_the_clock():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    entry = services.append_rules_entry(feed_id=feed.pk, now=at(500), trace_id=TRACE)
    append_quotes(feed, [("BTC", at(1), "11")])
    assert (entry.as_of, entry.received_at) == (START, at(500))
    assert log_of(feed) == [(1, "quotes"), (2, "rules"), (3, "quotes")]


def test_a_change_of_rules_before_the_first_answer_has_the_wall_clocks_time():
    feed = make_feed("BTC")
    assert services.append_rules_entry(feed_id=feed.pk, now=START, trace_id=TRACE).as_of == START
    assert head_of(feed).as_of is None


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
    assert [seq for seq, _ in log_of(feed)] == list(range(1, 41))
    assert head_of(feed).seq == 40
    assert newest_prices() == [("BTC", at(9), "10")]


def test_an_entry_that_is_rolled_back_leaves_no_gap():
    feed = make_feed("BTC")
    with pytest.raises(RuntimeError, match="power cut"), transaction.atomic():
        services.append_rules_entry(feed_id=feed.pk, now=START, trace_id=TRACE)
        raise RuntimeError("power cut")
    assert append_quotes(feed, []).seq == 1


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_an_entry_is_appended_while_the_evaluate_is_at_work():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    with transaction.atomic():
        EvaluationCursor.objects.select_for_update(no_key=True).get(feed=feed)
        entry = elsewhere(lambda: append_quotes(feed, [("BTC", at(1), "11")]))
    assert (entry.seq, newest_prices()) == (2, [("BTC", at(1), "11")])


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_feed_is_claimed_while_the_evaluate_is_at_work():
    feed = make_feed()
    with transaction.atomic():
        EvaluationCursor.objects.select_for_update(no_key=True).get(feed=feed)
        assert elsewhere(lambda: sources.claim_due_feeds(now=START)) == [(feed.pk, START)]


# What is evaluated is what is stored


def test_a_price_is_read_back_as_it_was_admitted():
    chance = random.Random(20260302)
    written = [
        "1e-15",
        "1.44e-9",
        "1e12",
        "999999999999.9995",
        "0.1",
        "0.00000000015",
        "123456.7890123455",
        "9.99999999999999999",
    ]
    written += [f"{chance.uniform(0.1, 1) * 10 ** chance.randint(-9, 12):.17g}" for _ in range(300)]
    feed = make_feed("BTC", jump_percent=0)
    entry = append_quotes(feed, [("BTC", at(index), price) for index, price in enumerate(written)])
    admitted = [domain.admit_price(price) for price in written]
    assert list(Quote.objects.order_by("at").values_list("price", flat=True)) == admitted
    assert [units for _, _, units in queries.evaluated_quotes(entry)] == [int(price * 10**18) for price in admitted]
    assert LatestQuote.objects.get().price == admitted[-1]


@pytest.mark.parametrize("price", ["1e-15", "1.44e-9", "1e12", "999999999999.999", "123456.789012345", "0.0123456789"])
def test_the_newest_price_is_read_back_as_it_was_admitted(price):
    feed = make_feed("BTC", jump_percent=0)
    append_quotes(feed, [("BTC", START, "5")])
    append_quotes(feed, [("BTC", at(1), price)])
    assert LatestQuote.objects.get().price == Decimal(price)


def test_a_time_is_read_back_to_the_microsecond():
    feed = make_feed("BTC", jump_percent=0)
    moment = START + timedelta(microseconds=999_999)
    entry = append_quotes(feed, [("BTC", START, "1"), ("BTC", moment, "2")])
    assert stored_quotes() == [("BTC", START, "1"), ("BTC", moment, "2")]
    assert [microseconds for _, microseconds, _ in queries.evaluated_quotes(entry)] == [
        1_772_452_800_000_000,
        1_772_452_800_999_999,
    ]
    assert newest_prices() == [("BTC", moment, "2")]


@pytest.mark.parametrize("price", ["NaN", "1e13", "-1e13", "1000000000000.01", "-1000000000000.01"])
@pytest.mark.parametrize("table", ["market_quote", "market_latestquote"])
def test_the_database_refuses_a_price_out_of_range(table, price):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET price = %s", [price])
    assert stored_quotes() == newest_prices() == [("BTC", START, "10")]


@pytest.mark.parametrize("volume", ["NaN", "-1", "2e20"])
def test_the_database_refuses_a_volume_out_of_range(volume):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE market_quote SET volume = %s", [volume])
    assert Quote.objects.get().volume is None


def test_a_volume_is_stored_beside_its_price():
    feed = make_feed("BTC", "ETH")
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=START)
    quotes = [RawQuote("BTC", "10", START, "1.5"), RawQuote("ETH", "2", START, "-1")]
    answer = Answer(quotes=quotes, as_of=START)
    part = sources.admit_answer(lease=lease, provider="simulated", answer=answer, asset_ids=asset_ids(feed), signed=())
    sources.record_answers(lease=lease, parts=[part], now=START, trace_id=TRACE)
    volumes = Quote.objects.order_by("asset__symbol").values_list("asset__symbol", "volume")
    assert list(volumes) == [("BTC", Decimal("1.5")), ("ETH", None)]


def test_a_provider_that_raises_or_is_misconfigured_is_counted_and_put_off(monkeypatch):
    feed = make_feed("BTC-USD")
    FeedSource.objects.filter(feed=feed).update(provider="no-such-provider")
    sources.fetch(feed_id=feed.pk, slot=at(0), now=at(0), trace_id=TRACE)
    FeedSource.objects.filter(feed=feed).update(provider="simulated")
    monkeypatch.setattr("apps.sources.providers.simulated._steps", lambda *_, **__: 1 / 0)

    sources.fetch(feed_id=feed.pk, slot=at(2), now=at(2), trace_id=TRACE)

    assert list(FeedEntry.objects.order_by("seq").values_list("failure", flat=True)) == ["misconfigured", "crashed"]
    assert FeedHead.objects.get(feed=feed).next_slot == at(6)


def test_a_feed_that_lags_is_dispatched_once_and_again_after_a_while():
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "100")])

    claims = [services.claim_feeds_behind(before=at(5), now=at(seconds)) for seconds in (10, 15, 39, 41)]

    assert claims == [[feed.pk], [], [], [feed.pk]]
