"""A provider that names only the day of a price, asked long after that day."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.alerts.models import Alert
from apps.market.models import Asset, LatestQuote, Quote
from apps.pipeline.flow import evaluate_pending
from apps.sources import services as sources
from apps.sources.providers import http
from tests.builders import TRACE, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db
FRIDAY = datetime(2026, 3, 6, tzinfo=UTC)
CLOSE = datetime(2026, 3, 6, 21, tzinfo=UTC)


@pytest.fixture
def ask(httpserver, monkeypatch):
    """Return a function that fetches MSFT at a time, whose price stays that of Friday."""
    monkeypatch.setenv("ALPHAVANTAGE_API_KEY", "canary")
    share = {"01. symbol": "MSFT", "05. price": "112.13", "07. latest trading day": "2026-03-06"}
    httpserver.expect_request("/query").respond_with_json({"Global Quote": share})
    feed = make_feed("MSFT", provider="alphavantage")
    feed.sources.update(options={"base_url": httpserver.url_for("").rstrip("/")})
    Asset.objects.update(calendar="XNYS")

    def fetch(now):
        monkeypatch.setattr(http, "now", lambda: now)
        return sources.fetch(feed_id=feed.pk, slot=now, now=now, trace_id=TRACE)

    return fetch


def test_a_close_that_is_given_again_and_again_is_stored_once_and_stale_opens(ask):
    make_rule(make_owner(), assets=["MSFT"], condition={"kind": "stale", "after": "13h"})
    entries = [ask(FRIDAY + timedelta(hours=hours)) for hours in range(19, 19 + 6 * 24, 4)]
    evaluate_pending(feed_id=entries[0].feed_id)

    # During the session a price is of when it was asked for, after it of the close.
    assert [entry.accepted for entry in entries[:3]] == [1, 1, 0]
    assert {(entry.accepted, entry.repeated) for entry in entries[2:]} == {(0, 1)}
    assert {*Quote.objects.values_list("at", flat=True)} == {FRIDAY + timedelta(hours=19), CLOSE}
    # Two sessions of six and a half hours after Friday's close: when Tuesday's has ended.
    assert datetime(2026, 3, 10, 20, tzinfo=UTC) <= Alert.objects.get().opened_at < datetime(2026, 3, 11, tzinfo=UTC)


def test_a_close_of_june_that_is_asked_for_in_november_is_not_fresh(ask):
    entries = [ask(datetime(2026, 11, 2, 12, minute, tzinfo=UTC)) for minute in range(5)]

    assert {(entry.accepted, entry.rejected["too_old"]) for entry in entries} == {(0, 1)}
    assert not LatestQuote.objects.exists()
