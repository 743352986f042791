"""What telling comes to at a moment, as rows have it."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.alerts.models import Alert
from apps.market.models import Asset, FeedEntry
from apps.notify import queries
from apps.notify.models import Channel, Message
from apps.notify.services import create_channel, create_silence, set_channels
from tests.builders import append_quotes, at, make_feed, make_owner, notify_all
from tests.notify.notifying import evaluate, make_notified_rule

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_owner("ada")


@pytest.fixture
def feed():
    return make_feed("BTC-USD")


@pytest.fixture
def rule(ada, feed):
    return make_notified_rule(ada)


def outlook(rule, *, seconds=None, reader=None):
    """Return what telling comes to after the last entry up to that second of the feed's clock, or now."""
    entries = FeedEntry.objects.filter(as_of__lte=at(seconds)) if seconds is not None else FeedEntry.objects.all()
    return queries.notification_outlook(
        reader or rule.owner,
        rule=rule,
        asset=Asset.objects.get(symbol="BTC-USD"),
        entry=entries.order_by("-seq").first(),
        at=at(seconds) if seconds is not None else None,
        now=timezone.now(),
    )


def silence(author, *, begins=0, ends=3_600, comment="works", **match):
    return create_silence(author=author, starts_at=at(begins), ends_at=at(ends), comment=comment, **match)


def comments(outlook):
    return [one.comment for one in outlook.silences]


def test_silences_are_those_in_force_at_the_moment_that_match(rule, ada, feed):
    evaluate(feed, (0, "99"))
    for comment, match in {
        "any": {},
        "longest": {"owner": ada, "rule": rule, "ends": 7_200},
        "of others": {"owner": make_owner("grace")},
        "grave only": {"severity": "critical"},
        "over": {"begins": -60, "ends": 30},
        "to come": {"begins": 31},
    }.items():
        silence(ada, comment=comment, **match)
    assert comments(outlook(rule, seconds=30)) == ["longest", "any"]
    assert comments(outlook(rule, seconds=29)) == ["longest", "any", "over"]
    assert comments(outlook(rule, seconds=31)) == ["longest", "any", "to come"]


def test_a_silence_matches_by_the_severity_of_the_alert_that_is_open(rule, ada, feed):
    evaluate(feed, (0, "99"), (10, "101"))
    Alert.objects.update(severity="critical")
    evaluate(feed, (20, "99"))
    for severity in ("critical", "warning"):
        silence(ada, comment=severity, severity=severity)
    assert comments(outlook(rule, seconds=15)) == ["critical"]
    assert comments(outlook(rule, seconds=25)) == ["warning"]


def test_an_alert_is_open_from_the_entry_that_opened_it_to_the_one_that_ended_it(rule, feed):
    for second, price in ((0, "99"), (10, "101"), (20, "99"), (30, "102")):
        evaluate(feed, (second, price))
    first, second = Alert.objects.order_by("pk")
    found = [(one.alert, one.is_open) for one in (outlook(rule, seconds=at) for at in (9, 10, 19, 20, 29, 30))]
    assert found == [(None, False), (first, True), (first, True), (first, False), (first, False), (second, True)]


def test_a_channel_that_was_not_due_the_opening_is_known(rule, ada, feed):
    evaluate(feed, (0, "99"))
    assert outlook(rule).not_notified == []
    evaluate(feed, (10, "101"))
    assert outlook(rule).not_notified == []
    later = create_channel(owner=ada, name="Later", kind="inbox", config={})
    set_channels(rule=rule, channels=[*Channel.objects.all()])
    assert outlook(rule).not_notified == [later]


@pytest.mark.parametrize(("limit", "is_at_limit"), [(0, False), (1, True), (2, False)])
def test_a_limit_counts_the_minute_before_the_moment(rule, feed, limit, is_at_limit):
    evaluate(feed, (0, "99"), (10, "101"))
    notify_all()
    Channel.objects.update(messages_per_minute=limit)
    Message.objects.update(created_at=at(20))
    assert [outlook(rule, seconds=at).channels[0].decision == "at_limit" for at in (19, 20, 79, 80)] == [
        *(False, is_at_limit, is_at_limit, False)
    ]


def test_nobody_sees_the_channels_and_alerts_of_others(rule, ada, feed):
    evaluate(feed, (0, "99"), (10, "101"))
    silence(ada, owner=ada)
    grace = make_owner("grace")
    seen = outlook(rule, seconds=15, reader=grace)
    assert (seen.silences, seen.channels, seen.alert) == ([], [], None)
    grace.is_superuser = True
    seen = outlook(rule, seconds=15, reader=grace)
    assert (len(seen.silences), len(seen.channels), seen.alert) == (1, 1, Alert.objects.get())


def test_it_costs_the_same_statements_for_one_channel_and_silence_and_for_many(rule, ada, feed):
    evaluate(feed, (0, "99"), (10, "101"))
    silence(ada)
    Channel.objects.update(messages_per_minute=1)
    outlook(rule, seconds=15)  # Asks for permissions, which a user keeps.

    def statements():
        with CaptureQueriesContext(connection) as asked:
            outlook(rule, seconds=15)
        return len(asked)

    few = statements()
    for number in range(5):
        silence(ada, comment=str(number))
        create_channel(owner=ada, name=f"{number}", kind="inbox", config={}, messages_per_minute=1)
    set_channels(rule=rule, channels=[*Channel.objects.all()])
    assert (few, statements()) == (10, 10)  # Two of them find the entry and the asset for the test.


def test_the_wall_clock_runs_on_from_an_entry_to_the_next(feed):
    first = append_quotes(feed, [("BTC-USD", at(0), "99")])
    append_quotes(feed, [("BTC-USD", at(60), "99")])

    def wall(seconds, *, now):
        return queries.wall_clock_at(first, at=at(seconds), now=at(now))

    assert [wall(seconds, now=99) for seconds in (0, 59.5, 61)] == [at(0), at(59.5), at(60)]
    assert wall(30, now=15) == at(15)


def test_of_a_recording_the_wall_clock_is_that_of_its_entry(feed):
    long_ago = timedelta(days=1_000)
    for seconds in (0, 1):
        append_quotes(feed, [("BTC-USD", at(60 * seconds) - long_ago, "99")])
    for entry in FeedEntry.objects.all():
        FeedEntry.objects.filter(pk=entry.pk).update(received_at=at(entry.seq))
    entry = FeedEntry.objects.get(seq=1)
    assert queries.wall_clock_at(entry, at=at(0.5) - long_ago, now=at(99)) == at(1.5)
    assert queries.wall_clock_at(entry, at=at(59) - long_ago, now=at(99)) == at(2)
