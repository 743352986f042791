"""Who was notified, and what deferred it, beside the answer why a rule did or did not fire."""

from datetime import time, timedelta

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.market.models import Asset
from apps.notify.models import Channel, Message, Notification
from apps.notify.services import create_channel, create_silence, set_channels
from apps.rules.models import Rule
from tests.builders import START, at, make_feed, make_operator, make_owner, notify_all
from tests.notify.notifying import evaluate, make_notified_rule

pytestmark = pytest.mark.django_db

LATER = "2026-03-02T12:00:15"
PAST = "Silences, channels and the rule's severity are shown as they are recorded today"


@pytest.fixture
def ada():
    owner = make_operator("ada")
    owner.groups.add(Group.objects.get(name="Owner"))
    return owner


@pytest.fixture
def as_ada(client, ada):
    """Ada's browser."""
    client.force_login(ada)
    return client


@pytest.fixture
def feed():
    return make_feed("BTC-USD")


@pytest.fixture
def rule(ada, feed):
    """Above 100, with an old inbox as its channel; 99 has been seen."""
    rule = make_notified_rule(ada)
    evaluate(feed, (0, "99"))
    return rule


def ask(client, rule, when=LATER):
    """Return what the page lays beside its answer, and the page."""
    asset = Asset.objects.get(symbol="BTC-USD")
    query = {"asset": asset.pk, "at": when} if when else {"asset": asset.pk}
    answer = client.get(reverse("admin:rules_rule_why", args=[rule.pk]), query)
    assert answer.status_code == 200
    return answer.context["beside"], answer.text


def rows(beside, title):
    (table,) = [one for one in beside.tables if one.title.startswith(title)]
    return [[str(cell) for cell in row] for row in table.rows]


def meets(client, rule, when=LATER):
    """Return what an alert meets on each channel at that moment."""
    return [row[1] for row in rows(ask(client, rule, when)[0], "What each channel would do now")]


def became(client, rule, when=LATER):
    """Return (event, status) of what became of the alert."""
    return [(row[0], row[-1]) for row in rows(ask(client, rule, when)[0], "What became of")]


def silence(author, *, ends=3_600, **match):
    return create_silence(author=author, starts_at=START, ends_at=at(ends), **{"comment": "works"} | match)


def test_a_rule_without_channels_says_that_nobody_is_notified(as_ada, rule):
    set_channels(rule=rule, channels=[])
    beside, text = ask(as_ada, rule)
    assert "Nobody is notified: the rule names no channel." in text
    assert rows(beside, "What each channel would do now") == []


def test_a_silence_then_is_shown_with_its_comment_and_its_end_and_leads_to_its_page(as_ada, ada, rule):
    made = silence(ada, owner=ada)
    beside, text = ask(as_ada, rule)
    (row,) = rows(beside, "Silences in force")
    assert row[1:3] == ["ada", "ada"]
    assert (f'href="{reverse("admin:notify_silence_change", args=[made.pk])}"' in row[0], ">works<" in row[0]) == (
        *(True, True),
    )
    assert row[4] == str(at(3_600))
    assert meets(as_ada, rule) == ["held back until 2026-03-02 13:00:00 UTC by the silence “works”"]
    assert PAST in text.replace("&#x27;", "'")


def test_an_owner_sees_an_operators_silence_of_everybodys_alerts_and_none_of_other_owners(as_ada, admin_user, rule):
    grace = make_owner("grace")
    silence(admin_user, comment="maintenance")
    silence(grace, comment="secret", owner=grace)
    beside, text = ask(as_ada, rule)
    (row,) = rows(beside, "Silences in force")
    assert (">maintenance<" in row[0], row[1:3]) == (True, ["everybody's", "admin"])
    assert "secret" not in text


def test_a_superuser_sees_what_holds_back_the_alerts_of_others(admin_client, ada, rule):
    silence(ada, owner=ada)
    assert len(rows(ask(admin_client, rule)[0], "Silences in force")) == 1
    assert meets(admin_client, rule) == ["held back until 2026-03-02 13:00:00 UTC by the silence “works”"]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({}, "notified at once"),
        ({"group_wait_seconds": 10}, "notified, after waiting 10 s for more alerts"),
        ({"is_enabled": False}, "not notified: the channel is disabled"),
        ({"created_at": at(60)}, "not notified: the channel was made later, at 2026-03-02 12:01:00 UTC"),
        (
            {"quiet_from": time(13), "quiet_until": time(16), "quiet_zone": "Europe/Kyiv"},
            "held back until 2026-03-02 14:00:00 UTC by quiet hours, 13:00 to 16:00 in Europe/Kyiv",
        ),
        ({"quiet_from": time(13), "quiet_until": time(16), "quiet_zone": "UTC"}, "notified at once"),
        ({"messages_per_minute": 1}, "waits for room within the channel's limit of 1 message a minute"),
    ],
)
def test_what_an_alert_would_meet_on_a_channel_is_said(as_ada, rule, columns, text):
    channel = Channel.objects.get()
    Message.objects.create(channel=channel, subject="", text="", next_attempt_at=START)
    Message.objects.update(created_at=at(0))
    Channel.objects.update(**columns)
    assert meets(as_ada, rule) == [text]


def test_what_is_critical_is_notified_at_once_also_in_quiet_hours(as_ada, rule):
    Channel.objects.update(quiet_from=time(11), quiet_until=time(14), group_wait_seconds=10)
    assert meets(as_ada, rule) == ["held back until 2026-03-02 14:00:00 UTC by quiet hours, 11:00 to 14:00 in UTC"]
    Rule.objects.update(severity="critical")
    assert meets(as_ada, rule) == ["notified at once"]


def test_of_several_reasons_the_one_that_counts_is_shown(as_ada, ada, rule):
    silence(ada)
    channel = Channel.objects.get()
    Message.objects.create(channel=channel, subject="", text="", next_attempt_at=START)
    Message.objects.update(created_at=at(0))
    Channel.objects.update(quiet_from=time(11), quiet_until=time(14), messages_per_minute=1)
    seen = [meets(as_ada, rule)]
    Channel.objects.update(messages_per_minute=0)
    seen.append(meets(as_ada, rule))
    Channel.objects.update(is_enabled=False)
    seen.append(meets(as_ada, rule))
    assert seen == [
        ["waits for room within the channel's limit of 1 message a minute"],
        ["held back until 2026-03-02 13:00:00 UTC by the silence “works”"],
        ["not notified: the channel is disabled"],
    ]


def test_the_channel_of_somebody_inactive_is_not_notified_and_the_page_says_so(admin_client, ada, rule):
    type(ada).objects.update(is_active=False)
    type(ada).objects.filter(username="admin").update(is_active=True)
    assert meets(admin_client, rule) == ["not notified: the account of its owner, ada, is not active"]


def test_a_channel_says_what_it_wants_and_how_it_does(as_ada, rule):
    (row,) = rows(ask(as_ada, rule)[0], "What each channel would do now")
    assert row[2:] == ["openings and ends; no reminders", "Nothing was sent on it yet. Send a test."]
    Channel.objects.update(
        wants_resolved=False, repeat_minutes=30, is_enabled=False, switched_off_because="no such host"
    )
    (row,) = rows(ask(as_ada, rule)[0], "What each channel would do now")
    assert row[2:] == ["openings, no ends; reminders after 30 min", "Disabled: no such host."]


def test_an_open_alert_says_what_became_of_it(as_ada, feed, rule):
    evaluate(feed, (10, "101"))
    _, text = ask(as_ada, rule)
    alert = Alert.objects.get()
    assert 'An alert was open: <a class="text-primary-600' in text
    assert f'href="{reverse("admin:alerts_alert_change", args=[alert.pk])}"' in text
    assert became(as_ada, rule) == [("opened", "waits for the next planning, within seconds")]
    later = timezone.now() + timedelta(hours=1)
    Notification.objects.update(due_at=later)
    assert became(as_ada, rule)[0][1].startswith("waits for more alerts, which come with it at ")
    Notification.objects.update(deferred_by="quiet")
    assert became(as_ada, rule)[0][1].startswith("waits for the end of quiet hours, at ")
    Notification.objects.update(deferred_by="", due_at=START)
    notify_all()
    assert became(as_ada, rule)[0][1].startswith("delivered at ")
    Message.objects.update(status="failed")
    assert became(as_ada, rule)[0][1].startswith("given up after 1 attempt")


def test_a_channel_that_came_too_late_for_the_alert_says_so(as_ada, ada, feed, rule):
    off = create_channel(owner=ada, name="Off", kind="inbox", config={}, is_enabled=False)
    Channel.objects.update(created_at=at(-60))
    set_channels(rule=rule, channels=[off])
    evaluate(feed, (10, "101"))
    Channel.objects.update(is_enabled=True)
    later = create_channel(owner=ada, name="Later", kind="inbox", config={})
    set_channels(rule=rule, channels=[off, later])
    assert became(as_ada, rule) == [
        ("opened", "not notified: the channel was created after the alert had opened"),
        (
            "opened",
            "nothing on record: when the alert opened, the rule did not name it, or it was off; or it is kept no more",
        ),
    ]


def test_the_last_alert_before_is_shown_where_none_was_open(as_ada, feed, rule):
    assert "No alert was open, and none had opened before, so there was nothing to send." in ask(as_ada, rule)[1]
    evaluate(feed, (5, "101"), (10, "99"))
    assert "No alert was open. The last one before is <a" in ask(as_ada, rule)[1]
    assert [event for event, _ in became(as_ada, rule)] == ["opened", "resolved"]


def test_of_now_all_is_known(as_ada, rule):
    beside, text = ask(as_ada, rule, when=None)
    assert beside.title == "Who is notified"
    assert "No alert is open, and none had opened before, so there is nothing to send." in text
    assert PAST not in text.replace("&#x27;", "'")
    beside, text = ask(as_ada, rule)
    assert (beside.title, PAST in text.replace("&#x27;", "'")) == ("Who was notified", True)


def test_who_may_not_look_at_silences_and_channels_has_no_links_to_them(client, ada, rule):
    ada.groups.clear()
    ada.user_permissions.set(make_operator("grace", "rules.view_rule").user_permissions.all())
    silence(ada)
    client.force_login(ada)
    beside, _ = ask(client, rule)
    assert rows(beside, "Silences in force")[0][0] == "works"
    assert rows(beside, "What each channel would do now")[0][0] == "In (inbox)"
