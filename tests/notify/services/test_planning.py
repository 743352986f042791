"""Notifications become messages: one for those that come together, none for a deferred one before its time."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify import queries, services
from apps.notify.models import Channel, Message, Notification, Silence
from apps.pipeline import flow
from apps.rules.models import Rule
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule
from tests.notify.notifying import LONG_AGO, evaluate, items, plan, send
from tests.threads import elsewhere

pytestmark = pytest.mark.django_db


def set_channel(channel, **columns):
    Channel.objects.filter(pk=channel.pk).update(**columns)
    channel.refresh_from_db()


def make_storm(owner, channel, *, count):
    """Return a feed in which `count` alerts have opened in one entry, each with a notification for the channel."""
    symbols = [f"A{number:04}" for number in range(count)]
    storm = make_feed(*symbols, name="storm", jump_percent=0)
    rule = make_rule(owner, name="Storm", assets=symbols, condition=above(100))
    services.set_channels(rule=rule, channels=[channel])
    append_quotes(storm, [(symbol, at(0), "101") for symbol in symbols])
    flow.evaluate_pending(feed_id=storm.pk)
    return storm


def listed(*, status=None):
    """Return the symbols of the alerts that the messages list, in order."""
    return [one["symbol"] for message in Message.objects.order_by("created_at") for one in message.items]


def test_a_message_says_what_was_seen(feed, rule, channel):
    (message_id,) = items(feed, channel, (0, "101"))

    message = Message.objects.get()
    assert (message.pk, message.status, message.attempts) == (message_id, "pending", 0)
    assert message.subject == "[warning] Peg: BTC-USD"
    assert message.text.splitlines()[:2] == [
        "BTC-USD is above 100: 101 at 12:00:00 UTC",
        "Opened 2026-03-02 12:00:00 UTC.",
    ]
    assert Notification.objects.get().message == message


def test_planning_twice_makes_no_second_message(feed, rule, channel):
    evaluate(feed, (0, "101"))

    assert plan(channel) == plan(channel)
    assert Message.objects.count() == 1


def test_notifications_that_no_message_pays_are_found_again(feed, rule, channel):
    evaluate(feed, (0, "101"))

    found = [queries.channels_to_plan(now=timezone.now())]
    plan(channel)
    found.append(queries.channels_to_plan(now=timezone.now()))

    assert found == [[channel.pk], []]


def test_an_episode_that_is_over_before_it_was_planned_is_one_message(feed, rule, channel):
    (message_id,) = items(feed, channel, (0, "101"), (1, "99"))

    assert Message.objects.get().subject == "[warning] Resolved: Peg, BTC-USD"
    assert list(Notification.objects.values_list("message", flat=True)) == [message_id, message_id]


def test_an_unsent_opening_merges_into_its_resolution(feed, rule, channel, outside):
    opened = items(feed, channel, (0, "101"))
    resolved = items(feed, channel, (1, "99"))

    delivered = [send(channel), send(channel)]

    assert (opened, delivered) == (resolved, ["delivered", None])
    ((subject, text),) = [(rendered.subject, rendered.text) for rendered in outside.rendered_messages]
    assert subject == "[warning] Resolved: Peg, BTC-USD"
    assert text.splitlines()[:3] == [
        "BTC-USD is above 100: 101 at 12:00:00 UTC",
        "Opened 2026-03-02 12:00:00 UTC.",
        "Resolved 2026-03-02 12:00:01 UTC at 99 (the condition is over).",
    ]


def test_a_resolution_merges_into_the_list_with_its_opening_and_the_rest_is_a_message_of_its_own(
    feed, owner, rule, channel
):
    storm = make_storm(owner, channel, count=3)
    (opened,) = plan(channel)
    append_quotes(storm, [("A0001", at(1), "99")])
    flow.evaluate_pending(feed_id=storm.pk)
    evaluate(feed, (1, "101"))

    first, second = plan(channel)

    assert first == opened
    assert [(one["symbol"], one["event"]) for one in Message.objects.get(pk=first).items] == [
        ("A0000", "opened"),
        ("A0001", "opened"),
        ("A0002", "opened"),
        ("A0001", "resolved"),
    ]
    assert [one["symbol"] for one in Message.objects.get(pk=second).items] == ["BTC-USD"]


# Groups


def test_what_opens_within_the_groups_wait_is_one_message_that_lists_it(feed, owner, rule, channel):
    set_channel(channel, group_wait_seconds=600)
    make_storm(owner, channel, count=3)
    evaluate(feed, (5, "101"))

    early = plan(channel, after=300)
    (message_id,) = plan(channel, after=601)

    assert early == []
    message = Message.objects.get(pk=message_id)
    assert message.subject == "[warning] 4 alerts: A0000, A0001, A0002, BTC-USD"
    assert listed() == ["A0000", "A0001", "A0002", "BTC-USD"]
    for symbol in listed():
        assert f"[warning] {'Peg' if symbol == 'BTC-USD' else 'Storm'}: {symbol}" in message.text
    assert message.text.endswith(f"/admin/notify/message/{message_id}/change/")


def test_what_is_critical_takes_all_that_waits_with_it(feed, owner, rule, channel):
    set_channel(channel, group_wait_seconds=10)
    make_storm(owner, channel, count=2)
    Rule.objects.filter(name="Peg").update(severity="critical")
    assert plan(channel) == []

    items(feed, channel, (0, "101"))

    assert Message.objects.get().subject.startswith("[critical] 3 alerts")


def test_a_thousand_alerts_in_one_second_are_one_message_and_none_is_lost(owner, channel):
    make_storm(owner, channel, count=1_001)

    planned = [len(plan(channel)) for _ in range(3)]

    assert planned == [1, 2, 2]
    assert sorted(listed()) == [f"A{number:04}" for number in range(1_001)]
    message = Message.objects.order_by("created_at").first()
    assert all(f"Storm: {one['symbol']}\n" in message.text for one in message.items)
    assert not Notification.objects.filter(message=None).exists()


@pytest.mark.parametrize("match", [{"rule": True}, {"severity": "critical"}])
def test_what_is_due_and_deferred_takes_nothing_with_it(feed, owner, rule, channel, match):
    set_channel(channel, group_wait_seconds=10)
    make_storm(owner, channel, count=2)
    Rule.objects.filter(name="Peg").update(severity="critical")
    silence(owner, owner=owner, **{name: rule if name == "rule" else value for name, value in match.items()})

    assert items(feed, channel, (0, "101")) == []

    assert len(plan(channel, after=11)) == 1
    assert listed() == ["A0000", "A0001"]


def test_a_reminder_that_is_moot_takes_nothing_with_it(feed, owner, rule, channel):
    items(feed, channel, (0, "101"))
    Notification.objects.create(event=Notification.objects.get().event, channel=channel, repeat=1, due_at=LONG_AGO)
    Alert.objects.update(acknowledged_at=timezone.now())
    set_channel(channel, group_wait_seconds=10)
    make_storm(owner, channel, count=2)

    plan(channel)

    assert (Message.objects.count(), Notification.objects.filter(message=None).count()) == (1, 2)


# Limits


def test_channels_at_their_limit_keep_no_other_from_being_planned(monkeypatch, feed, owner, rule, channel):
    monkeypatch.setattr(queries.planning, "CHANNELS_AT_ONCE", 1)
    set_channel(channel, messages_per_minute=1)
    items(feed, channel, (0, "101"), (1, "99"))
    other = services.create_channel(owner=owner, name="Other", kind="fake", config={})
    services.set_channels(rule=rule, channels=[channel, other])

    notifications = evaluate(feed, (2, "101"))

    assert notifications == queries.channels_to_plan(now=timezone.now()) == [other.pk]
    assert queries.channels_to_plan(now=timezone.now() + timedelta(seconds=61)) == [channel.pk]


def test_what_is_more_than_the_limit_comes_together_in_one(feed, rule, channel):
    set_channel(channel, messages_per_minute=2)
    for second in range(0, 10, 2):
        items(feed, channel, (second, "101"), (second + 1, "99"))
    within = Message.objects.count()

    plan(channel, after=61)

    assert (within, Message.objects.count()) == (2, 3)
    assert len(Message.objects.order_by("created_at").last().items) == 6
    assert not Notification.objects.filter(message=None).exists()


def test_a_test_of_the_channel_does_not_count(feed, rule, channel):
    set_channel(channel, messages_per_minute=1)
    services.send_test(channel=channel, asked_by="ada", now=timezone.now())

    items(feed, channel, (0, "101"))

    assert Message.objects.filter(kind="alert").count() == 1


# Silences


def silence(author, *, seconds=3_600, starts=0, **match):
    """Return a silence from `starts` seconds from now, so many seconds long."""
    begin = timezone.now() + timedelta(seconds=starts)
    return services.create_silence(
        author=author, starts_at=begin, ends_at=begin + timedelta(seconds=seconds), comment="repairs", **match
    )


def test_a_channel_without_resolutions_hears_of_the_end_of_an_alert_that_is_new_to_it(feed, rule, channel):
    Channel.objects.update(wants_resolved=False)
    evaluate(feed, (0, "101"))
    evaluate(feed, (1, "99"))

    (message_id,) = plan(channel)

    message = Message.objects.get(pk=message_id)
    assert (message.subject, Notification.objects.count()) == ("[warning] Resolved: Peg, BTC-USD", 1)
    assert [(one["event"], one["at"], one["reason"]) for one in message.items] == [
        ("opened", at(0).isoformat(), ""),
        ("resolved", at(1).isoformat(), Alert.objects.get().resolution),
    ]


def test_a_silence_defers_notifications_and_not_evaluation(feed, owner, rule, channel):
    deferred = silence(owner, owner=owner)

    assert items(feed, channel, (0, "101")) == []

    assert Alert.objects.count() == 1
    notification = Notification.objects.get()
    assert (notification.deferred_by, notification.silence, notification.due_at, notification.message) == (
        "silence",
        deferred,
        deferred.ends_at,
        None,
    )
    assert queries.channels_to_plan(now=timezone.now()) == []


def test_at_its_end_what_it_deferred_comes_in_one_message(feed, owner, rule, channel):
    deferred = silence(owner, owner=owner)
    items(feed, channel, (0, "101"))
    items(feed, channel, (1, "99"), (2, "101"))

    assert plan(channel, after=1_800) == []
    (message_id,) = plan(channel, after=3_601)

    message = Message.objects.get(pk=message_id)
    assert message.subject == "[warning] 2 alerts, 1 resolved: BTC-USD"
    assert [one["event"] for one in message.items] == ["opened", "resolved", "opened"]
    assert f"Held back by the silence “repairs” until {deferred.ends_at:%Y-%m-%d %H:%M:%S} UTC:" in message.text
    assert set(deferred.deferred.values_list("message", flat=True)) == {message_id}


def test_a_silence_that_is_ended_early_lets_go_at_once(feed, owner, rule, channel):
    deferred = silence(owner, owner=owner)
    items(feed, channel, (0, "101"))

    assert services.end_silences(silences=[deferred], now=timezone.now()) == 1
    assert len(plan(channel)) == 1
    assert services.end_silences(silences=[deferred], now=timezone.now()) == 0


def test_silences_that_are_ended_together_let_go_into_one_message(feed, owner, rule, channel):
    deferred = [silence(owner, owner=owner, rule=rule)]
    items(feed, channel, (0, "101"))
    make_storm(owner, channel, count=2)
    deferred += [silence(owner, owner=owner, rule=Rule.objects.get(name="Storm"))]
    assert plan(channel) == []

    assert services.end_silences(silences=deferred, now=timezone.now()) == 2

    assert len(plan(channel)) == 1
    assert listed() == ["BTC-USD", "A0000", "A0001"]


def test_a_silence_that_is_ended_before_it_begins_ends_where_it_would(owner):
    later = silence(owner, owner=owner, starts=100)

    services.end_silences(silences=[later], now=timezone.now())

    later.refresh_from_db()
    assert later.ends_at == later.starts_at


def test_one_silence_after_the_other_holds_on(feed, owner, rule, channel):
    silence(owner, owner=owner, seconds=60)
    items(feed, channel, (0, "101"))
    later = silence(owner, owner=owner, starts=30, seconds=3_600)

    assert plan(channel, after=61) == []

    assert Notification.objects.get().silence == later
    assert len(plan(channel, after=3_631)) == 1


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_silence_that_is_ended_while_somebody_plans_lets_go_all_the_same(monkeypatch, feed, owner, rule, channel):
    deferred = silence(owner, owner=owner)
    evaluate(feed, (0, "101"))
    read = queries.silences_in_force

    def ended_meanwhile(**moment):
        found = read(**moment)
        elsewhere(lambda: services.end_silences(silences=[deferred], now=timezone.now()))
        return found

    monkeypatch.setattr(queries, "silences_in_force", ended_meanwhile)
    plan(channel)
    monkeypatch.undo()

    assert len(plan(channel, after=1)) == 1


@pytest.mark.parametrize("starts", [-100, 100])
def test_a_silence_that_is_over_or_has_not_begun_holds_nothing_back(feed, owner, rule, channel, starts):
    silence(owner, owner=owner, starts=starts, seconds=50)

    assert len(items(feed, channel, (0, "101"))) == 1


def test_a_silence_matches_all_that_it_names(feed, owner, rule, channel):
    other = make_rule(owner, name="other", assets=["BTC-USD"], condition=above(10_000))
    elsewhere = make_feed("ETH-USD", name="elsewhere").assets.get()
    asset = feed.assets.get()
    stranger = make_owner("bob")
    evaluate(feed, (0, "101"))
    misses = [
        {"owner": stranger},
        {"owner": owner, "rule": other},
        {"owner": owner, "asset": elsewhere},
        {"owner": owner, "severity": "critical"},
        {"owner": owner, "rule": rule, "asset": asset, "severity": "info"},
    ]
    hits = [
        {"owner": None},
        {"owner": owner},
        {"rule": rule},
        {"asset": asset},
        {"severity": "warning"},
        {"owner": owner, "rule": rule, "asset": asset, "severity": "warning"},
    ]

    deferred = []
    for match in [*misses, *hits]:
        one = silence(owner, **match)
        (notification,) = queries.notifications_to_plan(channel_id=channel.pk, now=timezone.now())
        deferred_by = queries.deferral_now(
            notification, silences=queries.silences_in_force(now=timezone.now(), alert_ids=[]), now=timezone.now()
        )
        deferred.append(deferred_by is not None)
        Silence.objects.filter(pk=one.pk).delete()

    assert deferred == [False] * len(misses) + [True] * len(hits)


def test_other_notifications_of_the_message_are_not_deferred_with_it(feed, owner, rule, channel):
    silence(owner, owner=owner, rule=rule)
    make_storm(owner, channel, count=1)
    evaluate(feed, (0, "101"))

    plan(channel)

    assert listed() == ["A0000"]


# Quiet hours


def quiet_now(channel, **more):
    """Give the channel quiet hours around now, from an hour ago to in an hour."""
    now = timezone.now()
    hours = {"quiet_from": (now - timedelta(hours=1)).time(), "quiet_until": (now + timedelta(hours=1)).time()}
    set_channel(channel, **hours, **more)


def test_quiet_hours_hold_back_and_sum_up_at_their_end(feed, rule, channel):
    quiet_now(channel)
    deferred = items(feed, channel, (0, "101"))
    items(feed, channel, (1, "99"))

    (message_id,) = plan(channel, after=3_601)

    assert deferred == []
    message = Message.objects.get(pk=message_id)
    assert message.subject == "[warning] Resolved: Peg, BTC-USD"
    assert message.text.startswith("Held back by quiet hours until")
    assert set(Notification.objects.values_list("deferred_by", flat=True)) == {"quiet"}


@pytest.mark.parametrize(("allow_critical", "messages"), [(True, 1), (False, 0)])
def test_what_is_critical_comes_in_quiet_hours_where_it_may(feed, rule, channel, allow_critical, messages):
    quiet_now(channel, quiet_allow_critical=allow_critical)
    Rule.objects.update(severity="critical")

    assert len(items(feed, channel, (0, "101"))) == messages


def test_quiet_hours_that_are_changed_let_go_at_once(feed, rule, channel):
    quiet_now(channel)
    items(feed, channel, (0, "101"))
    set_channel(channel, quiet_from=None, quiet_until=None)

    services.reconsider_quiet_hours(channel=channel, now=timezone.now())

    assert len(plan(channel)) == 1


def test_a_time_zone_that_there_is_no_more_costs_no_alert(feed, rule, channel):
    quiet_now(channel, quiet_zone="Nowhere/Atlantis")

    assert len(items(feed, channel, (0, "101"))) == 1


def test_outside_of_the_quiet_hours_nothing_is_deferred(feed, rule, channel):
    now = timezone.now()
    set_channel(
        channel,
        quiet_from=(now + timedelta(hours=1)).time(),
        quiet_until=(now + timedelta(hours=2)).time(),
    )

    assert len(items(feed, channel, (0, "101"))) == 1


# Templates


def test_a_channels_templates_say_it_their_way(feed, owner, rule, channel):
    set_channel(channel, subject_template="{asset}!", text_template="{rule} {event} ({severity}) {{x}}: {summary}")

    (message_id,) = items(feed, channel, (0, "101"))

    message = Message.objects.get(pk=message_id)
    assert message.subject == "BTC-USD!"
    assert message.text == "Peg opened (warning) {x}: BTC-USD is above 100: 101 at 12:00:00 UTC"


def test_a_template_that_has_become_wrong_costs_no_alert(feed, rule, channel):
    set_channel(channel, text_template="{gone}")

    (message_id,) = items(feed, channel, (0, "101"))

    assert Message.objects.get(pk=message_id).text.startswith("BTC-USD is above 100")


def test_a_channel_that_is_gone_is_nothing_to_plan():
    assert services.plan(channel_id=0, now=LONG_AGO) == "no_channel"


def test_planning_says_why_there_is_no_message(feed, rule, channel):
    def planned():
        return str(services.plan(channel_id=channel.pk, now=timezone.now() + timedelta(seconds=1)))

    seen = [planned()]
    evaluate(feed, (0, "101"))
    silence = services.create_silence(
        **{"author": channel.owner, "owner": channel.owner, "comment": "work"},
        **{"starts_at": timezone.now() - timedelta(hours=1), "ends_at": timezone.now() + timedelta(hours=1)},
    )
    seen.append(planned())
    services.end_silences(silences=[silence], now=timezone.now())
    seen.append(planned())
    set_channel(channel, messages_per_minute=1)
    evaluate(feed, (1, "99"))
    seen.append(planned())

    assert seen == ["nothing_due", "silenced", "send", "at_limit"]
