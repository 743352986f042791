"""The front page, and the pages that machines ask."""

import re

import pytest
from django.contrib.auth.models import Group
from django.contrib.staticfiles import finders
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.alerts.models import Alert
from apps.market.models import Asset
from apps.market.services import watch
from tests.builders import append_quotes, at, make_feed, make_notified_alerts, make_operator, make_owner

WORDS = "NOTIFIED-0 is above 10"
# Masked anew in each answer.
TOKEN = re.compile(r'name="csrfmiddlewaretoken"value="[^"]*"')


@pytest.fixture(autouse=True)
def _no_redis(settings):
    """Prices come from the rows: a Redis may still hold those of another test's assets."""
    settings.REDIS_URL = ""


@pytest.fixture(params=["/", "/live"])
def page(request):
    """The page, and its part that moves."""
    return request.param


@pytest.mark.django_db
def test_a_stranger_sees_what_this_is_and_neither_market_nor_alerts(client, settings):
    settings.MARKET_IS_PUBLIC = False
    make_notified_alerts(make_owner(), 1)
    answer = client.get("/")
    assert answer.status_code == 200
    assert "market monitor" in answer.text
    assert reverse("login") in answer.text
    assert "Sign in to see the prices." in answer.text
    assert "NOTIFIED-0" not in answer.text


@pytest.mark.django_db
def test_a_stranger_gets_no_prices_behind_the_pages_back(client, settings):
    settings.MARKET_IS_PUBLIC = False
    make_notified_alerts(make_owner(), 1)
    answer = client.get("/live")
    assert "Sign in to see the prices." in answer.text
    assert "NOTIFIED-0" not in answer.text


@pytest.mark.django_db
def test_a_stranger_sees_a_public_market_and_no_alerts(client, settings, page):
    settings.MARKET_IS_PUBLIC = True
    make_notified_alerts(make_owner(), 1)
    answer = client.get(page)
    assert '<a href="/assets/NOTIFIED-0/">NOTIFIED-0</a>' in answer.text
    assert 'price-now">11</td>' in answer.text
    assert "2026-03-02 12:00:01" in answer.text
    assert WORDS not in answer.text
    assert "rule of" not in answer.text


@pytest.mark.django_db
def test_owners_see_their_own_alerts_and_superusers_all(client, admin_user, settings, page):
    settings.MARKET_IS_PUBLIC = False
    ada, eve = make_owner("ada"), make_owner("eve")
    make_notified_alerts(ada, 1)
    client.force_login(ada)
    assert WORDS in client.get(page).text
    client.force_login(eve)
    hers = client.get(page).text
    assert WORDS not in hers
    assert "No alerts yet." in hers
    client.force_login(admin_user)
    assert WORDS in client.get(page).text


@pytest.mark.django_db
def test_the_part_that_moves_is_what_stands_in_the_page(admin_client, admin_user):
    make_notified_alerts(admin_user, 2)
    part, whole = ("".join(admin_client.get(page).text.split()) for page in ("/live", "/"))
    assert TOKEN.sub("", part) in TOKEN.sub("", whole)


@pytest.mark.django_db
def test_a_new_price_is_in_the_part_that_moves(admin_client):
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "20989.19")])
    assert '<tr data-asset="BTC-USD">' in admin_client.get("/live").text
    append_quotes(feed, [("BTC-USD", at(1), "20990")])
    assert 'price-now">20\u202f990</td>' in admin_client.get("/live").text


@pytest.mark.django_db
def test_neither_is_kept_by_a_cache(client, page):
    assert "no-store" in client.get(page)["Cache-Control"]


@pytest.mark.django_db
def test_the_last_10_alerts_are_shown_newest_first(admin_client, admin_user):
    make_notified_alerts(admin_user, 12)
    answer = admin_client.get("/")
    assert len(answer.context["alerts"]) == 10
    assert answer.text.count('class="severity') == 10


@pytest.mark.django_db
def test_the_front_page_costs_the_same_statements_for_3_rows_and_for_9(
    admin_client, admin_user, django_assert_num_queries, page
):
    make_notified_alerts(admin_user, 3, name="few")
    with CaptureQueriesContext(connection) as few:
        admin_client.get(page)
    make_notified_alerts(admin_user, 6, name="more")
    with django_assert_num_queries(len(few)):
        admin_client.get(page)


@pytest.mark.django_db
def test_a_large_market_shows_its_beginning_and_says_so(admin_client):
    make_feed(*(f"A-{number}" for number in range(21)))
    answer = admin_client.get("/")
    assert answer.text.count("none yet") == 20
    assert "the first 20 assets" in answer.text
    assert f'<a href="{reverse("asset_list")}">All assets</a>' in answer.text


@pytest.mark.django_db
def test_what_the_reader_follows_and_what_is_open_comes_first(admin_client, admin_user):
    make_notified_alerts(admin_user, 3)
    watch(Asset.objects.get(symbol="NOTIFIED-2"), user=admin_user)
    Alert.objects.exclude(summary__contains="NOTIFIED-0").update(resolved_at=at(5))
    answer = admin_client.get("/")
    assert [row.asset.symbol for row in answer.context["rows"]] == ["NOTIFIED-2", "NOTIFIED-0", "NOTIFIED-1"]
    assert [one.symbol for one in answer.context["alerts"]] == ["NOTIFIED-0", "NOTIFIED-2", "NOTIFIED-1"]
    assert "Alerts: 1 open" in answer.text


@pytest.mark.django_db
def test_an_empty_market_says_to_each_what_would_fill_it(client, admin_client):
    assert reverse("admin:market_feed_changelist") in admin_client.get("/").text
    client.force_login(make_owner())
    assert "Whoever runs this site adds feeds" in client.get("/").text


@pytest.mark.django_db
def test_who_has_no_alerts_reads_how_to_get_some(client):
    client.force_login(make_owner())
    assert "a place in the group Owner" in client.get("/").text
    grace = make_operator()
    grace.groups.add(Group.objects.get(name="Owner"))
    client.force_login(grace)
    assert f'<a href="{reverse("admin:rules_rule_changelist")}">your rules</a>' in client.get("/").text


@pytest.mark.django_db
def test_names_of_people_and_markets_are_text_and_not_markup(admin_client, admin_user):
    feed = make_feed("BTC-USD")
    feed.assets.update(name="<script>alert(1)</script>")
    text = admin_client.get("/live").text
    assert "&lt;script&gt;" in text
    assert "<script" not in text


@pytest.mark.django_db
def test_the_front_page_asks_for_nothing_from_other_machines(client):
    text = client.get("/").text
    assert "http://" not in text
    assert "https://" not in text
    assert text.count("<script") == 2
    assert [one for one in ("front.css", "reader.js", "live.js", "icon.svg") if not finders.find(f"site/{one}")] == []
    assert "<style" not in text
    assert "style=" not in text


@pytest.mark.django_db
def test_links_lead_only_where_the_reader_may_go(client):
    client.force_login(make_owner())
    text = client.get("/").text
    assert reverse("admin:alerts_alert_changelist") not in text
    assert reverse("admin:index") + '"' not in text


@pytest.mark.parametrize("address", ["/", "/live"])
def test_pages_are_only_read(client, address):
    assert client.post(address).status_code == 405
