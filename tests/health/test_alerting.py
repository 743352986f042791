"""Alerts about what has stopped: whose they are, who is notified, and when they are over."""

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.queries import alerts_of, last_events_of
from apps.alerts.services import acknowledge
from apps.health.models import Check, Problem
from apps.health.services import check, note_tick
from apps.market.models import Feed, FeedEntry, FeedHead
from apps.notify.models import Channel, Notification
from apps.notify.services import create_channel, plan, set_channels, switch_off
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule, RuleState
from tests.builders import START, above, append_quotes, at, make_feed, make_operator, make_owner, make_rule

pytestmark = pytest.mark.django_db


def run(first, last, *, every=20, ticks=True, readers=None):
    """Check every so many seconds, as beat does."""
    for second in range(first, last + 1, every):
        if ticks:
            note_tick(now=at(second))
            FeedHead.objects.update(next_slot=at(second + 5))
        check(readers=readers, now=at(second))


def alerts():
    rows = Alert.objects.filter(kind="health").values_list("owner__username", "subject", "subject_id")
    return {row: Alert.objects.get(kind="health", owner__username=row[0], subject=row[1], subject_id=row[2]).state
            for row in rows}  # fmt: skip


def notified():
    """Return (channel, event, subject) of each notification about health."""
    rows = Notification.objects.filter(event__alert__kind="health").order_by("pk")
    return list(rows.values_list("channel__name", "event__kind", "event__alert__subject"))


def make_watched_feed(owner, symbol="BTC-USD", *, name="feed", channels=()):
    """Return a feed that is fetched, evaluated and not due for long, and a rule of this owner on its asset."""
    feed = make_feed(symbol, name=name, interval_seconds=10)
    append_quotes(feed, [(symbol, START, "10")])
    FeedEntry.objects.update(evaluated_at=START)
    rule = make_rule(owner, name=f"rule on {symbol}", assets=[symbol], condition=above(100))
    set_channels(rule=rule, channels=channels)
    evaluate_pending(feed_id=feed.pk)
    for model in (Feed, Rule, Channel):
        model.objects.update(created_at=START)
    return feed


@pytest.fixture
def ada():
    return make_owner("ada")


@pytest.fixture
def inbox(ada):
    return create_channel(owner=ada, name="Inbox", kind="inbox", config={}, group_wait_seconds=0)


@pytest.fixture
def feed(ada, inbox):
    return make_watched_feed(ada, channels=[inbox])


@pytest.fixture
def operators():
    """Return the channel of an operator who wants to be notified."""
    grace = make_operator("grace", "market.view_feed", "alerts.view_system_alerts")
    return create_channel(owner=grace, name="Operators", kind="inbox", config={}, wants_system=True)


def pause(feed):
    Feed.objects.filter(pk=feed.pk).update(is_enabled=False)


def fail(*feeds):
    FeedHead.objects.filter(feed__in=feeds).update(failures=1)


def test_owners_are_notified_once_of_a_paused_feed_and_the_operators_are_not(feed, operators):
    pause(feed)
    run(0, 50, every=10)
    assert alerts() == {}
    run(60, 60)
    assert alerts() == {("ada", "feed", feed.pk): "acknowledged"}
    alert = Alert.objects.get(kind="health")
    assert (alert.summary, alert.severity) == ("Feed feed: the feed is paused.", "info")
    assert notified() == [("Inbox", "opened", "feed")]
    run(80, 200)
    assert notified() == [("Inbox", "opened", "feed")]
    Feed.objects.update(is_enabled=True)
    run(220, 220)
    assert notified() == [("Inbox", "opened", "feed"), ("Inbox", "resolved", "feed")]


def test_a_feed_that_fails_has_an_alert_of_the_operators_and_one_of_each_owner(feed, operators):
    eve = make_owner("eve")
    make_rule(eve, assets=["BTC-USD"], condition=above(100))
    evaluate_pending(feed_id=feed.pk)
    fail(feed)
    run(0, 60)
    assert alerts() == {}
    run(80, 80)
    key = ("feed", feed.pk)
    assert alerts() == {(None, *key): "open", ("ada", *key): "open", ("eve", *key): "open"}
    # Eve's rule names no channel.
    assert set(notified()) == {
        ("Operators", "opened", "feed"),
        ("Inbox", "opened", "feed"),
        ("Inbox for errors", "opened", "feed"),
    }
    acknowledge(alerts=Alert.objects.filter(owner=eve), by=eve, note="", now=at(81))
    run(100, 100)
    assert alerts() == {(None, *key): "open", ("ada", *key): "open", ("eve", *key): "acknowledged"}
    assert {alert.owner_id for alert in alerts_of(eve)} == {eve.pk}
    assert {alert.owner_id for alert in alerts_of(operators.owner)} == {None}
    FeedHead.objects.update(failures=0)
    run(120, 120)
    assert set(alerts().values()) == {"resolved"}


def test_what_one_dead_provider_stops_is_one_message(ada, inbox):
    feeds = [make_watched_feed(ada, f"A{one}-USD", name=f"feed-{one}", channels=[inbox]) for one in range(5)]
    fail(*feeds)
    run(0, 80)
    plan(channel_id=inbox.pk, now=timezone.now())
    (message,) = inbox.messages.all()
    assert {item["symbol"] for item in message.items} == {f"feed feed-{one}" for one in range(5)}
    assert {item["kind"] for item in message.items} == {"health"}


def test_an_owner_who_gets_the_operators_alerts_is_notified_once(feed, operators):
    make_rule(operators.owner, assets=["BTC-USD"], condition=above(100))
    evaluate_pending(feed_id=feed.pk)
    fail(feed)
    run(0, 80)
    assert set(alerts()) == {(None, "feed", feed.pk), ("ada", "feed", feed.pk)}
    assert sorted(notified()) == [("Inbox", "opened", "feed"), ("Operators", "opened", "feed")]


def test_a_superuser_without_a_channel_of_operators_sees_one_alert_and_is_notified_of_it(feed, ada, admin_user):
    make_rule(admin_user, assets=["BTC-USD"], condition=above(100))
    evaluate_pending(feed_id=feed.pk)
    fail(feed)
    run(0, 80)
    key = ("feed", feed.pk)
    assert set(alerts()) == {(None, *key), ("ada", *key), ("admin", *key)}
    assert sorted(notified()) == [("Inbox", "opened", "feed"), ("Inbox for errors", "opened", "feed")]

    def seen(user):
        shown = alerts_of(user).filter(subject="feed").values_list("owner__username", flat=True)
        steps = last_events_of(user, limit=100)
        assert {one.alert.owner_id for one in steps} == set(alerts_of(user).values_list("owner", flat=True))
        return sorted(map(str, shown))

    root = User.objects.create_superuser("root")
    assert (seen(admin_user), seen(root), seen(ada)) == (["ada", "admin"], ["None", "ada", "admin"], ["ada"])
    FeedHead.objects.update(failures=0)
    run(100, 100)
    assert seen(admin_user) == ["ada", "admin"]
    # The next one begins after his rule is deleted: then it is no alert of his.
    Rule.objects.filter(owner=admin_user).update(deleted_at=at(100))
    fail(feed)
    run(120, 200)
    assert seen(admin_user) == ["None", "ada", "ada", "admin"]


def test_a_restart_notifies_nobody(feed, operators):
    run(0, 20)
    # Nothing ran for an hour, in which the feed was not fetched.
    fail(feed)
    run(3_600, 3_640)
    assert set(Problem.objects.values_list("code", flat=True)) == {"failing"}
    assert alerts() == {}
    # It still fails: the time since the restart counts.
    run(3_660, 3_660)
    assert set(alerts()) == {(None, "feed", feed.pk), ("ada", "feed", feed.pk)}


def test_what_expects_its_prices_seldom_is_waited_for_as_long(feed, operators):
    Feed.objects.update(interval_seconds=300)
    fail(feed)
    run(0, 60)
    run(1_000, 1_000 + 880)
    assert set(Problem.objects.values_list("level", flat=True)) == {"stopped"}
    assert alerts() == {}
    run(1_900, 1_920)
    assert set(alerts()) == {(None, "feed", feed.pk), ("ada", "feed", feed.pk)}


def test_a_channel_that_fails_is_reported_on_another_of_the_same_rules(feed, ada, inbox, operators):
    second = create_channel(owner=ada, name="Second", kind="inbox", config={})
    create_channel(owner=ada, name="Third", kind="inbox", config={})
    set_channels(rule=Rule.objects.get(), channels=[inbox, second])
    Channel.objects.filter(pk=inbox.pk).update(failing_since=START)
    run(0, 280)
    assert alerts() == {}
    run(300, 300)
    assert alerts() == {("ada", "channel", inbox.pk): "open"}
    assert notified() == [("Second", "opened", "channel")]


def test_what_a_channel_has_not_delivered_about_health_moves_on_when_it_is_switched_off(feed, ada, inbox):
    second = create_channel(owner=ada, name="Second", kind="inbox", config={})
    set_channels(rule=Rule.objects.get(), channels=[inbox, second])
    switch_off(channel=inbox, because="the address is gone", now=at(0))
    run(0, 60)
    assert Alert.objects.get().summary == "Channel Inbox: it was disabled because the address is gone."
    plan(channel_id=second.pk, now=timezone.now())
    switch_off(channel=second, because="the address is gone", now=at(61))
    run(80, 140)
    third = "Inbox for errors"
    assert notified() == [(third, "opened", "channel"), (third, "opened", "channel")]
    plan(channel_id=Channel.objects.get(name=third).pk, now=timezone.now())
    assert [len(message.items) for message in Channel.objects.get(name=third).messages.all()] == [2]


def test_only_the_system_is_reported_to_operators_while_no_worker_reads_a_queue(feed, operators):
    fail(feed)
    run(0, 80, readers={"ticks": 0})
    assert alerts() == {(None, "system", 0): "open", ("ada", "feed", feed.pk): "open"}
    assert set(notified()) == {("Operators", "opened", "system"), ("Inbox", "opened", "feed")}
    assert Alert.objects.get(subject="system").severity == "critical"


def test_nothing_else_counts_while_no_tick_runs(feed, operators):
    run(0, 0)
    fail(feed)
    run(20, 100, ticks=False)
    assert alerts() == {(None, "system", 0): "open"}
    run(120, 120)
    assert alerts()[None, "system", 0] == "resolved"


def test_a_rule_that_cannot_be_evaluated_is_reported_unless_its_feed_or_asset_is(feed, ada, operators):
    hour_ago = at(-4_000)
    RuleState.objects.update(unknown="no_price", unknown_since=hour_ago)
    fail(feed)
    run(0, 80)
    assert set(alerts()) == {(None, "feed", feed.pk), ("ada", "feed", feed.pk)}
    FeedHead.objects.update(failures=0)
    run(100, 100)
    rule = Rule.objects.get()
    assert {key for key, state in alerts().items() if state == "open"} == {("ada", "rule", rule.pk)}


def test_an_error_of_a_rule_is_not_reported_twice(feed):
    RuleState.objects.update(state="error", detail="ZeroDivisionError")
    run(0, 80)
    assert set(Problem.objects.values_list("code", flat=True)) == {"error"}
    assert alerts() == {}


def test_a_check_that_began_before_the_last_one_records_nothing(feed):
    run(0, 0)
    pause(feed)
    check(readers=None, now=at(-1))
    assert not Problem.objects.exists()
    assert Check.objects.get().checked_at == at(0)
    # A clock that was put back is no reason to stop checking.
    check(readers=None, now=at(-3_600))
    assert Check.objects.get().checked_at == at(-3_600)
    assert Problem.objects.exists()


@pytest.mark.parametrize("is_owned", [True, False])
def test_the_database_refuses_a_second_open_alert_of_one_subject(ada, is_owned):
    columns = {"kind": "health", "owner": ada if is_owned else None, "subject": "feed", "subject_id": 7,
               "severity": "warning", "opened_at": START, "summary": "x"}  # fmt: skip
    first = Alert.objects.create(**columns)
    with pytest.raises(IntegrityError), transaction.atomic():
        Alert.objects.create(**columns)
    Alert.objects.create(**columns | {"subject_id": 8})
    first.resolved_at = START
    first.save()
    Alert.objects.create(**columns)


def test_its_end_says_why_and_when(feed, ada):
    fail(feed)
    run(0, 80)
    FeedHead.objects.update(failures=0)
    run(100, 100)
    event = AlertEvent.objects.filter(alert__owner=ada).last()
    assert (event.kind, event.reason, event.at) == ("resolved", "well_again", at(100))
