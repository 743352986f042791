"""Senders of pushed quotes whose clock is ahead: measured with each message, and set back."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.market.domain import RawQuote
from apps.market.models import Feed, FeedEntry, Quote
from apps.pipeline.ingest import Arrived
from apps.sources import domain
from apps.sources.domain import Skew
from apps.sources.models import SenderClock
from apps.sources.services import Pushed, record_pushed
from tests.builders import START, TRACE, at, make_feed

ONE, OTHER = "token:1", "queue:own-prices"


@pytest.fixture
def feed():
    return make_feed("A", "B", provider="push")


def message(*quotes, received, sender=ONE):
    """Return a message received so many seconds after START with (symbol, seconds after START by its clock, price)."""
    raws = [RawQuote(symbol, price, None if second is None else at(second)) for symbol, second, price in quotes]
    return Pushed(at(received), raws, sender)


def push(*messages, name="feed"):
    """Store the messages as one entry."""
    return record_pushed(feed_name=name, pushes=messages, now=messages[-1].received_at, trace_id=TRACE)


def stored():
    """Return (symbol, seconds after START, price) of what is stored, by time."""
    rows = Quote.objects.order_by("at", "asset__symbol").values_list("asset__symbol", "at", "price")
    return [(symbol, (moment - START).total_seconds(), int(price)) for symbol, moment, price in rows]


def clock_of(sender=ONE):
    return SenderClock.objects.values_list("skew_seconds", "ahead_at", "refused_seconds", "refused_at").get(
        sender=sender
    )


@pytest.mark.django_db
def test_quotes_of_a_clock_that_is_ahead_are_all_stored_in_their_order(feed):
    entry = push(message(*(("A", 26 + number, str(10 + number)) for number in range(5)), received=0))

    assert (entry.accepted, entry.late, entry.rejected) == (5, 0, {})
    assert stored() == [("A", number - 4, 10 + number) for number in range(5)]
    assert clock_of() == (30, START, None, None)


@pytest.mark.django_db
def test_a_message_that_comes_again_later_gets_equal_times(feed):
    quotes = [("A", 26, "10"), ("A", 30, "11"), ("B", 29.5, "7")]
    push(message(*quotes, received=0))
    again = [push(message(*quotes, received=second)) for second in (0.2, 10, 40, 3_000)]

    assert [(one.accepted, one.late, one.repeated, one.rejected) for one in again] == [(0, 0, 3, {})] * 4
    assert clock_of()[:2] == (30, at(10))


@pytest.mark.django_db
def test_the_skew_is_rounded_up_to_a_second_and_only_grows(feed):
    push(message(("A", 1.25, "10"), received=0))
    push(message(("A", 12.5, "11"), received=10))
    push(message(("A", 23.000001, "12"), received=20))
    push(message(("A", 31, "13"), received=30))

    assert stored() == [("A", -0.75, 10), ("A", 9.5, 11), ("A", 19.000001, 12), ("A", 27, 13)]
    assert clock_of()[:2] == (4, at(30))


@pytest.mark.django_db
def test_the_skew_is_forgotten_an_hour_after_the_last_quote_that_was_ahead(feed):
    push(message(("A", 30, "10"), received=0))
    push(message(("A", 3_599, "11"), received=3_599.999999))
    push(message(("A", 3_600, "12"), received=3_600))
    push(message(("A", 3_702, "13"), received=3_700))

    assert stored() == [("A", 0, 10), ("A", 3_569, 11), ("A", 3_600, 12), ("A", 3_700, 13)]
    assert clock_of()[:2] == (2, at(3_700))


@pytest.mark.django_db
@pytest.mark.parametrize("is_collected", [True, False], ids=["one entry", "an entry each"])
def test_each_sender_has_a_clock_of_its_own_however_messages_are_collected(feed, is_collected):
    messages = [
        message(("A", 20, "10"), received=0),
        message(("A", 1, "11"), received=1, sender=OTHER),
        message(("A", 32, "12"), received=2),
        message(("B", 5, "7"), received=3, sender=OTHER),
        message(("B", 33.5, "8"), received=4),
    ]
    entries = [push(*messages)] if is_collected else [push(one) for one in messages]

    assert [one.rejected for one in entries if one.rejected] == []
    assert stored() == [("A", 0, 10), ("A", 1, 11), ("A", 2, 12), ("B", 3, 7), ("B", 3.5, 8)]
    assert clock_of()[:2] == (30, at(4))
    assert clock_of(OTHER)[:2] == (2, at(3))


@pytest.mark.django_db
def test_a_sender_whose_clock_is_right_has_no_row_and_is_left_alone(feed):
    push(message(("A", -1, "10"), ("B", 0, "7"), received=0))

    assert stored() == [("A", -1, 10), ("B", 0, 7)]
    assert not SenderClock.objects.exists()


@pytest.mark.django_db
def test_a_sender_has_a_clock_in_each_feed(feed):
    make_feed("X", name="other", provider="push")
    push(message(("A", 30, "10"), received=0))
    push(message(("X", 0, "10"), received=0), name="other")

    assert set(SenderClock.objects.values_list("feed__name", "sender")) == {("feed", ONE)}
    assert set(stored()) == {("A", 0, 10), ("X", 0, 10)}


@pytest.mark.django_db
def test_more_than_60_seconds_ahead_is_refused_and_noted(feed):
    entry = push(message(("A", 60, "10"), ("A", 60.000001, "11"), ("A", 90.5, "12"), ("B", 5, "7"), received=0))

    assert (entry.accepted, entry.rejected) == (2, {"time_in_future": 2})
    assert stored() == [("B", -55, 7), ("A", 0, 10)]
    assert clock_of() == (60, START, 91, START)


@pytest.mark.django_db
def test_a_clock_of_which_all_quotes_are_refused_sets_none_back(feed):
    push(message(("A", 7_200, "10"), received=0))
    push(Pushed(at(1), [RawQuote("A", "11", "9999-12-31T23:59:59-14:00")], ONE))
    push(message(("A", 2, "12"), received=2))

    assert stored() == [("A", 2, 12)]
    ahead = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - at(1) + timedelta(hours=14)
    assert clock_of() == (0, None, ahead // timedelta(seconds=1), at(1))


@pytest.mark.django_db
def test_a_quote_without_a_time_of_its_own_is_not_set_back(feed):
    push(message(("A", 30, "10"), ("B", None, "7"), received=0))
    push(message(("B", None, "8"), received=5))

    assert stored() == [("A", 0, 10), ("B", 0, 7), ("B", 5, 8)]


@pytest.mark.django_db
def test_times_that_cannot_be_are_refused_as_before(feed):
    push(message(("A", 30, "10"), received=0))
    raws = [RawQuote("A", "1", moment) for moment in ("soon", "2026-03-02T12:00:00", "0001-01-01T00:00:00Z", -1)]
    entry = push(Pushed(at(1), raws, ONE))

    assert entry.rejected == {"time_malformed": 1, "time_naive": 1, "time_out_of_range": 2}


@pytest.mark.django_db
def test_where_the_time_of_receipt_is_taken_no_clock_is_measured(feed):
    Feed.objects.update(time_policy="receipt")
    push(message(("A", 30, "10"), ("A", 500, "11"), received=0))

    assert [moment for _, moment, _ in stored()] == [0, 0.000001]
    assert not SenderClock.objects.exists()


@pytest.mark.django_db
def test_a_push_that_cannot_be_stored_leaves_what_was_measured(feed, monkeypatch):
    def broken(*args, **columns):
        raise RuntimeError

    monkeypatch.setattr("apps.sources.services.pushing.append_quotes", broken)
    with pytest.raises(RuntimeError):
        push(message(("A", 30, "10"), received=0))
    monkeypatch.undo()
    push(message(("A", 30, "10"), received=20))

    assert stored() == [("A", 0, 10)]
    assert FeedEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("properties", "sender"),
    [({"user_id": "own-prices"}, OTHER), ({}, "queue:"), ({"user_id": None}, "queue:"), ({"user_id": "\0"}, "queue:")],
    ids=str,
)
def test_a_message_of_the_queue_has_the_user_that_it_names(properties, sender):
    arrived = Arrived(SimpleNamespace(properties=properties), "feed", START, [])

    assert arrived.sender == sender


@given(
    st.lists(st.tuples(st.integers(0, 2_000_000_000), st.integers(-90_000_000, 60_000_000)), min_size=1, max_size=12)
)
def test_the_skew_is_the_greatest_since_the_last_hour_without_a_quote_ahead(messages):
    """messages: (microseconds since the message before, microseconds ahead)."""
    skew, moment, seen = Skew(), 0, []
    for wait, ahead in messages:
        moment += wait
        seen.append((moment, ahead))
        skew = domain.skew_after(
            skew, ahead=timedelta(microseconds=ahead), received_at=START + timedelta(microseconds=moment)
        )
        # The contract, from the newest message back: to where an hour passes without a quote that is ahead.
        greatest, reached = 0, moment
        for received, by in reversed(seen):
            if reached - received >= 3_600_000_000:
                break
            if by > 0:
                greatest, reached = max(greatest, ceil(Fraction(by, 1_000_000))), received
        assert skew.seconds == greatest
