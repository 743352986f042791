"""Messages are dropped when their alerts are over and they are old enough, and nothing else is."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.notify import queries, services
from apps.notify.models import Attempt, Channel, Message, Notification, Silence
from apps.notify.services import pruning
from apps.notify.services.actions import VALID_FOR
from apps.notify.transports.protocol import TransportRejected, TransportUnavailable
from apps.pipeline import flow
from tests.builders import above, make_rule
from tests.notify.notifying import evaluate, expire_lease, items, make_due, notifications, plan, raising, send

pytestmark = pytest.mark.django_db

NOW = timezone.now()
BEFORE = NOW - timedelta(days=365)
OLD = BEFORE - timedelta(microseconds=1)


def opened(feed, channel, second):
    """Open an alert that notifies, and return the ids of its messages."""
    message_ids = items(feed, channel, (second, "101"))
    send(channel)
    return message_ids


def ended(feed, channel, second):
    """End the alert, which notifies, and return the ids of the messages that say so."""
    message_ids = items(feed, channel, (second, "99"))
    send(channel)
    return message_ids


def episode(feed, channel, second):
    return opened(feed, channel, second) + ended(feed, channel, second + 1)


def age(message_ids, *, made=OLD):
    Message.objects.filter(pk__in=message_ids).update(created_at=made)


def messages():
    return set(Message.objects.values_list("pk", flat=True))


def prune(**options):
    return services.prune_messages(now=NOW, **options)


def rows():
    return [
        set(model.objects.values_list("pk", flat=True)) for model in (Message, Attempt, Notification, AlertEvent, Alert)
    ]


def test_what_is_over_and_old_goes_with_its_attempts_and_notifications_and_the_alert_stays(feed, rule, channel):
    age(episode(feed, channel, 0))
    young = set(episode(feed, channel, 10))
    alerts, events = list(Alert.objects.order_by("pk").values()), list(AlertEvent.objects.order_by("pk").values())

    dropped = [prune(), prune()]

    assert (dropped, messages()) == ([2, 0], young)
    assert set(Attempt.objects.values_list("message", flat=True)) == young
    assert set(Notification.objects.values_list("message", flat=True)) == young
    assert list(Alert.objects.order_by("pk").values()) == alerts
    assert list(AlertEvent.objects.order_by("pk").values()) == events


def test_what_is_exactly_as_old_as_it_is_kept_stays(feed, rule, channel):
    (first, second) = episode(feed, channel, 0)
    episode(feed, channel, 10)
    age([first], made=BEFORE)
    age([second])

    assert (prune(), first in messages(), second in messages()) == (1, True, False)


def test_days_are_those_of_the_setting(feed, rule, channel, settings):
    settings.MESSAGE_RETENTION_DAYS = 8
    old, young = episode(feed, channel, 0)
    age([old], made=NOW - timedelta(days=8, seconds=1))
    age([young], made=NOW - timedelta(days=7, hours=23))
    episode(feed, channel, 10)

    assert (prune(), old in messages(), young in messages()) == (1, False, True)


def test_messages_about_an_open_alert_stay_so_that_its_resolution_notifies_too(feed, rule, channel, outside):
    episode(feed, channel, 0)
    of_open_alert = opened(feed, channel, 10)
    services.send_test(channel=channel, asked_by="ada", now=NOW)
    send(channel)
    age(of_open_alert)

    dropped = prune()
    ended(feed, channel, 20)

    assert dropped == 0
    assert "Resolved: " in outside.rendered_messages[-1].subject
    assert prune() == 1
    assert not messages() & set(of_open_alert)


def test_a_message_stays_while_one_of_its_alerts_is_open(feed, owner, rule, channel):
    other = make_rule(owner, name="Other", assets=["BTC-USD"], condition=above(102))
    services.set_channels(rule=other, channels=[channel])
    both = items(feed, channel, (0, "103"))
    send(channel)
    age(both)
    episode_of_other = items(feed, channel, (1, "101.5"))
    send(channel)

    assert (prune(), set(both) <= messages()) == (0, True)
    evaluate(feed, (2, "99"))
    assert (prune(), set(both) & messages(), set(episode_of_other) <= messages()) == (1, set(), True)


def test_an_open_alert_is_reminded_of_as_before(feed, rule, channel):
    Channel.objects.update(repeat_minutes=60)
    age(opened(feed, channel, 0))
    services.send_test(channel=channel, asked_by="ada", now=NOW)
    send(channel)

    prune()

    assert services.enqueue_reminders(now=timezone.now() + timedelta(minutes=61)) == [channel.pk]
    assert list(Notification.objects.order_by("repeat").values_list("repeat", flat=True)) == [0, 1]


@pytest.mark.parametrize("status", ["pending", "sending"])
def test_what_is_not_sent_yet_stays(feed, rule, channel, status):
    message_ids = episode(feed, channel, 0)
    episode(feed, channel, 10)
    age(message_ids)
    Message.objects.filter(pk__in=message_ids).update(status=status)

    assert (prune(), set(message_ids) <= messages()) == (0, True)


def test_what_was_given_up_goes_and_so_do_tests(feed, rule, channel, outside):
    outside.script = [raising(TransportRejected("http_400"))]
    given_up = opened(feed, channel, 0)
    evaluate(feed, (1, "99"))
    columns = {"channel": channel, "status": "delivered", "subject": "x", "text": "", "next_attempt_at": NOW}
    others = [Message.objects.create(kind="test", **columns).pk]
    young = set(episode(feed, channel, 10))
    age([*given_up, *others])

    assert (prune(), messages() - young) == (2, set())


def test_what_a_channel_that_is_switched_off_is_due_is_given_up_and_goes_with_the_rest(feed, rule, channel):
    """No notification stays without a message."""
    silence = services.create_silence(
        author=channel.owner, owner=channel.owner, starts_at=NOW, ends_at=NOW + timedelta(hours=1), comment="work"
    )
    evaluate(feed, (0, "101"), (1, "99"))
    deferred = plan(channel)
    Channel.objects.update(is_enabled=False)
    services.end_silences(silences=[silence], now=timezone.now())

    flow.notify_due()
    send(channel)

    handed_over = [("opened", "Inbox for errors"), ("resolved", "Inbox for errors")]
    assert (deferred, notifications()) == ([], [("opened", "Fake"), ("resolved", "Fake"), *handed_over])
    Notification.objects.filter(message=None).delete()
    assert list(Message.objects.values_list("status", flat=True)) == ["failed"]
    age(messages())
    assert (prune(), Notification.objects.exists()) == (1, False)


def test_a_channel_stays_known_as_working_by_its_last_delivery(feed, rule, channel):
    message_ids = episode(feed, channel, 0)
    age(message_ids[:1], made=OLD - timedelta(days=1))
    age(message_ids[1:])

    assert (prune(), messages()) == (1, set(message_ids[1:]))
    (after,) = queries.with_health(Channel.objects.all(), now=NOW)
    assert queries.channel_state(after, now=NOW)[0] == "works"


def test_a_channel_stays_known_as_failing_by_its_last_try(feed, rule, channel, outside):
    delivered = episode(feed, channel, 0)
    outside.script = [raising(TransportRejected("http_400"))]
    refused = opened(feed, channel, 10)
    evaluate(feed, (11, "99"))
    Notification.objects.filter(message=None).delete()
    Channel.objects.update(failing_since=None)
    age(delivered, made=OLD - timedelta(days=1))
    age(refused)

    prune()

    (after,) = queries.with_health(Channel.objects.filter(kind="fake"), now=NOW)
    assert queries.channel_state(after, now=NOW)[0] == "failing"
    assert (set(refused) <= messages(), len(messages())) == (True, 2)


def test_a_dry_run_counts_the_same_and_writes_nothing(feed, rule, channel):
    age(episode(feed, channel, 0) + episode(feed, channel, 10))
    episode(feed, channel, 20)
    age(opened(feed, channel, 30))
    before = rows()

    with CaptureQueriesContext(connection) as statements:
        said = prune(dry_run=True)

    assert [one["sql"] for one in statements if not one["sql"].startswith("SELECT")] == []
    assert (rows(), said) == (before, prune())
    assert said == 4


def test_pieces_go_on_where_the_last_has_ended_whatever_stays(feed, rule, channel, monkeypatch):
    monkeypatch.setattr(pruning, "MESSAGES_AT_ONCE", 2)
    over = [message_id for second in range(0, 50, 10) for message_id in episode(feed, channel, second)]
    young = episode(feed, channel, 60)
    stays = Message.objects.bulk_create(
        Message(pk=uuid.UUID(int=number << 125), channel=channel, subject="x", text="", next_attempt_at=NOW)
        for number in range(8)
    )
    # All of one moment, in whatever order; one more of another.
    age([*over, *(one.pk for one in stays)])
    age(over[:1], made=OLD - timedelta(days=1))

    assert prune(dry_run=True) == 10
    assert (prune(), messages()) == (10, {*(one.pk for one in stays), *young})


def test_how_a_piece_is_asked_for_does_not_grow_with_the_pieces(feed, rule, channel, monkeypatch):
    monkeypatch.setattr(pruning, "MESSAGES_AT_ONCE", 1)
    age([message_id for second in range(0, 50, 10) for message_id in episode(feed, channel, second)])

    with CaptureQueriesContext(connection) as statements:
        pieces = list(pruning._pieces(made_before=BEFORE))

    assert (len(pieces), len(statements)) == (10, 11)
    assert len({len(one["sql"]) for one in statements.captured_queries[1:]}) == 1


def test_a_piece_that_fails_leaves_the_ones_before_it_dropped(feed, rule, channel, monkeypatch):
    first, second, *_ = [*episode(feed, channel, 0), *episode(feed, channel, 10)]
    age([first], made=OLD - timedelta(days=1))
    age([second])
    monkeypatch.setattr(pruning, "MESSAGES_AT_ONCE", 1)
    drops = iter([pruning._drop, lambda over: raising(RuntimeError("away"))()])
    monkeypatch.setattr(pruning, "_drop", lambda over: next(drops)(over))

    with pytest.raises(RuntimeError):
        prune()

    assert (first in messages(), second in messages()) == (False, True)


def test_a_link_works_for_its_week_however_short_messages_are_kept_and_is_over_after_it(feed, rule, channel, settings):
    settings.MESSAGE_RETENTION_DAYS = 8
    message_ids = episode(feed, channel, 0)
    tokens = [services.action_links(message_id=pk)[0].url.rstrip("/").rsplit("/", 1)[1] for pk in message_ids]
    episode(feed, channel, 10)
    age(message_ids[:1], made=NOW - timedelta(days=8, seconds=1))
    age(message_ids[1:], made=NOW - VALID_FOR)

    prune()

    with pytest.raises(services.LinkOver):
        services.message_of_link(tokens[0], now=NOW)
    assert services.message_of_link(tokens[1], now=NOW)[0].pk == message_ids[1]


def test_a_sender_that_comes_back_late_finds_nothing_and_breaks_nothing(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))

    def meanwhile():
        expire_lease(message_id)
        assert send(channel) == "delivered"
        evaluate(feed, (1, "99"))
        Notification.objects.filter(message=None).delete()
        services.send_test(channel=channel, asked_by="ada", now=NOW)
        assert send(channel) == "delivered"
        age([message_id])
        assert prune() == 1
        raise TransportUnavailable("timeout")

    outside.script = [meanwhile]

    assert send(channel) == "transient_failure"
    assert message_id not in messages()
    assert not Attempt.objects.filter(message=message_id).exists()
    assert Channel.objects.get().failing_since is None


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_what_somebody_has_sent_again_this_moment_stays_and_is_waited_for_by_nobody(feed, rule, channel, outside):
    outside.script = [raising(TransportRejected("http_400"))]
    (given_up,) = opened(feed, channel, 0)
    (end,) = ended(feed, channel, 1)
    episode(feed, channel, 10)
    age([given_up, end])
    dropped = []

    def prune_beside():
        try:
            dropped.append(prune())
        finally:
            connection.close()

    with transaction.atomic():
        services.redeliver(messages=Message.objects.all(), now=timezone.now())
        beside = threading.Thread(target=prune_beside)
        beside.start()
        beside.join(timeout=20)

    assert (dropped, given_up in messages(), end in messages()) == ([1], True, False)
    make_due(given_up)
    assert (send(channel), outside.rendered_messages[-1].id) == ("delivered", str(given_up))


def silence(owner, *, ends_at):
    return services.create_silence(
        author=owner, owner=owner, starts_at=ends_at - timedelta(hours=1), ends_at=ends_at, comment="work"
    )


def test_silences_go_that_have_been_over_for_as_long(owner, monkeypatch):
    monkeypatch.setattr(pruning, "SILENCES_AT_ONCE", 1)
    for _ in range(3):
        silence(owner, ends_at=OLD)
    kept = {silence(owner, ends_at=ends_at) for ends_at in (BEFORE, NOW, NOW + timedelta(days=400))}

    said = services.prune_silences(now=NOW, dry_run=True)
    count = Silence.objects.count()
    dropped = [services.prune_silences(now=NOW) for _ in range(2)]

    assert (said, count, dropped) == (3, 6, [3, 0])
    assert set(Silence.objects.all()) == kept


def test_a_silence_stays_while_a_notification_that_it_deferred_is_kept(feed, owner, rule, channel):
    long_ago = silence(owner, ends_at=OLD)
    message_ids = episode(feed, channel, 0)
    Notification.objects.filter(message=message_ids[0]).update(deferred_by="silence", silence=long_ago)
    episode(feed, channel, 10)

    kept = services.prune_silences(now=NOW)
    age(message_ids)
    prune()

    assert (kept, services.prune_silences(now=NOW), Silence.objects.exists()) == (0, 1, False)


def test_what_there_is_no_time_for_is_the_next_runs(feed, rule, channel, monkeypatch):
    age([*episode(feed, channel, 0), *episode(feed, channel, 10)])
    young = set(episode(feed, channel, 20))
    monkeypatch.setattr(pruning, "MESSAGES_AT_ONCE", 3)

    dropped = [prune(at_most_seconds=0) for _ in range(3)]

    assert (dropped, messages()) == ([3, 1, 0], young)
