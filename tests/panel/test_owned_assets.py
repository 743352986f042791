"""Assets of one owner: no page and no answer shows them to others, and a foreign one is answered as a missing one."""

import re

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone
from graphql import is_required_argument

from apps.alerts.models import Alert
from apps.health.domain import Code, Subject
from apps.health.models import Problem
from apps.health.queries import problems_seen_by
from apps.market.models import FeedEntry
from apps.market.queries import every_asset
from apps.metrics.queries import samples
from apps.owned_ids import external_id_of, new_owned_id
from apps.pipeline.flow import evaluate_pending
from tests.api.asking import QUERY, URL
from tests.api.test_owners import NEEDED, query_of
from tests.builders import above, append_owned, at, check_all, make_feed, make_owned, make_owner, make_rule
from tests.panel.test_walk import PAGES, ask, said

pytestmark = pytest.mark.django_db
SECRET = "ADAS-RATIO"


@pytest.fixture
def readers():
    """Return the readers by name: a superuser, an operator and two owners."""
    users = {name: make_owner(name) for name in ("root", "grace", "ada", "eve")}
    users["root"].is_superuser = True
    users["grace"].groups.add(Group.objects.get(name="Operator"))
    for user in users.values():
        user.groups.add(Group.objects.get(name="Owner"))
        user.is_staff = True
        user.save()
    make_feed("BTC-USD")
    return users


def give(owner):
    """Let an owner have an asset, a rule on it, an open alert and an entry that nobody evaluates; return the asset."""
    feed = make_owned(owner, SECRET)
    make_rule(owner, assets=[SECRET], condition=above(10))
    append_owned(feed, [(SECRET, at(1), "11")])
    evaluate_pending(feed_id=feed.pk)
    append_owned(feed, [(SECRET, at(2), "12")])
    check_all(now=timezone.now())
    return every_asset().get(symbol=SECRET)


def shown(client):
    """Return what the first pages and the lists of the admin say, and what the API answers."""
    found = {address: ask(client, "get", address).content.decode() for address in ("/", "/admin/", "/status")}
    for page in PAGES:
        if page.name.endswith("_changelist"):
            found[page.name] = ask(client, "get", page.address()).content.decode()
    for name, field in QUERY.fields.items():
        if name in NEEDED or not any(map(is_required_argument, field.args.values())):
            answer = client.post(URL, {"query": query_of(name)}, content_type="application/json")
            found[name] = answer.content.decode()
    return found


@pytest.mark.parametrize(("name", "sees"), [("grace", False), ("eve", False), ("ada", True), ("root", True)])
def test_only_its_owner_and_superusers_meet_it(client, readers, name, sees):
    asset = give(readers["ada"])
    assert Alert.objects.filter(asset=asset, resolved_at=None).exists()
    client.force_login(readers[name])
    feed_name = asset.feed.name
    found = {place for place, text in shown(client).items() if SECRET in text or feed_name in text}
    assert bool(found) == sees
    assert ("market_asset_changelist" in found) == sees


@pytest.mark.parametrize("name", ["grace", "eve"])
def test_a_foreign_one_is_answered_as_a_missing_one(client, readers, name):
    asset = give(readers["ada"])
    client.force_login(readers[name])
    missing = new_owned_id()
    query = '{{ asset(id: "{0}") {{ id candles {{ edges {{ cursor }} }} }} }}'
    there, absent = (
        client.post(URL, {"query": query.format(external_id_of(pk))}, content_type="application/json").content
        for pk in (asset.pk, missing)
    )
    assert there == absent
    for model, key in (
        ("asset", asset.pk),
        ("feed", asset.feed_id),
        ("feedentry", FeedEntry.objects.earliest("pk").pk),
    ):
        there, absent = (said(ask(client, "get", f"/admin/market/{model}/{pk}/change/"), pk) for pk in (key, missing))
        assert re.sub(r"-?\d{16,}", "ID", str(there)) == re.sub(r"-?\d{16,}", "ID", str(absent))


def test_its_owner_and_a_superuser_find_it_by_its_id(client, readers):
    asset = give(readers["ada"])
    query = f'{{ asset(id: "{external_id_of(asset.pk)}") {{ id symbol price }} }}'
    for name in ("ada", "root"):
        client.force_login(readers[name])
        answer = client.post(URL, {"query": query}, content_type="application/json").json()
        assert answer["data"]["asset"] == {"id": asset.external_id, "symbol": SECRET, "price": "12"}


def test_a_problem_of_its_feed_is_its_owners(readers):
    asset = give(readers["ada"])
    assert Problem.objects.filter(subject=Subject.FEED, subject_id=asset.feed_id, code=Code.NOT_EVALUATED).exists()
    seen = {
        user.username
        for user in User.objects.all()
        for row, _ in problems_seen_by(user, limit=50)
        if row.subject_id == asset.feed_id
    }
    assert seen == {"ada", "root"}


def test_metrics_count_the_feeds_of_owners_together_and_name_none(readers):
    names = {give(readers[name]).feed.name for name in ("ada", "eve") if name == "ada"}
    names.add(make_owned(readers["eve"], "OTHER").name)
    found = list(samples(now=timezone.now()))
    assert not [one for one in found if set(one.labels) & names]
    of_owned = {(one.name, one.labels): one.value for one in found if "owned" in one.labels}
    assert of_owned["fintech_log_lag_entries", ("owned", "evaluation")] == 1
    assert of_owned["fintech_entries_total", ("owned", "quotes")] == 2
    assert of_owned["fintech_assets", ("owned",)] == 2
