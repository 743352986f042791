"""Rules saved, edited and deleted at their place in the log, and the states and errors that follow."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError

from apps.alerts.models import Alert
from apps.market.models import Asset, FeedEntry
from apps.notify.models import Notification
from apps.rules import queries, services
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleChange, RuleState, RuleVersion, Transition
from tests.builders import START, TRACE, above, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.rules.evaluating import evaluate, states_of

pytestmark = pytest.mark.django_db


def log_of(feed):
    return list(feed.entries.order_by("seq").values_list("seq", "kind"))


def test_saving_makes_a_version_and_an_entry_in_the_log():
    feed = make_feed("BTC-USD", "ETH-USD")

    rule = make_rule(make_owner(), assets=["ETH-USD", "BTC-USD"], condition=above(100), pending="60s")

    change = RuleChange.objects.get()
    assert log_of(feed) == [(1, "rules")]
    assert (change.rule, change.version, change.entry.trace_id) == (rule, rule.versions.get(), TRACE)
    assert change.asset_ids == [asset_ids(feed)["BTC-USD"], asset_ids(feed)["ETH-USD"]]
    assert rule.versions.get().document == {
        "assets": ["ETH-USD", "BTC-USD"],
        "condition": {"kind": "above", "level": "100"},
        "for": "1m",
        "keep_firing": "0s",
        "trigger": "edge",
        "cooldown": "0s",
        "expires_at": None,
        "enabled": True,
    }


def test_a_rule_on_two_feeds_enters_both_logs():
    one, other = make_feed("BTC-USD", name="one"), make_feed("ETH-USD", name="other")

    make_rule(make_owner(), assets=["BTC-USD", "ETH-USD"], condition=above(100))

    chosen = list(RuleChange.objects.order_by("entry__feed_id").values_list("entry__feed_id", "asset_ids"))
    assert chosen == [(one.pk, [asset_ids(one)["BTC-USD"]]), (other.pk, [asset_ids(other)["ETH-USD"]])]


def test_an_edit_of_what_it_means_is_a_new_version_and_a_new_entry():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))

    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(101))

    assert log_of(feed) == [(1, "rules"), (2, "rules")]
    levels = [(one.number, one.document["condition"]["level"]) for one in rule.versions.all()]
    assert levels == [(1, "100"), (2, "101")]


def test_an_edit_of_name_and_severity_alone_makes_no_version_and_no_entry():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100), pending="60s")

    services.save_rule(
        owner=rule.owner,
        name="another name",
        document={"condition": above("100.0"), "for": "1m", "assets": ["BTC-USD"]},
        severity="critical",
        rule=rule,
        now=START,
        trace_id=TRACE,
    )

    assert (log_of(feed), rule.versions.count()) == ([(1, "rules")], 1)
    assert Rule.objects.values_list("name", "severity").get() == ("another name", "critical")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"assets": ["BTC-USD", "GONE"], "condition": above(1)}, "assets[1]: there is no asset GONE"),
        ({"assets": ["LOOSE"], "condition": above(1)},
         "assets[0]: LOOSE is in no feed, so nothing would ever be evaluated"),
        ({"assets": ["BTC-USD"], "condition": {"kind": "rises", "percent": 1, "window": "1s"}},
         "condition.window: must be from 10s to 400d"),
        ({"assets": ["A\0"], "condition": above(1)}, "assets[0]: is not a symbol"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_evaluated_is_refused_and_nothing_is_written(document, message):
    feed = make_feed("BTC-USD")
    Asset.objects.create(symbol="LOOSE")
    owner = make_owner()

    with pytest.raises(RuleInvalid) as refusal:
        make_rule(owner, **document)

    assert str(refusal.value) == message
    assert (Rule.objects.count(), RuleVersion.objects.count(), log_of(feed)) == (0, 0, [])


def test_a_second_rule_of_the_same_name_is_refused():
    feed = make_feed("BTC-USD")
    owner = make_owner()
    make_rule(owner, assets=["BTC-USD"], condition=above(1))

    with pytest.raises(ValidationError):
        make_rule(owner, assets=["BTC-USD"], condition=above(2))

    assert (Rule.objects.count(), log_of(feed)) == (1, [(1, "rules")])


def test_an_owner_has_no_more_rules_than_the_quota(settings):
    settings.RULES_PER_OWNER = 2
    feed = make_feed("BTC-USD")
    owner, other = make_owner(), make_owner("bob")
    first = make_rule(owner, name="1", assets=["BTC-USD"], condition=above(1))
    make_rule(owner, name="2", assets=["BTC-USD"], condition=above(1))

    with pytest.raises(services.QuotaExceeded, match="an owner has at most 2 rules; delete one first"):
        make_rule(owner, name="3", assets=["BTC-USD"], condition=above(1))

    assert len(log_of(feed)) == 2
    make_rule(owner, name="edited", rule=first, assets=["BTC-USD"], condition=above(2))
    make_rule(other, name="1", assets=["BTC-USD"], condition=above(1))
    services.delete_rule(rule=first, now=START, trace_id=TRACE)
    make_rule(owner, name="3", assets=["BTC-USD"], condition=above(1))
    assert sorted(queries.rules_of(owner).values_list("name", flat=True)) == ["2", "3"]


def edited(rule):
    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(200))


def disabled(rule):
    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(100), enabled=False)


def deleted(rule):
    services.delete_rule(rule=rule, now=START, trace_id=TRACE)


def narrowed(rule):
    make_rule(rule.owner, rule=rule, assets=["ETH-USD"], condition=above(100))


@pytest.mark.parametrize("change", [edited, disabled, deleted, narrowed])
def test_a_change_ends_the_open_alert_at_its_place_in_the_log(change):
    feed = make_feed("BTC-USD", "ETH-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(1), "101")])

    change(rule)
    append_quotes(feed, [("BTC-USD", at(2), "150")])

    assert evaluate(feed) == [
        (2, 1, "inactive", "firing", "became_true"),
        (3, 1, "firing", "ended", "rule_changed"),
    ]
    alert = Alert.objects.get()
    assert (alert.opened_at, alert.resolved_at, alert.resolution) == (at(1), at(1), "rule_changed")


def test_an_edited_rule_opens_again_by_its_new_version():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(1), "101")])
    evaluate(feed)

    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(99))
    append_quotes(feed, [("BTC-USD", at(2), "101")])

    assert evaluate(feed)[1:] == [
        (3, 1, "firing", "ended", "rule_changed"),
        (4, 2, "inactive", "firing", "became_true"),
    ]
    assert list(Alert.objects.order_by("pk").values_list("version__number", "resolved_at")) == [(1, at(1)), (2, None)]


def test_what_is_pending_before_an_edit_is_evaluated_by_the_old_version_and_what_comes_after_by_the_new():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(1), "101")])
    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition={"kind": "below", "level": "100"})
    append_quotes(feed, [("BTC-USD", at(2), "102"), ("BTC-USD", at(3), "99")])

    assert evaluate(feed) == [
        (2, 1, "inactive", "firing", "became_true"),
        (3, 1, "firing", "ended", "rule_changed"),
        (4, 2, "inactive", "firing", "became_true"),
    ]


def test_a_deleted_rule_cannot_be_edited_back_into_the_log():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    services.delete_rule(rule=rule, now=START, trace_id=TRACE)
    services.delete_rule(rule=rule, now=START, trace_id=TRACE)

    with pytest.raises(Rule.DoesNotExist):
        make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(101))

    assert log_of(feed) == [(1, "rules"), (2, "rules")]
    assert queries.changes_in_force(rule) == {feed.pk: (None, [], {})}


def test_a_disabled_rule_takes_its_place_again_when_it_is_enabled():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100), enabled=False)
    append_quotes(feed, [("BTC-USD", at(1), "101")])

    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(2), "101")])

    assert evaluate(feed) == [(3, 2, "inactive", "firing", "became_true")]


@pytest.mark.parametrize("selector", [{"tag": "peg"}, {"feed": "feed"}])
def test_a_rule_that_chooses_by_tag_or_feed_follows_its_assets(selector):
    feed = make_feed("OLD")
    Asset.objects.update(tags=["peg"])
    rule = make_rule(make_owner(), assets=selector, condition=above(100))
    append_quotes(feed, [("OLD", at(1), "101")])
    Asset.objects.create(symbol="NEW", feed=feed, tags=["peg"])

    followed = [services.follow_assets(now=START, trace_id=TRACE) for _ in range(2)]
    append_quotes(feed, [("OLD", at(2), "102"), ("NEW", at(2), "103")])

    assert followed == [1, 0]
    assert evaluate(feed) == [(2, 1, "inactive", "firing", "became_true"), (4, 1, "inactive", "firing", "became_true")]
    assert [row[:3] for row in states_of(rule)] == [("NEW", 1, "firing"), ("OLD", 1, "firing")]
    assert Alert.objects.filter(resolved_at=None).count() == 2


def test_an_asset_that_loses_its_tag_is_watched_no_more_and_the_others_stay():
    feed = make_feed("STAYS", "GOES")
    Asset.objects.update(tags=["peg"])
    rule = make_rule(make_owner(), assets={"tag": "peg"}, condition=above(100))
    append_quotes(feed, [("STAYS", at(1), "101"), ("GOES", at(1), "101")])
    Asset.objects.filter(symbol="GOES").update(tags=[])

    services.follow_assets(now=START, trace_id=TRACE)

    assert evaluate(feed)[2:] == [(3, 1, "firing", "ended", "rule_changed")]
    assert list(Alert.objects.filter(resolved_at=None).values_list("asset__symbol", flat=True)) == ["STAYS"]
    assert [row[:3] for row in states_of(rule)] == [("STAYS", 1, "firing")]


def test_rules_by_symbol_and_deleted_ones_follow_nothing():
    feed = make_feed("OLD")
    owner = make_owner()
    make_rule(owner, name="by symbol", assets=["OLD"], condition=above(100))
    gone = make_rule(owner, name="gone", assets={"feed": "feed"}, condition=above(100))
    services.delete_rule(rule=gone, now=START, trace_id=TRACE)
    Asset.objects.create(symbol="NEW", feed=feed)

    assert services.follow_assets(now=START, trace_id=TRACE) == 0


def test_states_say_where_each_instance_stands_and_why():
    feed = make_feed("QUIET", "YOUNG", "OLD")
    condition = {"kind": "above_average", "percent": 0, "window": "10s"}
    rule = make_rule(make_owner(), assets=["QUIET", "YOUNG", "OLD"], condition=condition)
    evaluate(feed)
    before = states_of(rule)
    append_quotes(feed, [("OLD", at(0), "100"), ("YOUNG", at(9), "100"), ("OLD", at(10), "101")])
    evaluate(feed)

    assert before == [(symbol, 1, "inactive", None, "not_evaluated", "") for symbol in ("OLD", "QUIET", "YOUNG")]
    assert states_of(rule) == [
        ("OLD", 1, "firing", at(10), "", "became_true"),
        ("QUIET", 1, "inactive", None, "not_evaluated", ""),
        ("YOUNG", 1, "inactive", None, "not_enough_history", ""),
    ]


def test_states_begin_anew_with_a_new_version_and_go_with_the_rule():
    feed = make_feed("BTC-USD", "ETH-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD", "ETH-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(1), "101"), ("ETH-USD", at(1), "101")])
    evaluate(feed)

    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(50))
    evaluate(feed)
    changed = states_of(rule)
    services.delete_rule(rule=rule, now=START, trace_id=TRACE)
    evaluate(feed)

    assert changed == [("BTC-USD", 2, "inactive", None, "not_evaluated", "")]
    assert states_of(rule) == []


def test_a_suppressed_opening_is_on_record_and_opens_no_alert():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100), cooldown="60s")
    append_quotes(feed, [("BTC-USD", at(one), price) for one, price in ((0, "101"), (1, "99"), (2, "101"), (3, "99"))])
    append_quotes(feed, [("BTC-USD", at(60), "101")])

    evaluate(feed)

    steps = list(Transition.objects.order_by("entry__seq", "position").values_list("to_state", "suppressed"))
    assert steps == [
        ("firing", False), ("inactive", False), ("firing", True), ("inactive", True), ("firing", False),
    ]  # fmt: skip
    assert list(Alert.objects.order_by("pk").values_list("opened_at", "resolved_at")) == [
        (at(0), at(1)), (at(60), None),
    ]  # fmt: skip


def test_a_new_rule_knows_the_past_that_is_stored():
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(second), "100") for second in range(0, 61, 10)])
    make_rule(make_owner(), assets=["BTC-USD"], condition={"kind": "rises", "percent": 10, "window": "30s"})
    append_quotes(feed, [("BTC-USD", at(61), "110")])

    evaluate(feed)

    evidence = Transition.objects.get().evidence
    assert evidence["reference"] == {"at": "2026-03-02T12:01:00Z", "price": "100"}
    assert evidence["previous"] == {"at": "2026-03-02T12:01:00Z", "price": "100"}


def test_steps_are_dropped_once_they_were_recorded_long_enough_ago(settings, monkeypatch):
    settings.TRANSITION_RETENTION_DAYS = 2
    monkeypatch.setattr(services, "PRUNED_AT_ONCE", 2)
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    for second, price in enumerate(["101", "99", "101", "99"]):
        append_quotes(feed, [("BTC-USD", at(second), price)])
    evaluate(feed)
    FeedEntry.objects.filter(seq__lte=4).update(received_at=START - timedelta(days=2, seconds=1))
    FeedEntry.objects.filter(seq=5).update(received_at=START - timedelta(days=2))

    assert [services.prune_transitions(now=START) for _ in range(2)] == [3, 0]
    assert list(Transition.objects.values_list("entry__seq", flat=True)) == [5]
    assert Alert.objects.count() == 2


CORRUPT = [[], {}, {"assets": ["BTC-USD"], "condition": {"kind": "moon phase"}}, {"expires_at": 5}, "above"]


@pytest.mark.parametrize("document", CORRUPT)
def test_a_version_that_cannot_be_read_notifies_its_owner_and_the_other_rules_go_on(document):
    feed = make_feed("BTC-USD")
    owner = make_owner()
    broken = make_rule(owner, name="broken", assets=["BTC-USD"], condition=above(100))
    sound = make_rule(owner, name="sound", assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.filter(rule=broken).update(document=document)
    append_quotes(feed, [("BTC-USD", at(1), "101")])

    evaluate(feed)

    state = RuleState.objects.get(rule=broken)
    alert, notification = Alert.objects.get(rule=broken), Notification.objects.get()
    assert (state.reason, state.detail[:13]) == ("evaluation_failed", "RuleInvalid: ")
    assert [row[:3] for row in states_of(broken) + states_of(sound)] == [
        ("BTC-USD", 1, "error"), ("BTC-USD", 1, "firing"),
    ]  # fmt: skip
    assert (alert.kind, alert.resolved_at) == ("error", None)
    assert alert.summary == f"broken cannot be evaluated on BTC-USD: {state.detail}. Edit the rule to start it again."
    assert (notification.event.alert, notification.channel.owner, notification.channel.kind) == (alert, owner, "inbox")


def test_an_edit_starts_a_rule_in_error_again_and_closes_its_alert():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={})
    evaluate(feed)

    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(1), "101")])

    assert [row[2:] for row in evaluate(feed)] == [
        ("inactive", "error", "evaluation_failed"),
        ("error", "ended", "rule_changed"),
        ("inactive", "firing", "became_true"),
    ]
    assert list(Alert.objects.order_by("pk").values_list("kind", "resolution")) == [
        ("error", "rule_changed"), ("condition", ""),
    ]  # fmt: skip
