"""Splits: quotes and candles stay as they came, and are read as they count at a place of the log."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Q
from hypothesis import given
from hypothesis import strategies as st

from apps.market import cache, domain, queries
from apps.market.domain import Given, PathCandle, RawQuote, epoch_microseconds, price_units
from apps.market.models import Asset, Candle, Feed, FeedEntry, FeedHead, LatestQuote, Quote, Split, UnconfirmedQuote
from apps.market.services import (
    SplitRefused,
    append_split,
    move_asset,
    prune_minute_candles,
    redo_cache_writes,
    roll_up,
)
from apps.market.services import log as log_services
from apps.market.splits import SplitFact, Splits
from apps.pipeline import flow
from apps.sources.services import import_history
from tests.builders import START, TRACE, append_quotes, at, make_feed

factors = st.integers(1, 100_000)


@given(st.integers(-(10**40), 10**40), factors, factors)
def test_a_price_is_multiplied_exactly_and_rounded_half_to_even_once(units, numerator, denominator):
    exact = round(Fraction(units * numerator, denominator))

    found = domain.scaled(units, numerator, denominator)

    # What is not 0 does not become 0: a price of 0 could be compared with nothing.
    sign = (units > 0) - (units < 0)
    assert found == (exact or sign)


@given(
    st.lists(st.tuples(st.integers(0, 100), factors, factors, st.integers(1, 5)), max_size=5),
    st.integers(-1, 101),
    st.integers(1, 10**20),
    st.integers(0, 6),
)
def test_a_price_is_multiplied_by_all_later_splits_that_are_known(rows, moment, units, place):
    splits = Splits(SplitFact(1, *row) for row in rows).up_to(place)
    known = [row for row in rows if row[0] > moment and row[3] <= place]
    factor = Fraction(1)
    for _, numerator, denominator, _ in known:
        factor *= Fraction(denominator, numerator)

    assert splits.units(1, moment, units) == max(round(units * factor), 1)
    assert splits.units(2, moment, units) == units


@given(st.integers(1, 10**16), st.integers(1, 10**10), factors, factors)
def test_a_candle_of_one_price_has_that_price_as_its_mean_after_a_split_too(price, length, numerator, denominator):
    sums, given = (price * length, price**2 * length), Given(price, price, price, price)
    candle = PathCandle(60, 0, price, 0, price, length, price, length, price, *sums, given)
    splits = Splits([SplitFact(1, length + 1, numerator, denominator)])

    (found,) = splits.path(1, [candle])

    assert found.price_time == found.open * length
    assert found.square_time == found.open**2 * length


@pytest.fixture
def feed(db):
    return make_feed("ACME", "BETA", jump_percent=0)


@pytest.fixture
def careful(feed):
    """Return the feed, in which a price that jumps by more than 50 % waits."""
    Feed.objects.update(jump_percent=50)
    feed.refresh_from_db()
    return feed


def asset(symbol="ACME"):
    return Asset.objects.get(symbol=symbol)


def enter(seconds, ratio="20:1", *, symbol="ACME", **columns):
    numerator, denominator = map(int, ratio.split(":"))
    terms = {"effective_at": at(seconds), "numerator": numerator, "denominator": denominator, "now": at(1_000_000)}
    return append_split(asset_id=asset(symbol).pk, trace_id=TRACE, **(terms | columns))


def quote_each(feed, *quotes, symbol="ACME"):
    """Append an entry for each (seconds, price)."""
    for seconds, price in quotes:
        append_quotes(feed, [(symbol, at(seconds), price)])


def plain(units):
    return f"{domain.round_price(domain.price_of(units)).normalize():f}"


def path_at(feed, seq, *, hours=24):
    reach = {asset().pk: [(1, hours * 3_600_000_000)] if hours else []}
    path = queries.stored_path(reach, with_sums=True, feed_id=feed.pk, up_to_seq=seq, coarse=61).get(asset().pk, [])
    return [plain(price) for _, price in path]


def latest(symbol="ACME"):
    return f"{LatestQuote.objects.get(asset__symbol=symbol).price.normalize():f}"


def test_a_split_counts_from_its_place_in_the_log_and_no_quote_is_rewritten(feed):
    quote_each(feed, (0, "100"), (60, "200"), (120, "10.5"))
    split = enter(120)

    assert [path_at(feed, seq) for seq in (3, 4)] == [["100", "200", "10.5"], ["5", "10", "10.5"]]
    assert list(Quote.objects.order_by("at").values_list("price", flat=True)) == [100, 200, Decimal("10.5")]
    assert (split.entry.seq, split.entry.kind, str(split)) == (4, "split", "20:1")
    quoted = queries.quoted_path({asset().pk: 0}, feed_id=feed.pk, up_to_seq=4)[asset().pk]
    assert [plain(price) for _, price in quoted] == ["10", "10.5"]


def test_two_splits_are_multiplied_and_rounded_once(feed):
    quote_each(feed, (0, "100"), (60, "40"), (120, "10"))
    enter(60, "3:1")
    enter(120, "3:2")

    assert path_at(feed, 5) == ["22.2222222222222", "26.6666666666667", "10"]
    assert path_at(feed, 4) == ["33.3333333333333", "40", "10"]


def test_a_split_that_was_entered_in_error_is_undone_by_its_inverse(feed):
    quote_each(feed, (0, "100"), (120, "5"))
    enter(60, "3:1")
    enter(60, "1:3")

    assert [path_at(feed, seq)[0] for seq in (2, 3, 4)] == ["100", "33.3333333333333", "100"]
    assert enter(60, "3:1") is None


def test_the_same_split_is_entered_once_in_whatever_terms(feed):
    quote_each(feed, (120, "5"))

    assert enter(60, "20:1") is not None
    assert enter(60, "40:2") is None
    assert Split.objects.count() == 1
    assert FeedEntry.objects.filter(kind="split").count() == 1


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (2, 2), (100_001, 1)])
def test_the_database_refuses_a_ratio_that_is_none_and_a_split_that_is_there(feed, numerator, denominator):
    quote_each(feed, (120, "5"))
    split = enter(60)
    entry = FeedEntry.objects.exclude(kind="split").first()
    columns = {"asset": split.asset, "effective_at": at(0)}

    for terms in ({"numerator": numerator, "denominator": denominator}, {"numerator": 20, "effective_at": at(60)}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Split.objects.create(**(columns | {"denominator": 1, "entry": entry} | terms))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"effective_at": at(61)}, "from a whole minute on"),
        ({"effective_at": at(180)}, "the clock of the feed feed is at 2026-03-02 12:02:00 UTC; enter the split when"),
        ({"effective_at": START.replace(year=1980)}, "effective in 1990 or later"),
        ({"numerator": 1}, "1:1 is no split: nothing would change"),
        ({"numerator": 0}, "whole numbers from 1 to 100000"),
        ({"denominator": 100_001}, "whole numbers from 1 to 100000"),
        (
            {"numerator": 1, "denominator": 100_000},
            "the newest price of ACME, 100\u202f000, would be 10\u202f000\u202f000\u202f000, which is out of range",
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused_and_nothing_is_written(feed, change, said, monkeypatch):
    monkeypatch.setattr(domain, "PRICE_HIGHEST", Decimal(10**9))
    quote_each(feed, (0, "100000"))
    quote_each(feed, (1, "5"), (120, "5"), symbol="BETA")

    with pytest.raises(SplitRefused, match=said):
        enter(60, **change)

    assert (Split.objects.count(), FeedHead.objects.get(feed=feed).seq) == (0, 3)


def test_an_asset_in_no_feed_has_no_log_for_its_split(feed):
    move_asset(asset_id=asset().pk, feed_id=None)

    with pytest.raises(SplitRefused, match="ACME is in no feed"):
        enter(0)


def test_the_newest_price_is_adjusted_where_it_is_from_before_the_split(feed, monkeypatch):
    monkeypatch.setattr(cache, "_local", {})
    quote_each(feed, (0, "100"), (10, "7"), symbol="BETA")
    quote_each(feed, (30, "100"), (130, "120"))
    now = {"now": at(130)}
    ids = [asset("ACME").pk, asset("BETA").pk]
    assert queries.latest_prices(ids, **now)[ids[1]][1] == 7

    enter(120, "3:1")
    enter(120, "3:1", symbol="BETA", **now)
    redo_cache_writes(**now)

    assert (latest("ACME"), latest("BETA")) == ("120", "2.33333333333333")
    assert queries.latest_prices(ids, **now)[ids[1]] == (at(10), Decimal("2.33333333333333"))


@pytest.mark.servers
def test_the_newest_price_is_adjusted_in_redis_too(feed):
    quote_each(feed, (0, "100"))
    ids, now = [asset().pk], at(0)
    known = {"feed_ids": [feed.pk], "interval_seconds": 60, "now": now}
    log_services.cache_latest(newest={ids[0]: (at(0), Decimal(100))}, **known)

    log_services.cache_latest(newest={ids[0]: (at(0), Decimal(50))}, **known)
    before = cache.get_latest(ids, now=now)
    log_services.cache_latest(newest={ids[0]: (at(0), Decimal(50))}, again=True, **known)
    after = cache.get_latest(ids, now=now)
    log_services.cache_latest(newest={ids[0]: (at(-1), Decimal(1))}, again=True, **known)

    assert (before, after, cache.get_latest(ids, now=now)) == (
        {ids[0]: (at(0), Decimal(100))},
        {ids[0]: (at(0), Decimal(50))},
        {ids[0]: (at(0), Decimal(50))},
    )


def test_the_newest_price_whose_quote_is_kept_no_more_is_adjusted_too(feed):
    quote_each(feed, (0, "100"), (1, "7"))
    Quote.objects.all().delete()
    FeedHead.objects.update(as_of=at(120))

    enter(60, "2:1")

    assert latest() == "3.5"


def test_after_a_split_the_price_that_waited_is_accepted_with_the_next_one(careful):
    quote_each(careful, (0, "100"), (120, "5"))
    assert UnconfirmedQuote.objects.get().price == 5
    enter(60)

    quote_each(careful, (121, "5.1"))

    entry = FeedEntry.objects.latest("seq")
    assert (entry.accepted, entry.unconfirmed, entry.rejected) == (2, 0, {})
    assert path_at(careful, entry.seq) == ["5", "5", "5.1"]


def test_what_came_before_a_split_and_waits_is_compared_as_it_counts_and_stored_as_it_came(careful):
    quote_each(careful, (0, "100"), (30, "300"), (31, "290"), (60, "1000"))
    FeedHead.objects.update(as_of=at(200))
    enter(120)

    # 290 is 14.5 now, and 1000 is 50: this confirms it.
    quote_each(careful, (150, "52"))

    entry = FeedEntry.objects.latest("seq")
    assert (entry.accepted, entry.unconfirmed, entry.rejected) == (2, 0, {})
    assert path_at(careful, entry.seq) == ["5", "15", "14.5", "50", "52"]
    assert Quote.objects.get(at=at(60)).price == 1000


def test_a_quote_from_before_a_split_that_comes_after_it_is_read_as_it_counts(feed):
    quote_each(feed, (0, "100"))
    FeedHead.objects.update(as_of=at(200))
    enter(120)

    quote_each(feed, (60, "110"))

    assert (latest(), path_at(feed, 3)) == ("5.5", ["5", "5.5"])
    assert queries.latest_prices([asset().pk], now=at(60))[asset().pk][1] == Decimal("5.5")
    assert queries.evaluated_quotes(FeedEntry.objects.get(seq=3)) == [
        (asset().pk, epoch_microseconds(at(60)), price_units(Decimal("5.5")))
    ]


def test_history_from_before_a_split_is_read_as_it_counts(feed):
    FeedHead.objects.update(as_of=at(200))
    enter(120)
    import_history(feed_id=feed.pk, quotes=[RawQuote("ACME", "110", at(60))], now=at(300), trace_id=TRACE)

    assert (latest(), path_at(feed, 2)) == ("5.5", ["5.5"])


def test_entries_are_read_with_the_splits_that_each_of_them_knew(feed):
    quote_each(feed, (0, "100"), (60, "102"))
    enter(60)
    FeedHead.objects.update(as_of=at(200))
    enter(180, "2:1")
    quote_each(feed, (170, "8"))
    entries = list(FeedEntry.objects.order_by("seq"))

    together = queries.evaluated_quotes_of(entries)

    one_by_one = {entry.pk: found for entry in entries if (found := queries.evaluated_quotes(entry))}
    assert together == one_by_one
    assert [plain(price) for found in together.values() for _, _, price in found] == ["100", "102", "4"]


def test_a_backtest_and_people_see_all_that_is_known_now(feed):
    quote_each(feed, (0, "100"), (60, "110"), (120, "10"))
    enter(120)
    FeedHead.objects.update(as_of=at(86_400))
    pk, span = asset().pk, {"since": at(0), "until": at(121)}

    assert [plain(price) for _, _, price in queries.quotes_between([pk], **span)] == ["5", "5.5", "10"]
    assert [plain(price) for _, _, price, _ in queries.released_between([pk], **span)] == ["5", "5.5", "10"]
    before = queries.path_before({pk: 1}, before=at(61))[pk]
    assert [plain(price) for _, price in before] == ["5", "5.5"]
    drawn = [(low, high) for _, low, high in queries.price_path(pk, **span)]
    assert drawn == [(5, 5), (Decimal("5.5"), Decimal("5.5")), (10, 10)]
    assert queries.in_force_at({pk: at(59)})[pk][1] == 5
    assert queries.variations_over({pk: Decimal(10)}, back=timedelta(hours=24)) == {pk: Decimal(100)}


def test_the_chart_of_an_alert_shows_what_its_rule_saw(feed):
    quote_each(feed, (0, "100"), (60, "10"))
    entry = FeedEntry.objects.latest("seq")
    enter(60, "10:1")
    span = {"since": at(0), "until": at(61)}

    assert [low for _, low, _ in queries.price_path(asset().pk, **span)] == [10, 10]
    assert [low for _, low, _ in queries.price_path(asset().pk, up_to_entry=entry.pk, **span)] == [100, 10]


@pytest.fixture
def rolled_up(feed):
    """Return a feed with a quote a minute from 10:00 to 13:59: 100, 101, ... until 12:30, and 6.5 ever after, in
    candles; and the split at 12:30."""
    prices = [str(100 + number) if number < 150 else "6.5" for number in range(240)]
    past = [("ACME", at(60 * number - 7_200), price) for number, price in enumerate(prices)]
    append_quotes(feed, [("BETA", at(3 * 86_400), "1")], history=past)
    flow.evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass
    return feed


def candles(resolution):
    found = queries.candles_of([asset().pk], resolution=resolution, chosen=Q(), limit=500)[asset().pk]
    return [(one.open, one.high, one.low, one.close) for one in reversed(found)]


def test_candles_are_read_as_they_count_also_those_in_which_the_split_was(rolled_up):
    as_they_came = candles(3_600)
    enter(1_800, "50:1")

    half = Decimal(50)
    assert candles(3_600) == [
        (100 / half, 159 / half, 100 / half, 159 / half),
        (160 / half, 219 / half, 160 / half, 219 / half),
        (220 / half, Decimal("6.5"), 220 / half, Decimal("6.5")),
        (Decimal("6.5"),) * 4,
    ]
    assert candles(86_400) == [(Decimal(2), Decimal("6.5"), Decimal(2), Decimal("6.5"))]
    assert as_they_came[2] == (220, 249, Decimal("6.5"), Decimal("6.5"))
    assert Candle.objects.get(resolution=86_400, asset=asset()).high == 249


def test_windows_see_the_same_of_candles_as_of_quotes(rolled_up):
    enter(1_800, "50:1")
    seq = FeedHead.objects.get(feed=rolled_up).seq
    of_quotes = path_at(rolled_up, seq)
    Quote.objects.filter(asset=asset()).delete()

    needs = {asset().pk: [(1, 86_400_000_000)]}
    found = queries.stored_path(needs, with_sums=True, feed_id=rolled_up.pk, up_to_seq=seq, coarse=1)

    # Of the hour of the split its minutes are read, and of those around it the hours.
    path = found[asset().pk]
    assert all(isinstance(one, PathCandle) for one in path)
    assert {one.low for one in path} <= {price_units(Decimal(price)) for price in of_quotes}
    assert (min(one.low for one in path), max(one.high for one in path)) == (
        2 * domain.UNITS_PER_ONE,
        price_units(Decimal("6.5")),
    )
    sums = sum(one.price_time for one in path)
    assert 0 < sums < price_units(Decimal("6.5")) * 240 * 60 * 10**6


@pytest.mark.parametrize("days", [1, 400, 4_000])
def test_a_chart_in_candles_has_no_price_from_the_other_side_of_the_split(rolled_up, days):
    enter(1_800, "50:1")
    if days > 1:
        Quote.objects.filter(asset=asset()).delete()

    path = queries.price_path(asset().pk, since=at(-86_400 * days), until=at(86_400))

    assert (min(one.low for one in path), max(one.high for one in path)) == (2, Decimal("6.5"))
    assert [one.at for one in path] == sorted(one.at for one in path)
    assert {Decimal("4.98"), Decimal("6.5")} <= {one.high for one in path}


def test_the_minutes_of_the_day_of_a_split_are_kept(rolled_up, settings):
    settings.MINUTE_CANDLE_RETENTION_DAYS = 0
    Quote.objects.all().delete()
    append_quotes(rolled_up, [("BETA", at(9 * 86_400), "1")])
    enter(1_800, "50:1")

    prune_minute_candles()

    assert Candle.objects.filter(resolution=60, asset=asset()).count() == 240
    assert candles(86_400) == [(Decimal(2), Decimal("6.5"), Decimal(2), Decimal("6.5"))]


def test_a_split_within_a_candle_whose_minutes_are_gone_is_refused(rolled_up):
    Candle.objects.filter(resolution=60).delete()

    with pytest.raises(SplitRefused, match="one candle is kept of 2026-03-02 12:00:00 to 2026-03-02 12:59:00 UTC"):
        enter(1_800, "50:1")

    assert Split.objects.count() == 0
    enter(-86_400, "50:1")
