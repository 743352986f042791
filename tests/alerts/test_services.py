"""Episodes opened and resolved as the engine's transitions say, and what the database refuses."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, transaction

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import record_episodes
from apps.pipeline import flow
from apps.rules.engine.instance import Transition
from apps.rules.models import RuleVersion
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule
from tests.rig import wait_until
from tests.threads import PATIENCE_SECONDS, elsewhere

pytestmark = pytest.mark.django_db


def quote(feed, *pairs, symbol="BTC-USD"):
    """Append one entry with these (seconds, price), evaluate it, and return it."""
    entry = append_quotes(feed, [(symbol, at(second), price) for second, price in pairs])
    flow.evaluate_pending(feed_id=feed.pk)
    return entry


def episodes():
    return list(Alert.objects.order_by("pk").values_list("opened_at", "resolved_at", "resolution"))


def events_of(entry):
    return list(AlertEvent.objects.filter(entry=entry).values_list("kind", "at", "reason"))


def test_an_opening_stores_its_evidence_as_data_and_as_a_summary():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition={"kind": "rises", "percent": 10, "window": "5m"})
    quote(feed, (0, "100"))

    entry = quote(feed, (30, "110.4"))

    alert = Alert.objects.get()
    assert (alert.rule, alert.version, alert.entry, alert.kind) == (rule, rule.versions.get(), entry, "condition")
    assert (alert.severity, alert.opened_at, alert.resolved_at) == ("warning", at(30), None)
    assert alert.summary == "BTC-USD rose 10.4 % in 5 minutes: 100.0 at 12:00:00 UTC → 110.4 at 12:00:30 UTC"
    assert alert.evidence == {
        "kind": "rises",
        "percent": "10",
        "window": "5m",
        "ref": "window_extreme",
        "window_from": "2026-03-02T11:55:30Z",
        "window_to": "2026-03-02T12:00:30Z",
        "reference": {"at": "2026-03-02T12:00:00Z", "price": "100"},
        "change_percent": "10.4",
        "price": "110.4",
        "at": "2026-03-02T12:00:30Z",
        "result": True,
        "previous": {"at": "2026-03-02T12:00:00Z", "price": "100"},
    }


def test_an_episode_that_goes_on_opens_once():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))

    first = quote(feed, (0, "101"))
    second = quote(feed, (1, "102"), (2, "103"))

    assert episodes() == [(at(0), None, "")]
    assert (events_of(first), events_of(second)) == ([("opened", at(0), "became_true")], [])


def test_a_resolution_closes_the_alert_with_its_reason_and_its_moment():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    quote(feed, (0, "101"))

    entry = quote(feed, (5, "100"))

    assert episodes() == [(at(0), at(5), "recovered")]
    assert events_of(entry) == [("resolved", at(5), "recovered")]


def test_several_episodes_within_one_batch_keep_their_order():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    quote(feed, (0, "101"))

    entry = quote(feed, (1, "99"), (2, "101"), (3, "99"), (4, "101"))

    assert episodes() == [(at(0), at(1), "recovered"), (at(2), at(3), "recovered"), (at(4), None, "")]
    assert events_of(entry) == [
        ("resolved", at(1), "recovered"),
        ("opened", at(2), "became_true"),
        ("resolved", at(3), "recovered"),
        ("opened", at(4), "became_true"),
    ]


def test_once_opens_and_closes_in_one_step():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100), trigger="once")

    entry = quote(feed, (0, "101"), (1, "99"), (2, "101"))

    assert episodes() == [(at(0), at(0), "once")]
    assert events_of(entry) == [("opened", at(0), "became_true"), ("resolved", at(0), "once")]


def test_an_expiry_closes_what_is_open():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100), expires_at=at(10))
    quote(feed, (0, "101"))

    append_quotes(feed, [], as_of=at(10))
    flow.evaluate_pending(feed_id=feed.pk)

    assert episodes() == [(at(0), at(10), "expired")]


def test_a_suppressed_opening_makes_no_alert():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100), cooldown="60s")

    entry = quote(feed, (0, "101"), (1, "99"), (2, "101"), (3, "99"))

    assert episodes() == [(at(0), at(1), "recovered")]
    assert events_of(entry) == [("opened", at(0), "became_true"), ("resolved", at(1), "recovered")]


def test_the_severity_is_the_one_at_the_opening():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    rule.severity = "critical"
    rule.save()
    quote(feed, (0, "101"))

    rule.severity = "info"
    rule.save()

    assert Alert.objects.get().severity == "critical"


def test_each_asset_has_an_episode_of_its_own():
    feed = make_feed("BTC-USD", "ETH-USD")
    make_rule(make_owner(), assets=["BTC-USD", "ETH-USD"], condition=above(100))

    append_quotes(feed, [("BTC-USD", at(0), "101"), ("ETH-USD", at(0), "102"), ("BTC-USD", at(1), "99")])
    flow.evaluate_pending(feed_id=feed.pk)

    assert list(Alert.objects.order_by("pk").values_list("asset__symbol", "resolved_at")) == [
        ("BTC-USD", at(1)),
        ("ETH-USD", None),
    ]


def test_a_version_that_cannot_be_read_opens_an_alert_of_kind_error_that_the_next_edit_ends():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), name="Peg", assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={"assets": ["BTC-USD"], "condition": {"all": []}})
    flow.evaluate_pending(feed_id=feed.pk)
    alert = Alert.objects.get()

    make_rule(rule.owner, name="Peg", rule=rule, assets=["BTC-USD"], condition=above(100))
    flow.evaluate_pending(feed_id=feed.pk)

    why = "RuleInvalid: condition.all: must be a list of 1 to 20 conditions"
    assert (alert.kind, alert.evidence) == ("error", {})
    assert alert.summary == f"Peg cannot be evaluated on BTC-USD: {why}. Edit the rule to start it again."
    assert list(AlertEvent.objects.values_list("kind", "reason", "detail")) == [
        ("opened", "evaluation_failed", why),
        ("resolved", "rule_changed", ""),
    ]


def test_a_evaluation_that_fails_while_firing_closes_the_episode_and_opens_an_error():
    feed = make_feed("BTC-USD")
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    quote(feed, (0, "101"))
    entry = append_quotes(feed, [("BTC-USD", at(1), "102")])
    ids = {"rule_id": rule.pk, "version_id": rule.versions.get().pk, "asset_id": feed.assets.get().pk}
    moment = int(at(1).timestamp()) * 1_000_000
    failed = Transition(
        **ids, from_state="firing", to_state="error", moment=moment, reason="KeyError: 'x'", suppressed=False
    )

    events = record_episodes(entry=entry, transitions=[failed])

    assert [(one.kind, one.alert.kind, one.reason) for one in events] == [
        ("resolved", "condition", "KeyError: 'x'"),
        ("opened", "error", "KeyError: 'x'"),
    ]
    assert episodes() == [(at(0), at(1), "KeyError: 'x'"), (at(1), None, "")]


def test_transitions_that_open_and_resolve_nothing_cost_no_statement(django_assert_num_queries):
    pending = Transition(1, 1, 1, "inactive", "pending", 0, "became_true", False)

    with django_assert_num_queries(0):
        assert record_episodes(entry=None, transitions=[pending]) == []


@pytest.fixture
def open_alert():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    quote(feed, (0, "101"))
    return Alert.objects.get()


COLUMNS = ("owner", "rule", "version", "asset", "entry", "severity", "opened_at")


def copy_of(alert, **changes):
    columns = {name: getattr(alert, name) for name in COLUMNS}
    return Alert(**columns | {"summary": "another"} | changes)


def test_the_database_refuses_a_second_open_alert_of_one_rule_and_asset(open_alert):
    with pytest.raises(IntegrityError), transaction.atomic():
        copy_of(open_alert).save()

    assert Alert.objects.get() == open_alert


def test_the_database_takes_any_number_of_alerts_that_are_over(open_alert):
    copy_of(open_alert, resolved_at=at(1)).save()
    copy_of(open_alert, resolved_at=at(1)).save()

    assert Alert.objects.count() == 3


def test_the_database_refuses_an_alert_that_was_over_before_it_opened(open_alert):
    with pytest.raises(IntegrityError), transaction.atomic():
        copy_of(open_alert, resolved_at=at(-1)).save()

    assert Alert.objects.count() == 1


def test_the_database_refuses_the_same_step_twice(open_alert):
    with pytest.raises(IntegrityError), transaction.atomic():
        AlertEvent.objects.create(alert=open_alert, kind="opened", at=at(0), entry=open_alert.entry)

    assert AlertEvent.objects.count() == 1


def test_an_opening_whose_version_cannot_be_read_is_worded_as_an_error():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(0), "101")])
    flow.evaluate_next(feed_id=feed.pk)
    RuleVersion.objects.update(document={})

    flow.evaluate_next(feed_id=feed.pk)

    assert Alert.objects.get().kind == "error"


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_alerts_that_end_together_are_locked_in_the_order_in_which_people_acknowledge_them():
    feed = make_feed("BTC-USD", "ETH-USD")
    make_rule(make_owner(), assets=["BTC-USD", "ETH-USD"], condition=above(100))
    for symbol in ("BTC-USD", "ETH-USD"):
        quote(feed, (0, "101"), symbol=symbol)
    first, second = Alert.objects.order_by("pk")
    # Written anew, the first stands behind the second where rows are read as they lie.
    first.save()
    append_quotes(feed, [(symbol, at(1), "99") for symbol in ("BTC-USD", "ETH-USD")])

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Alert.objects.select_for_update(no_key=True).get(pk=first.pk)
            evaluating = pool.submit(elsewhere, lambda: flow.evaluate_pending(feed_id=feed.pk))
            wait_until(_somebody_waits_for_this_transaction, timeout_seconds=PATIENCE_SECONDS)
            # Refused where the analyzer has it already.
            Alert.objects.select_for_update(no_key=True, nowait=True).get(pk=second.pk)
        evaluating.result()

    assert set(Alert.objects.values_list("resolved_at", flat=True)) == {at(1)}


def _somebody_waits_for_this_transaction():
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid")
        return cursor.fetchone() is not None
