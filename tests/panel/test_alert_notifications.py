"""An alert's page shows its notifications, and says where old ones are no longer kept."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Message
from apps.notify.services import prune_messages
from apps.pipeline import flow
from tests.builders import append_quotes, at, make_notified_alerts, notify_all

pytestmark = pytest.mark.django_db

NOT_KEPT = "Who is notified (messages older than 365 days are not kept)"


@pytest.fixture
def alert(admin_user):
    """Return an alert of long ago with a message, and another message of its channel."""
    alert, _ = make_notified_alerts(admin_user, 2)
    long_ago = timezone.now() - timedelta(days=366)
    Message.objects.filter(members__event__alert=alert).update(created_at=long_ago)
    Alert.objects.filter(pk=alert.pk).update(created_at=long_ago)
    return alert


def end(alert):
    append_quotes(alert.asset.feed, [(alert.asset.symbol, at(2), "9")])
    flow.evaluate_pending(feed_id=alert.asset.feed_id)


def tables(client, alert):
    """Return (title, number of rows, text where there are none) of the tables of notifications and attempts."""
    tables = client.get(reverse("admin:alerts_alert_change", args=[alert.pk])).context["tables"]
    return [(one.title, len(one.rows), one.empty) for one in tables if one.title[:3] in ("Who", "Att")]


def test_an_alert_says_that_its_messages_are_not_kept(admin_client, alert):
    Alert.objects.filter(pk=alert.pk).update(resolved_at=at(2))

    assert prune_messages(now=timezone.now()) == 1

    assert tables(admin_client, alert) == [
        (NOT_KEPT, 0, "Nobody, or longer ago than messages are kept."),
        ("Attempts", 0, "None is kept."),
    ]


def test_one_of_which_a_part_is_kept_says_so_too(admin_client, alert):
    end(alert)
    notify_all()

    prune_messages(now=timezone.now())

    assert [(title, rows) for title, rows, _ in tables(admin_client, alert)] == [(NOT_KEPT, 1), ("Attempts", 1)]


def test_one_that_is_open_keeps_all_and_says_nothing(admin_client, alert):
    prune_messages(now=timezone.now())

    shown = [(title, rows) for title, rows, _ in tables(admin_client, alert)]
    assert shown == [("Who is notified", 1), ("Attempts", 1)]


def test_one_that_is_over_and_young_says_nothing(admin_client, alert, settings):
    end(alert)
    settings.MESSAGE_RETENTION_DAYS = 367

    assert [title for title, _, _ in tables(admin_client, alert)] == ["Who is notified", "Attempts"]
