"""Several prices of one asset at one time: a microsecond each, compared with an oracle that is written from
docs/feeds.md and shares no code with admission."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations

import pytest
from django.db import transaction
from hypothesis import example, given
from hypothesis import strategies as st

from apps.alerts.models import Alert
from apps.backtests.evaluation import read_quotes
from apps.market import domain, placing
from apps.market import services as market
from apps.market.domain import Newest, RawQuote, Unconfirmed
from apps.market.models import FeedEntry, Quote
from apps.pipeline.flow import evaluate_pending
from apps.sources import services as sources
from apps.sources.services import Pushed, history, record_pushed
from tests.builders import START, TRACE, above, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.market.rows import newest_prices, stored_quotes

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


# The oracle: times are microseconds after NOON


class Oracle:
    """What is stored by the contract, input after input. rows: asset -> {time: price}; late: {(asset, time)}."""

    def __init__(self):
        self.rows, self.late, self.counts = {"A": {}, "B": {}}, set(), Counter()

    def take(self, inputs, *, is_history=False):
        """Store the inputs of one entry, each [(asset, time, price), …]."""
        newest = {
            asset: max((time for time in rows if (asset, time) not in self.late), default=-1)
            for asset, rows in self.rows.items()
        }
        times = {quote[:2] for one in inputs for quote in one}
        for asset, time in sorted(times, key=lambda place: place[1]):
            for one in inputs:
                prices = [price for *place, price in one if place == [asset, time]]
                self._take_run(asset, time, prices, newest=newest[asset], is_history=is_history)

    def _take_run(self, asset, time, prices, *, newest, is_history):
        once = [price for number, price in enumerate(prices) if number == 0 or price != prices[number - 1]]
        rows = self.rows[asset]
        run = []
        while time + len(run) in rows:
            run.append(rows[time + len(run)])
        counts = (count for count in range(len(once) + 1) if tuple(once[:count]) in combinations(run, count))
        known = max(counts)
        self.counts["repeated"] += len(prices) - len(once) + known
        is_open = not run or (not is_history and time % 1_000 == 0 and time + len(run) > newest)
        for price in once[known:]:
            place = time + len(run)
            is_open = is_open and place not in rows and len(run) < 1_000
            if not is_open:
                self.counts["conflict"] += 1
                continue
            rows[place] = price
            run.append(price)
            if place <= newest and not is_history:
                self.late.add((asset, place))


class Stored:
    """A feed in memory, by the functions that feeds use. Has what `Oracle` has."""

    def __init__(self):
        self.rows, self.late, self.counts = {"A": {}, "B": {}}, set(), Counter()
        self._newest = {}

    def take(self, inputs, *, is_history=False):
        asset_ids = {"A": 1, "B": 2}
        quotes = []
        for number, one in enumerate(inputs):
            raws = [RawQuote(asset, price, NOON + time * MICROSECOND) for asset, time, price in one]
            as_of = NOON + timedelta(seconds=1)
            admitted = domain.admit(raws, asset_ids=asset_ids, as_of=as_of, assumed_at=as_of)
            self.counts["repeated"] += admitted.repeated
            quotes += [quote._replace(message=number) for quote in admitted.quotes]
        quotes.sort(key=lambda quote: (quote.at, quote.asset_id))
        if is_history:
            left = placing.spread(quotes, stored=self._stored(quotes), newest=None)
            self._add(left.quotes)
        else:
            left = placing.place(
                quotes,
                newest=self._newest,
                unconfirmed={},
                provider="one",
                jump_percent=0,
                stored_prices=self._stored,
            )
            self._add(left.fresh)
            self._add(left.late, late=True)
        self.counts += Counter(repeated=left.repeated) + left.rejected

    def _stored(self, quotes):
        wanted = {(quote.asset_id, quote.at + step * MICROSECOND) for quote in quotes for step in range(1_000)}
        rows = {
            (number, NOON + time * MICROSECOND): price
            for number, asset in ((1, "A"), (2, "B"))
            for time, price in self.rows[asset].items()
        }
        return {place: price for place, price in rows.items() if place in wanted}

    def _add(self, quotes, *, late=False):
        assert quotes == sorted(quotes, key=lambda quote: (quote.at, quote.asset_id))
        for quote in quotes:
            asset, time = "?AB"[quote.asset_id], (quote.at - NOON) // MICROSECOND
            assert time not in self.rows[asset]
            self.rows[asset][time] = quote.price
            if late:
                self.late.add((asset, time))
                continue
            moment = domain.epoch_microseconds(quote.at)
            if quote.asset_id not in self._newest or self._newest[quote.asset_id].at < moment:
                self._newest[quote.asset_id] = Newest(moment, quote.price)


def agree(entries):
    found, wanted = Stored(), Oracle()
    for inputs, is_history in entries:
        for one in (found, wanted):
            one.take(inputs, is_history=is_history)
        assert (found.rows, found.late, +found.counts) == (wanted.rows, wanted.late, +wanted.counts)
    return found


some_quotes = st.tuples(
    st.sampled_from("AAB"),
    st.sampled_from([0, 1, 2, 500, 999, 1_000, 1_001, 1_002, 2_000, 3_000]),
    st.sampled_from([Decimal(10), Decimal(11), Decimal(12)]),
)
an_input = st.lists(some_quotes, max_size=6)
some_entries = st.lists(st.tuples(st.lists(an_input, min_size=1, max_size=3), st.booleans()), max_size=5)


@given(some_entries)
@example([([[("A", 0, Decimal(10)), ("A", 0, Decimal(11)), ("A", 1, Decimal(12))]], False)])
@example([([[("A", 0, Decimal(10))], [("A", 0, Decimal(11))], [("A", 0, Decimal(10))]], False)])
@example([([[("A", 1, Decimal(10))], [("A", 1, Decimal(11))]], False)])
def test_what_is_stored_and_counted_is_what_the_contract_says(entries):
    agree(entries)


@given(some_entries, an_input)
def test_an_input_that_comes_again_adds_nothing(entries, last):
    found = agree([*entries, ([last], False)])
    rows = {asset: dict(rows) for asset, rows in found.rows.items()}
    found.take([last])

    assert found.rows == rows


@given(st.lists(an_input, min_size=1, max_size=4))
def test_how_messages_are_collected_into_entries_makes_no_difference_to_prices_of_one_time(inputs):
    inputs = [[(asset, 0, price) for asset, _, price in one] for one in inputs]
    together, apart = agree([(inputs, False)]), agree([([one], False) for one in inputs])

    assert (together.rows, together.late, +together.counts) == (apart.rows, apart.late, +apart.counts)


@given(st.lists(st.sampled_from([Decimal(10), Decimal(11)]), min_size=1, max_size=20))
def test_no_extreme_of_one_input_is_lost(prices):
    found = agree([([[("A", 0, price) for price in prices]], False)])

    path = list(found.rows["A"].values())
    assert path == [price for number, price in enumerate(prices) if number == 0 or price != prices[number - 1]]


def test_a_run_has_a_thousand_prices_at_most():
    prices = [Decimal(10 + number % 2) for number in range(1_003)]
    placement = placing.place(
        domain.in_runs([domain.AdmittedQuote(1, NOON, price) for price in prices]).quotes,
        newest={},
        unconfirmed={},
        provider="one",
        jump_percent=0,
        stored_prices=lambda behind: {},
    )

    assert [quote.at for quote in placement.fresh] == [NOON + step * MICROSECOND for step in range(1_000)]
    assert placement.rejected == {"conflict": 3}


# With a price that waits


def waiting(*prices, unconfirmed_at=NOON):
    """Place prices at NOON, where 10 is the newest a second before and 100 waits."""
    quote = domain.AdmittedQuote(1, unconfirmed_at, Decimal(100))
    return placing.place(
        domain.in_runs([domain.AdmittedQuote(1, NOON, Decimal(price)) for price in prices]).quotes,
        newest={1: Newest(domain.epoch_microseconds(NOON - timedelta(seconds=1)), Decimal(10))},
        unconfirmed={1: Unconfirmed(quote, "one")},
        provider="one",
        jump_percent=50,
        stored_prices=lambda behind: {},
    )


def test_the_price_that_waits_given_again_confirms_nothing():
    placement = waiting(100)

    assert (placement.fresh, placement.repeated, placement.unconfirmed, placement.rejected) == ([], 1, {}, {})


@pytest.mark.parametrize(
    ("prices", "fresh", "rejected"),
    [([101], [100, 101], {}), ([100, 101], [100, 101], {}), ([11], [11], {"jump": 1}), ([11, 100], [11], {"jump": 1})],
    ids=str,
)
def test_the_price_that_waits_stands_at_its_time_and_another_follows_it(prices, fresh, rejected):
    placement = waiting(*prices)

    assert [int(quote.price) for quote in placement.fresh] == fresh
    assert placement.fresh[-1].at == NOON + MICROSECOND
    assert placement.rejected == rejected


def test_where_the_clock_has_microseconds_another_price_at_the_time_of_the_one_that_waits_is_a_conflict():
    placement = placing.place(
        [domain.AdmittedQuote(1, NOON + MICROSECOND, Decimal(101))],
        newest={},
        unconfirmed={1: Unconfirmed(domain.AdmittedQuote(1, NOON + MICROSECOND, Decimal(100)), "one")},
        provider="one",
        jump_percent=50,
        stored_prices=lambda behind: {},
    )

    assert (placement.fresh, placement.rejected, placement.unconfirmed) == ([], {"conflict": 1}, {})


# In a feed


def push(*messages):
    """Push messages of (price, …) of A at START as one entry."""
    pushes = [Pushed(at(5), [RawQuote("A", price, START) for price in prices], "token:1") for prices in messages]
    return record_pushed(feed_name="own", pushes=pushes, now=at(5), trace_id=TRACE)


def prices_stored():
    rows = list(Quote.objects.order_by("at").values_list("at", "price"))
    assert [moment for moment, _ in rows] == [START + step * MICROSECOND for step in range(len(rows))]
    return [int(price) for _, price in rows]


@pytest.mark.django_db
def test_the_extreme_within_one_second_opens_an_alert():
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=above(11))
    entry = append_quotes(feed, [("A", START, "10"), ("A", START, "12"), ("A", START, "11")])
    evaluate_pending(feed_id=feed.pk)

    assert (entry.accepted, entry.rejected) == (3, {})
    assert prices_stored() == [10, 12, 11]
    assert newest_prices() == [("A", START + 2 * MICROSECOND, "11")]
    assert [(one.opened_at, one.evidence["price"]) for one in Alert.objects.all()] == [(START + MICROSECOND, "12")]


@pytest.mark.django_db
def test_what_goes_beyond_the_stored_run_is_appended_while_it_is_the_newest():
    feed = make_feed("A")
    append_quotes(feed, [("A", START, "10"), ("A", START, "11")])
    again = append_quotes(feed, [("A", START, "10"), ("A", START, "11"), ("A", START, "12")], as_of=at(1))
    contained = append_quotes(feed, [("A", START, "10"), ("A", START, "12")], as_of=at(2))
    last = append_quotes(feed, [("A", START, "12")], as_of=at(3))
    append_quotes(feed, [("A", at(4), "12")])
    behind = append_quotes(feed, [("A", START, "13"), ("A", START, "11")], as_of=at(5))

    counts = [(one.accepted, one.repeated, one.late, one.rejected) for one in (again, contained, last, behind)]
    assert counts == [(1, 2, 0, {}), (0, 2, 0, {}), (0, 1, 0, {}), (0, 0, 0, {"conflict": 2})]
    assert [price for _, _, price in stored_quotes()] == ["10", "11", "12", "12"]


@pytest.mark.django_db
@pytest.mark.parametrize("messages", [[("10", "11"), ("11",), ("12", "10")], [("10",), ("10", "11"), ("12", "10")]])
@pytest.mark.parametrize("is_collected", [True, False], ids=["one entry", "an entry each"])
def test_messages_of_one_entry_are_compared_as_those_of_several(messages, is_collected):
    make_feed("A", name="own", provider="push")
    entries = [push(*messages)] if is_collected else [push(one) for one in messages]

    assert sum(one.accepted for one in entries) == 4
    assert sum(one.repeated for one in entries) == 1
    assert [one.rejected for one in entries if one.rejected] == []
    assert prices_stored() == [10, 11, 12, 10]


@pytest.mark.django_db
def test_a_run_that_crosses_midnight_is_stored():
    feed = make_feed("A")
    last = datetime(2026, 3, 2, 23, 59, 59, 999_999, tzinfo=UTC)
    entry = append_quotes(feed, [("A", last, "10"), ("A", last, "11")])

    assert (entry.first_at, entry.last_at) == (last, last + MICROSECOND)
    assert stored_quotes() == [("A", last, "10"), ("A", last + MICROSECOND, "11")]


@pytest.mark.django_db
def test_an_import_sets_its_own_prices_apart_and_adds_none_to_a_time_that_has_one(monkeypatch):
    monkeypatch.setattr(history, "IMPORT_ROWS", 2)
    feed = make_feed("A")
    append_quotes(feed, [("A", at(3), "10")])

    def imported(*quotes):
        rows = [RawQuote("A", price, at(second)) for second, price in quotes]
        got = sources.import_history(feed_id=feed.pk, quotes=rows, now=at(10), trace_id=TRACE)
        return got.accepted, got.repeated, got.rejected, got.entries

    file = [(0, "7"), (1, "7"), (1, "8"), (1, "8"), (1, "9"), (2, "7"), (3, "11")]
    assert imported(*file) == (5, 1, {"conflict": 1}, 2)
    # The same file again, and another that knows more of one second.
    assert imported(*file) == (0, 6, {"conflict": 1}, 0)
    assert imported((1, "8"), (1, "7")) == (0, 1, {"conflict": 1}, 0)
    assert [(moment, price) for _, moment, price in stored_quotes()] == [
        (START, "7"),
        (at(1), "7"),
        (at(1) + MICROSECOND, "8"),
        (at(1) + 2 * MICROSECOND, "9"),
        (at(2), "7"),
        (at(3), "10"),
    ]


@pytest.mark.django_db
def test_the_history_of_an_answer_is_set_apart_too():
    feed = make_feed("A")
    append_quotes(feed, [], as_of=at(5), history=[("A", START, "10"), ("A", START, "12"), ("A", START, "12")])

    assert prices_stored() == [10, 12]
    assert FeedEntry.objects.get(kind="history").repeated == 1


def test_a_file_sets_apart_what_a_feed_sets_apart(tmp_path):
    (tmp_path / "quotes.csv").write_text(
        "time,symbol,price\n2026-03-02T12:00:00Z,A,10\n2026-03-02T12:00:01Z,A,10\n"
        "2026-03-02T12:00:00Z,A,12\n2026-03-02T12:00:00Z,A,12.0\n2026-03-02T12:00:00Z,A,10\n"
    )
    read = read_quotes(tmp_path / "quotes.csv", watched=(), jump_percent=50, now=at(10), progress=lambda rows: None)

    units = 10**domain.PRICE_DECIMALS
    begin = domain.epoch_microseconds(START)
    assert [(moment - begin, price // units) for _, moment, price in read.quotes] == [
        (0, 10),
        (1, 12),
        (2, 10),
        (1_000_000, 10),
    ]
    assert (read.accepted, read.repeated, read.rejected) == (4, 1, {})


# After a correction


@pytest.mark.django_db
def test_a_price_that_was_replaced_and_is_given_again_is_a_repeat():
    feed = make_feed("A", jump_percent=0)
    append_quotes(feed, [("A", START, "10"), ("A", START, "90"), ("A", START, "11")])
    replace_price(feed, START + MICROSECOND, "9")
    again = append_quotes(feed, [("A", START, "90"), ("A", START, "11")], as_of=at(1))
    assert (again.accepted, again.unconfirmed, again.repeated, again.rejected) == (0, 0, 2, {})

    more = append_quotes(feed, [("A", START, "10"), ("A", START, "90"), ("A", START, "12")], as_of=at(2))
    assert (more.accepted, more.repeated) == (1, 2)
    assert prices_stored() == [10, 9, 11, 12]


@pytest.mark.django_db
def test_the_newest_price_that_was_replaced_does_not_come_back_behind_the_right_one():
    feed = make_feed("A", jump_percent=0)
    append_quotes(feed, [("A", START, "90")])
    replace_price(feed, START, "9")
    append_quotes(feed, [("A", START, "90")], as_of=at(1))

    assert prices_stored() == [9]
    assert newest_prices() == [("A", START, "9")]


def replace_price(feed, moment, price):
    """Put another price in place of what is stored of A at that time."""
    quote = domain.AdmittedQuote(asset_ids(feed)["A"], moment, Decimal(price))
    market.make_cursor(feed.pk)
    with transaction.atomic():
        _, head = market.lock_for_correction(feed.pk)
        found = market.difference(domain.Admission([quote]))
        market.replace_quotes(head, found, now=at(1), trace_id=TRACE)
