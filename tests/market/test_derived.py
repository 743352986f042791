"""Derived series as they are stored: their log, their past, what is refused, and that crashes change nothing."""

import random
import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError

from apps.alerts.models import Alert
from apps.alerts.owned import delete_series, delete_series_of
from apps.market import queries
from apps.market.derived import deriving
from apps.market.derived.deriving import claim_feeds_to_derive, derive_next
from apps.market.derived.making import change_series
from apps.market.derived.models import DerivedFeed, LegCursor, SeriesChange
from apps.market.derived.series import SeriesInvalid, read_written
from apps.market.models import Asset, FeedEntry, FeedHead, LatestQuote, Quote
from apps.market.services import AssetStays
from apps.pipeline import flow
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.market.derived_rows import DyingAppend, Killed, expected_of, make_series, stored_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _cold():
    deriving._warm.clear()
    yield
    deriving._warm.clear()


@pytest.fixture
def feed():
    feed = make_feed("A", "B", jump_percent=0)
    append_quotes(feed, [("A", at(0), "10"), ("B", at(0), "5")])
    return feed


def derive(asset, seconds=0):
    """Derive all that there is, and return how many entries that made."""
    entries = 0
    while derive_next(feed_id=asset.feed_id, now=at(seconds), trace_id=TRACE) is not None:
        entries += 1
    return entries


def prices(asset):
    rows = Quote.objects.filter(asset=asset).order_by("at").values_list("at", "price", "entry__kind")
    return [(int((moment - START).total_seconds()), f"{price.normalize():f}", kind) for moment, price, kind in rows]


def log_of(asset):
    return list(FeedEntry.objects.filter(feed=asset.feed_id).order_by("seq").values_list("kind", flat=True))


def test_a_ratio_has_its_past_and_goes_on(feed):
    append_quotes(feed, [("A", at(1), "12")])
    asset = make_series("A-IN-B", "ratio", {"asset": "A", "max_skew": "5s"}, {"asset": "B", "max_skew": "5s"})
    assert prices(asset) == [(0, "2", "history"), (1, "2.4", "history")]
    assert derive(asset) == 0
    append_quotes(feed, [("A", at(3), "15"), ("B", at(2), "4")])
    append_quotes(feed, [("A", at(9), "16")])
    assert derive(asset) == 1
    # At 9 B's quote is older than its skew.
    assert prices(asset)[2:] == [(2, "3", "quotes"), (3, "3.75", "quotes")]
    assert log_of(asset) == ["series", "history", "quotes"]
    assert LatestQuote.objects.get(asset=asset).price == queries.newest_stored([asset.pk])[asset.pk][1]
    assert FeedHead.objects.get(pk=asset.feed_id).as_of == at(9)
    assert expected_of(asset.feed_id) == stored_of(asset.feed_id)


def test_the_past_before_the_quotes_comes_from_closes(feed):
    append_quotes(feed, [("A", at(86_300), "10")])
    flow.evaluate_pending(feed_id=feed.pk)
    flow.roll_up()
    append_quotes(feed, [("A", at(86_400), "30"), ("B", at(86_400), "6")])
    Quote.objects.filter(at__lt=at(86_400)).delete()
    asset = make_series("A-IN-B", "ratio", "A", "B")
    assert prices(asset) == [(0, "2", "history"), (86_400, "5", "history")]


def test_a_series_of_a_feed_without_a_clock_begins_with_its_first_answer():
    feed = make_feed("A", "B", jump_percent=0)
    asset = make_series("A-IN-B", "ratio", "A", "B")
    history = [("A", at(-60), "9"), ("B", at(-60), "3")]
    append_quotes(feed, [("A", at(0), "10"), ("B", at(0), "5")], history=history)
    derive(asset)
    assert prices(asset) == [(-60, "3", "history"), (0, "2", "quotes")]
    assert log_of(asset) == ["series", "history", "quotes"]


def test_series_of_one_owner_over_the_same_feeds_share_a_feed(feed):
    owner = make_owner()
    first = make_series("ONE", "ratio", "A", "B", owner=owner)
    second = make_series("TWO", "basket", {"asset": "B", "weight": "-2"}, owner=owner)
    other = make_series("ONE", "ratio", "A", "B")
    assert first.feed_id == second.feed_id != other.feed_id
    append_quotes(feed, [("A", at(1), "20"), ("B", at(1), "5")])
    assert derive(first) == 1
    assert FeedEntry.objects.filter(feed=first.feed_id, kind="quotes").count() == 1
    assert [prices(one)[-1] for one in (first, second)] == [(1, "4", "quotes"), (1, "-10", "quotes")]
    assert (first.signed, second.signed) == (False, True)


def test_the_slower_leg_sets_the_pace_until_it_is_left_behind():
    fast, slow = (make_feed(symbol, name=name, jump_percent=0) for symbol, name in (("A", "fast"), ("B", "slow")))
    append_quotes(fast, [("A", at(0), "10")])
    append_quotes(slow, [("B", at(0), "5")])
    asset = make_series("A-IN-B", "ratio", {"asset": "A", "max_skew": "1h"}, {"asset": "B", "max_skew": "30s"})
    append_quotes(fast, [("A", at(20), "20")])
    assert derive(asset) == 0
    append_quotes(slow, [("B", at(10), "4")])
    assert derive(asset) == 1
    assert prices(asset)[1:] == [(10, "2.5", "quotes")]
    append_quotes(fast, [("A", at(71), "30")])
    assert derive(asset) == 1
    # From 10 to 71 is more than 60 s; at 20 B still counted, at 71 no more.
    assert prices(asset)[2:] == [(20, "5", "quotes")]
    (left,) = SeriesChange.objects.exclude(left_behind=None)
    assert (left.left_behind_id, left.entry.as_of) == (slow.pk, at(10))
    # What comes late makes no quote of its own time; then it sets the pace again.
    append_quotes(slow, [("B", at(60), "6")])
    assert derive(asset) == 0
    append_quotes(slow, [("B", at(80), "6")])
    append_quotes(fast, [("A", at(90), "36")])
    assert derive(asset) == 1
    assert prices(asset)[3:] == [(80, "5", "quotes")]
    assert SeriesChange.objects.exclude(left_behind=None).count() == 1
    assert not LegCursor.objects.filter(is_behind=True).exists()
    assert expected_of(asset.feed_id) == stored_of(asset.feed_id)


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_leg_with_many_entries_to_read_is_not_left_behind(monkeypatch, is_warm):
    fast, slow = (make_feed(symbol, name=name, jump_percent=0) for symbol, name in (("A", "fast"), ("B", "slow")))
    append_quotes(fast, [("A", at(0), "10")])
    append_quotes(slow, [("B", at(0), "5")])
    legs = {"asset": "A", "max_skew": "1h"}, {"asset": "B", "max_skew": "1h"}
    asset = make_series("A-IN-B", "ratio", *legs)
    # Nobody derives for longer than the timeout, while both go on.
    for seconds in range(10, 201, 10):
        append_quotes(fast, [("A", at(seconds), str(seconds))])
    append_quotes(slow, [("B", at(200), "5")])
    monkeypatch.setattr(deriving, "ENTRIES_AT_ONCE", 3)
    entries = 0
    while derive_next(feed_id=asset.feed_id, now=at(200), trace_id=TRACE) is not None:
        entries += 1
        if not is_warm:
            deriving._warm.clear()
    assert entries == 7
    assert [moment for moment, _, _ in prices(asset)] == list(range(0, 201, 10))
    assert not SeriesChange.objects.exclude(left_behind=None).exists()
    assert expected_of(asset.feed_id) == stored_of(asset.feed_id)


def test_a_changed_series_is_another_from_its_place_in_the_log_on(feed):
    asset = make_series("SUM", "basket", {"asset": "A", "weight": "2"}, "B")
    append_quotes(feed, [("A", at(1), "10"), ("B", at(1), "5")])
    derive(asset)
    written = read_written({"kind": "basket", "legs": [{"asset": "A", "weight": "3"}, "B"]})
    assert change_series(asset=asset, written=written, now=START, trace_id=TRACE)
    assert not change_series(asset=asset, written=written, now=START, trace_id=TRACE)
    append_quotes(feed, [("A", at(2), "10"), ("B", at(2), "5")])
    derive(asset)
    assert prices(asset) == [(0, "25", "history"), (1, "25", "quotes"), (2, "35", "quotes")]
    assert expected_of(asset.feed_id) == stored_of(asset.feed_id)
    make_feed("C", name="other")
    with pytest.raises(SeriesInvalid, match="make a new series instead"):
        change_series(
            asset=asset, written=read_written({"kind": "ratio", "legs": ["A", "C"]}), now=START, trace_id=TRACE
        )


def test_series_are_made_of_series_at_most_five_levels_deep(feed):
    below = "A"
    for level in range(1, 6):
        below = make_series(f"LEVEL-{level}", "basket", below).symbol
    append_quotes(feed, [("A", at(1), "7")])
    for level in range(1, 6):
        derive(Asset.objects.get(symbol=f"LEVEL-{level}"))
    assert prices(Asset.objects.get(symbol="LEVEL-5"))[-1] == (1, "7", "quotes")
    with pytest.raises(SeriesInvalid, match="at most 5 levels deep"):
        make_series("LEVEL-6", "basket", below)
    assert not Asset.objects.filter(symbol="LEVEL-6").exists()


def test_a_series_cannot_be_made_of_itself(feed):
    asset = make_series("X", "basket", "A")
    above_it = make_series("Y", "basket", "X")
    for leg, why in ((asset, "X is this series itself"), (above_it, "Y is made of X itself")):
        with pytest.raises(SeriesInvalid, match=rf"legs\[0\].asset: {why}"):
            change_series(
                asset=asset, written=read_written({"kind": "basket", "legs": [leg.symbol]}), now=START, trace_id=TRACE
            )


@pytest.mark.parametrize(
    ("legs", "message"),
    [
        (["A", "NONE"], r"legs\[1\].asset: there is no asset NONE"),
        (["A", "BARE"], r"legs\[1\].asset: BARE is in no feed"),
        (["A", "LIVE"], "legs: the clock of A is a recording's, and that of another leg is this machine's"),
        (["A", "THEIRS"], r"legs\[1\].asset: there is no asset THEIRS"),
    ],
)
def test_legs_that_do_not_fit_are_refused(feed, legs, message):
    Asset.objects.create(symbol="BARE")
    make_feed("LIVE", name="live", provider="coinbase")
    make_series("THEIRS", "ratio", "A", "B", owner=make_owner())
    feeds = queries.every_feed().count()
    with pytest.raises(SeriesInvalid, match=message):
        make_series("NEW", "ratio", *legs)
    with pytest.raises(ValidationError, match="There is an asset of this symbol already"):
        make_series("A", "ratio", "A", "B")
    assert queries.every_feed().count() == feeds
    assert not Asset.objects.filter(symbol="NEW").exists()


def test_a_leg_stays_while_it_is_one_and_a_series_in_its_feed(feed):
    owner = make_owner()
    asset = make_series("A-IN-B", "ratio", "A", "B", owner=owner)
    flow.evaluate_pending(feed_id=feed.pk)
    flow.evaluate_pending(feed_id=asset.feed_id)
    other = make_feed(name="other")
    leg = Asset.objects.get(symbol="A")
    for moved, feed_id, message in (
        (leg, None, "is a leg of derived series"),
        (asset, None, "delete it instead"),
        (Asset.objects.create(symbol="C"), asset.feed_id, "derived series alone"),
    ):
        with pytest.raises(AssetStays, match=message):
            flow.move_asset(asset_id=moved.pk, feed_id=feed_id, now=START)
    delete_series(asset_ids=[asset.pk], now=START)
    assert not DerivedFeed.objects.exists()
    flow.move_asset(asset_id=leg.pk, feed_id=other.pk, now=START)


def test_deleting_an_owners_series_takes_those_made_of_others_first(feed):
    owner = make_owner()
    make_series("Y", "basket", make_series("X", "basket", "A", owner=owner).symbol, owner=owner)
    for feed_id in queries.every_feed().values_list("pk", flat=True):
        flow.evaluate_pending(feed_id=feed_id)
    assert delete_series_of(owner_id=owner.pk, now=START) == 2
    owner.delete()
    assert set(Quote.objects.values_list("asset__symbol", flat=True)) == {"A", "B"}


def test_rules_fire_on_a_series(feed):
    owner = make_owner()
    asset = make_series("A-IN-B", "ratio", "A", "B", owner=owner)
    make_rule(owner, assets=["A-IN-B"], condition=above(3))
    append_quotes(feed, [("A", at(1), "20"), ("B", at(1), "5")])
    derive(asset)
    flow.evaluate_pending(feed_id=asset.feed_id)
    (alert,) = Alert.objects.all()
    assert (alert.asset_id, alert.opened_at) == (asset.pk, at(1))


def test_a_feed_whose_legs_are_ahead_is_dispatched_once(feed):
    asset = make_series("A-IN-B", "ratio", "A", "B")
    assert claim_feeds_to_derive(now=START) == []
    append_quotes(feed, [("A", at(1), "20"), ("B", at(1), "5")])
    assert claim_feeds_to_derive(now=START) == [asset.feed_id]
    assert claim_feeds_to_derive(now=START) == []
    assert claim_feeds_to_derive(now=START + timedelta(seconds=31)) == [asset.feed_id]
    derive(asset)
    assert claim_feeds_to_derive(now=START) == []


@pytest.mark.parametrize("seed", range(4))
def test_crashes_change_nothing(monkeypatch, seed):
    """Kill the derivation at any of its statements, forget what the process knows, and go on: what is stored is what
    the logs say."""
    chance = random.Random(seed)
    feeds = {
        "A": make_feed("A", name="one", jump_percent=0),
        "B": make_feed("B", "C", name="two", jump_percent=0),
        "C": None,
    }
    feeds["C"] = feeds["B"]
    for symbol in "ABC":
        append_quotes(feeds[symbol], [(symbol, at(0), "5")])
    legs = [{"asset": symbol, "max_skew": f"{chance.randint(1, 9)}s"} for symbol in "AB"]
    asset = make_series("RATIO", "ratio", *legs)
    make_series("SUM", "basket", {"asset": "C", "weight": "-0.3", "max_skew": "4s"}, *legs[:1])
    append = DyingAppend(chance)
    monkeypatch.setattr(deriving, "append_quotes", append)
    clock = 0
    for _ in range(40):
        clock += chance.randint(0, 3)
        symbol = chance.choice("ABC")
        append_quotes(feeds[symbol], [(symbol, at(clock), str(chance.randint(1, 9)))], as_of=at(clock))
        if chance.random() < 0.5:
            try:
                derive_next(feed_id=asset.feed_id, now=at(clock), trace_id=TRACE)
            except Killed:
                deriving._warm.clear()
    append.is_deadly = False
    for symbol in "AB":
        append_quotes(feeds[symbol], [(symbol, at(clock + 1), "2")], as_of=at(clock + 1))
    derive(asset)
    assert all(append.deaths.values())
    assert stored_of(asset.feed_id) == expected_of(asset.feed_id)
    assert stored_of(asset.feed_id)
    seqs = list(FeedEntry.objects.filter(feed=asset.feed_id).order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("is_warm", [True, False])
def test_what_a_process_remembers_makes_no_difference(feed, is_warm):
    asset = make_series("A-IN-B", "ratio", {"asset": "A", "max_skew": "9s"}, {"asset": "B", "max_skew": "9s"})
    for second in range(1, 6):
        append_quotes(feed, [("A", at(2 * second), str(second))])
        if second == 3:
            append_quotes(feed, [], history=[("B", at(5), "8")])
        if not is_warm:
            deriving._warm.clear()
        derive(asset)
    assert prices(asset)[1:] == [
        *((2, "0.2", "quotes"), (4, "0.4", "quotes"), (5, "0.25", "quotes"), (6, "0.375", "quotes")),
        *((8, "0.5", "quotes"), (10, "0.625", "quotes")),
    ]


@pytest.mark.parametrize(
    ("symbol", "named"),
    [("A-IN-B", "a-in-b"), ("X_1.Y/Z:Q", "x-1-y-z-q"), ("L" * 64, "l" * 48)],
)
def test_a_derived_feed_is_called_after_its_first_series(feed, symbol, named):
    asset = make_series(symbol, "ratio", {"asset": "A", "max_skew": "5s"}, {"asset": "B", "max_skew": "5s"})
    assert re.fullmatch(rf"derived-{named}-[0-9a-f]{{6}}", asset.feed.name)
    asset.feed.full_clean()
