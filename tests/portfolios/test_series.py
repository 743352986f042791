"""Series of portfolios: value, performance index and drift, as they are stored, followed and deleted."""

import random
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from django.core.exceptions import ValidationError

from apps.alerts.models import Alert
from apps.alerts.owned import delete_portfolio as delete_with_series
from apps.alerts.owned import delete_series_of
from apps.market.derived import deriving
from apps.market.derived.deriving import derive_next
from apps.market.derived.models import LegCursor
from apps.market.derived.series import SeriesInvalid
from apps.market.models import Asset, Candle, Feed, FeedEntry, LatestQuote, Quote
from apps.market.services import append_split
from apps.pipeline import flow
from apps.portfolios.domain.series import SeriesKind
from apps.portfolios.models import PortfolioSeries
from apps.portfolios.services import (
    PortfolioStays,
    TransactionsRefused,
    change_portfolio,
    change_series,
    correct_transaction,
    delete_portfolio,
    delete_transactions,
)
from apps.portfolios.valuing import performance_of
from tests.builders import TRACE, above, append_quotes, make_feed, make_owner, make_rule
from tests.market.derived_rows import DyingAppend, Killed, make_series, stored_of
from tests.portfolios.rows import bought, close, columns, make_asset, make_portfolio, record
from tests.portfolios.series_oracle import as_price, expected_of
from tests.portfolios.series_rows import DAY, at, make_legs, quote, roll_up, series_of, trade

pytestmark = pytest.mark.django_db
VALUE, INDEX, DRIFT = SeriesKind


@pytest.fixture(autouse=True)
def _cold():
    deriving._warm.clear()
    yield
    deriving._warm.clear()


@pytest.fixture
def feed():
    return make_legs()


@pytest.fixture
def savings(feed):
    portfolio = make_portfolio(make_owner())
    record(portfolio, bought(asset(feed, "ACME"), "2024-03-03", amount="100"))
    return portfolio


def asset(feed, symbol):
    return feed.assets.get(symbol=symbol)


def derive(series, moment=DAY):
    """Derive all that there is, and return how many entries that made."""
    entries = 0
    while derive_next(feed_id=series.feed_id, now=moment, trace_id=TRACE) is not None:
        entries += 1
    return entries


def prices(series, kind="quotes"):
    """Return (hours after DAY, price) of the quotes of one kind."""
    rows = Quote.objects.filter(asset=series, entry__kind=kind).order_by("at").values_list("at", "price")
    return [((moment - DAY) / timedelta(hours=1), f"{price.normalize():f}") for moment, price in rows]


def log_of(series):
    return list(FeedEntry.objects.filter(feed=series.feed_id).order_by("seq").values_list("kind", flat=True))


def test_the_three_series_of_a_portfolio_share_a_feed_and_begin_with_the_past(feed, savings):
    acme, bolt = asset(feed, "ACME"), asset(feed, "BOLT")
    value, index = series_of(savings, VALUE), series_of(savings, INDEX)
    drift = series_of(savings, DRIFT, target={acme.pk: Fraction(3, 4), None: Fraction(1, 4)})
    assert value.feed_id == index.feed_id == drift.feed_id
    assert (value.currency, index.currency, value.signed, index.signed, drift.signed) == ("EUR", "", True, False, True)
    # When ACME was quoted the day before, nothing was held.
    assert prices(value, "history") == [(0, "100")]
    assert prices(index, "history") == [(0, "100")]
    assert prices(drift, "history") == [(0, "25")]
    quote(feed, at(1), ACME="12", BOLT="20")
    assert derive(value) == 1
    # Nobody pays for it with cash here: it came in at 1:30.
    record(savings, trade("buy", bolt, at(1.5), "6", "120"))
    quote(feed, at(2), ACME="12", BOLT="20")
    quote(feed, at(3), ACME="15", BOLT="20")
    assert derive(value) == 1
    assert prices(value) == [(1, "120"), (2, "240"), (3, "270")]
    # A deposit is no gain: 20 % by the price of ACME, then 120 + 120 became 270.
    assert prices(index) == [(1, "120"), (2, "109.090909090909"), (3, "122.727272727273")]
    assert prices(drift) == [(1, "25"), (2, "50"), (3, "44.4444444444444")]
    assert stored_of(value.feed_id) == expected_of(value.feed_id)


def test_the_index_is_the_return_of_the_performance_page_at_the_same_moments(feed):
    """Quotes and trades at random times of some days, purchases that are recorded late among them."""
    chance = random.Random(7)
    portfolio, held = make_portfolio(make_owner()), [asset(feed, "ACME"), asset(feed, "BOLT")]
    record(portfolio, bought(held[0], "2024-03-03", amount="100"), bought(held[1], "2024-03-03", amount="210"))
    index = series_of(portfolio, INDEX, every=1)
    hour, compared = 0, 0
    for _ in range(30):
        hour += chance.choice((1, 2, 5, 9))
        if chance.random() < 0.5:
            moment = at(hour - chance.choice((0.5, 0.5, 30)))
            kind = chance.choice(("buy", "buy", "sell"))
            record(
                portfolio,
                trade(kind, chance.choice(held), moment, str(chance.randint(1, 3)), str(chance.randint(9, 70))),
            )
        quote(feed, at(hour), ACME=str(chance.randint(5, 20)), BOLT=str(chance.randint(10, 40)), EUR_USD="2")
        roll_up(feed)
        assert derive(index, at(hour)) == 1
        newest = Quote.objects.filter(asset=index, at=at(hour)).first()
        page = performance_of(portfolio, since=None, until=at(hour).date(), now=at(hour))
        assert newest.price == as_price((1 + page.twr) * 100)
        compared += 1
    assert compared == 30
    assert stored_of(index.feed_id) == expected_of(index.feed_id)
    assert len({price for _, price in prices(index)}) > 20


@pytest.mark.parametrize("seed", range(3))
def test_crashes_change_nothing(monkeypatch, seed):
    """Kill the derivation at any of its statements, forget what the process knows, record, correct and delete
    transactions, and go on: what is stored is what the logs say."""
    chance = random.Random(seed)
    feeds = [make_feed(name, name=name.lower(), jump_percent=0) for name in ("ACME", "BOLT", "CORE", "EUR-USD")]
    assets = [feed.assets.get() for feed in feeds]
    for one, columns_ in zip(assets, [{"currency": "EUR"}, {"currency": "USD"}, {"currency": "EUR"}, {}], strict=True):
        type(one).objects.filter(pk=one.pk).update(**columns_ or {"currency": "USD", "base_currency": "EUR"})
    for feed in feeds:
        quote(feed, at(0), **{feed.assets.get().symbol: "5"})
    owner = make_owner()
    portfolio = make_portfolio(owner, tracks_cash=True)
    rows = record(
        portfolio,
        columns("2024-03-03", "deposit", amount="1000", currency="EUR"),
        bought(assets[0], "2024-03-03", amount="50"),
    )
    target = {assets[0].pk: Fraction(1, 2), None: Fraction(1, 3)}
    value = series_of(portfolio, VALUE, every=chance.choice((1, 3_600)))
    series_of(portfolio, INDEX, every=chance.choice((1, 7_200)))
    drift = series_of(portfolio, DRIFT, every=1, target=target)
    append = DyingAppend(chance)
    monkeypatch.setattr(deriving, "append_quotes", append)
    clocks = [0.0] * 4
    for number in range(60):
        chosen = chance.randrange(4)
        clocks[chosen] = max(clocks[chosen] + 0.1, max(clocks) - 1) + chance.choice((0, 0.001, 0.5, 3))
        moment = at(clocks[chosen])
        append_quotes(feeds[chosen], [(assets[chosen].symbol, moment, str(chance.randint(3, 9)))], as_of=moment)
        if chance.random() < 0.2:
            held = chance.choice(assets[:3])
            when = min(at(max(clocks) - chance.choice((0, 0, 20))), at(max(clocks)))
            currency = "USD" if held == assets[1] else "EUR"
            row = trade("buy", held, when, "2", str(chance.randint(5, 20))) | {
                "currency": currency,
                "rate": Decimal("0.5"),
            }
            rows += record(portfolio, row if currency == "USD" else row | {"rate": None})
        elif chance.random() < 0.05 and len(rows) > 3:
            delete_transactions(rows=[rows.pop()], by=owner, now=moment)
        elif chance.random() < 0.05:
            columns_ = {"amount": Decimal(chance.randint(900, 1_100))}
            correct_transaction(row=rows[0], columns=columns_, by=owner, now=moment)
        elif number == 30:
            change_series(asset_id=drift.pk, portfolio=portfolio, every_seconds=60, target={None: Fraction(1)})
        if chance.random() < 0.5:
            try:
                derive_next(feed_id=value.feed_id, now=moment, trace_id=TRACE)
            except Killed:
                deriving._warm.clear()
    append.is_deadly = False
    end = at(max(clocks) + 2)
    for feed, one in zip(feeds, assets, strict=True):
        append_quotes(feed, [(one.symbol, end, "4")], as_of=end)
    derive(value)
    assert all(append.deaths.values())
    stored = stored_of(value.feed_id)
    assert stored == expected_of(value.feed_id)
    assert len({asset_id for _, asset_id, _, _ in stored}) == 3
    assert log_of(value).count("series") > 5


def test_the_past_is_each_days_end_by_closes_and_then_the_quotes_of_the_legs(feed, savings):
    acme = asset(feed, "ACME")
    for day, price in (("2024-02-27", "5"), ("2024-02-28", "6"), ("2024-02-29", "9")):
        close(acme, day, price)
    record(savings, bought(acme, "2024-02-28", quantity="10", amount="50"))
    history = [(f"{moment:%d %H:%M}", f"{price.normalize():f}") for moment, price in past_of(series_of(savings, VALUE))]
    # Of the 3rd, the quotes are there; its first is less than `every` after the last close.
    assert history == [
        ("28 23:59", "60"),
        ("29 23:59", "90"),
        ("01 23:59", "90"),
        ("02 23:59", "90"),
        ("04 00:00", "200"),
    ]
    index = [f"{price.normalize():f}" for _, price in past_of(series_of(savings, INDEX))]
    assert index == ["120", "180", "180", "180", "189.473684210526"]


def past_of(series):
    rows = Quote.objects.filter(asset=series, entry__kind="history").order_by("at")
    return list(rows.values_list("at", "price"))


def test_a_missing_price_or_rate_makes_no_quote(feed, savings):
    series, index = series_of(savings, VALUE), series_of(savings, INDEX)
    other = make_asset("OTHER", "USD", feed=feed)
    record(savings, trade("buy", other, at(0.5), "1", "50"))
    quote(feed, at(1), ACME="12", BOLT="20", EUR_USD="2")
    derive(series)
    # OTHER has no price.
    assert prices(series) == prices(index) == []
    quote(feed, at(2), ACME="12", OTHER="100", EUR_USD="2")
    # A price counts for two intervals, which are days here; then the rate is too old.
    quote(feed, at(51), ACME="12", OTHER="100")
    derive(series)
    assert prices(series) == [(2, "170")]
    assert stored_of(series.feed_id) == expected_of(series.feed_id)


def test_a_transaction_is_an_entry_of_the_log_and_counts_from_there_on(feed, savings):
    series = series_of(savings, VALUE)
    (row,) = savings.transactions.all()
    assert log_of(series) == ["series", "history"]
    quote(feed, at(1), ACME="12")
    derive(series)
    correct_transaction(row=row, columns={"quantity": Decimal(20)}, by=None, now=at(1))
    quote(feed, at(2), ACME="12")
    derive(series)
    # Nothing is rewritten.
    assert prices(series) == [(1, "120"), (2, "240")]
    assert log_of(series) == ["series", "history", "quotes", "series", "quotes"]
    # What says the same is no entry.
    correct_transaction(row=row, columns={"notes": "by the broker"}, by=None, now=at(2))
    change_portfolio(portfolio=savings, name="Other", base_currency="EUR", method="average")
    assert log_of(series)[-1] == "quotes"


def test_legs_come_and_go_with_what_is_held(feed, savings):
    series = series_of(savings, VALUE)
    other = make_feed("OTHER", name="other", jump_percent=0)
    other.assets.update(currency="EUR")
    quote(other, at(0), OTHER="7")
    assert legs_of(series) == {feed.pk}
    record(savings, trade("buy", other.assets.get(), at(0.5), "1", "7"))
    assert legs_of(series) == {feed.pk, other.pk}
    quote(feed, at(1), ACME="10")
    quote(other, at(1), OTHER="8")
    derive(series)
    record(savings, trade("sell", asset(feed, "ACME"), at(0.6), "10", "100"))
    assert legs_of(series) == {other.pk}
    quote(other, at(1.5), OTHER="9")
    derive(series)
    assert prices(series) == [(1, "108"), (1.5, "9")]
    record(savings, trade("sell", other.assets.get(), at(1.5), "1", "8"))
    assert legs_of(series) == set()
    quote(other, at(2), OTHER="8")
    assert derive(series) == 0
    assert stored_of(series.feed_id) == expected_of(series.feed_id)


def legs_of(series):
    return set(LegCursor.objects.filter(feed=series.feed_id).values_list("leg", flat=True))


def test_a_split_waits_for_the_portfolio_to_know_it_and_changes_no_value(feed, savings):
    acme = asset(feed, "ACME")
    series = series_of(savings, VALUE)
    quote(feed, at(1), ACME="6")
    derive(series)
    roll_up(feed)
    times = {"effective_at": at(0.5), "now": at(2)}
    append_split(asset_id=acme.pk, numerator=2, denominator=1, **times, trace_id=TRACE)
    quote(feed, at(2), ACME="7")
    assert derive(series) == 0
    flow.sweep()
    assert derive(series) == 1
    # At 1 nobody had said that there was a split.
    assert prices(series) == [(1, "60"), (2, "140")]


def test_at_most_one_quote_in_so_long(feed, savings):
    often, seldom = series_of(savings, VALUE, every=1), series_of(savings, INDEX, every=7_200)
    for minutes in (30, 60, 90, 120, 121, 240):
        quote(feed, at(minutes / 60), ACME="12")
    derive(often)
    assert [hours for hours, _ in prices(often)] == [0.5, 1, 1.5, 2, pytest.approx(121 / 60), 4]
    assert [hours for hours, _ in prices(seldom)] == [2, 4]


def test_a_feed_is_as_often_expected_as_it_has_quotes(feed, savings):
    """Also after a change; health goes by that."""
    series = series_of(savings, VALUE, every=7_200)
    interval = Feed.every.filter(pk=series.feed_id).values_list("interval_seconds", flat=True)
    assert interval.get() == 7_200
    series_of(savings, INDEX, every=60)
    assert interval.get() == 3_600
    change_series(
        asset_id=PortfolioSeries.objects.get(kind=INDEX).pk, portfolio=savings, every_seconds=5_000, target={}
    )
    assert interval.get() == 5_000


def test_a_feed_of_series_that_are_not_due_has_no_entry(feed, savings):
    series = series_of(savings, VALUE, every=7_200)
    quote(feed, at(1), ACME="12")
    assert derive(series) == 0
    quote(feed, at(2), ACME="13")
    assert derive(series) == 1
    assert prices(series) == [(2, "130")]


@pytest.mark.parametrize("is_warm", [True, False])
def test_what_a_process_remembers_makes_no_difference(feed, savings, is_warm):
    series, index = series_of(savings, VALUE, every=3_600), series_of(savings, INDEX, every=1)
    for hour in range(1, 60, 4):
        quote(feed, at(hour), ACME=str(10 + hour % 7))
        if not is_warm:
            deriving._warm.clear()
        derive(series)
    assert len(prices(series)) == len(prices(index)) == 15
    assert stored_of(series.feed_id) == expected_of(series.feed_id)


@pytest.mark.parametrize(
    ("holds", "message"),
    [
        ((), "holds nothing that is in a feed"),
        (("UNFED",), "holds nothing that is in a feed"),
        (("NEW",), "has no prices yet"),
        (("ACME", "LIVE"), "the clock of ACME is a recording's, and that of LIVE is this machine's"),
    ],
)
def test_what_no_series_can_be_made_of(feed, holds, message):
    make_asset("UNFED")
    make_feed("NEW", name="new")
    live = make_feed("LIVE", name="live")
    Feed.objects.filter(pk=live.pk).update(is_live=True)
    quote(live, at(0), LIVE="1")
    portfolio = make_portfolio(make_owner())
    for symbol in holds:
        record(portfolio, bought(Asset.objects.get(symbol=symbol), "2024-03-03"))
    with pytest.raises(SeriesInvalid, match=message):
        series_of(portfolio, VALUE)
    assert not Asset.every.filter(owner__isnull=False).exists()


def test_a_symbol_that_is_taken_is_refused(feed, savings):
    series_of(savings, VALUE)
    with pytest.raises(ValidationError, match="already"):
        series_of(savings, VALUE)


def test_no_portfolio_holds_what_is_made_of_one(feed, savings):
    series = series_of(savings, VALUE)
    above = make_series("TWICE", "basket", {"asset": "VALUE", "weight": "2"}, owner=savings.owner)
    other = make_portfolio(savings.owner, "Other")
    for one in (series, above):
        with pytest.raises(TransactionsRefused, match="made of a portfolio"):
            record(other, bought(one, "2024-03-03"))
    record(other, bought(make_series("FREE", "ratio", "ACME", "BOLT", owner=savings.owner), "2024-03-03"))


def tower(owner, *, levels, on="ACME", name="UP"):
    """Make series of series on an asset, and return the highest, of so many levels. None has more quotes than its
    legs."""
    for level in range(1, levels + 1):
        on = make_series(f"{name}{level}", "basket", {"asset": on, "weight": "1"}, owner=owner).symbol
    return Asset.every.get(symbol=on)


@pytest.mark.parametrize("kind", SeriesKind)
def test_a_series_of_a_portfolio_is_made_of_series_at_most_five_levels_deep(feed, kind):
    owner = make_owner()
    highest = tower(owner, levels=5)
    for level in range(1, 6):
        derive(Asset.every.get(symbol=f"UP{level}"))
    portfolio = make_portfolio(owner)
    record(portfolio, bought(highest, "2024-03-03"))
    target = {None: Fraction(1)} if kind == DRIFT else {}
    with pytest.raises(SeriesInvalid, match="legs: series are made of series at most 5 levels deep"):
        series_of(portfolio, kind, target=target)
    assert not PortfolioSeries.objects.exists()
    # One level less is as deep as it goes.
    other = make_portfolio(owner, "Other")
    record(other, bought(Asset.every.get(symbol="UP4"), "2024-03-03"))
    assert series_of(other, kind, target=target).series.legs.get().asset.symbol == "UP4"


def test_a_transaction_brings_no_leg_in_that_is_too_deep(feed, savings):
    highest = tower(savings.owner, levels=5)
    series = series_of(savings, VALUE)
    record(savings, bought(Asset.every.get(symbol="UP4"), "2024-03-03"))
    before = (legs_of(series), log_of(series), savings.transactions.count())
    fine = trade("buy", asset(feed, "BOLT"), at(0), "1", "20")
    with pytest.raises(TransactionsRefused) as refused:
        record(savings, fine, trade("buy", highest, at(0), "1", "10"))
    (refusal,) = refused.value.refusals
    assert (refusal.key, refusal.field) == (2, "asset")
    assert refusal.message.startswith("A series of Savings, or one made of it, would be made of series more than 5")
    assert (legs_of(series), log_of(series), savings.transactions.count()) == before


def test_a_transaction_makes_nothing_too_deep_that_is_made_of_the_portfolio(feed, savings):
    series_of(savings, INDEX)
    tower(savings.owner, levels=4, on="INDEX", name="OVER")
    record(savings, trade("buy", asset(feed, "BOLT"), at(0), "1", "20"))
    free = make_series("FREE", "ratio", "ACME", "BOLT", owner=savings.owner)
    # The index of two levels has four above it.
    with pytest.raises(TransactionsRefused) as refused:
        record(savings, trade("buy", free, at(0), "1", "1"))
    assert [(one.key, one.field) for one in refused.value.refusals] == [(1, "asset")]
    # A sale that is deleted leaves what it sold.
    past = record(savings, trade("buy", free, at(-2), "1", "1"), trade("sell", free, at(-1), "1", "1"))
    with pytest.raises(TransactionsRefused) as refused:
        delete_transactions(rows=past[1:], by=None, now=at(1))
    assert [(one.key, one.field) for one in refused.value.refusals] == [(-past[0].pk, "asset")]


def test_the_base_currency_stays_while_there_are_series(feed, savings):
    series_of(savings, VALUE)
    with pytest.raises(ValidationError, match="delete these first"):
        change_portfolio(portfolio=savings, name="Savings", base_currency="USD", method="fifo")
    with pytest.raises(PortfolioStays, match="series"):
        delete_portfolio(portfolio=savings)


def settle(feed, *series):
    """Evaluate all that waits, and roll it up."""
    for feed_id in (feed.pk, *(one.feed_id for one in series)):
        flow.evaluate_pending(feed_id=feed_id)
    flow.roll_up()


@pytest.fixture
def watched(feed, savings):
    """All three series, with a firing rule on two of them."""
    made = [series_of(savings, VALUE), series_of(savings, INDEX), series_of(savings, DRIFT, target={None: Fraction(1)})]
    for symbol in ("VALUE", "INDEX"):
        make_rule(savings.owner, name=symbol, assets=[symbol], condition=above(101))
    quote(feed, at(1), ACME="12", BOLT="20")
    derive(made[0])
    settle(feed, *made)
    assert Alert.objects.filter(resolved_at=None).count() == 2
    return made


def left_of(owner):
    """Return what is stored of an owner's series."""
    feeds = Feed.every.filter(owner=owner)
    return {
        "assets": Asset.every.filter(owner=owner).count(),
        "feeds": feeds.count(),
        "entries": FeedEntry.objects.filter(feed__in=feeds).count(),
        "quotes": Quote.objects.filter(asset__lt=-1).count(),
        "candles": Candle.objects.filter(asset__lt=-1).count(),
        "latest": LatestQuote.objects.filter(asset__lt=-1).count(),
        "alerts": Alert.objects.count(),
    }


def test_deleting_a_portfolio_deletes_its_series_with_log_and_candles(feed, savings, watched):
    assert all(left_of(savings.owner).values())
    delete_with_series(portfolio=savings, now=at(2))
    assert not any(left_of(savings.owner).values())
    assert not PortfolioSeries.objects.exists()


def test_deleting_a_user_deletes_their_series_with_log_and_candles(feed, savings, watched):
    owner = savings.owner
    assert delete_series_of(owner_id=owner.pk, now=at(2)) == 3
    assert not any(left_of(owner).values())
    owner.delete()


def test_a_portfolio_stays_whole_while_one_of_its_series_stays(feed, savings, watched):
    make_series("TWICE", "basket", {"asset": "VALUE", "weight": "2"}, owner=savings.owner)
    before = left_of(savings.owner)
    with pytest.raises(PortfolioStays, match="leg of derived series"):
        delete_with_series(portfolio=savings, now=at(2))
    assert left_of(savings.owner) == before
