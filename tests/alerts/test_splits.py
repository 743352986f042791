"""Splits, from the log to the alerts: what they end, what they pause, and who is notified."""

from datetime import timedelta

import pytest

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.replay import replay
from apps.backtests.evaluation import try_on_stored
from apps.market.models import Asset
from apps.market.services import AssetStays, append_split
from apps.notify.models import Notification
from apps.notify.services import create_channel, set_channels
from apps.pipeline import flow
from apps.rules import services as rules
from apps.rules.engine.rule import RuleSpec
from apps.rules.models import RuleState
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db

FALL = {"kind": "falls", "percent": 50, "window": "1h"}


@pytest.fixture
def feed():
    return make_feed("ACME", "BETA", jump_percent=0)


def enter(seconds, ratio="20:1", symbol="ACME"):
    numerator, denominator = map(int, ratio.split(":"))
    append_split(
        asset_id=Asset.objects.get(symbol=symbol).pk,
        effective_at=at(seconds),
        numerator=numerator,
        denominator=denominator,
        now=at(1_000),
        trace_id=TRACE,
    )


def quote(feed, seconds, price, symbol="ACME"):
    append_quotes(feed, [(symbol, at(seconds), price)])
    flow.evaluate_pending(feed_id=feed.pk)


def evaluate(feed):
    flow.evaluate_pending(feed_id=feed.pk)


def events():
    rows = AlertEvent.objects.order_by("pk").select_related("alert")
    return [(one.alert.kind, one.kind, (one.at - START).total_seconds(), one.reason) for one in rows]


def states():
    rows = RuleState.objects.order_by("rule", "asset").select_related("rule", "asset")
    return [(one.rule.name, one.asset.symbol, one.state) for one in rows]


def is_replayed(feed):
    report = replay(feed, since=START, until=START + timedelta(days=1), progress=lambda done: None)
    return (report.same, report.missing, report.extra) == (AlertEvent.objects.count(), [], [])


def test_a_split_that_is_entered_in_time_opens_nothing(feed):
    make_rule(make_owner(), assets=["ACME"], condition=FALL)
    quote(feed, 0, "100")
    quote(feed, 60, "1", symbol="BETA")
    enter(60)
    quote(feed, 120, "5.1")

    assert events() == []
    assert is_replayed(feed)


def test_an_alert_that_the_split_has_opened_resolves_with_that_reason(feed):
    make_rule(make_owner(), assets=["ACME"], condition=FALL)
    quote(feed, 0, "100")
    quote(feed, 60, "5")
    enter(60)
    evaluate(feed)
    quote(feed, 120, "5.1")

    assert events() == [("condition", "opened", 60.0, "became_true"), ("condition", "resolved", 60.0, "split")]
    alert = Alert.objects.get()
    assert (alert.resolution, AlertEvent.objects.get(kind="resolved").detail) == ("split", "20:1")
    assert is_replayed(feed)


@pytest.fixture
def paused(feed):
    """Return a rule on two assets, with an alert on each, whose instance on ACME a split has paused."""
    owner = make_owner()
    rule = make_rule(owner, name="High", assets=["ACME", "BETA"], condition=above(10))
    set_channels(rule=rule, channels=[create_channel(owner=owner, name="Inbox", kind="inbox", config={})])
    quote(feed, 0, "100")
    quote(feed, 1, "100", symbol="BETA")
    quote(feed, 60, "50", symbol="BETA")
    enter(60)
    evaluate(feed)
    return rule


def test_a_level_is_paused_its_alert_ends_and_the_owner_is_notified_once(paused, feed):
    assert states() == [("High", "ACME", "paused"), ("High", "BETA", "firing")]
    assert events() == [
        ("condition", "opened", 0.0, "became_true"),
        ("condition", "opened", 1.0, "became_true"),
        ("condition", "resolved", 60.0, "split"),
        ("paused", "opened", 60.0, "split"),
    ]
    summary = "High is paused on ACME: check its levels after the split 20:1, and save or confirm the rule."
    assert Alert.objects.get(kind="paused").summary == summary
    assert Notification.objects.filter(event__alert__kind="paused").count() == 1
    quote(feed, 120, "2000")
    assert len(events()) == 4
    assert is_replayed(feed)


def test_the_pause_of_a_rule_without_channels_goes_to_the_inbox_of_its_owner(feed):
    make_rule(make_owner(), assets=["ACME"], condition=above(1_000))
    quote(feed, 0, "100")
    quote(feed, 60, "1", symbol="BETA")
    enter(60)
    evaluate(feed)

    assert list(Notification.objects.values_list("channel__kind", "event__alert__kind")) == [("inbox", "paused")]


def test_confirming_lets_the_paused_instance_go_on_and_disturbs_no_other(paused, feed):
    assert rules.confirm_rule(rule=paused, now=at(70), trace_id=TRACE) is True
    evaluate(feed)
    assert rules.confirm_rule(rule=paused, now=at(80), trace_id=TRACE) is False
    quote(feed, 120, "11")

    assert states() == [("High", "ACME", "firing"), ("High", "BETA", "firing")]
    assert events()[4:] == [("paused", "resolved", 60.0, "confirmed"), ("condition", "opened", 120.0, "became_true")]
    assert paused.versions.count() == 1
    assert is_replayed(feed)


@pytest.mark.parametrize(("confirms", "state"), [(True, "inactive"), (False, "paused")])
def test_saving_the_same_again_confirms_where_its_owner_does_it(paused, feed, confirms, state):
    document = paused.versions.get().document
    rules.save_rule(
        owner=paused.owner,
        name="High",
        document=document,
        rule=paused,
        confirms=confirms,
        now=at(70),
        trace_id=TRACE,
    )
    evaluate(feed)

    assert states() == [("High", "ACME", state), ("High", "BETA", "firing")]


def test_an_asset_that_comes_or_goes_does_not_let_a_paused_rule_go_on(feed):
    Asset.objects.filter(symbol="ACME").update(tags=["x"])
    make_rule(make_owner(), name="High", assets={"tag": "x"}, condition=above(10))
    quote(feed, 0, "100")
    quote(feed, 60, "1", symbol="BETA")
    enter(60)
    evaluate(feed)

    Asset.objects.filter(symbol="BETA").update(tags=["x"])
    rules.follow_assets(now=at(70), trace_id=TRACE)
    evaluate(feed)

    assert states() == [("High", "ACME", "paused"), ("High", "BETA", "inactive")]


def test_an_asset_with_a_paused_rule_does_not_move(paused):
    other = make_feed(name="other")

    with pytest.raises(AssetStays, match="paused after a split; its owner has to check its levels first"):
        flow.move_asset(asset_id=Asset.objects.get(symbol="ACME").pk, feed_id=other.pk, now=at(70))


def test_a_backtest_counts_with_all_splits_that_are_known_now_and_pauses_nothing(feed):
    for second, price in ((0, "100"), (60, "101"), (120, "5.1"), (180, "2.5")):
        quote(feed, second, price)
    enter(120)

    def openings(condition):
        spec = RuleSpec.read({"assets": ["ACME"], "condition": condition})
        assets = list(Asset.objects.filter(symbol="ACME"))
        found = try_on_stored(spec, assets=assets, since=at(0), until=at(200), progress=lambda done: None)
        return [one["opened_at"] for one in found["openings"]]

    assert openings(FALL) == ["2026-03-02T12:03:00Z"]
    assert openings(above("5.08")) == ["2026-03-02T12:02:00Z"]
