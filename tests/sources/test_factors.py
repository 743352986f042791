"""Another provider takes over: windows see no difference between the two, and what is real they see."""

import json
import random
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.backtests.evaluation import try_on_stored
from apps.market import domain, partitions
from apps.market.models import Asset, Candle, FeedEntry, FeedHead, LatestQuote, ProviderSwitch, Quote
from apps.market.services import append_split, prune_switches, roll_up
from apps.pipeline.corrections import delete_quotes
from apps.pipeline.flow import evaluate_pending
from apps.rules import queries, services
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.windows import filled, new_window, push_into
from apps.rules.models import Checkpoint, Transition
from apps.sources.services import import_history
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.rules import oracle

pytestmark = pytest.mark.django_db
RISES = {"kind": "rises", "percent": "3", "window": "5m"}
FALLS = {"kind": "falls", "percent": "3", "window": "5m"}
SECOND = 1_000_000
TWO_FOR_ONE = {"numerator": 2, "denominator": 1, "now": at(0), "trace_id": TRACE}


def said(feed, *said, step=1):
    """Append (provider, price) to the log, so many seconds apart, of the asset A; None: the answer has no price."""
    begin = FeedHead.objects.get(feed=feed).as_of
    first = 0 if begin is None else (begin - START).total_seconds() + step
    for number, (provider, price) in enumerate(said):
        moment = at(first + number * step)
        quotes = [] if price is None else [("A", moment, price)]
        append_quotes(feed, quotes, as_of=moment, provider=provider)


def opened(feed, *conditions):
    """Return (condition's place, seconds after START) of each alert that these conditions open in the log to come."""
    evaluate_pending(feed_id=feed.pk)
    rows = Alert.objects.filter(asset__feed=feed).order_by("opened_at", "rule__name")
    return [(one.rule.name, (one.opened_at - START).total_seconds()) for one in rows]


def watch(feed, **conditions):
    owner = get_user_model().objects.first() or make_owner()
    return [make_rule(owner, name=name, assets=["A"], condition=one) for name, one in conditions.items()]


@pytest.fixture
def feed():
    feed = make_feed("A", name="pair")
    watch(feed, rises=RISES, falls=FALLS)
    return feed


def factors():
    return [(one.before, one.provider, one.factor) for one in ProviderSwitch.objects.order_by("pk")]


def test_another_provider_that_says_3_percent_more_opens_nothing_and_neither_does_the_way_back(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "103.2"), ("binance", "100"))

    assert opened(feed) == []
    (_, kraken), (_, binance) = [(one, one.factor) for one in ProviderSwitch.objects.order_by("pk")]
    assert (round(kraken, 12), binance) == (Decimal("0.968992248062"), 1)


def test_a_real_movement_is_seen_within_the_other_and_across_both_changes(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "106.296"), *[("kraken", "103.2")] * 9)
    # Ten intervals later binance is back, 3 % above its own price of before.
    said(feed, ("binance", "103"))

    assert opened(feed) == [("rises", 2), ("rises", 12)]


def test_quotes_of_two_providers_in_turns_show_how_far_each_has_moved(feed):
    kraken = [str(Decimal("103.2") + Decimal(n)) for n in range(4)]
    binance = [str(100 + n) for n in range(4)]
    said(
        feed,
        *(one for pair in zip(binance, kraken, strict=True) for one in zip(("binance", "kraken"), pair, strict=True)),
    )

    # Both have risen by 3 % since their own first price only at the end.
    assert opened(feed) == [("rises", 6)]
    assert [factor for _, _, factor in factors()][1::2] == [1, 1, 1]


def test_quotes_of_five_providers_in_turns_do_not_stand_still(feed):
    names = "abcde"
    said(feed, *((names[n % 5], str(100 + n // 5)) for n in range(16)))

    assert opened(feed) == [("rises", 15)]


@pytest.mark.parametrize(
    ("price", "opens"), [("105", []), ("105.01", [("rises", 1)]), ("95", []), ("94.99", [("falls", 1)])]
)
def test_a_step_of_more_than_5_percent_is_movement(feed, price, opens):
    said(feed, ("binance", "100"), ("kraken", price))

    assert opened(feed) == opens


@pytest.mark.parametrize(("percent", "opens"), [(0, [("rises", 1)]), (3, [("rises", 1)]), (4, []), (100, [])])
def test_the_feed_says_from_which_step_on_it_is_movement(percent, opens):
    feed = make_feed("A", switch_step_percent=percent)
    watch(feed, rises=RISES)
    said(feed, ("binance", "100"), ("kraken", "103.2"))

    assert opened(feed) == opens


@pytest.mark.parametrize(("silent", "opens"), [(2, []), (3, [("rises", 4)])])
def test_a_price_after_more_than_three_intervals_is_movement(feed, silent, opens):
    said(feed, ("binance", "100"), *[("binance", None)] * silent, ("kraken", "103.2"))

    assert opened(feed) == opens


def test_the_interval_is_that_at_which_answers_come_in_fact_where_that_is_longer(feed):
    said(feed, ("binance", "100"), ("binance", "100"), ("kraken", "103.2"), step=100)

    assert opened(feed) == []


def test_after_a_movement_the_factor_is_that_of_the_provider_before(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("coinbase", "120"))

    (_, _, kraken), (_, _, coinbase) = factors()
    assert coinbase == kraken
    evaluate_pending(feed_id=feed.pk)
    assert Alert.objects.get().evidence["change_percent"] == "16.2791"


@pytest.mark.parametrize(("days", "kept"), [(0.9, True), (1.1, False)])
def test_a_factor_is_kept_for_a_day_after_another_took_over(feed, days, kept):
    said(feed, ("binance", "100"), *[("kraken", "103.2")] * 10)
    append_quotes(feed, [("A", at(days * 86_400), "104")], provider="kraken")
    append_quotes(feed, [("A", at(days * 86_400 + 0.5), "102")], provider="binance")

    assert (factors()[-1][2] == 1) is kept


def test_where_answers_come_once_a_day_a_factor_is_kept_for_three(feed):
    said(feed, ("binance", "100"), ("kraken", "103"), ("binance", "101"), ("kraken", "104"), step=86_400)

    assert [factor for _, _, factor in factors()][1] == 1
    assert len(set(factors())) == 2


def test_what_was_imported_is_no_provider(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"))
    for second, provider, price in ((3, "kraken", "103.2"), (5, "binance", "100")):
        append_quotes(feed, [], as_of=at(second - 1), provider=provider)
        rows = [domain.RawQuote("A", "103.3", at(second - 1))]
        import_history(feed_id=feed.pk, quotes=rows, now=at(second - 1), trace_id=TRACE)
        assert LatestQuote.objects.get().provider == "import"
        append_quotes(feed, [("A", at(second), price)], provider=provider)

    assert [(before, now) for before, now, _ in factors()] == [("binance", "kraken"), ("kraken", "binance")]
    assert opened(feed) == []


def test_levels_bands_and_crossings_go_by_the_price_as_given():
    feed = make_feed("A")
    bounds = {"low": "102", "high": "104"}
    watch(
        feed,
        above={"kind": "above", "level": "103"},
        inside={"kind": "inside", **bounds},
        crosses={"kind": "crosses_up", "level": "103.5"},
        exits={"kind": "exits", **bounds},
    )
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "103.6"), ("kraken", "104.5"))

    assert opened(feed) == [("above", 1), ("inside", 1), ("crosses", 2), ("exits", 3)]


@pytest.mark.parametrize("price", ["103.2", "61230.1234567891", "99999999.9999999", "0.0000123457"])
def test_a_price_that_does_not_move_is_on_neither_side_of_its_mean_whoever_says_it(price):
    feed = make_feed("A")
    windows = {"percent": "0", "window": "10s", "min_coverage": "0.1"}
    watch(feed, below={"kind": "below_average", **windows}, above={"kind": "above_average", **windows})
    other = str(domain.admit_price(Decimal(price) * Decimal("1.0321")))
    said(feed, *[("binance", price)] * 3, *[("kraken", other)] * 3, ("binance", price), ("kraken", other))

    assert opened(feed) == []


def test_evidence_is_in_the_terms_of_the_newest_price_and_names_the_change(feed):
    said(feed, ("binance", "99"), ("binance", "100"), ("kraken", "103.2"), ("kraken", "106.296"), ("kraken", "109"))
    evaluate_pending(feed_id=feed.pk)

    alert = Alert.objects.get()
    factor = {"at": "2026-03-02T12:00:02Z", "factor": "0.968992248062"}
    assert alert.evidence["switched"] == {"from": "binance", "to": "kraken"} | factor
    assert (alert.evidence["reference"]["price"], alert.evidence["price"]) == ("102.168", "106.296")
    assert alert.summary == (
        "A rose 4.04 % in 5 minutes: 102.168 at 12:00:00 UTC → 106.296 at 12:00:03 UTC (compared "
        "across a change of provider "
        "at 12:00:02 UTC from binance to kraken, factor 0.969)"
    )


def test_evidence_from_within_one_provider_is_in_its_terms_and_names_no_change(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "108.36"))
    evaluate_pending(feed_id=feed.pk)

    alert = Alert.objects.get()
    assert "switched" not in alert.evidence
    assert alert.summary == "A rose 5 % in 5 minutes: 103.20 at 12:00:01 UTC → 108.36 at 12:00:02 UTC"


def test_evidence_of_a_movement_between_the_two_names_the_change(feed):
    said(feed, ("binance", "100"), ("kraken", "110"))
    evaluate_pending(feed_id=feed.pk)

    assert Alert.objects.get().summary == (
        "A rose 10 % in 5 minutes: 100 at 12:00:00 UTC → 110 at 12:00:01 UTC (compared across a "
        "change of provider at 12:00:01 UTC "
        "from binance to kraken, factor 1)"
    )


def test_a_rule_that_begins_after_the_change_sees_the_prices_of_before_with_the_factors_of_then():
    feed = make_feed("A")
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "103.3"))
    watch(feed, rises=RISES, falls=FALLS, moves={"kind": "rises", "percent": "0.09", "window": "5m"})
    said(feed, ("kraken", "103.2"), ("binance", "100.1"))

    assert opened(feed) == [("moves", 4)]


RULES = {
    "rises": {"kind": "rises", "percent": "1", "window": "1m"},
    "falls": {"kind": "falls", "percent": "1", "window": "1m", "ref": "window_start"},
    "calm": {"not": {"kind": "rises", "percent": "1", "window": "2m"}},
    "mean": {"kind": "below_average", "percent": "0.5", "window": "2m"},
    "far": {"kind": "zscore", "n": "1.5", "window": "2m"},
    "level": {"any": [{"kind": "crosses", "level": "101"}, {"kind": "below", "level": "98"}]},
}


def random_log(feed, chance, *, entries):
    """Append random answers of three providers, 10 s apart, some without a price; return them as the oracle has them.

    The rule `late` begins in the middle.
    """
    owner = make_owner()
    documents = {name: {"condition": condition, "cooldown": "0s"} for name, condition in RULES.items()}
    log, provider, price = [], "a", 100.0

    def begin(name, condition, *, seq):
        rule = make_rule(owner, name=name, assets=["A"], condition=condition)
        document = {"condition": condition}
        log.append(oracle.RulesEntry(seq, 0, (oracle.Change(rule.pk, rule.pk, document, (asset_ids(feed)["A"],)),)))

    for seq, (name, document) in enumerate(documents.items(), start=1):
        begin(name, document["condition"], seq=seq)
    spread = {"a": 1.0, "b": 1.03, "c": 0.96}
    for number in range(entries):
        if number == entries // 2:
            begin("late", RULES["mean"], seq=len(log) + 1)
        if chance.random() < 0.3:
            provider = chance.choice("abc")
        price *= 1 + chance.choice([0, 0, 0.002, -0.002, 0.008, -0.008])
        moment = at(number * 10)
        quotes = [] if chance.random() < 0.3 else [("A", moment, f"{price * spread[provider]:.6f}")]
        entry = append_quotes(feed, quotes, as_of=moment, provider=provider)
        rows = Quote.objects.filter(entry=entry).values_list("asset", "at", "price")
        units = tuple((one, domain.epoch_microseconds(when), domain.price_units(said)) for one, when, said in rows)
        log.append(oracle.QuotesEntry(entry.seq, domain.epoch_microseconds(moment), units, provider))
    return oracle.with_switches(log, step_percent=5, interval=10 * SECOND)


@pytest.mark.parametrize("seed", range(6))
def test_live_rebuilt_replayed_and_tried_on_the_past_find_what_the_oracle_finds(seed, monkeypatch):
    monkeypatch.setattr(services, "CHECKPOINT_ENTRIES", 5)
    feed = make_feed("A", interval_seconds=10, jump_percent=0)
    chance = random.Random(seed)
    log = random_log(feed, chance, entries=60)
    while FeedHead.objects.get(feed=feed).seq > feed.evaluation_cursor.__class__.objects.get(feed=feed).seq:
        if chance.random() < 0.3:
            services._warm.clear()
        evaluate_pending(feed_id=feed.pk)

    made = Transition.objects.order_by("entry__seq", "position").select_related("entry")
    assert [
        (one.entry.seq, one.rule_id, one.from_state, one.to_state, domain.epoch_microseconds(one.at), one.reason)
        for one in made
    ] == [
        (one.seq, one.rule_id, one.from_state, one.to_state, one.moment, one.reason)
        for one in oracle.expected_transitions(log)
    ]
    assert ProviderSwitch.objects.count() > 3
    found = replay(feed, since=START, until=at(10_000), progress=lambda done: None)
    assert (found.missing, found.extra) == ([], [])
    lived = services.rebuild_engine(feed_id=feed.pk, seq=FeedHead.objects.get(feed=feed).seq).dump()
    Checkpoint.objects.all().delete()
    again = services.rebuild_engine(feed_id=feed.pk, seq=lived["seq"]).dump()
    assert json.dumps(again) == json.dumps(lived)
    asset = Asset.objects.get()
    for name, condition in RULES.items():
        spec = RuleSpec.read({"assets": ["A"], "condition": condition})
        report = try_on_stored(spec, assets=[asset], since=START, until=at(10_000), progress=lambda done: None)
        alerts = Alert.objects.filter(rule__name=name).order_by("opened_at")
        tried = [(one["opened_at"], one["evidence"]) for one in report["openings"]]
        assert tried == [(one.opened_at.isoformat().replace("+00:00", "Z"), one.evidence) for one in alerts]


def test_a_backtest_that_begins_between_two_changes_knows_the_factors_from_before(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "103.2"), ("binance", "100"), ("binance", "100"))
    spec = RuleSpec.read({"assets": ["A"], "condition": {"any": [RISES, FALLS]}})
    asset = Asset.objects.get()

    for begin in (0, 0.5, 1, 1.5, 2, 2.5, 3, 4):
        report = try_on_stored(spec, assets=[asset], since=at(begin), until=at(9), progress=lambda done: None)
        assert (begin, report["openings"]) == (begin, [])


def test_where_a_correction_deletes_all_prices_of_the_other_the_first_is_in_force_again(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "103.2"))
    evaluate_pending(feed_id=feed.pk)
    delete_quotes(Asset.objects.get(), since=at(1), until=at(3), now=at(3), trace_id=TRACE)
    watch(feed, far={"kind": "falls", "percent": "2", "window": "1h"})
    said(feed, ("binance", "100"), ("binance", "101"), ("kraken", "104"), ("binance", "101"))

    assert opened(feed) == []
    assert [(one.before, one.provider, one.until_entry is None) for one in ProviderSwitch.objects.order_by("pk")] == [
        ("binance", "kraken", False),
        ("binance", "kraken", True),
        ("kraken", "binance", True),
    ]
    found = replay(feed, since=START, until=at(10_000), progress=lambda done: None)
    assert (found.missing, found.extra) == ([], [])


def test_a_split_and_a_change_of_provider_are_no_movement_in_either_order(feed):
    said(feed, *[("binance", "100")] * 29, ("kraken", "103.2"), ("kraken", None), step=2)
    append_split(asset_id=Asset.objects.get().pk, effective_at=at(60), **TWO_FOR_ONE)
    said(
        feed,
        ("kraken", "51.6"),
        ("binance", "50"),
        ("coinbase", "49"),
        *[("coinbase", "49")] * 26,
        ("coinbase", None),
        step=2,
    )
    append_split(asset_id=Asset.objects.get().pk, effective_at=at(120), **TWO_FOR_ONE)
    said(feed, ("kraken", "25.8"), ("binance", "25"), step=2)

    assert opened(feed) == []
    assert [float(f"{factor:.4g}") for _, _, factor in factors()] == [0.969, 1, 1.02, 0.969, 1]


KEYS = [("lowest", 3_600 * SECOND), ("highest", 3_600 * SECOND), ("path", 7_200 * SECOND), ("spread", 86_400 * SECOND)]


def test_windows_filled_from_candles_see_what_those_filled_from_quotes_see():
    chance = random.Random(3)
    feed = make_feed("A", interval_seconds=60, jump_percent=0)
    price = 100.0
    seen = {key: new_window(key) for key in KEYS}
    for minute in range(300):
        provider = "b" if 100 < minute < 160 or minute % 7 == 0 else "a"
        price *= 1 + chance.choice([0, 0.001, -0.001])
        moment = at(60 * minute + chance.choice([0, 20, 59]))
        append_quotes(feed, [("A", moment, f"{price * (1.03 if provider == 'b' else 1):.4f}")], provider=provider)
    append_quotes(feed, [], as_of=at(86_400 * 2))
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass
    switches = list(ProviderSwitch.objects.order_by("at"))
    for quote in Quote.objects.order_by("at"):
        factor = next((one.factor for one in reversed(switches) if one.at <= quote.at), Decimal(1))
        at_, units = domain.epoch_microseconds(quote.at), domain.price_units(quote.price)
        push_into(seen.values(), at_, units, factor.as_integer_ratio())

    def windows():
        history = queries.history_of(feed_id=feed.pk, seq=FeedHead.objects.get(feed=feed).seq)
        past = list(history({asset_ids(feed)["A"]: KEYS})[asset_ids(feed)["A"]])
        return [filled(key, past).dump()[0] for key in KEYS], past

    expected = [window.dump()[0] for window in seen.values()]
    assert windows()[0] == expected
    assert {one.seen is None for one in Candle.objects.all()} == {True, False}
    partitions.drop([day for day in partitions.days() if day <= START.date()])
    found, past = windows()
    assert any(isinstance(one, domain.PathCandle) for one in past)
    assert found == expected


def test_the_entry_of_a_change_has_its_factors_and_an_entry_without_one_has_none(feed):
    said(feed, ("binance", "100"), ("kraken", "103.2"), ("kraken", "103.2"))

    rows = (
        FeedEntry.objects.filter(kind="quotes").order_by("seq").values_list("provider", "switched", "switches__factor")
    )
    asset_id = Asset.objects.get().pk
    assert [(provider, switched, factor is not None) for provider, switched, factor in rows] == [
        ("binance", None, False),
        ("kraken", {"binance": [asset_id]}, True),
        ("kraken", None, False),
    ]


def test_many_assets_that_change_together_cost_as_many_statements_as_one(django_assert_max_num_queries):
    counts = {}
    for count in (2, 40):
        symbols = [f"{count}-{number}" for number in range(count)]
        feed = make_feed(*symbols, name=f"feed-{count}")
        append_quotes(feed, [(symbol, START, "100") for symbol in symbols], provider="binance")
        with django_assert_max_num_queries(60) as captured:
            append_quotes(feed, [(symbol, at(1), "103") for symbol in symbols], provider="kraken")
        counts[count] = len(captured)

    assert counts[2] == counts[40]


def test_changes_of_provider_go_with_their_quotes_but_for_the_last_from_each_provider(feed, settings):
    settings.QUOTE_RETENTION_DAYS = 2
    said(feed, *[("binance", "100"), ("kraken", "103.2")] * 3)
    append_quotes(feed, [], as_of=at(86_400 * 2))
    assert prune_switches() == 0
    append_quotes(feed, [], as_of=at(86_400 * 2 + 60))

    assert (prune_switches(dry_run=True), ProviderSwitch.objects.count()) == (3, 5)
    assert prune_switches() == 3
    assert [(one.before, one.at) for one in ProviderSwitch.objects.order_by("at")] == [
        ("kraken", at(4)),
        ("binance", at(5)),
    ]
