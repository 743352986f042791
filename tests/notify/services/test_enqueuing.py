"""Which channels get notifications, and when they are due."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import acknowledge
from apps.notify import queries, services
from apps.notify.models import Channel, Message, Notification
from apps.notify.transports.protocol import TransportRejected
from apps.pipeline import flow
from apps.rules.models import Rule, RuleVersion
from tests.builders import above, make_operator, make_rule
from tests.notify.notifying import LONG_AGO, evaluate, items, make_due, notifications, plan, raising, send

pytestmark = pytest.mark.django_db

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def test_an_opening_is_due_to_the_enabled_channels_of_its_rule(feed, owner, rule, channel):
    more = [services.create_channel(owner=owner, name=name, kind="inbox", config={}) for name in ("A", "Off", "Other")]
    Channel.objects.filter(name="Off").update(is_enabled=False)
    services.set_channels(rule=rule, channels=[channel, *more[:2]])

    evaluate(feed, (0, "101"))

    assert notifications() == [("opened", "Fake"), ("opened", "A")]


def test_a_rule_without_channels_owns_nothing_and_makes_no_inbox(feed, owner):
    make_rule(owner, assets=["BTC-USD"], condition=above(100))

    assert evaluate(feed, (0, "101")) == []
    assert (Alert.objects.count(), Notification.objects.count(), Channel.objects.count()) == (1, 0, 0)


def test_a_resolution_is_due_only_where_the_opening_was_and_where_it_is_wanted(feed, owner, rule, channel):
    names = ("Quiet", "Off later", "Late")
    quiet, off, late = [services.create_channel(owner=owner, name=one, kind="inbox", config={}) for one in names]
    services.set_channels(rule=rule, channels=[channel, quiet, off])
    evaluate(feed, (0, "101"))
    Channel.objects.filter(name="Quiet").update(wants_resolved=False)
    Channel.objects.filter(name="Off later").update(is_enabled=False)
    services.set_channels(rule=rule, channels=[quiet, off, late])

    evaluate(feed, (1, "99"))

    assert notifications()[3:] == [("resolved", "Fake")]


def test_an_episode_within_one_batch_owns_both_steps(feed, rule):
    evaluate(feed, (0, "101"), (1, "99"))

    assert notifications() == [("opened", "Fake"), ("resolved", "Fake")]


def test_due_twice_makes_no_second_notification(feed, rule):
    evaluate(feed, (0, "101"), (1, "99"))

    services.enqueue(list(AlertEvent.objects.select_related("alert__rule")), now=timezone.now())

    assert notifications() == [("opened", "Fake"), ("resolved", "Fake")]


@pytest.mark.parametrize(("severity", "waits"), [("warning", 30), ("critical", 0)])
def test_what_is_critical_is_due_at_once_and_all_else_after_the_channels_wait(feed, rule, severity, waits):
    Channel.objects.update(group_wait_seconds=30)
    Rule.objects.update(severity=severity)
    before = timezone.now()

    evaluate(feed, (0, "101"), (1, "99"))

    for due_at in Notification.objects.values_list("due_at", flat=True):
        assert before + timedelta(seconds=waits) <= due_at <= timezone.now() + timedelta(seconds=waits)
    assert notifications() == [("opened", "Fake"), ("resolved", "Fake")]


def test_an_error_goes_to_the_rules_channel_or_else_to_the_owners_inbox(feed, owner, rule):
    make_rule(owner, name="unplanned", assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={})

    flow.evaluate_pending(feed_id=feed.pk)

    rows = Notification.objects.order_by("event__alert__rule__name").values_list(
        "event__alert__rule__name", "channel__name"
    )
    assert list(rows) == [("Peg", "Fake"), ("unplanned", "Inbox for errors")]
    assert Channel.objects.get(kind="inbox").owner == owner


def test_an_error_goes_to_the_inbox_that_is_there(feed, owner):
    services.create_channel(owner=owner, name="My box", kind="inbox", config={})
    make_rule(owner, assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={})

    flow.evaluate_pending(feed_id=feed.pk)

    assert notifications() == [("opened", "My box")]


def test_an_error_finds_an_inbox_whatever_the_names_of_the_owners_channels(feed, owner):
    services.create_channel(owner=owner, name="Inbox for errors", kind="email", config={"to": "ada@example.org"})
    off = services.create_channel(owner=owner, name="off", kind="inbox", config={})
    Channel.objects.filter(pk=off.pk).update(is_enabled=False)
    make_rule(owner, assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={})

    flow.evaluate_pending(feed_id=feed.pk)

    assert Notification.objects.get().channel.name == "Inbox for errors 2"


def test_the_database_refuses_a_second_notification_of_one_event(feed, rule):
    evaluate(feed, (0, "101"))
    notification = Notification.objects.get()

    with pytest.raises(IntegrityError), transaction.atomic():
        Notification.objects.create(event=notification.event, channel=notification.channel, due_at=notification.due_at)


def make_system_alert():
    alert = Alert.objects.create(
        kind="system",
        severity="critical",
        opened_at=timezone.now(),
        summary="Broker is away",
        fingerprint="f1",
        evidence={"labels": {"alertname": "BrokerAway", "instance": "rabbit:5672"}},
    )
    return AlertEvent.objects.create(alert=alert, kind="opened", at=alert.opened_at)


def test_alerts_about_the_installation_go_to_the_channels_of_operators_that_want_them(owner, channel, outside):
    operator = make_operator("grace", "alerts.view_system_alerts")
    services.create_channel(owner=operator, name="Operators", kind="fake", config={}, wants_system=True)
    services.create_channel(owner=owner, name="Theirs no more", kind="fake", config={}, wants_system=True)

    services.enqueue([make_system_alert()], now=timezone.now())
    operators = Channel.objects.get(name="Operators")
    plan(operators)
    send(operators)

    assert notifications() == [("opened", "Operators")]
    assert [rendered.subject for rendered in outside.rendered_messages] == ["[critical] BrokerAway: rabbit:5672"]


# Reminders


@pytest.fixture
def reminded(channel):
    Channel.objects.filter(pk=channel.pk).update(repeat_minutes=60)
    channel.refresh_from_db()
    return channel


def remind(channel, *, minutes):
    """Create the reminders due so many minutes from now, plan and send them; return the channels that were owed."""
    notifications = services.enqueue_reminders(now=timezone.now() + timedelta(minutes=minutes))
    # The database's own clock says what may be sent.
    Notification.objects.filter(message=None).update(due_at=LONG_AGO)
    plan(channel)
    send(channel)
    return notifications


def test_an_open_alert_has_a_reminder_each_time_the_interval_has_passed(feed, rule, reminded, outside):
    items(feed, reminded, (0, "101"))
    send(reminded)

    notifications = [remind(reminded, minutes=minutes) for minutes in (59, 61, 61)]

    assert notifications == [[], [reminded.pk], [reminded.pk]]
    assert [rendered.subject for rendered in outside.rendered_messages] == [
        "[warning] Peg: BTC-USD",
        "[warning] Still open: Peg, BTC-USD",
        "[warning] Still open: Peg, BTC-USD",
    ]
    assert "Still open and not acknowledged; opened 2026-03-02 12:00:00 UTC." in outside.rendered_messages[1].text
    assert set(Notification.objects.values_list("repeat", flat=True)) == {0, 1, 2}


def test_no_reminder_of_what_was_not_sent_or_of_a_channel_that_wants_none(feed, rule, channel, reminded):
    items(feed, reminded, (0, "101"))
    assert services.enqueue_reminders(now=timezone.now() + timedelta(days=1)) == []

    send(reminded)
    Channel.objects.update(repeat_minutes=0)

    assert services.enqueue_reminders(now=timezone.now() + timedelta(days=1)) == []


def test_reminders_end_with_an_acknowledgement_and_with_the_alert(feed, rule, reminded):
    items(feed, reminded, (0, "101"))
    send(reminded)
    by = get_user_model().objects.get()
    acknowledge(alerts=Alert.objects.all(), by=by, note="", now=timezone.now())
    assert remind(reminded, minutes=61) == []

    items(feed, reminded, (1, "99"), (2, "101"))
    send(reminded)
    evaluate(feed, (3, "99"))

    assert remind(reminded, minutes=61) == []


@pytest.mark.parametrize("end", ["acknowledged", "resolved"])
def test_a_reminder_that_is_moot_before_it_is_planned_is_forgotten(feed, rule, reminded, outside, end):
    items(feed, reminded, (0, "101"))
    send(reminded)
    later = timezone.now() + timedelta(minutes=61)
    services.enqueue_reminders(now=later)
    Channel.objects.update(wants_resolved=False)
    if end == "acknowledged":
        acknowledge(alerts=Alert.objects.all(), by=reminded.owner, note="", now=timezone.now())
    else:
        evaluate(feed, (1, "99"))

    assert plan(reminded, after=61 * 60) == []
    assert list(Notification.objects.values_list("repeat", flat=True)) == [0]


def test_two_who_remind_at_once_remind_once(feed, rule, reminded):
    items(feed, reminded, (0, "101"))
    send(reminded)
    later = timezone.now() + timedelta(minutes=61)

    services.enqueue_reminders(now=later)
    services.enqueue_reminders(now=later)

    assert sorted(Notification.objects.values_list("repeat", flat=True)) == [0, 1]


def test_a_reminder_in_a_silence_waits_for_its_end(feed, rule, reminded, outside):
    items(feed, reminded, (0, "101"))
    send(reminded)
    now = timezone.now()
    services.create_silence(
        author=reminded.owner, owner=reminded.owner, starts_at=now, ends_at=now + timedelta(hours=3), comment="work"
    )
    notifications = [services.enqueue_reminders(now=now + timedelta(minutes=minutes)) for minutes in (61, 122)]

    deferred = plan(reminded, after=122 * 60)
    due = plan(reminded, after=181 * 60)
    make_due(*due)
    send(reminded)

    assert notifications == [[reminded.pk], []]
    assert (deferred, len(due)) == ([], 1)
    assert "Held back by the silence “work”" in outside.rendered_messages[1].text


def test_an_alert_whose_message_failed_has_reminders(feed, rule, reminded, outside):
    items(feed, reminded, (0, "101"))
    outside.script = [raising(TransportRejected("http_400"))]
    send(reminded)

    notifications = [
        services.enqueue_reminders(now=timezone.now() + timedelta(minutes=minutes)) for minutes in (59, 61, 61)
    ]

    assert notifications == [[], [reminded.pk], []]


def reminded_after(minutes):
    return services.enqueue_reminders(now=timezone.now() + timedelta(minutes=minutes))


@pytest.mark.parametrize("before", [0, 1_440])
def test_who_changes_how_often_a_channel_reminds_changes_it_for_alerts_that_are_open(feed, rule, channel, before):
    Channel.objects.update(repeat_minutes=before)
    items(feed, channel, (0, "101"))
    send(channel)
    channel.refresh_from_db()
    services.configure_channel(channel=channel, kind="fake", config={}, repeat_minutes=60)

    assert (reminded_after(59), reminded_after(61)) == ([], [channel.pk])


def test_a_channel_that_was_off_when_a_reminder_was_due_reminds_when_it_is_on_again(feed, rule, reminded):
    items(feed, reminded, (0, "101"))
    send(reminded)
    Channel.objects.update(is_enabled=False)
    assert reminded_after(61) == []

    reminded.refresh_from_db()
    services.switch_on(channel=reminded)

    assert (reminded_after(59), reminded_after(61)) == ([], [reminded.pk])


def test_a_message_that_is_sent_again_is_not_reminded_of_meanwhile(feed, rule, reminded, outside):
    items(feed, reminded, (0, "101"))
    outside.script = [raising(TransportRejected("http_400"))]
    send(reminded)
    services.redeliver(messages=Message.objects.all(), now=timezone.now())
    assert reminded_after(61) == []

    make_due(Message.objects.get().pk)
    send(reminded)

    assert reminded_after(61) == [reminded.pk]


def test_who_is_reminded_seldom_keeps_nobody_from_being_reminded_often(feed, owner, rule, reminded, monkeypatch):
    often = services.create_channel(owner=owner, name="Often", kind="fake", config={})
    Channel.objects.filter(pk=reminded.pk).update(repeat_minutes=1_440)
    Channel.objects.filter(pk=often.pk).update(repeat_minutes=60)
    services.set_channels(rule=rule, channels=[reminded, often])
    evaluate(feed, (0, "101"))
    for channel in (reminded, often):
        plan(channel)
        send(channel)
    monkeypatch.setattr(queries.planning, "NOTIFICATIONS_AT_ONCE", 1)

    assert services.enqueue_reminders(now=timezone.now() + timedelta(minutes=61)) == [often.pk]


def test_what_is_silenced_keeps_nothing_else_from_being_reminded_of(feed, owner, rule, reminded, monkeypatch):
    evaluate(feed, (0, "101"))
    other = make_rule(owner, assets=["BTC-USD"], condition=above(102), name="Other")
    services.set_channels(rule=other, channels=[reminded])
    evaluate(feed, (1, "103"))
    plan(reminded)
    send(reminded)
    now = timezone.now()
    services.create_silence(author=owner, owner=owner, rule=rule, starts_at=now, ends_at=LATER, comment="work")
    monkeypatch.setattr(queries.planning, "NOTIFICATIONS_AT_ONCE", 1)

    for minutes in (61, 62):
        services.enqueue_reminders(now=now + timedelta(minutes=minutes))
        plan(reminded, after=minutes * 60)

    assert set(Notification.objects.filter(repeat=1).values_list("event__alert__rule__name", "deferred_by")) == {
        ("Peg", "silence"),
        ("Other", ""),
    }
