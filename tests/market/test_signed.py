"""Assets whose price may be 0 or less: every way in, the jump check, the percents that are shown, and the rules in
percent that do not apply to them."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.urls import reverse

from apps.alerts.models import Alert
from apps.backtests.services import RunRefused, request_backtest
from apps.market import domain
from apps.market.domain import QuoteRejected, RawQuote
from apps.market.models import Asset, Candle, LatestQuote, Quote, UnconfirmedQuote
from apps.market.queries import variations_over
from apps.market.services.candles import roll_up
from apps.pipeline.flow import evaluate_pending
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleState
from apps.rules.services import follow_assets
from apps.sources.services import Pushed, import_history, record_pushed
from tests.builders import TRACE, above, append_quotes, asset_ids, at, make_feed, make_owner, make_rule

RISES = {"kind": "rises", "percent": "10", "window": "5m"}


@pytest.fixture
def feed(db):
    """Give a feed with a signed asset SPREAD and one BTC that is not."""
    feed = make_feed("SPREAD", "BTC", provider="push")
    Asset.objects.filter(symbol="SPREAD").update(signed=True)
    return feed


def stored(symbol="SPREAD"):
    return list(Quote.objects.filter(asset__symbol=symbol).order_by("at").values_list("price", flat=True))


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("-1.5", "-1.5"),
        ("0", "0"),
        ("-0.000", "0"),
        ("0e-30", "0"),
        ("-1e-15", "-1e-15"),
        ("-1e12", "-1e12"),
        ("2", "2"),
    ],
)
def test_a_signed_price_is_admitted_in_symmetric_bounds(written, price):
    admitted = domain.admit_price(written, signed=True)
    assert (admitted, admitted.is_signed()) == (Decimal(price), price.startswith("-"))
    assert Decimal(domain.price_units(admitted)) == Decimal(price) * 10**18
    assert domain.price_of(domain.price_units(admitted)) == Decimal(price)


@pytest.mark.parametrize("written", ["-9e-16", "9e-16", "-1000000000000.1", "1e13", "-1e400"])
def test_a_signed_price_beyond_them_is_out_of_range(written):
    with pytest.raises(QuoteRejected, match="out_of_range"):
        domain.admit_price(written, signed=True)


def test_an_answer_gives_0_and_less_to_the_signed_asset_alone(feed):
    entry = append_quotes(
        feed, [("SPREAD", at(0), "0"), ("BTC", at(0), "0"), ("SPREAD", at(1), "-2"), ("BTC", at(1), "-2")]
    )
    assert (stored(), stored("BTC"), entry.rejected) == ([0, -2], [], {"out_of_range": 2})
    assert LatestQuote.objects.get().price == -2


def test_what_is_pushed_and_imported_goes_by_the_same_flag(feed, tmp_path, capsys):
    quotes = [RawQuote("SPREAD", "-3", at(1)), RawQuote("BTC", "-3", at(1))]
    pushed = record_pushed(feed_name="feed", pushes=[Pushed(at(2), quotes, sender="token")], now=at(2), trace_id=TRACE)
    past = [RawQuote("SPREAD", "-4", at(-2)), RawQuote("BTC", "-4", at(-2))]
    imported = import_history(feed_id=feed.pk, quotes=past, now=at(3), trace_id=TRACE)
    path = tmp_path / "quotes.csv"
    path.write_text(f"time,symbol,price\n{at(-1).isoformat()},SPREAD,0\n{at(-1).isoformat()},BTC,0\n")
    with pytest.raises(SystemExit, match="1"):
        call_command("import_quotes", str(path), feed=feed.name)

    assert pushed.rejected == imported.rejected == {"out_of_range": 1}
    assert "line 3: the price '0' is not from 1e-15 to 1e12; that of a signed asset may be 0" in capsys.readouterr().err
    assert (stored(), stored("BTC")) == ([-4, 0, -3], [])


def test_no_price_of_a_signed_asset_jumps(feed):
    prices = ["0.01", "-5", "0", "1000", "-0.5"]
    entries = [append_quotes(feed, [("SPREAD", at(second), price)]) for second, price in enumerate(prices)]
    append_quotes(feed, [("SPREAD", at(10), "-7"), ("SPREAD", at(11), "7")])
    assert stored() == [*map(Decimal, prices), -7, 7]
    assert [entry.unconfirmed for entry in entries] == [0] * 5
    assert not UnconfirmedQuote.objects.exists()


def test_a_jump_from_a_price_of_the_same_answer_waits_where_the_asset_is_not_signed(feed):
    append_quotes(feed, [("BTC", at(0), "10"), ("BTC", at(1), "20")])
    assert stored("BTC") == [10]


def test_candles_of_signed_prices_have_exact_sums(feed):
    for second, price in [(0, "-2"), (10, "0"), (20, "3"), (30, "-1"), (120, "1")]:
        append_quotes(feed, [("SPREAD", at(second), price)])
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass
    candle = Candle.objects.filter(resolution=60).order_by("at").first()
    assert (candle.open, candle.high, candle.low, candle.close) == (-2, 3, -2, -1)
    assert candle.price_time == (-20 + 0 + 30) * 10**18 * 10**6
    assert candle.square_time == (40 + 0 + 90) * 10**36 * 10**6


def test_no_percent_of_a_signed_asset_is_shown(feed):
    append_quotes(feed, [("SPREAD", at(0), "0"), ("BTC", at(0), "10")])
    append_quotes(feed, [("SPREAD", at(86_400), "5"), ("BTC", at(86_400), "11")])
    ids = asset_ids(feed)
    latest = {ids["SPREAD"]: Decimal(5), ids["BTC"]: Decimal(11)}
    assert variations_over(latest, back=timedelta(hours=24)) == {ids["BTC"]: 10}


def test_a_level_of_0_and_a_score_hold_for_a_signed_asset(feed):
    owner = make_owner()
    make_rule(owner, name="low", assets=["SPREAD"], condition={"kind": "below", "level": "0"})
    make_rule(owner, name="far", assets=["SPREAD"], condition={"kind": "zscore", "n": "1", "window": "10s"})
    for second, price in [(0, "1"), (5, "-1"), (10, "0"), (15, "-9")]:
        append_quotes(feed, [("SPREAD", at(second), price)])
    evaluate_pending(feed_id=feed.pk)
    assert [(one.rule.name, one.opened_at, one.summary) for one in Alert.objects.order_by("opened_at", "pk")] == [
        ("low", at(5), "SPREAD is below 0: -1 at 12:00:05 UTC"),
        ("low", at(15), "SPREAD is below 0: -9 at 12:00:15 UTC"),
        (
            "far",
            at(15),
            "SPREAD is 17 standard deviations from its average of 10 seconds: -9 at 12:00:15 UTC, average -0.5",
        ),
    ]


@pytest.mark.parametrize(
    ("symbol", "condition", "why"),
    [
        ("SPREAD", RISES, "rises in percent does not apply to a price that may be 0 or less (the asset is signed)"),
        ("SPREAD", {"not": RISES | {"kind": "falls"}},
         "falls in percent does not apply to a price that may be 0 or less (the asset is signed)"),
        ("SPREAD", {"any": [above(0), {"kind": "below_average", "percent": "0", "window": "1h"}]},
         "below_average in percent does not apply to a price that may be 0 or less (the asset is signed)"),
        ("BTC", above(0), "above 0 does not apply to a price that is always above 0 (the asset is not signed)"),
        ("BTC", {"kind": "exits", "low": "-1", "high": "5"},
         "exits -1 does not apply to a price that is always above 0 (the asset is not signed)"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_apply_to_a_symbol_is_refused_when_it_is_saved(feed, symbol, condition, why):
    with pytest.raises(RuleInvalid) as refusal:
        make_rule(make_owner(), assets=[symbol], condition=condition)
    assert str(refusal.value) == f"assets[0]: {symbol}: {why}"
    assert not Rule.objects.exists()


def test_of_a_feed_a_signed_asset_is_left_out_and_shown_as_not_applying(feed, client):
    owner = make_owner()
    rule = make_rule(owner, assets={"feed": feed.name}, condition=RISES)
    for second, price in enumerate(["10", "20"]):
        append_quotes(feed, [("SPREAD", at(second), price), ("BTC", at(second), price)])
    evaluate_pending(feed_id=feed.pk)
    owner.is_superuser = owner.is_staff = True
    owner.save()
    client.force_login(owner)

    assert list(RuleState.objects.values_list("asset__symbol", flat=True)) == ["BTC"]
    page = client.get(reverse("admin:rules_rule_change", args=[rule.pk])).text
    assert "does not apply: rises in percent does not apply to a price that may be 0 or less" in page


def test_an_asset_that_becomes_signed_is_left_out_and_until_then_unknown(feed):
    owner = make_owner()
    make_rule(owner, assets={"feed": feed.name}, condition=RISES)
    make_rule(owner, name="by symbol", assets=["BTC"], condition=RISES | {"kind": "falls"})
    append_quotes(feed, [("BTC", at(0), "10")])
    Asset.objects.filter(symbol="BTC").update(signed=True)
    append_quotes(feed, [("BTC", at(1), "-10")])
    append_quotes(feed, [("BTC", at(2), "-20")])
    evaluate_pending(feed_id=feed.pk)
    unknown = set(RuleState.objects.values_list("rule__name", "unknown"))
    opened = set(Alert.objects.values_list("rule__name", flat=True))

    assert (unknown, opened) == ({("rule", "price_not_positive"), ("by symbol", "")}, {"by symbol"})
    assert follow_assets(now=at(3), trace_id=TRACE) == 2
    evaluate_pending(feed_id=feed.pk)
    assert not RuleState.objects.exists()


def test_a_signed_asset_with_prices_of_0_or_less_stays_signed(feed):
    spread = Asset.objects.get(symbol="SPREAD")
    spread.signed = False
    spread.full_clean()
    append_quotes(feed, [("SPREAD", at(0), "0"), ("SPREAD", at(1), "1")])
    with pytest.raises(ValidationError, match="so it stays signed"):
        spread.full_clean()


def test_a_trial_leaves_out_what_the_rule_does_not_apply_to(feed):
    rule = make_rule(make_owner(), assets=["SPREAD"], condition=above(1))
    append_quotes(feed, [("SPREAD", at(0), "0")])
    document = {"assets": ["SPREAD"], "condition": RISES}
    with pytest.raises(RunRefused, match="The rule applies to no asset of a feed that it chooses"):
        request_backtest(owner=rule.owner, rule=rule, since=at(0), until=at(1), document=document, now=at(2))


def test_graphql_says_what_is_signed(feed, settings, client):
    settings.MARKET_IS_PUBLIC = True
    query = {"query": "{ assets { edges { node { symbol signed variation24h } } } }"}
    answer = client.post("/graphql", query, content_type="application/json").json()
    assert [edge["node"] for edge in answer["data"]["assets"]["edges"]] == [
        {"symbol": "BTC", "signed": False, "variation24h": None},
        {"symbol": "SPREAD", "signed": True, "variation24h": None},
    ]
