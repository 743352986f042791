"""Prices that jump: held, confirmed by the next, given up, or believed at the third in a row."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.alerts.models import Alert
from apps.backtests.evaluation import read_quotes
from apps.market import domain, placing, queries
from apps.market.domain import AdmittedQuote, Newest, RawQuote, Unconfirmed, Verdict
from apps.market.models import FeedEntry, Quote, UnconfirmedQuote
from apps.pipeline.flow import evaluate_pending
from apps.sources import services as sources
from apps.sources.providers.protocol import Answer
from apps.sources.providers.registry import PROVIDERS
from tests.builders import START, TRACE, above, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.sources.scripted import Scripted, answer_with

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def verdict(price, *, last=100, unconfirmed=None, times=1, seconds=10, percent=50):
    """Return what becomes of a price ten seconds after the last; unconfirmed: a price at five seconds."""
    waiting = None if unconfirmed is None else (5, unconfirmed, times)
    return domain.verdict_on(seconds, price, last=last, unconfirmed=waiting, percent=percent)


@pytest.mark.parametrize("price", [50, 100, 150])
def test_a_price_exactly_half_as_far_is_no_jump(price):
    assert verdict(price) is Verdict.ACCEPTED


@pytest.mark.parametrize("price", [49, 151, 10_000, 1])
def test_a_price_further_off_is_unconfirmed(price):
    assert verdict(price) is Verdict.UNCONFIRMED


def test_the_first_price_of_an_asset_cannot_jump():
    assert verdict(10_000, last=None) is Verdict.ACCEPTED


def test_where_the_percent_is_zero_nothing_jumps():
    assert verdict(10_000, percent=0) is Verdict.ACCEPTED


@pytest.mark.parametrize("price", [200, 400, 600])
def test_the_next_price_confirms_the_unconfirmed_one_where_it_is_within_half_of_it(price):
    assert verdict(price, unconfirmed=400) is Verdict.CONFIRMS


@pytest.mark.parametrize("price", [199, 601])
def test_the_next_price_that_jumps_from_both_is_unconfirmed_in_its_place(price):
    assert verdict(price, unconfirmed=400) is Verdict.UNCONFIRMED


def test_a_next_price_near_the_last_accepted_one_shows_that_the_unconfirmed_one_was_an_error():
    assert verdict(101, unconfirmed=10_000) is Verdict.ACCEPTED
    # Near to both: what it says of the price before is more than what it says of the jump.
    assert verdict(110, unconfirmed=160) is Verdict.ACCEPTED


def test_the_third_in_a_row_is_accepted_whatever_it_says():
    assert verdict(1_000, unconfirmed=400, times=1) is Verdict.UNCONFIRMED
    assert verdict(5_000, unconfirmed=1_000, times=2) is Verdict.ACCEPTED


def test_a_quote_from_before_the_unconfirmed_one_is_accepted_beside_it_or_rejected():
    assert verdict(101, unconfirmed=400, seconds=4) is Verdict.BESIDE
    assert verdict(401, unconfirmed=400, seconds=4) is Verdict.JUMP


# In a feed


def _row(entry):
    return (entry.accepted, entry.unconfirmed, entry.repeated, entry.rejected)


def _stored():
    rows = Quote.objects.order_by("at", "asset__symbol").values_list("asset__symbol", "at", "price", "entry__seq")
    return [(symbol, moment, int(price), seq) for symbol, moment, price, seq in rows]


@pytest.mark.django_db
def test_a_confirmed_jump_is_stored_with_the_one_that_confirms_it_in_the_order_of_their_times():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", START, "10"), ("ETH", START, "5")])
    unconfirmed = append_quotes(feed, [("BTC", at(10), "100"), ("ETH", at(10), "5")])
    confirmed = append_quotes(feed, [("BTC", at(20), "101"), ("ETH", at(15), "5")])

    assert (_row(unconfirmed), _row(confirmed)) == ((1, 1, 0, {}), (3, 0, 0, {}))
    assert _stored() == [
        ("BTC", START, 10, 1),
        ("ETH", START, 5, 1),
        ("BTC", at(10), 100, 3),
        ("ETH", at(10), 5, 2),
        ("ETH", at(15), 5, 3),
        ("BTC", at(20), 101, 3),
    ]
    # The bounds are those of all its quotes, or the analyzer would miss one.
    assert (confirmed.first_at, confirmed.last_at, len(queries.evaluated_quotes(confirmed))) == (at(10), at(20), 3)
    assert not UnconfirmedQuote.objects.exists()


@pytest.mark.django_db
def test_a_jump_that_is_not_confirmed_is_given_up_and_counted():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [("BTC", at(10), "1000")])
    back = append_quotes(feed, [("BTC", at(20), "11")])

    assert _row(back) == (1, 0, 0, {"jump": 1})
    assert [(price, seq) for _, _, price, seq in _stored()] == [(10, 1), (11, 3)]
    assert not UnconfirmedQuote.objects.exists()


@pytest.mark.django_db
def test_three_in_a_row_within_one_answer_or_in_three_end_alike():
    together, apart = make_feed("BTC", name="together"), make_feed("ETH", name="apart")
    prices = [(START, "10"), (at(1), "100"), (at(2), "1000"), (at(3), "7"), (at(4), "8")]
    append_quotes(together, [("BTC", moment, price) for moment, price in prices])
    for moment, price in prices:
        append_quotes(apart, [("ETH", moment, price)])

    for feed in (together, apart):
        kept = Quote.objects.filter(asset__feed=feed).order_by("at").values_list("at", "price")
        assert [(moment, int(price)) for moment, price in kept] == [(START, 10), (at(3), 7), (at(4), 8)]
        entries = FeedEntry.objects.filter(feed=feed)
        assert sum(entry.rejected.get("jump", 0) for entry in entries) == 2
        assert sum(entry.unconfirmed for entry in entries) == 2


@pytest.mark.django_db
def test_the_unconfirmed_trade_given_again_waits_on_and_is_counted_as_repeated():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [("BTC", at(10), "100")])
    again = append_quotes(feed, [("BTC", at(10), "100")], as_of=at(20))

    assert _row(again) == (0, 0, 1, {})
    assert UnconfirmedQuote.objects.get().times == 1


@pytest.mark.django_db
def test_what_waits_keeps_its_volume_and_says_who_gave_it():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=at(1))
    answer = Answer(quotes=[RawQuote("BTC", "100", at(1), "2.5")], as_of=at(1))
    part = sources.admit_answer(lease=lease, provider="coinbase", answer=answer, asset_ids=asset_ids(feed), signed=())
    sources.record_answers(lease=lease, parts=[part], now=at(1), trace_id=TRACE)

    unconfirmed = UnconfirmedQuote.objects.get()
    assert (unconfirmed.at, int(unconfirmed.price), unconfirmed.volume, unconfirmed.provider) == (
        at(1),
        100,
        Decimal("2.5"),
        "coinbase",
    )


@pytest.mark.django_db
def test_an_unconfirmed_quote_is_not_stored_under_another_providers_name():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")], provider="coinbase")
    append_quotes(feed, [("BTC", at(10), "100")], provider="coinbase")
    confirmed = append_quotes(feed, [("BTC", at(20), "101")], provider="kraken")

    assert _row(confirmed) == (1, 0, 0, {"jump": 1})
    assert [(price, seq) for _, _, price, seq in _stored()] == [(10, 1), (101, 3)]


@pytest.mark.django_db
def test_an_unconfirmed_quote_that_imported_history_has_overtaken_is_given_up():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [("BTC", at(10), "100")])
    rows = [RawQuote("BTC", "90", at(10))]
    sources.import_history(feed_id=feed.pk, quotes=rows, now=at(15), trace_id=TRACE)
    later = append_quotes(feed, [("BTC", at(20), "95")])

    assert _row(later) == (1, 0, 0, {"jump": 1})
    assert [price for _, _, price, _ in _stored()] == [10, 90, 95]


@pytest.mark.django_db
def test_an_unconfirmed_quote_that_is_older_than_quotes_are_kept_is_given_up(settings):
    feed = make_feed("A", "B", provider="simulated")
    append_quotes(feed, [("A", at(0), "100"), ("B", at(0), "1")])
    append_quotes(feed, [("A", at(1), "1000")])
    settings.QUOTE_RETENTION_DAYS = 2
    later = 3 * 86_400
    entry = append_quotes(feed, [("A", at(later), "1001")])

    assert (entry.accepted, entry.unconfirmed, entry.rejected) == (0, 1, {"jump": 1})
    assert UnconfirmedQuote.objects.get().at == at(later)


@pytest.mark.django_db
def test_a_feed_without_a_limit_holds_nothing():
    feed = make_feed("BTC", jump_percent=0)
    append_quotes(feed, [("BTC", START, "10"), ("BTC", at(1), "1000"), ("BTC", at(2), "1")])

    assert [price for _, _, price, _ in _stored()] == [10, 1000, 1]


@pytest.mark.django_db
def test_no_alert_opens_for_a_price_that_was_not_confirmed():
    feed = make_feed("BTC")
    make_rule(make_owner(), assets=["BTC"], condition=above(50))
    for second, price in enumerate(["10", "1000", "11", "60", "61"]):
        append_quotes(feed, [("BTC", at(second), price)])
    evaluate_pending(feed_id=feed.pk)

    assert [(alert.opened_at, alert.evidence["price"]) for alert in Alert.objects.all()] == [(at(3), "60")]


# A file, and a feed, and both at random

some_prices = st.lists(st.sampled_from([1, 2, 3, 10, 14, 20, 100, 1_000]), min_size=1, max_size=12)


@given(prices=some_prices, cuts=st.sets(st.integers(1, 11)))
def test_it_makes_no_difference_how_quotes_are_cut_into_answers(prices, cuts):
    quotes = [AdmittedQuote(1, NOON + timedelta(seconds=second), Decimal(one)) for second, one in enumerate(prices)]

    def placed(pieces):
        newest, unconfirmed, fresh, counts = {}, {}, [], [0, 0]
        for piece in pieces:
            placement = placing.place(
                piece,
                newest=newest,
                unconfirmed=unconfirmed,
                provider="one",
                jump_percent=50,
                stored_prices=lambda behind: {},
            )
            fresh += placement.fresh
            for quote in placement.fresh:
                newest[1] = Newest(domain.epoch_microseconds(quote.at), quote.price)
            unconfirmed = {asset_id: one for asset_id, one in (unconfirmed | placement.unconfirmed).items() if one}
            counts[0] += placement.newly_unconfirmed
            counts[1] += placement.rejected["jump"]
        return fresh, counts, unconfirmed

    edges = [0, *sorted(cut for cut in cuts if cut < len(quotes)), len(quotes)]
    pieces = [quotes[begin:end] for begin, end in pairwise(edges)]
    whole, in_pieces = placed([quotes]), placed(pieces)
    assert whole == in_pieces
    accepted, (newly_unconfirmed, given_up), waiting = whole
    # Nothing is dropped silently.
    assert len(accepted) + given_up + len(waiting) == len(quotes)
    assert given_up + len(waiting) <= newly_unconfirmed
    assert all(isinstance(one, Unconfirmed) for one in waiting.values())


@given(prices=some_prices)
def test_a_file_holds_what_a_feed_holds(prices, tmp_path_factory):
    recording = tmp_path_factory.mktemp("recording") / "recording.csv"
    rows = [f"{1_772_452_800 + second},A,{price}" for second, price in enumerate(prices)]
    recording.write_text("\n".join(["time,symbol,price", *rows]))
    read = read_quotes(recording, watched=(), jump_percent=50, now=at(3_600), progress=lambda rows: None)
    quotes = [AdmittedQuote(1, NOON + timedelta(seconds=second), Decimal(one)) for second, one in enumerate(prices)]
    placement = placing.place(
        quotes, newest={}, unconfirmed={}, provider="one", jump_percent=50, stored_prices=lambda behind: {}
    )

    assert [units for _, _, units in read.quotes] == [domain.price_units(quote.price) for quote in placement.fresh]
    assert (read.unconfirmed, read.rejected) == (placement.newly_unconfirmed, placement.rejected)


@pytest.mark.django_db
def test_a_recording_holds_as_a_live_market_does(monkeypatch):
    provider = Scripted(is_live=False, slug="recording")
    monkeypatch.setitem(PROVIDERS, "recording", provider)
    provider.gives = [answer_with(("BTC", START, "1"), ("BTC", at(1), "9"), ("BTC", at(2), "9"), as_of=at(2))]
    feed = make_feed("BTC", provider="recording")
    entry = sources.fetch(feed_id=feed.pk, slot=START, now=START, trace_id=TRACE)

    assert (entry.accepted, entry.unconfirmed) == (3, 1)
