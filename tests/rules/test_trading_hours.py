"""`stale` and `unchanged` by trading hours: the oracle reads sessions that are written down here by hand, the engine
the library's."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.backtests.evaluation import try_on_stored
from apps.market.models import Asset
from apps.pipeline import flow
from apps.rules import services
from apps.rules.domain import describe_evidence
from apps.rules.engine.conditions import read_condition
from apps.rules.engine.engine import Engine
from apps.rules.engine.rule import RuleSpec
from apps.rules.explain import parts_of
from apps.rules.models import RuleChange, Transition
from apps.rules.why import why
from tests.builders import START, TRACE, above, append_quotes, make_feed, make_owner, make_rule
from tests.rules import comparing, oracle, oracle_conditions

QUIET = {"kind": "stale", "after": "1h"}
VERSION = {"condition": QUIET}


def moment(written):
    """Return a time of 2026, written like 11-20T21:00 and in UTC."""
    return datetime.fromisoformat(f"2026-{written}").replace(tzinfo=UTC)


def micro(written):
    return oracle_conditions.microseconds_at(moment(written).isoformat())


def sessions(days, opens, closes):
    return [(micro(f"{day}T{opens}"), micro(f"{day}T{closes}")) for day in days.split()]


# 9:30 to 16:00 in New York: 14:30 to 21:00 UTC, an hour earlier from 8 March to 1 November.
NEW_YORK = [
    *sessions("03-02 03-03 03-04 03-05 03-06", "14:30", "21:00"),
    *sessions("03-09 03-10", "13:30", "20:00"),
    *sessions("10-29 10-30", "13:30", "20:00"),
    *sessions("11-02 11-03", "14:30", "21:00"),
    *sessions("11-20 11-23 11-24 11-25", "14:30", "21:00"),
    *sessions("11-27", "14:30", "18:00"),  # the day after Thanksgiving
    *sessions("11-30 12-01", "14:30", "21:00"),
]


def change(seq, at, calendar, *, version=1):
    calendars = {1: calendar} if calendar else {}
    return oracle.RulesEntry(seq, micro(at), (oracle.Change(1, version, VERSION, (1,), calendars),))


def entry(seq, at, *, is_quote=False):
    return oracle.QuotesEntry(seq, micro(at), ((1, micro(at), 10**18),) if is_quote else ())


def steps_of_the_oracle(log):
    return oracle.expected_transitions(log, {"XNYS": NEW_YORK})


def steps_of_the_engine(log):
    engine, store = Engine(), comparing.Store(log)
    return [one for part in log for one in engine.evaluate(store.entry_of(part), store.before(part.seq)).transitions]


@pytest.fixture(params=[steps_of_the_oracle, steps_of_the_engine], ids=["oracle", "engine"])
def steps(request):
    """Give the (state, moment) that a log leads to."""
    return lambda log: [(one.to_state, one.moment) for one in request.param(log)]


@pytest.mark.parametrize(
    ("quoted", "still_quiet", "fires"),
    [
        pytest.param("11-24T15:00", "11-24T15:59", "11-24T16:00", id="within a session"),
        pytest.param("11-20T21:00", "11-23T15:29", "11-23T15:30", id="over a weekend"),
        pytest.param("11-20T20:59", "11-23T15:28", "11-23T15:29", id="a minute before Friday's close"),
        pytest.param("11-23T12:00", "11-23T15:29", "11-23T15:30", id="before the opening"),
        pytest.param("11-25T20:30", "11-27T14:59", "11-27T15:00", id="over Thanksgiving"),
        pytest.param("11-27T17:30", "11-30T14:59", "11-30T15:00", id="over an early close"),
        pytest.param("03-06T20:30", "03-09T13:59", "03-09T14:00", id="the clocks go forward"),
        pytest.param("10-30T19:30", "11-02T14:59", "11-02T15:00", id="the clocks go back"),
    ],
)
def test_an_hour_without_a_quote_is_an_hour_of_trading(steps, quoted, still_quiet, fires):
    log = [change(1, quoted, "XNYS"), entry(2, quoted, is_quote=True), entry(3, still_quiet), entry(4, fires)]

    assert steps(log) == [("firing", micro(fires))]


def test_without_a_calendar_every_hour_counts(steps):
    log = [change(1, "11-20T21:00", ""), entry(2, "11-20T21:00", is_quote=True), entry(3, "11-20T22:00")]

    assert steps(log) == [("firing", micro("11-20T22:00"))]


def test_another_calendar_counts_from_its_place_in_the_log_and_the_instance_goes_on(steps):
    log = [
        change(1, "11-20T21:00", ""),
        entry(2, "11-20T21:00", is_quote=True),
        entry(3, "11-21T12:00"),
        change(4, "11-21T12:00", "XNYS"),
        entry(5, "11-21T12:01"),
        change(6, "11-21T12:01", ""),
        entry(7, "11-21T12:02"),
    ]

    assert steps(log) == [
        ("firing", micro("11-21T12:00")), ("inactive", micro("11-21T12:01")), ("firing", micro("11-21T12:02")),
    ]  # fmt: skip


def test_a_rule_that_looks_at_no_silence_changes_nothing_about_the_calendar(steps):
    other = oracle.Change(2, 2, {"condition": {"kind": "above", "level": 100}}, (1,), {})
    log = [
        change(1, "11-20T21:00", "XNYS"),
        entry(2, "11-20T21:00", is_quote=True),
        oracle.RulesEntry(3, micro("11-20T21:00"), (other,)),
        entry(4, "11-21T12:00"),
    ]

    assert steps(log) == []


def test_the_evidence_says_how_much_of_the_silence_was_trading_and_by_which_calendar():
    log = [change(1, "11-20T20:30", "XNYS"), entry(2, "11-20T20:30", is_quote=True), entry(3, "11-23T15:00")]
    (step,) = steps_of_the_engine(log)
    condition = read_condition(QUIET)

    assert (step.evidence["calendar"], step.evidence["open_seconds"]) == ("XNYS", 3_600)
    assert describe_evidence(symbol="AAPL", condition=condition, evidence=step.evidence, opened_at=step.moment) == (
        "AAPL has had no quote for 1 hour of trading: the last was 1 on 2026-11-20 at 20:30:00 "
        "UTC, and the clock is at "
        "15:00:00 UTC"
    )
    assert parts_of(condition, step.evidence, is_open=True).figures == (
        "the newest quote is of 2026-11-20 20:30:00 UTC, the clock is at 2026-11-23 15:00:00 UTC: "
        "1 h of trading by XNYS"
    )


def test_a_calendar_that_is_known_no_more_is_an_error_of_those_who_need_it_and_the_feed_goes_on():
    log = [change(1, "11-20T21:00", "GONE"), entry(2, "11-20T21:00", is_quote=True), entry(3, "11-20T22:00")]
    log.append(entry(4, "11-20T23:00"))
    (step,) = steps_of_the_engine(log)

    assert (step.to_state, step.reason) == ("error", "evaluation_failed")
    assert step.detail == "UnknownCalendar: there is no trading calendar GONE"


FROZEN = {"kind": "unchanged", "after": "1h"}


def frozen(seq, at, calendar, *, version=1):
    calendars = {1: calendar} if calendar else {}
    change = oracle.Change(1, version, {"condition": FROZEN}, (1,), calendars)
    return oracle.RulesEntry(seq, micro(at), (change,))


def quoted(first_seq, *quotes):
    return [
        oracle.QuotesEntry(seq, micro(at), ((1, micro(at), price * 10**18),))
        for seq, (at, price) in enumerate(quotes, start=first_seq)
    ]


def test_an_unchanged_price_counts_open_time_over_a_weekend(steps):
    quotes = [("11-20T20:00", 5), ("11-20T20:30", 6), ("11-23T14:59", 6), ("11-23T15:00", 6), ("11-23T15:01", 7)]
    log = [frozen(1, "11-20T19:00", "XNYS"), *quoted(2, *quotes)]

    assert steps(log) == [("firing", micro("11-23T15:00")), ("inactive", micro("11-23T15:01"))]


def test_a_rule_that_comes_later_looks_back_over_the_weekend(steps):
    quotes = [("11-20T19:00", 5), ("11-20T20:00", 6), ("11-20T20:50", 6), ("11-23T14:30", 6)]
    log = [*quoted(1, *quotes), frozen(5, "11-23T14:30", "XNYS"), *quoted(6, ("11-23T14:31", 6))]

    assert steps(log) == [("firing", micro("11-23T14:31"))]


def test_by_another_calendar_a_run_is_looked_for_further_back(steps):
    quotes = [("11-20T19:00", 5), ("11-20T20:00", 6), ("11-20T20:50", 6), ("11-23T14:31", 6), ("11-23T14:32", 6)]
    log = [*quoted(1, *quotes[:4]), frozen(5, "11-23T14:31", ""), frozen(6, "11-23T14:31", "XNYS")]

    assert steps([*log, *quoted(7, quotes[4])]) == [("firing", micro("11-23T14:32"))]


def test_the_evidence_of_an_unchanged_price_says_how_long_was_trading():
    log = [frozen(1, "11-20T19:00", "XNYS"), *quoted(2, ("11-20T20:30", 6), ("11-23T15:00", 6))]
    (step,) = steps_of_the_engine(log)

    assert describe_evidence(
        symbol="AAPL", condition=read_condition(FROZEN), evidence=step.evidence, opened_at=step.moment
    ) == (
        "AAPL has had the same price for 1 hour of trading: 6 at 15:00:00 UTC, first quoted on "
        "2026-11-20 at 20:30:00 UTC"
    )
    assert parts_of(read_condition(FROZEN), step.evidence, is_open=True).figures == (
        "the price is 6, the same since that of 2026-11-20 20:30:00 UTC: 1 h of trading"
    )


@pytest.fixture
def shares():
    """Give a feed of two assets, one with the hours of New York."""
    feed = make_feed("AAPL", "BTC-USD")
    Asset.objects.filter(symbol="AAPL").update(calendar="XNYS")
    return feed


def calendars_of(rule):
    return list(RuleChange.objects.filter(rule=rule).order_by("pk").values_list("calendars", flat=True))


def made_in(feed):
    flow.evaluate_pending(feed_id=feed.pk)
    rows = Transition.objects.filter(entry__feed=feed).order_by("entry__seq", "position")
    return list(rows.values_list("asset__symbol", "to_state", "at"))


@pytest.mark.django_db
def test_a_change_of_rules_carries_the_calendars_of_those_that_look_at_silences(shares):
    owner = make_owner()
    aapl = Asset.objects.get(symbol="AAPL")
    within = {"all": [above(1), {"not": QUIET}]}
    quiet = make_rule(owner, name="quiet", assets=["AAPL", "BTC-USD"], condition=within)
    high = make_rule(owner, name="high", assets=["AAPL", "BTC-USD"], condition=above(1))
    still = make_rule(owner, name="still", assets=["AAPL", "BTC-USD"], condition=FROZEN)

    assert (calendars_of(quiet), calendars_of(high)) == ([{str(aapl.pk): "XNYS"}], [{}])
    assert calendars_of(still) == [{str(aapl.pk): "XNYS"}]


@pytest.mark.django_db
def test_sweep_brings_another_calendar_into_the_log_once_and_only_where_silences_are_looked_at(shares):
    owner = make_owner()
    aapl = Asset.objects.get(symbol="AAPL")
    quiet = make_rule(owner, name="quiet", assets=["AAPL"], condition=QUIET)
    make_rule(owner, name="high", assets=["AAPL"], condition=above(1))
    make_rule(owner, name="off", assets=["AAPL"], condition=QUIET, enabled=False)
    gone = make_rule(owner, name="gone", assets=["AAPL"], condition=QUIET)
    services.delete_rule(rule=gone, now=START, trace_id=TRACE)
    changed = []
    for calendar in ("XNYS", "XLON", "", ""):
        Asset.objects.filter(pk=aapl.pk).update(calendar=calendar)
        changed.append(services.follow_assets(now=START, trace_id=TRACE))

    assert changed == [0, 1, 1, 0]
    assert calendars_of(quiet) == [{str(aapl.pk): "XNYS"}, {str(aapl.pk): "XLON"}, {}]


@pytest.mark.django_db
def test_what_is_evaluated_live_by_a_calendar_is_what_replay_why_and_a_backtest_find(shares):
    rule = make_rule(make_owner(), assets=["AAPL", "BTC-USD"], condition=QUIET)
    friday, saturday, monday = moment("11-20T20:30"), moment("11-21T12:00"), moment("11-23T15:00")
    append_quotes(shares, [("AAPL", friday, "200"), ("BTC-USD", friday, "90000")])
    for clock in (saturday, monday):
        append_quotes(shares, [], as_of=clock)

    assert made_in(shares) == [("BTC-USD", "firing", saturday), ("AAPL", "firing", monday)]
    services._warm.clear()
    found = replay(shares, since=friday, until=monday, progress=lambda _: None)
    assert (found.same, found.missing, found.extra) == (2, [], [])
    assets = {asset.symbol: asset for asset in Asset.objects.all()}
    answer = why(None, rule=rule, asset=assets["AAPL"], now=monday, at=saturday)
    assert answer.summary == "not firing: the condition is false"
    assert answer.tree.figures.endswith("the clock is at 2026-11-21 12:00:00 UTC: 30 min of trading by XNYS")
    spec = RuleSpec.read({"assets": list(assets), "condition": QUIET})
    tried = try_on_stored(
        spec, assets=list(assets.values()), since=friday, until=monday + timedelta(seconds=1), progress=lambda _: None
    )
    assert [(one["asset"], one["opened_at"]) for one in tried["openings"]] == [
        ("BTC-USD", "2026-11-21T12:00:00Z"), ("AAPL", "2026-11-23T15:00:00Z"),
    ]  # fmt: skip
    assert [one.summary for one in Alert.objects.filter(asset__symbol="AAPL")] == [
        "AAPL has had no quote for 1 hour of trading: the last was 200 on 2026-11-20 at 20:30:00 "
        "UTC, and the clock is at "
        "15:00:00 UTC"
    ]
