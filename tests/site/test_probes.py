"""What monitors ask: healthz, readyz, status; and what the front page says when something has stopped."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from apps.health.models import Check
from apps.market.models import Feed, FeedEntry, FeedHead
from apps.notify.models import Channel
from apps.notify.services import create_channel
from apps.rules.engine.core import IS_COMPILED
from apps.site import probes
from tests.builders import START, append_quotes, check_all, make_feed, make_owner


@pytest.fixture(autouse=True)
def _new_process():
    """Forget what this process knows of the migrations."""
    probes._known_migrated.cache_clear()


def test_healthz_answers_without_the_database(client):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.django_db
def test_readyz_asks_for_the_migrations_once_and_then_for_the_database_alone(client, django_assert_num_queries):
    assert client.get("/readyz").status_code == 200
    with django_assert_num_queries(1):
        answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (200, f"ok, engine {'compiled' if IS_COMPILED else 'pure'}")


@pytest.mark.django_db
@pytest.mark.parametrize(("is_compiled", "name"), [(True, "compiled"), (False, "pure")])
def test_readyz_names_the_engine(client, monkeypatch, is_compiled, name):
    monkeypatch.setattr(probes, "IS_COMPILED", is_compiled)
    assert client.get("/readyz").text == f"ok, engine {name}"


@pytest.mark.django_db
def test_readyz_says_503_where_a_migration_is_not_applied(client):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'health'")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the database is not migrated: run manage.py migrate")


def test_readyz_says_503_when_the_database_is_away(client, monkeypatch):
    def refuse():
        raise OperationalError("connection to server at 10.0.0.1 failed")

    monkeypatch.setattr(connection, "cursor", refuse)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "10.0.0.1" not in answer.text


@pytest.mark.django_db
def test_readyz_stays_ready_when_nothing_runs(client):
    assert client.get("/readyz").status_code == 200
    assert client.get("/status").status_code == 503


@pytest.mark.django_db
def test_status_is_503_until_ticks_and_checks_run_and_again_when_they_end(client):
    reasons = {"status": "stopped", "reasons": [{"subject": "system", "code": "not_checked", "count": 1}]}
    before = client.get("/status")
    check_all()
    well = client.get("/status")
    Check.objects.update(ticked_at=timezone.now() - timedelta(seconds=11))
    after = client.get("/status")
    assert (before.status_code, before.json()) == (503, reasons)
    assert (well.status_code, well.json()) == (200, {"status": "well", "reasons": []})
    assert (after.status_code, after.json()) == (503, reasons)


@pytest.mark.django_db
def test_status_counts_feeds_that_have_stopped_and_names_none(client):
    for name in ("one", "two"):
        make_feed(f"{name.upper()}-USD", name=name)
    make_feed(name="paused", is_enabled=False)
    channel = create_channel(owner=make_owner(), name="Inbox", kind="inbox", config={})
    Channel.objects.filter(pk=channel.pk).update(failing_since=START)
    check_all(readers={"retries": 0})
    answer = client.get("/status")
    assert (answer.status_code, answer.json()["reasons"]) == (
        503,
        [
            {"subject": "feed", "code": "not_fetched", "count": 2},
            {"subject": "system", "code": "no_worker", "count": 1},
        ],
    )
    assert "one" not in answer.text.replace("no_worker", "")


@pytest.mark.django_db
def test_status_says_503_when_the_database_is_away(client, monkeypatch):
    def refuse(**columns):
        raise OperationalError("connection to server at 10.0.0.1 failed")

    monkeypatch.setattr(probes, "not_checked", refuse)
    answer = client.get("/status")
    assert (answer.status_code, answer.json()["reasons"]) == (503, [{"code": "no_database", "count": 1}])


@pytest.mark.django_db
def test_the_front_page_says_that_prices_have_stopped_and_what_is_wrong_with_each(client, settings):
    settings.MARKET_IS_PUBLIC = True
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", START, "10")])
    FeedEntry.objects.update(evaluated_at=START)
    FeedHead.objects.update(next_slot=timezone.now())
    assert "Prices and alerts have stopped." in client.get("/").text
    check_all()
    text = client.get("/").text
    assert "Prices and alerts have stopped." not in text
    assert '<td class="health well">well</td>' in text
    Feed.objects.update(is_enabled=False)
    check_all()
    assert '<td class="health stopped">stopped</td>' in client.get("/").text
    client.force_login(make_owner())
    text = client.get("/").text
    assert '<td class="health stopped" title="Feed feed: the feed is paused.">stopped</td>' in text


@pytest.mark.django_db
def test_the_front_page_counts_what_is_wrong_of_what_the_reader_depends_on(client):
    ada = make_owner()
    create_channel(owner=ada, name="Inbox", kind="inbox", config={})
    client.force_login(ada)
    check_all()
    assert "you depend on" not in client.get("/").text
    Channel.objects.update(failing_since=START)
    check_all()
    assert "1 thing that you depend on is not well" in client.get("/").text


@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/status"])
def test_probes_are_only_read(client, address):
    assert client.post(address).status_code == 405
