"""Rows hold codes and never a sentence: whatever happens to rules, and to their alerts."""

import re

import pytest

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import acknowledge
from apps.market.models import Asset
from apps.market.services import append_split
from apps.notify.models import Message, Notification
from apps.notify.services import plan
from apps.pipeline.flow import evaluate_pending
from apps.rules.engine.codes import Reason, Unknown
from apps.rules.models import RuleState, RuleVersion, Transition
from apps.rules.services import confirm_rule
from tests.builders import TRACE, above, append_quotes, asset_ids, at, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db

CONDITIONS = {
    "level": above(100),
    "crossing": {"kind": "crosses", "level": "100"},
    "extreme": {"kind": "rises", "percent": "1", "window": "1m"},
    "start": {"kind": "rises", "percent": "1", "window": "1d", "ref": "window_start"},
    "average": {"kind": "above_average", "percent": "1", "window": "30d"},
    "spread": {"kind": "zscore", "n": "1", "window": "10s"},
    "several": {"all": [above(1), {"kind": "falls", "percent": "1", "window": "30d", "ref": "window_start"}]},
}
CODE_COLUMNS = [
    (RuleState, "reason"),
    (RuleState, "unknown"),
    (Transition, "reason"),
    (Alert, "resolution"),
    (AlertEvent, "reason"),
]


def test_a_rich_run_stores_codes_and_no_sentence():
    feed, owner = make_feed("BTC-USD"), make_owner()
    watched = {"assets": ["BTC-USD"]}
    for name, condition in CONDITIONS.items():
        make_rule(owner, name=name, condition=condition, **watched)
    make_rule(owner, name="waits", condition=above(100), **{"for": "5s", "keep_firing": "5s"}, **watched)
    make_rule(owner, name="once", condition=above(100), trigger="once", **watched)
    make_rule(owner, name="expires", condition=above(100), expires_at=at(13).isoformat(), **watched)
    edited = make_rule(owner, name="edited", condition=above(50), **watched)
    broken = make_rule(owner, name="broken", condition=above(100), **watched)
    RuleVersion.objects.filter(rule=broken).update(document={"condition": {"kind": "unheard"}})
    unknowns = set()
    for second, price in enumerate(["99"] * 7 + ["101"] * 7 + ["99"] * 7):
        append_quotes(feed, [("BTC-USD", at(second), price)])
        evaluate_pending(feed_id=feed.pk)
        unknowns |= set(RuleState.objects.values_list("unknown", flat=True))
    acknowledge(alerts=Alert.objects.filter(rule=broken), by=owner, note="I look at it.", now=at(30))
    make_rule(owner, name="edited", rule=edited, condition=above(60), **watched)
    evaluate_pending(feed_id=feed.pk)
    append_quotes(feed, [], as_of=at(120))
    append_split(
        asset_id=asset_ids(feed)["BTC-USD"],
        effective_at=at(60),
        numerator=2,
        denominator=1,
        now=at(120),
        trace_id=TRACE,
    )
    evaluate_pending(feed_id=feed.pk)
    confirm_rule(rule=edited, now=at(121), trace_id=TRACE)
    evaluate_pending(feed_id=feed.pk)
    # Rules have not followed yet.
    Asset.objects.update(signed=True)
    append_quotes(feed, [("BTC-USD", at(130), "-1")])
    append_quotes(feed, [("BTC-USD", at(131), "-2")])
    evaluate_pending(feed_id=feed.pk)
    unknowns |= set(RuleState.objects.values_list("unknown", flat=True))
    for channel_id in set(Notification.objects.values_list("channel", flat=True)):
        plan(channel_id=channel_id, now=at(10**9))

    values = {value for model, column in CODE_COLUMNS for value in model.objects.values_list(column, flat=True)}
    values |= unknowns | {one["reason"] for message in Message.objects.all() for one in message.items}
    assert [value for value in values if not re.fullmatch("[a-z_]*", value)] == []
    assert {reason.value for reason in Reason} <= values
    assert unknowns >= {"", *Unknown} - {Unknown.NO_PRICE, Unknown.NOT_EVALUATED}
    assert set(AlertEvent.objects.filter(kind="acknowledged").values_list("reason", "detail")) == {
        ("", "I look at it."),
    }


def test_an_unknown_follows_another_in_the_row():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=CONDITIONS["spread"])
    seen = []
    for second in (0, 2, 4, 6, 8):
        append_quotes(feed, [("BTC-USD", at(second), "100")])
        evaluate_pending(feed_id=feed.pk)
        seen.append(RuleState.objects.get().unknown)
    assert seen == ["not_enough_history"] * 3 + ["zero_variance"] * 2
