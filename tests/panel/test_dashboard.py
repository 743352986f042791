"""The admin's first page: is it working, and what happened today?"""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import acknowledge
from apps.market.models import Feed, FeedEntry, FeedHead
from apps.notify.models import Message
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import RuleState
from tests.builders import (
    above,
    append_quotes,
    at,
    check_all,
    make_feed,
    make_notified_alerts,
    make_operator,
    make_owner,
    make_rule,
)

INDEX = "/admin/"


def parts(client):
    """Return title -> part of the page."""
    return {part.title: part for part in client.get(INDEX).context["parts"]}


def said(client, title):
    return [str(sentence) for sentence in parts(client)[title].sentences]


def refresh(feed):
    """Have a feed's last entries come now, each evaluated, and its next one be due now."""
    now = timezone.now()
    feed.entries.update(received_at=now, evaluated_at=now, slot=None)
    feed.entries.filter(pk=feed.entries.order_by("-seq").values("pk")[:1]).update(slot=now)
    FeedHead.objects.filter(feed=feed).update(next_slot=now + timedelta(seconds=1))


def as_owner(name):
    owner = make_operator(name)
    owner.groups.add(Group.objects.get(name="Owner"))
    return owner


@pytest.mark.django_db
def test_an_empty_house_says_what_to_do_first(admin_client):
    assert "No feeds yet." in said(admin_client, "Feeds")[0]
    assert "No rules yet." in said(admin_client, "Rules")[0]
    assert said(admin_client, "Alerts") == ["No alert is open.", "None opened today."]
    assert said(admin_client, "Messages") == ["No messages are waiting."]


@pytest.mark.django_db
def test_feeds_that_work_are_one_sentence(admin_client, admin_user):
    for name in ("one", "two"):
        make_notified_alerts(admin_user, 1, name=name)
    for entry in FeedEntry.objects.all():
        refresh(entry.feed)
    check_all()
    assert said(admin_client, "Feeds")[0] == "All 2 feeds are well."
    assert said(admin_client, "Feeds")[-1] == "Everything has been evaluated."
    assert parts(admin_client)["Feeds"].mood == "good"


@pytest.mark.django_db
def test_a_feed_that_fails_comes_first_with_its_reason(admin_client, admin_user):
    for name in ("alpha", "omega"):
        make_notified_alerts(admin_user, 1, name=name)
    for entry in FeedEntry.objects.all():
        refresh(entry.feed)
    last = FeedEntry.objects.filter(feed__name="omega").order_by("-seq")[0]
    FeedEntry.objects.filter(pk=last.pk).update(failure="http_500")
    FeedHead.objects.filter(feed=last.feed).update(failures=1)
    check_all()
    feeds, wrong = parts(admin_client)["Feeds"], parts(admin_client)["Health"]
    assert feeds.sentences[0] == "Of 2 feeds, 1 is degraded, 1 is well."
    assert [row[1] for row in feeds.rows] == ["degraded", "well"]
    assert feeds.mood == "bad"
    assert (wrong.sentences[0].startswith("1 thing is wrong, by the check at "), wrong.mood) == (True, "bad")
    assert "No provider has answered since" in wrong.rows[0][3]
    assert "http_500" in wrong.rows[0][3]


@pytest.mark.django_db
def test_nothing_is_green_before_it_was_checked_and_after_the_last_tick(admin_client, admin_user):
    make_notified_alerts(admin_user, 1, name="one")
    refresh(Feed.objects.get())
    never = parts(admin_client)
    check_all(now=timezone.now() - timedelta(seconds=11))
    late = parts(admin_client)
    check_all()
    assert (never["Health"].sentences[0], never["Health"].mood, never["Feeds"].mood) == (
        "Nothing has run yet: no worker has finished a tick and a check.",
        "bad",
        "bad",
    )
    assert late["Health"].sentences[0].startswith("Nothing has been fetched, evaluated or sent since ")
    assert (late["Health"].mood, late["Feeds"].mood) == ("bad", "bad")
    assert [parts(admin_client)[title].mood for title in ("Health", "Feeds")] == ["good", "good"]


@pytest.mark.django_db
def test_a_paused_feed_is_never_green_and_no_fault(admin_client):
    make_feed("BTC-USD", is_enabled=False)
    check_all()
    feeds, wrong = parts(admin_client)["Feeds"], parts(admin_client)["Health"]
    assert (feeds.sentences[0], feeds.mood) == ("Of 1 feed, 1 is stopped.", "bad")
    assert (wrong.rows[0][1], wrong.rows[0][3]) == ("stopped", "The feed is paused.")
    assert (wrong.sentences[0].startswith("Nothing is wrong, by the check at "), wrong.mood) == (True, "good")


@pytest.mark.django_db
def test_todays_quotes_are_counted_by_what_became_of_them(admin_client):
    feed = make_feed("BTC-USD")
    now = timezone.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    entries = [(midnight, 5, 2, {"zero": 1, "conflict": 2}), (midnight - timedelta(seconds=1), 100, 100, {"zero": 100})]
    for seq, (came, accepted, late, rejected) in enumerate(entries, start=1):
        FeedEntry.objects.create(
            **{"feed": feed, "seq": seq, "kind": "quotes", "slot": came, "as_of": now, "received_at": came},
            **{"accepted": accepted, "late": late, "rejected": rejected, "evaluated_at": now, "trace_id": "0" * 32},
        )
    assert "Today 5 quotes came, 2 of them late; 3 were rejected." in said(admin_client, "Feeds")


@pytest.mark.django_db
def test_entries_that_wait_for_the_evaluate_are_counted(admin_client):
    feed = make_feed("BTC-USD")
    FeedHead.objects.filter(feed=feed).update(seq=3)
    assert said(admin_client, "Feeds")[-1] == "3 entries to evaluate."


@pytest.mark.django_db
def test_open_alerts_rules_and_messages_are_counted(admin_client, admin_user):
    make_notified_alerts(admin_user, 2)
    waiting, failed = Message.objects.all()
    Message.objects.filter(pk=waiting.pk).update(status="pending")
    Message.objects.filter(pk=failed.pk).update(status="failed")
    first, today = said(admin_client, "Alerts")
    assert ("2 alerts are open, <a" in first, "?state=open" in first, "2 not acknowledged" in first) == (True,) * 3
    assert today == "2 opened today."
    assert said(admin_client, "Rules") == ["2 rules: 2 firing."]
    assert said(admin_client, "Messages")[0] == "1 message to send."
    assert "could not be sent" in said(admin_client, "Messages")[1]
    assert [row[1] for row in parts(admin_client)["Alerts"].rows] == ["opened", "opened"]


@pytest.mark.django_db
def test_what_somebody_has_acknowledged_is_no_alarm(admin_client, admin_user):
    make_notified_alerts(admin_user, 3)
    Alert.objects.filter(asset__symbol="NOTIFIED-2").update(resolved_at=timezone.now())
    acknowledge(alerts=Alert.objects.filter(asset__symbol="NOTIFIED-0"), by=admin_user, note="", now=timezone.now())
    assert "1 not acknowledged" in said(admin_client, "Alerts")[0]
    assert parts(admin_client)["Alerts"].mood == "bad"
    acknowledge(alerts=Alert.objects.all(), by=admin_user, note="", now=timezone.now())
    assert said(admin_client, "Alerts")[0] == "2 alerts are open, and acknowledged."
    assert parts(admin_client)["Alerts"].mood == "plain"


@pytest.mark.django_db
def test_an_alert_about_the_installation_stands_there_with_what_prometheus_calls_it(client):
    labels = {"alertname": "FeedBehind", "job": "web-1"}
    alert = Alert.objects.create(
        kind="system",
        severity="warning",
        opened_at=timezone.now(),
        summary="Feeds are late",
        evidence={"labels": labels},
    )
    AlertEvent.objects.create(alert=alert, kind="opened", at=alert.opened_at)
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    client.force_login(grace)
    assert parts(client)["Alerts"].rows[0][3:] == ["FeedBehind", "web-1"]
    assert "FeedBehind · web-1" in client.get("/").text


@pytest.mark.django_db
def test_a_rule_is_counted_once_in_each_state_that_an_instance_of_it_has(admin_client, admin_user):
    make_notified_alerts(admin_user, 4)
    first, second, third, _ = RuleState.objects.order_by("pk").values_list("pk", flat=True)
    RuleState.objects.filter(pk=first).update(state="pending")
    RuleState.objects.filter(pk=second).update(state="inactive", unknown="history is too short")
    RuleState.objects.filter(pk=third).update(state="error")
    assert said(admin_client, "Rules") == ["4 rules: 1 firing, 1 pending, 1 without enough history, 1 in error."]
    assert parts(admin_client)["Rules"].mood == "bad"


@pytest.mark.django_db
def test_a_rule_that_holds_on_two_assets_is_one_rule(admin_client, admin_user):
    feed = make_feed("BTC-USD", "ETH-USD")
    make_rule(admin_user, assets=["BTC-USD", "ETH-USD"], condition=above(10))
    append_quotes(feed, [("BTC-USD", at(1), "11"), ("ETH-USD", at(1), "11")])
    evaluate_pending(feed_id=feed.pk)
    assert said(admin_client, "Rules") == ["1 rule: 1 firing."]


@pytest.mark.django_db
def test_yesterdays_dead_messages_and_alerts_are_not_todays(admin_client, admin_user):
    [alert] = make_notified_alerts(admin_user, 1)
    yesterday = timezone.now() - timedelta(days=1)
    Message.objects.update(status="failed", created_at=yesterday)
    type(alert).objects.update(created_at=yesterday)
    assert said(admin_client, "Messages") == ["No messages are waiting."]
    assert said(admin_client, "Alerts")[1] == "None opened today."


@pytest.mark.django_db
def test_an_owner_sees_own_rows_and_no_feeds(client):
    ada, eve = as_owner("ada"), as_owner("eve")
    make_notified_alerts(ada, 1)
    client.force_login(eve)
    assert parts(client).keys() == {"Health", "Alerts", "Rules", "Messages"}
    assert said(client, "Alerts") == ["No alert of yours is open.", "None opened today."]
    assert parts(client)["Alerts"].rows == []
    assert "NOTIFIED-0" not in client.get(INDEX).text
    client.force_login(ada)
    assert said(client, "Alerts")[0].startswith("1 alert of yours is open, ")
    assert "NOTIFIED-0" in client.get(INDEX).text


@pytest.mark.django_db
def test_an_operator_sees_feeds_and_nothing_that_is_owned(client):
    make_notified_alerts(make_owner("ada"), 1)
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    client.force_login(grace)
    assert parts(client).keys() == {"Health", "Feeds", "Alerts"}
    assert said(client, "Alerts") == ["No alert about this installation is open.", "None opened today."]
    text = client.get(reverse("admin:alerts_alert_changelist")).text
    assert ("open when something stops" in text, "see Rules" in text) == (True, False)
    grace.groups.add(Group.objects.get(name="Owner"))
    assert said(client, "Alerts")[0] == "No alert of yours or about this installation is open."
    assert "see Rules" in client.get(reverse("admin:alerts_alert_changelist")).text


@pytest.mark.django_db
def test_who_may_see_nothing_reads_whom_to_ask(client):
    client.force_login(make_operator("grace"))
    assert "Ask whoever runs this site" in client.get(INDEX).text


@pytest.mark.django_db
def test_it_costs_the_same_statements_for_1_feed_and_for_10_and_locks_nothing(
    admin_client, admin_user, django_assert_num_queries
):
    make_notified_alerts(admin_user, 1, name="first")
    with CaptureQueriesContext(connection) as few:
        admin_client.get(INDEX)
    for number in range(9):
        make_notified_alerts(admin_user, 3, name=f"more-{number}")
    with django_assert_num_queries(len(few)):
        admin_client.get(INDEX)
    statements = " ".join(query["sql"] for query in few)
    assert [
        word for word in ("FOR UPDATE", "INSERT", "UPDATE ", "DELETE", "BEGIN", "SAVEPOINT") if word in statements
    ] == []
    assert len(few) < 25
