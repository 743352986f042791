"""The navigation of the admin: what people do each day first, and every other page that they may open."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from apps.notify.models import Channel, Message
from apps.notify.services import create_channel
from apps.panel.navigation import groups
from tests.builders import START, make_member, make_notified_alerts, make_operator

pytestmark = pytest.mark.django_db
DAILY = ["Overview", "Assets", "Rules", "Alerts", "Channels", "Inbox", "Portfolios"]


def titles(rf, user):
    request = rf.get("/admin/")
    request.user = user
    return [[item["title"] for item in group["items"]] for group in groups(request)]


def test_pages_stand_in_the_order_of_the_days_work(rf, admin_user):
    daily, operating, others = titles(rf, admin_user)
    assert daily == DAILY
    assert operating == ["Feeds", "Log", "Users"]
    assert others == sorted(others)
    assert {"Messages", "Silences", "Backtests", "Groups"} <= set(others)
    assert not {"Rules", "Feeds", "Users", "Alerts", "Channels"} & set(others)


def test_each_reader_sees_what_they_may_open(rf, client):
    assert titles(rf, make_operator("nobody")) == [["Overview", "Assets", "Portfolios"]]
    grace = make_operator("grace", "market.view_feed")
    assert titles(rf, grace) == [["Overview", "Assets", "Portfolios"], ["Feeds"]]
    owner = make_operator("ada")
    owner.groups.add(Group.objects.get(name="Owner"))
    daily = titles(rf, owner)[0]
    assert daily == DAILY
    client.force_login(owner)
    text = client.get(reverse("admin:index")).text
    assert text.count(f'href="{reverse("admin:rules_rule_changelist")}"') >= 1
    request = rf.get("/admin/")
    request.user = owner
    for group in groups(request):
        for item in group["items"]:
            assert client.get(item["link"]).status_code == 200


def unread(client):
    """Return how the navigation of the admin and that of the site count what is unread."""
    (item,) = [
        item
        for group in client.get(reverse("admin:index")).context["sidebar_navigation"]
        for item in group["items"]
        if item["title"] == "Inbox"
    ]
    (shown,) = re.findall(r">Inbox(.*?)</a>", client.get(reverse("front")).text)
    return item.get("badge"), shown


def test_navigation_counts_what_came_to_the_readers_own_inbox_since_they_looked(client):
    ada, eve = make_member("ada", is_staff=True), make_member("eve", is_staff=True)
    make_notified_alerts(ada, 3)
    by_mail = create_channel(owner=ada, name="Elsewhere", kind="webhook", config={"url": "https://example.org/"})
    Message.objects.create(
        channel=by_mail, subject="s", text="t", status="delivered", next_attempt_at=START, delivered_at=timezone.now()
    )
    client.force_login(eve)
    assert unread(client) == (None, "")
    client.get(reverse("admin:notify_message_changelist"), {"kind": "inbox"})
    client.force_login(ada)
    assert unread(client) == ("3", " (3 unread)")
    client.get(reverse("admin:notify_message_changelist"))
    assert unread(client) == ("3", " (3 unread)")
    client.get(reverse("admin:notify_message_changelist"), {"kind": "inbox"})
    assert unread(client) == (None, "")
    inbox = Channel.objects.get(kind="inbox")
    new = [
        Message(channel=inbox, subject="s", text="t", status="delivered", next_attempt_at=START, delivered_at=one)
        for one in (timezone.now() - timedelta(days=1), *[timezone.now() + timedelta(seconds=1)] * 2)
    ]
    Message.objects.bulk_create(new)
    assert unread(client) == ("2", " (2 unread)")
    Message.objects.bulk_create(
        Message(channel=inbox, subject="s", text="t", status="delivered", next_attempt_at=START, delivered_at=one)
        for one in [timezone.now() + timedelta(seconds=1)] * 98
    )
    assert unread(client) == ("99+", " (99+ unread)")
