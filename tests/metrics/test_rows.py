"""The metrics of rows: each says what the rows say, and nothing turns a counter back."""

import math
from datetime import timedelta

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest

from apps import replica
from apps.alerts.alertmanager import SystemAlert
from apps.alerts.models import Alert
from apps.alerts.services import record_system_alerts
from apps.canary import CANARY
from apps.health import canary
from apps.market.models import Feed, FeedEntry
from apps.metrics import exposition, queries
from apps.metrics.domain import METRICS, Histogram, Process
from apps.metrics.exposition import RowMetrics, families, read_queues, read_replica, read_rows
from apps.notify.models import Message
from apps.notify.services import prune_messages
from apps.pipeline import flow
from tests.builders import (
    above,
    append_quotes,
    at,
    check_all,
    make_feed,
    make_notified_alerts,
    make_owner,
    make_rule,
    notify_all,
)

pytestmark = pytest.mark.django_db

OF_POSTGRESQL = {"fintech_database_connections", "fintech_database_connections_limit"}


def read(now=None):
    """Return (name, *labels) -> value of everything that the rows say."""
    return {(one.name, *one.labels): one.value for one in queries.samples(now=now or timezone.now())}


def test_every_metric_of_the_catalogue_is_given_and_no_other(monkeypatch):
    monkeypatch.setattr(replica, "is_configured", lambda: True)
    monkeypatch.setattr(replica, "look", lambda: replica.State(timedelta(seconds=4)))
    replica.forget()
    append_quotes(make_feed("A"), [("A", at(1), "90")])
    make_feed("B", name="limited", provider="alphavantage")
    Feed.objects.update(is_live=True)
    found = read_rows() + read_queues(lambda: {"ticks": (3, 1)}) + read_replica()
    replica.forget()

    missing = set() if connection.vendor == "postgresql" else OF_POSTGRESQL
    of_rows = {metric.name for metric in METRICS if metric.process == Process.METRICS}
    assert {one.name for one in found} == of_rows - missing
    assert len(list(families(found))) == len(of_rows - missing)


def test_the_text_is_what_prometheus_reads():
    make_feed("A")
    registry = CollectorRegistry()
    registry.register(RowMetrics(lambda: {"ticks": (3, 1)}))
    lines = generate_latest(registry).decode().splitlines()

    assert "# TYPE fintech_quotes_total counter" in lines
    assert 'fintech_quotes_total{feed="feed",outcome="accepted"} 0.0' in lines
    assert 'fintech_quote_evaluation_seconds_bucket{feed="feed",le="1.0"} 0.0' in lines
    assert 'fintech_queue_messages{queue="ticks"} 3.0' in lines
    assert "fintech_database_up 1.0" in lines


def test_a_feed_is_counted_from_the_quote_to_the_message():
    make_notified_alerts(make_owner(), 2)
    found = read()

    assert found["fintech_quotes_total", "notified", "accepted"] == 4
    assert found["fintech_entries_evaluated_total", "notified", "quotes"] == 3
    assert found["fintech_alerts_opened_total", "notified", "condition", "warning"] == 2
    assert found["fintech_alerts_open", "condition", "warning"] == 2
    assert found["fintech_delivery_attempts_total", "inbox", "delivered"] == 2
    took = found["fintech_message_delivery_seconds", "inbox"]
    assert isinstance(took, Histogram)
    assert took.buckets[-1] == ("+Inf", 2)
    assert found["fintech_messages_unsent",] == 0


def test_pruned_messages_stay_counted():
    make_notified_alerts(make_owner(), 2)
    before = read()
    later = timezone.now() + timedelta(days=1_000)
    Alert.objects.update(resolved_at=timezone.now())
    make_notified_alerts(make_owner("bob"), 1, name="more")
    assert prune_messages(now=later) > 0

    key = ("fintech_delivery_attempts_total", "inbox", "delivered")
    assert read()[key] == before[key] + 1


def test_what_waits_has_an_age():
    feed = make_feed("A")
    append_quotes(feed, [("A", at(1), "90")])
    append_quotes(feed, [("A", at(2), "91")])
    now = timezone.now()
    FeedEntry.objects.filter(seq=1).update(received_at=now - timedelta(seconds=70))
    FeedEntry.objects.filter(seq=2).update(received_at=now - timedelta(seconds=9))
    found = read(now)

    assert found["fintech_entries_not_evaluated",] == 2
    assert found["fintech_oldest_entry_not_evaluated_age_seconds",] == 70
    assert found["fintech_log_lag_entries", "feed", "evaluation"] == 2
    assert found["fintech_tick_age_seconds",] == math.inf


def test_health_is_given_with_a_0_for_what_is_well():
    now = timezone.now()
    make_feed("A", is_enabled=False)
    make_feed(name="empty")
    check_all(now=now)
    found = read(now + timedelta(seconds=3))

    assert found["fintech_problems", "no_feed_asset"] == 1
    assert found["fintech_problems", "paused"] == 1
    assert found["fintech_problems", "disk_full"] == 0
    assert found["fintech_problems_by_subject", "feed", "stopped"] == 1
    assert found["fintech_tick_age_seconds",] == 3


def test_the_number_of_statements_does_not_grow():
    make_feed("A", name="one")
    with CaptureQueriesContext(connection) as few:
        read()
    for number in range(5):
        make_feed(f"B{number}", name=f"more-{number}")
    with CaptureQueriesContext(connection) as many:
        read()

    assert len(many) == len(few)


def test_what_is_left_of_a_providers_calls_of_a_day_is_given():
    feed = make_feed("A", provider="alphavantage")
    before = read()
    append_quotes(feed, [("A", at(1), "90")], provider="alphavantage")
    FeedEntry.objects.update(received_at=timezone.now() - timedelta(hours=1))
    found = read()

    assert before["fintech_provider_daily_calls_left", "alphavantage"] == 25
    assert found["fintech_provider_daily_calls_left", "alphavantage"] == 24
    assert found["fintech_provider_daily_calls_limit", "alphavantage"] == 25


def test_a_database_that_is_away_is_said_and_raises_nothing(monkeypatch):
    def refuse(**columns):
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(exposition, "samples", refuse)

    assert [(one.name, one.value) for one in read_rows()] == [("fintech_database_up", 0)]
    assert [(one.name, one.value) for one in read_queues(lambda: None)] == [("fintech_broker_up", False)]


@pytest.mark.servers
def test_what_reads_can_write_nothing(monkeypatch):
    tried = []

    def write(**columns):
        try:
            with transaction.atomic():
                make_owner("mallory")
        except DatabaseError as error:
            tried.append(str(error))
        return []

    monkeypatch.setattr(exposition, "samples", write)
    read_rows()

    assert [one.splitlines()[0] for one in tried] == ["cannot execute INSERT in a read-only transaction"]


def test_an_alert_about_the_installation_is_in_no_feed():
    one = SystemAlert(
        fingerprint="f", opened_at=at(0), resolved_at=None, severity="critical", summary="Down.", evidence={}
    )
    record_system_alerts([one])

    assert read()["fintech_alerts_opened_total", "", "system", "critical"] == 1


def test_a_rule_that_fires_is_timed():
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=above(100))
    append_quotes(feed, [("A", at(0), "90")])
    append_quotes(feed, [("A", at(1), "101")])
    flow.evaluate_pending(feed_id=feed.pk)
    notify_all()

    took = read()["fintech_quote_to_alert_seconds", "feed"]
    assert took.buckets[-1] == ("+Inf", 1)
    assert took.total > 0


def test_the_canary_is_in_no_figure(settings):
    settings.CANARY = True
    make_feed("A")
    before = {key for key in read() if key[0] != "fintech_reading_seconds"}
    now = timezone.now()
    for seconds in (0, 200):
        canary.append_if_due(now=now + timedelta(seconds=seconds))
        flow.evaluate_pending(feed_id=CANARY)
        notify_all()
    found = read(now)

    assert Message.objects.filter(channel=CANARY, status="delivered").exists()
    assert set(found) - {("fintech_reading_seconds",)} == before
    assert found["fintech_delivery_attempts_total", "inbox", "delivered"] == 0
    assert (found["fintech_alerts_open", "condition", "warning"], found["fintech_channels", "working"]) == (0, 0)
