"""Answers whose quotes are all the next of their assets: stored on PostgreSQL without reading what came before."""

import random
from collections import Counter
from decimal import Decimal
from operator import itemgetter

import pytest
from django.db import transaction
from hypothesis import example, given
from hypothesis import strategies as st

from apps.market import partitions
from apps.market.domain import Admission, AdmittedQuote
from apps.market.models import Asset, FeedEntry, FeedHead, LatestQuote, Quote, UnconfirmedQuote
from apps.market.services import log
from apps.market.services.moving import move_asset
from apps.sources.services import answers
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed
from tests.market.rows import newest_prices, stored_quotes

pytestmark = [pytest.mark.django_db, pytest.mark.servers]


@pytest.fixture
def in_step(monkeypatch):
    """Return a list that gets, for each answer that was tried, whether it was in step."""
    tried = []
    append, store = log._append_in_step, answers.store_in_step

    def noted_store(those):
        stored = store(those)
        tried.extend(one.entry.feed_id in stored for one in those)
        return stored

    def noted(head, admitted, **columns):
        try:
            entry = append(head, admitted, **columns)
        except log.NotInStep:
            tried.append(False)
            raise
        tried.append(entry is not None)
        return entry

    monkeypatch.setattr(log, "_append_in_step", noted)
    monkeypatch.setattr(answers, "store_in_step", noted_store)
    return tried


# How an answer in step is stored: with its head by the statement of a fetch, under the head's lock by the statement of
# an entry, or by COPY.
WAYS = ("fetch", "entry", "copy")


def store_by(way, monkeypatch):
    """Let answers in step be stored in one of WAYS."""
    if way != "fetch":
        monkeypatch.setattr(answers, "in_step", lambda **facts: None)
    if way == "copy":
        monkeypatch.setattr(log, "FEW", 0)


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
    [[("A", at(5), "11")], [("A", at(6), "10"), ("A", at(6), "11")], []],
    ids=["not later than the clock", "twice", "none"],
)
def test_what_cannot_be_in_step_is_not_tried(quotes, in_step):
    feed = make_feed("A")
    append_quotes(feed, [("A", START, "10")], as_of=at(5))
    entry = append_quotes(feed, quotes, as_of=at(8))

    assert in_step == []
    assert entry.accepted == len(quotes)


def test_several_quotes_of_an_asset_are_in_step_where_each_is_the_next(in_step):
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", START, "10"), ("B", START, "20")])
    entry = append_quotes(feed, [("A", at(1), "14"), ("B", at(1), "21"), ("A", at(2), "20"), ("B", at(2), "22")])
    jumped = append_quotes(feed, [("A", at(3), "21"), ("B", at(3), "23"), ("A", at(4), "40"), ("B", at(4), "24")])

    assert in_step == [True, False]
    assert facts_of(entry) == (2, 4, 0, 0, 0, {}, None)
    assert facts_of(jumped) == (3, 3, 0, 0, 1, {}, None)
    assert newest_prices() == [("A", at(3), "21"), ("B", at(4), "24")]


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


def _of(lease, feed, seems, **facts):
    return seems(lease=lease, **facts) if lease.feed == feed else None


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


@pytest.mark.parametrize(("seed", "way"), [*enumerate(WAYS, start=1)])
def test_the_rows_are_those_of_placing_quote_by_quote(seed, way, monkeypatch):
    store_by(way, monkeypatch)
    draw, prices, taken = random.Random(seed), [1_000] * 4, Counter()
    quick, careful = (make_feed(*(f"{name}{one}" for one in range(4)), name=name) for name in "qc")
    append, seems, store = log._append_in_step, answers.in_step, answers.store_in_step

    def only_quick(head, admitted, **columns):
        taken[head.feed_id, False] += 1
        entry = append(head, admitted, **columns) if head.feed_id == quick.pk else None
        taken[head.feed_id, entry is not None] += 1
        taken[head.feed_id, False] -= 1
        return entry

    def noted_store(those):
        stored = store(those)
        taken.update((one.entry.feed_id, one.entry.feed_id in stored) for one in those)
        return stored

    monkeypatch.setattr(log, "_append_in_step", only_quick)
    monkeypatch.setattr(answers, "store_in_step", noted_store)
    monkeypatch.setattr(answers, "in_step", lambda lease, **facts: _of(lease, quick, seems, **facts))
    for second in range(60):
        quotes = _answer(draw, second, prices)
        provider = draw.choice(["first"] * 20 + ["second"])
        for feed in (quick, careful):
            named = [(f"{feed.name}{number}", moment, price) for number, moment, price in quotes]
            append_quotes(feed, named, as_of=at(second), provider=provider)

    assert _all_of(quick) == _all_of(careful)
    assert taken[quick.pk, True] > 20
    assert taken[quick.pk, False] >= 5


# As a property: what is in step by the contract, and by the statement, is what `place` takes as it is.

# Of each asset: the second of its newest quote (None: it has none), its price, who gave it, and a price that may wait.
some_assets = st.tuples(
    st.sampled_from([0, 0, 5, None]),
    st.sampled_from(["10", "20"]),
    st.sampled_from(["one", "one", "one", "two"]),
    st.sampled_from([None, None, None, None, "100"]),
)
IN_STEP = (0, "10", "one", None)
# Of each quote of the answer: its asset, its second, and its price.
some_quotes = st.tuples(
    st.sampled_from("ABC"),
    st.sampled_from([6, 6, 6, 7, 5.000001, 5, 4]),
    st.sampled_from(["10", "15", "15.00000000001", "20", "5", "4.99999999999"]),
)


def _begin(assets, *, percent):
    """Return a feed whose log is at the fifth second."""
    feed = make_feed("A", "B", "C", jump_percent=percent)
    known = [(symbol, *one) for symbol, one in zip("ABC", assets, strict=True) if one[0] is not None]
    for provider in ("one", "two"):
        quotes = [(symbol, at(second), price) for symbol, second, price, slug, _ in known if slug == provider]
        later = [(symbol, at(5), price) for symbol, second, _, slug, price in known if slug == provider and price]
        append_quotes(feed, quotes + later, provider=provider, as_of=at(5))
    return feed


def _should_be_in_step(quotes, *, percent, way):
    """Tell by the rows whether each quote is the next of its asset, without a jump, and nothing waits in the feed.
    Several quotes of one asset are taken by the statement of a fetch alone."""
    newest = {one.asset.symbol: one for one in LatestQuote.objects.select_related("asset")}
    # What says the same twice counts once.
    quotes = list(dict.fromkeys(quotes))
    known = [(symbol, second) for symbol, second, _ in quotes]
    prices = {symbol: one.price for symbol, one in newest.items()}
    if not quotes or UnconfirmedQuote.objects.exists() or len(set(known)) < len(known):
        return False
    if way != "fetch" and len({symbol for symbol, _ in known}) < len(known):
        return False
    for symbol, second, price in sorted(quotes, key=itemgetter(1)):
        last = newest.get(symbol)
        if second <= 5 or last is None or last.at >= at(second) or last.provider != "one":
            return False
        if percent and abs(Decimal(price) / prices[symbol] - 1) * 100 > percent:
            return False
        prices[symbol] = Decimal(price)
    return True


def _answered(feed, quotes, *, percent, way):
    """Return what the answer leaves behind, whether it was stored in step, and whether it should be; nothing stays.
    way: one of WAYS; None: it is placed quote by quote."""
    append, store, in_step = log._append_in_step, answers.store_in_step, []

    def noted_store(those):
        stored = store(those)
        in_step.append(bool(stored))
        return stored

    def tried(head, admitted, **columns):
        entry = append(head, admitted, **columns) if way else None
        in_step.append(entry is not None)
        return entry

    with transaction.atomic(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "store_in_step", noted_store)
        patch.setattr(log, "_append_in_step", tried)
        store_by(way, patch)
        should_be = _should_be_in_step(quotes, percent=percent, way=way)
        named = [(symbol, at(second), price) for symbol, second, price in quotes]
        entry = append_quotes(feed, named, provider="one", as_of=at(8))
        switched = [
            sorted(feed.assets.filter(pk__in=ids).values_list("symbol")) for ids in (entry.switched or {}).values()
        ]
        left = (_all_of(feed)[1], facts_of(entry)[:-1], switched, entry.first_at, entry.last_at)
        transaction.set_rollback(True)
    return left, any(in_step), should_be


@given(
    st.tuples(some_assets, some_assets, some_assets),
    st.lists(some_quotes, max_size=4),
    st.sampled_from([50, 50, 0]),
)
@example([IN_STEP] * 3, [("A", 6, "15"), ("B", 6, "5")], 50)
@example([IN_STEP] * 3, [("A", 6, "15"), ("B", 6, "15.00000000001")], 50)
@example([IN_STEP] * 3, [("A", 6, "10"), ("A", 6, "20")], 0)
@example([IN_STEP] * 3, [("A", 6, "10"), ("B", 7, "200")], 0)
@example(
    [(0, "10", "one", None), (0, "10", "two", None), (None, "10", "one", None)], [("A", 6, "10"), ("B", 6, "10")], 50
)
@example(
    [(0, "10", "one", None), (0, "10", "two", None), (None, "10", "one", None)], [("A", 6, "10"), ("C", 6, "10")], 50
)
@example([(5, "10", "one", "10.5")] * 3, [("A", 5.000001, "10.5")], 50)
@example([IN_STEP, (0, "10", "one", "100"), IN_STEP], [("A", 6, "11")], 50)
@example([IN_STEP] * 3, [("A", 6, "11"), ("A", 6, "11")], 50)
@example([IN_STEP] * 3, [("A", 6, "15"), ("B", 6, "10"), ("A", 7, "20")], 50)
@example([IN_STEP] * 3, [("A", 7, "15"), ("B", 6, "10"), ("A", 6, "5")], 50)
def test_what_is_stored_in_step_is_what_placing_stores(assets, quotes, percent):
    partitions.ensure({START.date()})
    with transaction.atomic():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log, "_append_in_step", lambda *args, **columns: None)
            patch.setattr(answers, "in_step", lambda **facts: None)
            feed = _begin(assets, percent=percent)
        wanted, _, _ = _answered(feed, quotes, percent=percent, way=None)
        for way in WAYS:
            found, is_in_step, should_be = _answered(feed, quotes, percent=percent, way=way)

            assert found == wanted, way
            assert is_in_step == should_be, way
        transaction.set_rollback(True)


@pytest.mark.parametrize("few", [100, 0])
def test_volumes_signs_and_small_prices_are_stored_as_they_came(few, in_step, monkeypatch):
    monkeypatch.setattr(log, "FEW", few)
    feed = make_feed("A", "B", "C", jump_percent=0)
    Asset.objects.filter(symbol="B").update(signed=True)
    append_quotes(feed, [("A", START, "10"), ("B", START, "20"), ("C", START, "30")])
    a, b, c = (asset_ids(feed)[symbol] for symbol in "ABC")
    quotes = [
        AdmittedQuote(a, at(1), Decimal("1E-15")),
        AdmittedQuote(b, at(1), Decimal(-5)),
        AdmittedQuote(c, at(2), Decimal("1E+12"), Decimal("2.5")),
    ]
    with transaction.atomic():
        head = log.lock_head(feed.pk)
        entry, fresh = log.append_quotes(
            head, Admission(quotes), as_of=at(2), provider="simulated", jump_percent=0, now=at(2), trace_id=TRACE
        )
        head.save()
    assert fresh == quotes
    stored = Quote.objects.filter(entry=entry).order_by("at", "asset__symbol").values_list("price", "volume", "late")
    assert in_step == [True]
    assert list(stored) == [
        (Decimal("0.000000000000001"), None, False),
        (Decimal(-5), None, False),
        (Decimal(10**12), Decimal("2.5"), False),
    ]
