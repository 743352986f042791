"""How a message is sent: once where it can be, in order, and never unnoticed."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.notify import domain, queries, services
from apps.notify.models import Attempt, Channel, Message
from apps.notify.transports.protocol import ChannelRefused, TransportRejected, TransportUnavailable
from apps.rules.models import Rule
from tests.builders import above, make_feed, make_owner, make_rule
from tests.notify.notifying import (
    LONG_AGO,
    Killed,
    due,
    evaluate,
    expire_lease,
    items,
    make_due,
    outcomes,
    plan,
    raising,
    send,
)
from tests.threads import at_once

pytestmark = pytest.mark.django_db


def test_a_delivery_is_on_record(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))

    outcome = send(channel)

    message, attempt = Message.objects.get(), Attempt.objects.get()
    assert (outcome, message.status, message.attempts, message.lease_until) == ("delivered", "delivered", 1, None)
    assert message.delivered_at is not None
    assert (attempt.number, attempt.outcome, attempt.reason, attempt.detail) == (1, "delivered", "", "taken")
    assert (attempt.status, attempt.answer, attempt.milliseconds is None) == (200, "thanks", False)
    assert send(channel) is None
    assert [rendered.id for rendered in outside.rendered_messages] == [str(message_id)]


def test_a_message_has_all_that_a_transport_may_need(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))

    send(channel)

    (rendered,) = outside.rendered_messages
    assert (rendered.subject, rendered.severity) == ("[warning] Peg: BTC-USD", "warning")
    assert rendered.url.endswith(f"/admin/notify/message/{message_id}/change/")
    assert [(one.event, one.symbol, one.reason, one.summary) for one in rendered.items] == [
        ("opened", "BTC-USD", "", "BTC-USD is above 100: 101 at 12:00:00 UTC")
    ]
    assert [action.label for action in rendered.actions] == ["Acknowledge", "Silence 1 h", "Silence until over"]


def test_what_is_over_has_nothing_to_acknowledge(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    send(channel)
    items(feed, channel, (1, "99"))
    send(channel)

    assert [bool(rendered.actions) for rendered in outside.rendered_messages] == [True, False]


def test_what_opened_and_is_over_has_nothing_to_acknowledge_and_a_list_has_as_long_as_one_is_open(
    feed, rule, channel, outside
):
    items(feed, channel, (0, "101"), (1, "99"))
    send(channel)
    items(feed, channel, (2, "101"), (3, "99"), (4, "101"))
    send(channel)

    assert [bool(rendered.actions) for rendered in outside.rendered_messages] == [False, True]


def test_an_opening_that_was_tried_keeps_its_text_and_the_resolution_waits_behind_it(feed, rule, channel, outside):
    (opened,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503"))]
    send(channel)

    _, resolved = items(feed, channel, (1, "99"))
    too_early = send(channel)
    make_due(opened)
    in_order = [send(channel), send(channel)]

    assert (too_early, in_order) == (None, ["delivered", "delivered"])
    assert [rendered.id for rendered in outside.rendered_messages] == [str(opened), str(opened), str(resolved)]
    assert ["Resolved: " in rendered.subject for rendered in outside.rendered_messages] == [False, False, True]


def test_the_order_within_an_alert_does_not_rest_on_the_clocks_of_those_who_plan(feed, rule, channel, outside):
    (opened,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503"))]
    send(channel)
    items(feed, channel, (1, "99"))
    Message.objects.exclude(pk=opened).update(created_at=LONG_AGO, next_attempt_at=LONG_AGO)

    assert send(channel) is None


def test_what_comes_meanwhile_waits_until_the_channel_is_free(feed, rule, channel, outside):
    (opened,) = items(feed, channel, (0, "101"))
    seen = []

    def resolve_meanwhile():
        items(feed, channel, (1, "99"))
        seen.append(send(channel))

    outside.script = [resolve_meanwhile]
    send(channel)

    assert seen == [None]
    assert send(channel) == "delivered"
    assert [rendered.id == str(opened) for rendered in outside.rendered_messages] == [True, False]


def test_the_resolution_goes_on_once_the_opening_is_dead(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    outside.script = [raising(TransportRejected("smtp_550"))]
    send(channel)

    items(feed, channel, (1, "99"))

    assert send(channel) == "delivered"


def test_alerts_do_not_wait_for_each_other(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503"))]
    send(channel)
    items(feed, channel, (1, "99"))
    items(feed, channel, (2, "101"))

    sent = [send(channel), send(channel)]

    assert sent == ["delivered", None]
    assert [rendered.items[0].at.second for rendered in outside.rendered_messages] == [0, 2]


def test_channels_do_not_wait_for_each_other(feed, owner, rule, channel, outside):
    other = services.create_channel(owner=owner, name="In", kind="inbox", config={})
    services.set_channels(rule=rule, channels=[channel, other])
    evaluate(feed, (0, "101"))
    plan(channel)
    plan(other)
    seen = []
    outside.script = [lambda: seen.append(send(other))]

    assert send(channel) == "delivered"
    assert seen == ["delivered"]


def test_messages_of_one_channel_are_sent_one_at_a_time_whatever_they_are_about(feed, rule, channel, outside):
    items(feed, channel, (0, "101"), (1, "99"))
    items(feed, channel, (2, "101"), (3, "99"))
    seen = []
    outside.script = [lambda: seen.append(send(channel))]

    assert send(channel) == "delivered"
    assert seen == [None]
    assert send(channel) == "delivered"


def test_what_is_not_due_is_not_sent(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    Message.objects.update(next_attempt_at=timezone.now() + timedelta(hours=1))

    assert send(channel) is None
    assert (outside.rendered_messages, Attempt.objects.count()) == ([], 0)


def test_an_outage_is_tried_again_after_a_wait_within_its_bounds(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503", "busy")) for _ in range(3)]

    waits = []
    for _ in range(3):
        make_due(message_id)
        before = timezone.now()
        assert send(channel) == "transient_failure"
        waits.append((Message.objects.get().next_attempt_at - before).total_seconds())

    assert outcomes(message_id) == [(number, "transient_failure", "http_503") for number in (1, 2, 3)]
    assert [4 <= waits[0] <= 7, 24 <= waits[1] <= 37, 96 <= waits[2] <= 145] == [True, True, True]
    assert (Message.objects.get().status, Message.objects.get().lease_until) == ("pending", None)


def test_the_eighth_failure_is_the_last(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503")) for _ in range(9)]

    statuses = []
    for _ in range(9):
        make_due(message_id)
        send(channel)
        statuses.append(Message.objects.get().status)

    assert statuses == ["pending"] * 7 + ["failed"] * 2
    assert len(outside.rendered_messages) == 8
    assert {rendered.id for rendered in outside.rendered_messages} == {str(message_id)}


def test_the_schedule_has_the_attempts_that_the_tests_count():
    assert len(domain.RETRY_AFTER_SECONDS) + 1 == 8


def test_a_rejection_is_for_good_and_leaves_the_channel_on(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportRejected("http_400", "too long"))]

    assert send(channel) == "permanent_failure"
    make_due(message_id)
    assert send(channel) is None
    assert (Message.objects.get().status, outcomes(message_id)) == ("failed", [(1, "permanent_failure", "http_400")])
    assert Channel.objects.get(kind="fake").is_enabled


def test_a_crash_between_the_answer_and_the_commit_costs_one_repeat_with_the_same_id(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(Killed())]
    with pytest.raises(Killed):
        send(channel)

    while_leased = send(channel)
    expire_lease(message_id)
    after = [send(channel) for _ in range(2)]

    assert (while_leased, after) == (None, ["delivered", None])
    assert [rendered.id for rendered in outside.rendered_messages] == [str(message_id)] * 2
    assert outcomes(message_id) == [(1, "transient_failure", "lost"), (2, "delivered", "")]


@pytest.mark.parametrize(
    ("late_result", "first"),
    [
        (lambda: None, (1, "delivered", "")),
        (raising(TransportUnavailable("timeout")), (1, "transient_failure", "timeout")),
        (raising(TransportRejected("http_400")), (1, "permanent_failure", "http_400")),
        (raising(ChannelRefused("http_410")), (1, "permanent_failure", "http_410")),
    ],
)
def test_what_a_sender_says_after_its_lease_is_fenced_off_while_the_next_is_at_it(
    feed, rule, channel, outside, late_result, first
):
    (message_id,) = items(feed, channel, (0, "101"))

    def overtaken():
        expire_lease(message_id)
        outside.script = [raising(Killed())]
        with pytest.raises(Killed):
            send(channel)
        late_result()

    outside.script = [overtaken]
    send(channel)

    assert outcomes(message_id) == [first, (2, "", "")]
    assert (Message.objects.get().status, Message.objects.get().attempts) == ("sending", 2)
    assert list(Channel.objects.values_list("is_enabled", "failing_since")) == [(True, None)]


def test_a_message_that_kills_every_sender_is_given_up_after_the_last_attempt(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(Killed()) for _ in range(8)]
    for _ in range(8):
        with pytest.raises(Killed):
            send(channel)
        expire_lease(message_id)

    assert send(channel) is None
    assert (Message.objects.get().status, len(outside.rendered_messages)) == ("failed", 8)
    assert due(behind=timedelta(0)) == []


def test_a_line_break_in_a_rule_name_stays_out_of_the_subject(feed, owner, channel, outside):
    rule = make_rule(owner, name="Peg\r\nBcc: evil@example.org", assets=["BTC-USD"], condition=above(100))
    services.set_channels(rule=rule, channels=[channel])
    items(feed, channel, (0, "101"))

    send(channel)

    assert [rendered.subject for rendered in outside.rendered_messages] == [
        "[warning] Peg Bcc: evil@example.org: BTC-USD"
    ]


def test_an_inbox_shows_what_was_delivered_to_its_owner_and_to_nobody_else(feed, owner, rule):
    inbox = services.create_channel(owner=owner, name="In", kind="inbox", config={})
    services.set_channels(rule=rule, channels=[inbox])
    (message_id,) = items(feed, inbox, (0, "101"))
    before = list(queries.inbox_of(owner))

    send(inbox)

    assert before == []
    assert [one.pk for one in queries.inbox_of(owner)] == [message_id]
    assert list(queries.inbox_of(make_owner("bob"))) == []


def test_a_channel_is_due_when_nobody_was_asked_to_send_on_it_for_a_while(feed, rule, channel):
    items(feed, channel, (0, "101"))
    now = timezone.now()
    Channel.objects.update(dispatched_at=None)
    before = due(now=now)

    services.note_dispatched(channel_ids=[channel.pk], now=now)

    assert before == [channel.pk]
    assert due(now=now + timedelta(seconds=9)) == []
    assert due(now=now + timedelta(seconds=10)) == [channel.pk]


def test_channels_on_which_nobody_sends_keep_no_other_from_its_turn(monkeypatch, feed, owner, rule, channel):
    monkeypatch.setattr(queries.sending, "CHANNELS_AT_ONCE", 1)
    other = services.create_channel(owner=owner, name="Other", kind="fake", config={})
    for one, seconds in ((channel, 20), (other, 60)):
        services.send_test(channel=one, asked_by="ada", now=LONG_AGO)
        services.note_dispatched(channel_ids=[one.pk], now=timezone.now() - timedelta(seconds=seconds))

    assert due() == [other.pk]


def test_a_channel_is_due_as_soon_as_a_wait_is_over(feed, rule, channel):
    (message_id,) = items(feed, channel, (0, "101"))
    Channel.objects.update(dispatched_at=LONG_AGO)
    just_before = LONG_AGO + timedelta(seconds=1)
    Message.objects.update(next_attempt_at=just_before - timedelta(seconds=2))
    assert due(now=just_before) == []

    Message.objects.filter(pk=message_id).update(next_attempt_at=just_before)

    assert due(now=just_before) == [channel.pk]


def test_the_database_refuses_a_second_attempt_of_one_number(feed, rule, channel):
    (message_id,) = items(feed, channel, (0, "101"))
    send(channel)

    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(message_id=message_id, number=1, started_at=LONG_AGO)


def test_what_a_transport_did_not_foresee_is_a_failed_attempt_that_is_tried_again(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(KeyError("to"))]

    send(channel)

    assert outcomes(message_id) == [(1, "transient_failure", "crashed")]
    assert Message.objects.get().status == "pending"


def test_secrets_that_cannot_be_read_are_a_failed_attempt_that_is_tried_again(settings, feed, rule, outside, owner):
    settings.CHANNEL_ENCRYPTION_KEYS = ["an older key"]
    config = {"password": "canary-4711"}
    channel = services.create_channel(owner=owner, name="Encrypted", kind="fake", config=config)
    services.set_channels(rule=rule, channels=[channel])
    (message_id,) = items(feed, channel, (0, "101"))
    settings.CHANNEL_ENCRYPTION_KEYS = ["another key"]

    assert send(channel) == "transient_failure"

    assert (outside.rendered_messages, outcomes(message_id)) == ([], [(1, "transient_failure", "no_key")])


# Quiet hours


@pytest.fixture
def quiet_until(channel):
    """The end of quiet hours that have begun on the channel a minute ago; from then on they hold back what is tried
    again, too."""
    now = timezone.now()
    end = now + timedelta(hours=5)
    channel.quiet_from, channel.quiet_until = (now - timedelta(minutes=1)).time(), end.time()
    return end


def test_what_failed_before_quiet_hours_is_not_tried_within_them(feed, rule, channel, outside, quiet_until):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("timeout"))]
    send(channel)
    make_due(message_id)
    channel.save()

    assert (send(channel), len(outside.rendered_messages)) == (None, 1)

    message = Message.objects.get()
    assert (message.status, message.next_attempt_at, message.attempts) == ("pending", quiet_until, 1)
    make_due(message_id)
    assert send(channel, after=5 * 3_600 + 1) == "delivered"


def test_what_a_dead_sender_left_behind_is_not_tried_within_quiet_hours(feed, rule, channel, outside, quiet_until):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(Killed())]
    with pytest.raises(Killed):
        send(channel)
    expire_lease(message_id)
    channel.save()

    assert (send(channel), Message.objects.get().status) == (None, "pending")


@pytest.mark.parametrize(("allow_critical", "outcome"), [(True, "delivered"), (False, None)])
def test_what_is_critical_is_tried_again_in_quiet_hours_where_it_may_come(
    feed, owner, rule, channel, outside, quiet_until, allow_critical, outcome
):
    (message_id,) = items(feed, channel, (0, "101"), (1, "99"))
    Rule.objects.update(severity="critical", name='"severity": "info"')
    (_, critical_id) = items(feed, channel, (2, "101"))
    channel.quiet_allow_critical = allow_critical
    channel.save()

    assert send(channel) == outcome
    assert [rendered.id for rendered in outside.rendered_messages] == [str(critical_id)] * allow_critical
    assert Message.objects.get(pk=message_id).next_attempt_at == quiet_until


def test_tests_and_notices_are_sent_in_quiet_hours(channel, outside, quiet_until):
    channel.save()
    services.send_test(channel=channel, asked_by="ada", now=LONG_AGO)

    assert send(channel) == "delivered"


def test_quiet_hours_that_are_changed_let_go_of_what_waits_for_another_try(feed, rule, channel, quiet_until):
    items(feed, channel, (0, "101"))
    channel.save()
    send(channel)
    channel.quiet_from = channel.quiet_until = None
    channel.save()

    services.reconsider_quiet_hours(channel=channel, now=timezone.now())

    assert send(channel) == "delivered"


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_senders_at_the_same_moment_one_wins(feed, rule, channel, outside):
    for second in range(0, 20, 2):
        (message_id,) = items(feed, channel, (second, "101"), (second + 1, "99"))

        given = at_once(*[lambda: send(channel)] * 4)

        assert sorted(map(str, given)) == ["None", "None", "None", "delivered"]
        assert outcomes(message_id) == [(1, "delivered", "")]
    assert len({rendered.id for rendered in outside.rendered_messages}) == len(outside.rendered_messages) == 10


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_planners_at_the_same_moment_each_notification_is_in_one_message(owner, channel):
    symbols = [f"A{number}" for number in range(10)]
    feed = make_feed(*symbols)
    rule = make_rule(owner, assets=symbols, condition=above(100))
    services.set_channels(rule=rule, channels=[channel])
    for symbol in symbols:
        evaluate(feed, (0, "101"), symbol=symbol)

        at_once(*[lambda: plan(channel)] * 4)

    members = list(Message.objects.values_list("members", flat=True))
    assert (Message.objects.count(), len(members), None in members) == (10, 10, False)
