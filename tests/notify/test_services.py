"""What is owed, what is planned to pay it, and how a message is sent: once where it can be, and never unnoticed."""

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.notify import domain, queries, services
from apps.notify.models import Attempt, Channel, Message, Owed, RuleChannel
from apps.notify.transports.protocol import TransportRejected, TransportUnavailable
from apps.notify.transports.registry import TRANSPORTS
from apps.pipeline import flow
from apps.rules.models import RuleVersion
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule
from tests.threads import at_once

pytestmark = pytest.mark.django_db

# The databases' own clock says what is due, so what is planned here is due at once.
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """What a process that dies leaves behind: nothing is caught and nothing is written."""


class FakeTransport:
    """Keeps the letters that it was given, and answers each by the next step of its script."""

    kind = "fake"

    def __init__(self):
        self.letters = []
        self.script = []

    def validate_config(self, config):
        return dict(config)

    def send(self, letter, config):
        self.letters.append(letter)
        step = self.script.pop(0) if self.script else None
        if step is not None:
            step()
        return "taken"


@pytest.fixture
def outside(monkeypatch):
    transport = FakeTransport()
    monkeypatch.setitem(TRANSPORTS, "fake", transport)
    return transport


@pytest.fixture
def feed():
    return make_feed("BTC-USD")


@pytest.fixture
def owner():
    return make_owner()


@pytest.fixture
def channel(outside, owner):
    return services.create_channel(owner=owner, name="Fake", kind="fake", config={})


@pytest.fixture
def rule(feed, owner, channel):
    rule = make_rule(owner, name="Peg", assets=["BTC-USD"], condition=above(100))
    services.set_channels(rule=rule, channels=[channel])
    return rule


def judge(feed, *pairs):
    """Append one batch with these (seconds, price) and judge it; return the debts that wait for a message."""
    append_quotes(feed, [("BTC-USD", at(second), price) for second, price in pairs])
    return flow.judge_pending(feed_id=feed.pk)


def plan(feed, *pairs):
    """Judge, and return the messages to be sent."""
    return services.plan_messages(owed_ids=judge(feed, *pairs), now=LONG_AGO)


def deliver(message_id):
    return services.deliver(message_id=message_id, now=timezone.now())


def debts():
    rows = Owed.objects.order_by("pk").values_list("event__kind", "channel__name")
    return list(rows)


def raising(error):
    def step():
        raise error

    return step


def expire_lease(message_id):
    Message.objects.filter(pk=message_id).update(lease_until=LONG_AGO)


def make_due(message_id):
    Message.objects.filter(pk=message_id).update(next_attempt_at=LONG_AGO)


def outcomes(message_id):
    return list(Attempt.objects.filter(message=message_id).values_list("number", "outcome", "reason"))


def test_an_opening_is_owed_to_the_enabled_channels_of_its_rule(feed, owner, rule, channel):
    more = [services.create_channel(owner=owner, name=name, kind="inbox", config={}) for name in ("A", "Off", "Other")]
    Channel.objects.filter(name="Off").update(is_enabled=False)
    services.set_channels(rule=rule, channels=[channel, *more[:2]])

    judge(feed, (0, "101"))

    assert debts() == [("opened", "Fake"), ("opened", "A")]


def test_a_rule_without_channels_owes_nothing_and_makes_no_inbox(feed, owner):
    make_rule(owner, assets=["BTC-USD"], condition=above(100))

    assert judge(feed, (0, "101")) == []
    assert (Alert.objects.count(), Owed.objects.count(), Channel.objects.count()) == (1, 0, 0)


def test_a_resolution_is_owed_only_where_the_opening_was_and_where_it_is_wanted(feed, owner, rule, channel):
    names = ("Quiet", "Off later", "Late")
    quiet, off, late = [services.create_channel(owner=owner, name=one, kind="inbox", config={}) for one in names]
    services.set_channels(rule=rule, channels=[channel, quiet, off])
    judge(feed, (0, "101"))
    Channel.objects.filter(name="Quiet").update(wants_resolved=False)
    Channel.objects.filter(name="Off later").update(is_enabled=False)
    services.set_channels(rule=rule, channels=[quiet, off, late])

    judge(feed, (1, "99"))

    assert debts()[3:] == [("resolved", "Fake")]


def test_an_episode_within_one_batch_owes_both_steps(feed, rule):
    judge(feed, (0, "101"), (1, "99"))

    assert debts() == [("opened", "Fake"), ("resolved", "Fake")]


def test_owing_twice_makes_no_second_debt(feed, rule):
    judge(feed, (0, "101"), (1, "99"))

    services.owe(list(AlertEvent.objects.select_related("alert")))

    assert debts() == [("opened", "Fake"), ("resolved", "Fake")]


def test_an_error_goes_to_the_rules_channel_or_else_to_the_owners_inbox(feed, owner, rule):
    make_rule(owner, name="untold", assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={})

    flow.judge_pending(feed_id=feed.pk)

    rows = Owed.objects.order_by("event__alert__rule__name").values_list("event__alert__rule__name", "channel__name")
    assert list(rows) == [("Peg", "Fake"), ("untold", "Inbox for errors")]
    assert Channel.objects.get(kind="inbox").owner == owner


def test_an_error_goes_to_the_inbox_that_is_there(feed, owner):
    services.create_channel(owner=owner, name="My box", kind="inbox", config={})
    make_rule(owner, assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={})

    flow.judge_pending(feed_id=feed.pk)

    assert debts() == [("opened", "My box")]


def test_channels_of_somebody_else_are_refused(feed, rule):
    stranger = services.create_channel(owner=make_owner("bob"), name="B", kind="inbox", config={})

    with pytest.raises(ValueError, match="a rule is told on its owner's channels only"):
        services.set_channels(rule=rule, channels=[stranger])

    assert list(RuleChannel.objects.values_list("channel__name", flat=True)) == ["Fake"]


def test_setting_the_same_channels_again_changes_nothing(rule, channel):
    before = RuleChannel.objects.get().pk

    services.set_channels(rule=rule, channels=[channel, channel])

    assert RuleChannel.objects.get().pk == before


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("pigeon", {}, "unknown kind 'pigeon'; known are email, inbox"),
        ("email", {}, "'to' must be one address, like you@example.org"),
        ("email", {"to": "a@b.c,evil@x"}, "'to' must be one address, like you@example.org"),
        ("inbox", {"to": "a@example.org"}, "an inbox takes no to"),
    ],
)
def test_a_channel_that_could_not_be_told_on_is_refused(owner, kind, config, message):
    with pytest.raises(ValidationError) as refusal:
        services.create_channel(owner=owner, name="x", kind=kind, config=config)

    assert refusal.value.message_dict == {"__all__": [message]}
    assert Channel.objects.count() == 0


# Tests of a channel


def test_a_test_is_due_at_once_and_goes_the_way_of_all_messages(channel, outside):
    message = services.send_test(channel=channel, asked_by="ada", now=LONG_AGO)
    # The next sweep finds it, without the wait for what may still be on its way.
    assert queries.due_message_ids(behind=timedelta(days=36_500), now=timezone.now()) == [message.pk]
    assert deliver(message.pk) is True
    (letter,) = outside.letters
    assert (letter.id, letter.subject) == (str(message.pk), "[test] Fake")
    assert letter.text.startswith("This is a test of the channel Fake, asked for by ada at 2020-01-01 00:00:00 UTC.")
    assert letter.text.endswith(f"/admin/notify/channel/{channel.pk}/change/")
    assert outcomes(message.pk) == [(1, "delivered", "")]


def test_a_test_that_was_hurried_is_not_hurried_again_at_once(channel):
    message = services.send_test(channel=channel, asked_by="ada", now=LONG_AGO)
    now = timezone.now()
    services.note_hurried(message_ids=[message.pk], now=now)
    assert queries.due_message_ids(behind=timedelta(seconds=10), now=now) == []


def test_a_channel_is_tried_once_a_minute(channel):
    first = services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    with pytest.raises(services.TestRefused, match="less than a minute ago"):
        services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    Message.objects.filter(pk=first.pk).update(created_at=timezone.now() - timedelta(seconds=61))
    services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    assert Message.objects.count() == 2


def test_a_channel_that_is_switched_off_is_not_tried(channel):
    Channel.objects.update(is_enabled=False)
    with pytest.raises(services.TestRefused, match="Fake is switched off. Switch it on first."):
        services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    assert not Message.objects.exists()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_tests_asked_for_at_once_one_is_made(channel):
    def ask():
        with contextlib.suppress(services.TestRefused):
            services.send_test(channel=channel, asked_by="ada", now=timezone.now())

    at_once(ask, ask)
    assert Message.objects.count() == 1


def test_a_test_holds_up_no_message_about_an_alert(feed, rule, channel, outside):
    test = services.send_test(channel=channel, asked_by="ada", now=LONG_AGO)
    outside.script = [raising(TransportUnavailable("timeout"))]
    deliver(test.pk)
    (message,) = plan(feed, (0, "101"))
    assert deliver(message) is True


def test_planning_makes_one_message_per_debt_and_says_what_was_seen(feed, rule):
    (message_id,) = plan(feed, (0, "101"))

    message = Message.objects.get()
    assert (message.pk, message.status, message.attempts) == (message_id, "pending", 0)
    assert message.subject == "[warning] Peg: BTC-USD"
    assert message.text.splitlines()[:2] == [
        "BTC-USD is above 100: 101 at 12:00:00",
        "Opened 2026-03-02 12:00:00 UTC.",
    ]
    assert Owed.objects.get().message == message


def test_planning_twice_gives_the_same_messages(feed, rule):
    owed_ids = judge(feed, (0, "101"))

    planned = [services.plan_messages(owed_ids=owed_ids, now=LONG_AGO) for _ in range(2)]

    assert planned[0] == planned[1]
    assert Message.objects.count() == 1


def test_a_delivered_message_is_not_sent_again_by_planning_again(feed, rule):
    owed_ids = judge(feed, (0, "101"))
    (message_id,) = services.plan_messages(owed_ids=owed_ids, now=LONG_AGO)
    deliver(message_id)

    assert services.plan_messages(owed_ids=owed_ids, now=LONG_AGO) == []


def test_an_episode_that_is_over_before_it_was_planned_is_one_message(feed, rule):
    (message_id,) = plan(feed, (0, "101"), (1, "99"))

    assert Message.objects.get().subject == "[warning] Peg: BTC-USD is over"
    assert list(Owed.objects.values_list("message", flat=True)) == [message_id, message_id]


def test_an_unsent_opening_merges_into_its_resolution(feed, rule, outside):
    opened = plan(feed, (0, "101"))
    resolved = plan(feed, (1, "99"))

    delivered = [deliver(one) for one in (*opened, *resolved)]

    assert (opened, delivered) == (resolved, [True, False])
    ((subject, text),) = [(letter.subject, letter.text) for letter in outside.letters]
    assert subject == "[warning] Peg: BTC-USD is over"
    assert text.splitlines()[:3] == [
        "BTC-USD is above 100: 101 at 12:00:00",
        "Opened 2026-03-02 12:00:00 UTC.",
        "Over since 2026-03-02 12:00:01 UTC (recovered).",
    ]


def test_an_opening_that_was_tried_keeps_its_text_and_the_resolution_waits_behind_it(feed, rule, outside):
    (opened,) = plan(feed, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503"))]
    deliver(opened)

    (resolved,) = plan(feed, (1, "99"))
    too_early = deliver(resolved)
    make_due(opened)
    in_order = [deliver(opened), deliver(resolved)]

    assert (too_early, in_order) == (False, [True, True])
    assert [letter.id for letter in outside.letters] == [str(opened), str(opened), str(resolved)]
    assert [letter.subject.endswith("is over") for letter in outside.letters] == [False, False, True]


def test_the_resolution_is_not_claimable_while_the_opening_is_under_way(feed, rule, outside):
    (opened,) = plan(feed, (0, "101"))
    seen = []

    def resolve_meanwhile():
        (resolved,) = plan(feed, (1, "99"))
        seen.append((resolved, deliver(resolved)))

    outside.script = [resolve_meanwhile]
    deliver(opened)

    ((resolved, was_delivered),) = seen
    assert (resolved != opened, was_delivered) == (True, False)
    assert deliver(resolved) is True


def test_the_resolution_goes_on_once_the_opening_is_dead(feed, rule, outside):
    (opened,) = plan(feed, (0, "101"))
    outside.script = [raising(TransportRejected("smtp_550"))]
    deliver(opened)

    (resolved,) = plan(feed, (1, "99"))

    assert deliver(resolved) is True


def test_channels_and_alerts_do_not_wait_for_each_other(feed, owner, rule, channel, outside):
    services.set_channels(
        rule=rule, channels=[channel, services.create_channel(owner=owner, name="In", kind="inbox", config={})]
    )
    first = plan(feed, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503"))]
    tried = [deliver(one) for one in first]
    over = plan(feed, (1, "99"))
    later = plan(feed, (2, "101"))

    sent = {Message.objects.get(pk=one).channel.name: deliver(one) for one in over}
    again = {Message.objects.get(pk=one).channel.name: deliver(one) for one in later}

    assert sorted(tried) == [False, True]
    assert (sent, again) == ({"Fake": False, "In": True}, {"Fake": True, "In": True})


def test_a_delivery_is_on_record(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))

    was_delivered = deliver(message_id)

    message, attempt = Message.objects.get(), Attempt.objects.get()
    assert (was_delivered, message.status, message.attempts, message.lease_until) == (True, "delivered", 1, None)
    assert message.delivered_at is not None
    assert (attempt.number, attempt.outcome, attempt.reason, attempt.detail) == (1, "delivered", "", "taken")
    assert deliver(message_id) is False
    assert len(outside.letters) == 1


def test_what_is_not_due_is_not_sent(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))
    Message.objects.update(next_attempt_at=timezone.now() + timedelta(hours=1))

    assert deliver(message_id) is False
    assert (outside.letters, Attempt.objects.count()) == ([], 0)


def test_an_outage_is_tried_again_after_a_wait_within_its_bounds(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503", "busy")) for _ in range(3)]

    waits = []
    for _ in range(3):
        make_due(message_id)
        before = timezone.now()
        assert deliver(message_id) is False
        waits.append((Message.objects.get().next_attempt_at - before).total_seconds())

    assert outcomes(message_id) == [(number, "failed", "http_503") for number in (1, 2, 3)]
    assert [4 <= waits[0] <= 7, 24 <= waits[1] <= 37, 96 <= waits[2] <= 145] == [True, True, True]
    assert (Message.objects.get().status, Message.objects.get().lease_until) == ("pending", None)


def test_the_eighth_failure_is_the_last(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503")) for _ in range(9)]

    statuses = []
    for _ in range(9):
        make_due(message_id)
        deliver(message_id)
        statuses.append(Message.objects.get().status)

    assert statuses == ["pending"] * 7 + ["dead"] * 2
    assert len(outside.letters) == 8
    assert {letter.id for letter in outside.letters} == {str(message_id)}


def test_a_rejection_is_for_good(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))
    outside.script = [raising(TransportRejected("smtp_550", "no such user"))]

    assert deliver(message_id) is False
    make_due(message_id)
    assert deliver(message_id) is False
    assert (Message.objects.get().status, outcomes(message_id)) == ("dead", [(1, "rejected", "smtp_550")])


def test_a_crash_between_the_answer_and_the_commit_costs_one_repeat_with_the_same_id(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))
    outside.script = [raising(Killed())]
    with pytest.raises(Killed):
        deliver(message_id)

    while_leased = deliver(message_id)
    expire_lease(message_id)
    after = [deliver(message_id) for _ in range(2)]

    assert (while_leased, after) == (False, [True, False])
    assert [letter.id for letter in outside.letters] == [str(message_id)] * 2
    assert outcomes(message_id) == [(1, "", ""), (2, "delivered", "")]


@pytest.mark.parametrize(
    ("late_result", "first"),
    [
        (lambda: None, (1, "delivered", "")),
        (raising(TransportUnavailable("timeout")), (1, "failed", "timeout")),
        (raising(TransportRejected("smtp_550")), (1, "rejected", "smtp_550")),
    ],
)
def test_what_a_sender_says_after_its_lease_is_fenced_off_while_the_next_is_at_it(
    feed, rule, outside, late_result, first
):
    (message_id,) = plan(feed, (0, "101"))

    def overtaken():
        expire_lease(message_id)
        outside.script = [raising(Killed())]
        with pytest.raises(Killed):
            deliver(message_id)
        late_result()

    outside.script = [overtaken]
    deliver(message_id)

    assert outcomes(message_id) == [first, (2, "", "")]
    assert (Message.objects.get().status, Message.objects.get().attempts) == ("sending", 2)


def test_a_message_that_kills_every_sender_is_given_up_after_the_last_attempt(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))
    outside.script = [raising(Killed()) for _ in range(8)]
    for _ in range(8):
        with pytest.raises(Killed):
            deliver(message_id)
        expire_lease(message_id)

    assert deliver(message_id) is False
    assert (Message.objects.get().status, len(outside.letters)) == ("dead", 8)
    assert queries.due_message_ids(behind=timedelta(0), now=timezone.now()) == []


def test_a_line_break_in_a_rule_name_stays_out_of_the_subject(feed, owner, channel, outside):
    rule = make_rule(owner, name="Peg\r\nBcc: evil@example.org", assets=["BTC-USD"], condition=above(100))
    services.set_channels(rule=rule, channels=[channel])
    (message_id,) = plan(feed, (0, "101"))

    deliver(message_id)

    assert [letter.subject for letter in outside.letters] == ["[warning] Peg Bcc: evil@example.org: BTC-USD"]


def test_an_inbox_shows_what_was_delivered_to_its_owner_and_to_nobody_else(feed, owner, rule):
    services.set_channels(
        rule=rule, channels=[services.create_channel(owner=owner, name="In", kind="inbox", config={})]
    )
    (message_id,) = plan(feed, (0, "101"))
    before = list(queries.inbox_of(owner))

    deliver(message_id)

    assert before == []
    assert [one.pk for one in queries.inbox_of(owner)] == [message_id]
    assert list(queries.inbox_of(make_owner("bob"))) == []


def test_due_are_those_that_nobody_was_asked_to_send_for_a_while(feed, rule):
    (message_id,) = plan(feed, (0, "101"))
    now = timezone.now()
    before = queries.due_message_ids(behind=timedelta(seconds=10), now=now)

    services.note_hurried(message_ids=[message_id], now=now)

    assert before == [message_id]
    assert queries.due_message_ids(behind=timedelta(seconds=10), now=now + timedelta(seconds=9)) == []
    assert queries.due_message_ids(behind=timedelta(seconds=10), now=now + timedelta(seconds=10)) == [message_id]


def test_debts_without_a_message_are_found_again(feed, rule):
    owed_ids = judge(feed, (0, "101"))

    unplanned = queries.unplanned_owed_ids()
    services.plan_messages(owed_ids=owed_ids, now=LONG_AGO)

    assert (unplanned, queries.unplanned_owed_ids()) == (owed_ids, [])


def test_the_database_refuses_a_second_debt_and_a_second_attempt_of_one_number(feed, rule):
    (message_id,) = plan(feed, (0, "101"))
    debt = Owed.objects.get()
    deliver(message_id)

    with pytest.raises(IntegrityError), transaction.atomic():
        Owed.objects.create(event=debt.event, channel=debt.channel)
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(message_id=message_id, number=1, started_at=LONG_AGO)


def together(*calls):
    """Run these beside each other, each with a connection of its own, and return what they gave."""
    ready = threading.Barrier(len(calls))
    given = [None] * len(calls)

    def run(place, call):
        ready.wait(timeout=10)
        try:
            given[place] = call()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place, call)) for place, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return given


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_senders_at_the_same_moment_one_wins(feed, rule, outside):
    for second in range(0, 20, 2):
        (message_id,) = plan(feed, (second, "101"), (second + 1, "99"))

        given = together(*[lambda message_id=message_id: deliver(message_id)] * 4)

        assert sorted(given) == [False, False, False, True]
        assert outcomes(message_id) == [(1, "delivered", "")]
    assert len({letter.id for letter in outside.letters}) == len(outside.letters) == 10


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_planners_at_the_same_moment_each_debt_is_paid_once(feed, rule):
    for second in range(0, 20, 2):
        owed_ids = judge(feed, (second, "101"), (second + 1, "99"))

        together(*[lambda owed_ids=owed_ids: services.plan_messages(owed_ids=owed_ids, now=LONG_AGO)] * 4)

    paid = list(Owed.objects.order_by("pk").values_list("message", flat=True))
    assert (Message.objects.count(), len(paid), None in paid) == (10, 20, False)


def test_the_schedule_has_the_attempts_that_the_tests_above_count():
    assert len(domain.RETRY_AFTER_SECONDS) + 1 == 8


def test_an_error_finds_an_inbox_whatever_the_names_of_the_owners_channels(feed, owner):
    services.create_channel(owner=owner, name="Inbox for errors", kind="email", config={"to": "ada@example.org"})
    off = services.create_channel(owner=owner, name="off", kind="inbox", config={})
    Channel.objects.filter(pk=off.pk).update(is_enabled=False)
    make_rule(owner, assets=["BTC-USD"], condition=above(100))
    RuleVersion.objects.update(document={})

    flow.judge_pending(feed_id=feed.pk)

    assert Owed.objects.get().channel.name == "Inbox for errors 2"


def test_what_a_transport_did_not_foresee_is_a_failed_attempt_that_is_tried_again(feed, rule, outside):
    (message_id,) = plan(feed, (0, "101"))
    outside.script = [raising(KeyError("to"))]

    deliver(message_id)

    assert outcomes(message_id) == [(1, "failed", "crashed")]
    assert Message.objects.get().status == "pending"
