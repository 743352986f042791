"""A silence of one alert lasts until the alert is over, and nothing of what it deferred is sent."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify import queries, services
from apps.notify.models import Channel, Message, Notification, Silence
from apps.notify.services import planning, silencing
from apps.pipeline import flow
from tests.builders import above, make_owner, make_rule
from tests.notify.notifying import Killed, evaluate, items, pending, plan, send
from tests.threads import elsewhere

pytestmark = pytest.mark.django_db


def silence(alert=None, **more):
    """Return a silence of the alert, or of the only one."""
    alert = alert or Alert.objects.get()
    given = {"author": alert.owner, "owner": alert.owner, "starts_at": timezone.now(), "comment": "known", **more}
    return services.create_silence(alert=alert, **given)


def silence_then_end(feed, channel):
    """Open an alert, silence it before its opening is planned, plan, and end the alert."""
    evaluate(feed, (0, "101"))
    made = silence()
    assert plan(channel) == []
    evaluate(feed, (1, "99"))
    return made


def status():
    """Return (event, status of the notification, who deferred it) of each notification."""
    rows = Notification.objects.select_related("event", "message").order_by("event")
    return [(one.event.kind, one.status, one.deferred_by) for one in rows]


def test_what_it_defers_waits_without_a_time_until_the_alert_is_over(feed, rule, channel):
    evaluate(feed, (0, "101"))
    made = silence()

    assert plan(channel) == plan(channel, after=9_000_000) == []

    notification = Notification.objects.get()
    assert (notification.silence, notification.due_at) == (made, None)
    assert status() == [("opened", "deferred", "silence")]
    assert services.release_silenced(now=timezone.now()) == 0
    assert queries.channels_to_plan(now=timezone.now()) == []


def test_neither_what_it_deferred_nor_the_resolution_is_sent_and_both_are_recorded_with_the_reason(
    feed, rule, channel, outside
):
    silence_then_end(feed, channel)

    result = flow.notify_due()

    assert result == {"planned": 0, "channels": 0}
    assert send(channel) is None
    assert outside.rendered_messages == []
    assert status() == [("opened", "silenced", "silence"), ("resolved", "silenced", "silence")]
    message = Message.objects.get()
    assert [one["event"] for one in message.items] == ["opened", "resolved"]
    assert {one["deferred_by"] for one in message.items} == {"the silence “known” until the alert is over"}
    assert queries.message_counts_of(channel.owner, since=timezone.now()).waiting == 0


def test_what_was_deferred_is_settled_on_a_channel_that_wants_no_resolutions(feed, rule, channel):
    Channel.objects.update(wants_resolved=False)
    silence_then_end(feed, channel)

    flow.notify_due()

    assert status() == [("opened", "silenced", "silence")]


def test_the_resolution_of_an_alert_whose_opening_was_sent_is_not_sent(feed, rule, channel):
    items(feed, channel, (0, "101"))
    send(channel)
    silence()

    evaluate(feed, (1, "99"))
    flow.notify_due()

    assert status() == [("opened", "delivered", ""), ("resolved", "silenced", "silence")]


def test_the_next_alert_of_the_rule_on_the_asset_is_sent(feed, rule, channel):
    silence_then_end(feed, channel)
    flow.notify_due()

    assert len(items(feed, channel, (2, "101"))) == 1


def test_other_notifications_of_the_channel_are_sent(feed, owner, rule, channel):
    silence_then_end(feed, channel)
    other = make_rule(owner, name="other", assets=["BTC-USD"], condition=above(10))
    services.set_channels(rule=other, channels=[channel])
    evaluate(feed, (2, "98"))
    services.release_silenced(now=timezone.now())

    (message_id,) = plan(channel)

    assert [one["rule"] for one in Message.objects.get(pk=message_id).items] == ["other"]
    assert Message.objects.filter(status="silenced").count() == 1


def test_a_message_that_is_not_sent_uses_up_no_room_of_the_limit(feed, rule, channel):
    Channel.objects.update(messages_per_minute=1)
    silence_then_end(feed, channel)
    flow.notify_due()

    assert len(items(feed, channel, (2, "101"))) == 1


def test_a_reminder_of_a_silenced_alert_is_neither_sent_nor_recorded(feed, rule, channel):
    items(feed, channel, (0, "101"))
    send(channel)
    silence()
    opening = Notification.objects.get()
    Notification.objects.create(event=opening.event, channel=channel, repeat=1, due_at=timezone.now())
    assert plan(channel) == []

    evaluate(feed, (1, "99"))
    flow.notify_due()

    assert not Notification.objects.filter(repeat=1).exists()
    assert status() == [("opened", "delivered", ""), ("resolved", "silenced", "silence")]


def test_what_it_deferred_is_sent_where_it_is_ended_before(feed, rule, channel):
    evaluate(feed, (0, "101"))
    made = silence()
    plan(channel)

    assert services.end_silences(silences=[made], now=timezone.now()) == 1
    assert len(plan(channel)) == 1
    evaluate(feed, (1, "99"))
    plan(channel)

    assert status() == [("opened", "pending", "silence"), ("resolved", "pending", "")]
    assert services.end_silences(silences=[made], now=timezone.now()) == 0


def test_it_is_over_with_its_alert_and_is_ended_no_more(feed, rule, channel):
    made = silence_then_end(feed, channel)

    assert services.end_silences(silences=[made], now=timezone.now()) == 0
    states = [name for name, chosen in queries.SILENCE_STATES.items() if Silence.objects.filter(chosen(timezone.now()))]
    assert states == ["over"]


def test_of_two_silences_of_an_alert_its_own_decides(feed, owner, rule, channel):
    evaluate(feed, (0, "101"))
    now = timezone.now()
    services.create_silence(author=owner, owner=owner, starts_at=now, ends_at=now + timedelta(days=900), comment="all")
    silence()
    plan(channel)
    evaluate(feed, (1, "99"))

    flow.notify_due()

    assert status() == [("opened", "silenced", "silence"), ("resolved", "silenced", "silence")]


def test_an_alert_that_is_over_is_not_silenced(feed, rule, channel):
    evaluate(feed, (0, "101"), (1, "99"))

    with pytest.raises(ValidationError, match="over already"):
        silence()


def test_an_alert_is_silenced_once(feed, rule, channel):
    evaluate(feed, (0, "101"))
    first = silence()

    with pytest.raises(ValidationError, match="silenced already"):
        silence()
    services.end_silences(silences=[first], now=timezone.now())

    assert silence().pk != first.pk


def test_only_the_alerts_owner_is_matched_and_only_alerts_of_rules(feed, rule, channel):
    evaluate(feed, (0, "101"))
    alert = Alert.objects.get()
    times = {"starts_at": None, "ends_at": None, "now": timezone.now()}

    mine = services.faults_of_silence(owner=alert.owner, rule=None, alert=alert, **times)
    others = services.faults_of_silence(owner=make_owner("bob"), rule=None, alert=alert, **times)
    systems = services.faults_of_silence(owner=alert.owner, rule=None, alert=Alert(kind="system"), **times)

    assert (mine, set(others), set(systems)) == ({}, {"alert"}, {"alert"})


@pytest.mark.parametrize(
    "columns",
    [
        {"ends_at": None},
        {"of_alert": True, "owner": None},
        {"of_alert": True, "severity": "warning"},
        {"of_alert": True, "rule": True},
        {"of_alert": True, "asset": True},
        {"of_alert": True, "twice": True},
    ],
)
def test_the_database_refuses_what_means_nothing(feed, rule, channel, columns):
    evaluate(feed, (0, "101"))
    alert = Alert.objects.get()
    row = {"owner": alert.owner, "comment": "x", "starts_at": timezone.now()} | columns
    if row.pop("of_alert", False):
        row["alert"] = alert
    row |= {name: getattr(alert, name) for name in ("rule", "asset") if row.get(name)}
    if row.pop("twice", False):
        Silence.objects.create(**row)

    with pytest.raises(IntegrityError), transaction.atomic():
        Silence.objects.create(**row)


def test_the_database_refuses_a_notification_without_a_time_that_nothing_silences(feed, rule, channel):
    evaluate(feed, (0, "101"))

    with pytest.raises(IntegrityError), transaction.atomic():
        Notification.objects.update(due_at=None)


def test_a_planner_that_dies_leaves_it_to_the_next(monkeypatch, feed, rule, channel):
    silence_then_end(feed, channel)
    services.release_silenced(now=timezone.now())

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(planning, "compose_message", die)
        with pytest.raises(Killed):
            plan(channel)
    assert {one for _, one, _ in status()} == {"deferred", "waiting"}

    for _ in range(2):
        flow.notify_due()

    assert status() == [("opened", "silenced", "silence"), ("resolved", "silenced", "silence")]
    assert Message.objects.count() == 1


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_an_alert_that_resolves_while_it_is_silenced_is_not_silenced_and_its_resolution_is_sent(
    monkeypatch, feed, rule, channel
):
    items(feed, channel, (0, "101"))
    lock = silencing.lock_open_alerts

    def resolved_meanwhile(alert_ids):
        elsewhere(lambda: evaluate(feed, (1, "99")))
        return lock(alert_ids)

    monkeypatch.setattr(silencing, "lock_open_alerts", resolved_meanwhile)
    with pytest.raises(ValidationError):
        silence()

    assert not Silence.objects.exists()
    plan(channel)
    assert status() == [("opened", "pending", ""), ("resolved", "pending", "")]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_an_alert_that_resolves_while_somebody_plans_leaves_nothing_deferred(monkeypatch, feed, rule, channel):
    Channel.objects.update(wants_resolved=False)
    evaluate(feed, (0, "101"))
    silence()
    read = queries.silences_in_force

    def resolved_meanwhile(**chosen):
        elsewhere(lambda: evaluate(feed, (1, "99")))
        return read(**chosen)

    with monkeypatch.context() as racing:
        racing.setattr(queries, "silences_in_force", resolved_meanwhile)
        plan(channel)
    assert status() == [("opened", "deferred", "silence")]

    flow.notify_due()

    assert status() == [("opened", "silenced", "silence")]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_silence_that_is_ended_while_somebody_plans_sends_what_it_deferred(monkeypatch, feed, rule, channel):
    evaluate(feed, (0, "101"))
    made = silence()
    read = queries.silences_in_force

    def ended_meanwhile(**chosen):
        found = read(**chosen)
        elsewhere(lambda: services.end_silences(silences=[made], now=timezone.now()))
        return found

    with monkeypatch.context() as racing:
        racing.setattr(queries, "silences_in_force", ended_meanwhile)
        plan(channel)

    assert len(plan(channel)) == 1


def test_it_is_deleted_as_long_after_as_messages_are_kept_and_not_while_anything_waits(feed, rule, channel):
    made = silence_then_end(feed, channel)
    Silence.objects.update(created_at=timezone.now() - timedelta(days=366))
    now = timezone.now()
    assert services.prune_silences(now=now) == 0

    # Its alert's resolution waits, and the opening that it deferred is gone.
    Notification.objects.filter(event__kind="opened").delete()
    assert services.prune_silences(now=now) == 0

    flow.notify_due()
    Message.objects.all().delete()
    assert services.prune_silences(now=now - timedelta(days=3), dry_run=True) == 0
    assert services.prune_silences(now=now, dry_run=True) == 1
    assert services.prune_silences(now=now) == 1
    assert not Silence.objects.filter(pk=made.pk).exists()


def test_a_message_that_was_not_sent_is_pruned_like_others(feed, rule, channel):
    silence_then_end(feed, channel)
    flow.notify_due()
    Message.objects.update(created_at=timezone.now() - timedelta(days=366))

    assert services.prune_messages(now=timezone.now()) == 1
    assert pending(channel) == []
    assert not Notification.objects.exists()
