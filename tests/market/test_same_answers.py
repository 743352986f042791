"""A source that answers in time and says the same each time: derived from the log."""

import pytest

from apps.market.models import Quote
from apps.market.queries import SameAnswers, same_answers
from apps.sources import services as sources
from tests.builders import TRACE, append_quotes, asset_ids, at, make_feed

pytestmark = pytest.mark.django_db


def same(feed, provider="simulated"):
    return same_answers(feed.pk, provider=provider)


def answer(feed, second, *prices, **more):
    return append_quotes(
        feed,
        [(symbol, at(second), price) for symbol, price in zip("AB", prices, strict=False)],
        as_of=at(second),
        **more,
    )


def test_without_an_answer_there_is_none():
    assert same(make_feed("A")) == SameAnswers(0, None)


def test_prices_that_move_are_one_answer_in_a_row():
    feed = make_feed("A", "B")
    for second, prices in enumerate([("1", "2"), ("1", "2"), ("1", "3")]):
        answer(feed, second, *prices)

    assert same(feed) == SameAnswers(1, at(2))


def test_answers_that_say_the_same_are_counted_back_to_the_one_that_differs():
    feed = make_feed("A", "B")
    for second, prices in enumerate([("1", "2"), ("1", "3"), *[("1", "2")] * 40]):
        answer(feed, second, *prices)

    assert same(feed) == SameAnswers(40, at(2))


def test_what_comes_with_the_same_time_again_says_the_same():
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", at(0), "1"), ("B", at(0), "1")], as_of=at(0))
    for second in range(1, 6):
        append_quotes(feed, [("A", at(0), "1"), ("B", at(0), "1")], as_of=at(second))

    assert same(feed) == SameAnswers(6, at(0))


def test_an_answer_without_a_price_and_a_failure_neither_count_nor_end_the_row():
    feed = make_feed("A")
    for second in range(3):
        answer(feed, second, "1")
    append_quotes(feed, [], as_of=at(3))
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=at(4))
    sources.record_failure(lease=lease, failure="timeout", retry_after_seconds=None, now=at(4), trace_id=TRACE)
    answer(feed, 6, "1")

    assert same(feed) == SameAnswers(4, at(0))


@pytest.mark.parametrize("quote", [("A", at(1), "1"), ("A", at(9), "100")], ids=["late", "unconfirmed"])
def test_what_is_late_or_unconfirmed_ends_the_row(quote):
    feed = make_feed("A")
    for second in (0, 2, 3):
        answer(feed, second, "1")
    append_quotes(feed, [quote], as_of=at(9))
    assert same(feed).count == 0
    answer(feed, 10, "1")
    assert same(feed).count == 1


def test_each_provider_is_counted_by_itself_and_by_the_assets_that_it_gives_in_turn():
    feed = make_feed("A", "B")
    for second in range(0, 8, 2):
        symbol, price = [("A", "1"), ("B", "2")][second // 2 % 2]
        append_quotes(feed, [(symbol, at(second), price)], provider="alphavantage")
        append_quotes(feed, [(symbol, at(second + 1), f"{price}.0{second}")], provider="coinbase")

    assert same(feed, "alphavantage") == SameAnswers(4, at(0))
    assert same(feed, "coinbase") == SameAnswers(2, at(5))


def test_what_is_no_longer_stored_is_not_taken_for_the_same():
    feed = make_feed("A")
    for second in range(8):
        answer(feed, second, "1")
    Quote.objects.filter(asset=asset_ids(feed)["A"], at__lte=at(2)).delete()

    assert same(feed) == SameAnswers(5, at(3))


def test_prices_that_move_cost_the_same_statements_however_long_the_log_is(django_assert_max_num_queries):
    feed = make_feed("A")
    for second in range(60):
        answer(feed, second, str(1 + second % 2 / 10))
    with django_assert_max_num_queries(3):
        assert same(feed).count == 1
