"""The front page, and the pages that machines ask."""

import pytest
from django.contrib.staticfiles import finders
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.builders import make_feed, make_owner, make_told_alerts

WORDS = "TOLD-0 is above 10"


@pytest.fixture(autouse=True)
def _no_redis(settings):
    """Prices come from the rows: a Redis may still hold those of another test's assets."""
    settings.REDIS_URL = ""


@pytest.mark.django_db
def test_a_stranger_sees_what_this_is_and_neither_market_nor_alerts(client, settings):
    settings.MARKET_IS_PUBLIC = False
    make_told_alerts(make_owner(), 1)
    answer = client.get("/")
    assert answer.status_code == 200
    assert "market monitor" in answer.text
    assert reverse("admin:login") in answer.text
    assert "Sign in to see the prices." in answer.text
    assert "TOLD-0" not in answer.text


@pytest.mark.django_db
def test_a_stranger_sees_a_public_market_and_no_alerts(client, settings):
    settings.MARKET_IS_PUBLIC = True
    make_told_alerts(make_owner(), 1)
    answer = client.get("/")
    assert "<td>TOLD-0</td>" in answer.text
    assert '<td class="number">11</td>' in answer.text
    assert "2026-03-02 12:00:01" in answer.text
    assert WORDS not in answer.text
    assert "rule of" not in answer.text


@pytest.mark.django_db
def test_owners_see_their_own_alerts_and_superusers_all(client, admin_user, settings):
    settings.MARKET_IS_PUBLIC = False
    ada, eve = make_owner("ada"), make_owner("eve")
    make_told_alerts(ada, 1)
    client.force_login(ada)
    assert WORDS in client.get("/").text
    client.force_login(eve)
    hers = client.get("/").text
    assert WORDS not in hers
    assert "No alerts yet." in hers
    client.force_login(admin_user)
    assert WORDS in client.get("/").text


@pytest.mark.django_db
def test_the_last_10_alerts_are_shown_newest_first(admin_client, admin_user):
    make_told_alerts(admin_user, 12)
    answer = admin_client.get("/")
    assert len(answer.context["alerts"]) == 10
    assert answer.text.count('class="severity') == 10


@pytest.mark.django_db
def test_the_front_page_costs_the_same_statements_for_3_rows_and_for_30(
    admin_client, admin_user, django_assert_num_queries
):
    make_told_alerts(admin_user, 3, name="few")
    with CaptureQueriesContext(connection) as few:
        admin_client.get("/")
    make_told_alerts(admin_user, 27, name="more")
    with django_assert_num_queries(len(few)):
        admin_client.get("/")


@pytest.mark.django_db
def test_a_large_market_shows_its_beginning_and_says_so(admin_client):
    make_feed(*(f"A-{number}" for number in range(101)))
    answer = admin_client.get("/")
    assert answer.text.count("none yet") == 100
    assert "the first 100 assets" in answer.text


@pytest.mark.django_db
def test_an_empty_market_says_what_would_fill_it(admin_client):
    assert "No assets yet." in admin_client.get("/").text


@pytest.mark.django_db
def test_the_front_page_asks_for_nothing_from_other_machines(client):
    text = client.get("/").text
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    assert finders.find("site/front.css")


@pytest.mark.django_db
def test_links_lead_only_where_the_reader_may_go(client):
    client.force_login(make_owner())
    text = client.get("/").text
    assert reverse("admin:alerts_alert_changelist") not in text
    assert reverse("admin:index") + '"' not in text


def test_healthz_answers_without_the_database(client):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.django_db
def test_readyz_asks_the_database_once(client, django_assert_num_queries):
    with django_assert_num_queries(1):
        answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ok")


def test_readyz_says_503_when_the_database_is_away(client, monkeypatch):
    def refuse():
        raise OperationalError("connection to server at 10.0.0.1 failed")

    monkeypatch.setattr(connection, "cursor", refuse)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "10.0.0.1" not in answer.text


@pytest.mark.parametrize("page", ["/", "/healthz", "/readyz"])
def test_pages_are_only_read(client, page):
    assert client.post(page).status_code == 405
