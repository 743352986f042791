"""Answers whose quotes are all the next of their assets: stored on PostgreSQL without reading what came before."""

import random
from collections import Counter

import pytest

from apps.market.models import Asset, FeedEntry, FeedHead, LatestQuote, Quote, UnconfirmedQuote
from apps.market.services import log
from apps.market.services.moving import move_asset
from tests.builders import START, append_quotes, at, make_feed
from tests.market.rows import newest_prices, stored_quotes

pytestmark = [pytest.mark.django_db, pytest.mark.servers]


@pytest.fixture
def in_step(monkeypatch):
    """Return a list that gets, for each answer that was tried, whether it was in step."""
    tried = []
    append = log._append_in_step

    def noted(head, admitted, **columns):
        entry = append(head, admitted, **columns)
        tried.append(entry is not None)
        return entry

    monkeypatch.setattr(log, "_append_in_step", noted)
    return tried


def facts_of(entry):
    return (entry.seq, entry.accepted, entry.late, entry.repeated, entry.unconfirmed, entry.rejected, entry.switched)


def test_the_next_quotes_of_all_assets_are_stored_and_are_the_newest(in_step):
    feed = make_feed("A", "B", "C")
    append_quotes(feed, [("A", START, "10"), ("B", START, "20"), ("C", START, "30")])
    entry = append_quotes(feed, [("A", at(1), "15"), ("B", at(2), "10")])

    assert in_step == [True]
    assert facts_of(entry) == (2, 2, 0, 0, 0, {}, None)
    assert (entry.first_at, entry.last_at, entry.as_of) == (at(1), at(2), at(2))
    assert newest_prices() == [("A", at(1), "15"), ("B", at(2), "10"), ("C", START, "30")]
    assert stored_quotes()[-2:] == [("A", at(1), "15"), ("B", at(2), "10")]


@pytest.mark.parametrize(
    ("quotes", "provider", "facts"),
    [
        ([("A", at(1), "11"), ("NEW", at(1), "1")], "simulated", (2, 2, 0, 0, 0, {})),
        ([("A", at(1), "11"), ("B", at(1), "30.0000000001")], "simulated", (2, 1, 0, 0, 1, {})),
        ([("A", at(1), "11"), ("B", at(1), "20")], "another", (2, 2, 0, 0, 0, {})),
    ],
    ids=["new", "jump", "switch"],
)
def test_what_is_not_in_step_is_placed_quote_by_quote(quotes, provider, facts, in_step):
    feed = make_feed("A", "B", "NEW")
    append_quotes(feed, [("A", START, "10"), ("B", START, "20")])
    entry = append_quotes(feed, quotes, provider=provider)

    assert in_step == [False]
    assert facts_of(entry)[:-1] == facts
    assert Quote.objects.filter(entry=entry).count() == entry.accepted
    assert list(FeedEntry.objects.order_by("seq").values_list("seq", flat=True)) == [1, 2]
    assert FeedHead.objects.get(feed=feed).seq == 2


def test_a_quote_that_waits_for_the_next_is_settled_by_it(in_step):
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", START, "10"), ("B", START, "20")])
    append_quotes(feed, [("A", at(1), "100")])
    entry = append_quotes(feed, [("A", at(2), "11")])

    assert in_step == [False, False]
    assert facts_of(entry) == (3, 1, 0, 0, 0, {"jump": 1}, None)
    assert not UnconfirmedQuote.objects.exists()


def test_what_waits_in_another_feed_holds_up_nobody(in_step):
    feed, other = make_feed("A"), make_feed("B", name="other")
    append_quotes(feed, [("A", START, "10")])
    append_quotes(other, [("B", START, "10")])
    append_quotes(other, [("B", at(1), "100")])
    append_quotes(feed, [("A", at(1), "11")])

    assert in_step == [False, True]
    assert UnconfirmedQuote.objects.count() == 1


@pytest.mark.parametrize(
    "quotes",
    [[("A", at(5), "11")], [("A", at(6), "10"), ("A", at(7), "11")], []],
    ids=["not later than the clock", "twice", "none"],
)
def test_what_cannot_be_in_step_is_not_tried(quotes, in_step):
    feed = make_feed("A")
    append_quotes(feed, [("A", START, "10")], as_of=at(5))
    entry = append_quotes(feed, quotes, as_of=at(8))

    assert in_step == []
    assert entry.accepted == len(quotes)


@pytest.mark.parametrize(
    ("second", "facts", "newest"),
    [(30, (2, 1, 0, 1, 0, {}, None), at(30)), (20, (2, 1, 1, 0, 0, {}, None), at(30))],
    ids=["stored", "late"],
)
def test_an_asset_may_come_with_a_quote_ahead_of_its_new_feeds_clock(second, facts, newest, in_step):
    feed, recording = make_feed("A", name="feed"), make_feed("B", name="recording")
    append_quotes(recording, [("B", START, "1")])
    append_quotes(feed, [("A", at(30), "10")])
    feed.evaluation_cursor.__class__.objects.filter(feed=feed).update(seq=1)
    move_asset(asset_id=Asset.objects.get(symbol="A").pk, feed_id=recording.pk)
    entry = append_quotes(recording, [("A", at(second), "10"), ("B", at(40), "1")])

    assert in_step == [False]
    assert facts_of(entry) == facts
    assert newest_prices() == [("A", newest, "10"), ("B", at(40), "1")]


def _answer(draw, second, prices):
    """Return (number of the asset, at, price) as a market gives them, with its faults."""
    quotes = []
    for number in range(4):
        for _ in range(draw.choice([0, 1, 1, 1, 1, 1, 1, 2] if draw.random() < 0.2 else [1])):
            prices[number] = max(prices[number] * draw.choice([98, 100, 103]) // 100, 10)
            price = prices[number] * draw.choice([1] * 90 + [3])
            quotes.append((number, at(second - draw.choice([0] * 90 + [1, 2, 15])), str(price)))
    return quotes


def _all_of(feed):
    number = {asset.pk: asset.symbol[1:] for asset in feed.assets.all()}
    entries = [
        (*facts_of(entry)[:-1], {slug: [number[one] for one in ids] for slug, ids in (entry.switched or {}).items()})
        for entry in FeedEntry.objects.filter(feed=feed).order_by("seq")
    ]
    quotes = Quote.objects.filter(asset__feed=feed).order_by("at", "asset__symbol")
    rows = list(quotes.values_list("asset", "at", "price", "late", "entry__seq"))
    newest = LatestQuote.objects.filter(asset__feed=feed).order_by("asset__symbol")
    unconfirmed = UnconfirmedQuote.objects.filter(asset__feed=feed).order_by("asset__symbol")
    newest_rows, held_rows = (
        newest.values_list("asset", "at", "price", "provider"),
        unconfirmed.values_list("asset", "at", "price"),
    )
    return entries, [[(number[row[0]], *row[1:]) for row in one] for one in (rows, newest_rows, held_rows)]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_rows_are_those_of_placing_quote_by_quote(seed, monkeypatch):
    draw, prices, taken = random.Random(seed), [1_000] * 4, Counter()
    quick, careful = (make_feed(*(f"{name}{one}" for one in range(4)), name=name) for name in "qc")
    append = log._append_in_step

    def only_quick(head, admitted, **columns):
        entry = append(head, admitted, **columns) if head.feed_id == quick.pk else None
        taken[head.feed_id, entry is not None] += 1
        return entry

    monkeypatch.setattr(log, "_append_in_step", only_quick)
    for second in range(60):
        quotes = _answer(draw, second, prices)
        provider = draw.choice(["first"] * 20 + ["second"])
        for feed in (quick, careful):
            named = [(f"{feed.name}{number}", moment, price) for number, moment, price in quotes]
            append_quotes(feed, named, as_of=at(second), provider=provider)

    assert _all_of(quick) == _all_of(careful)
    assert taken[quick.pk, True] > 20
    assert taken[quick.pk, False] >= 5
