"""The navigation of the admin: what people do each day first, and every other page that they may open."""

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from apps.panel.navigation import groups
from tests.builders import make_operator

pytestmark = pytest.mark.django_db
DAILY = ["Overview", "Assets", "Rules", "Alerts", "Channels", "Portfolios"]


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
