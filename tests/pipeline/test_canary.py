"""What is secret shows nowhere, a provider's key and what channels keep: not in what the processes write, not in a row,
not on a page."""

import json
import re

import pytest
from django.db import connection
from django.urls import reverse
from werkzeug import Response

from apps.market.models import Asset, Feed, FeedEntry
from apps.notify.models import Attempt, Message
from apps.notify.services import create_channel, send_test
from apps.pipeline import flow
from apps.sources.models import Circuit
from apps.sources.services import Due, create_feed
from fintech.settings.env import place
from tests.builders import START, TRACE, at
from tests.rig import queue_lengths, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

# Not there yet; what comes to stand there is looked at too.
METRICS = "/metrics"
KEY = "canary-5f0c2ab417"
KEYS = {name: KEY for name in ("ALPHAVANTAGE_API_KEY", "COINCAP_API_KEY", "COINGECKO_API_KEY")}
# Each echoes what it was asked, as servers do in their errors.
MODES = {
    "answer": lambda request: Response(json.dumps({"data": [], "note": request.url}), content_type="application/json"),
    "unauthorized": lambda request: Response(f"wrong key in {request.url} {request.headers}", status=401),
    "gone": lambda request: Response(f"gone for good: {request.url} {request.headers}", status=410),
    "error": lambda request: Response(f"cannot answer {request.url} {request.headers}", status=500),
    "too-often": lambda request: Response(request.url, status=429, headers={"Retry-After": request.url}),
    "elsewhere": lambda request: Response("", status=302, headers={"Location": request.url}),
}
PROVIDERS = ("alphavantage", "coincap", "coingecko")


def _rows() -> str:
    """Return every row of the database as text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        found = []
        for table in tables:
            cursor.execute(f'SELECT row_to_json(one)::text FROM "{table}" AS one')
            found += [row for (row,) in cursor.fetchall()]
    return "\n".join(found)


def test_a_key_is_in_no_log_row_or_page(tmp_path, httpserver, admin_client, monkeypatch):
    for name, key in KEYS.items():
        # The pages are served by this process.
        monkeypatch.setenv(name, key)
    feeds = []
    for mode, handler in MODES.items():
        httpserver.expect_request(f"/{mode}", query_string=None).respond_with_handler(handler)
        for path in ("query", "assets", "simple/price"):
            httpserver.expect_request(f"/{mode}/{path}").respond_with_handler(handler)
        for provider in PROVIDERS:
            options = {"base_url": httpserver.url_for(f"/{mode}")}
            feed = create_feed(name=f"{provider}-{mode}", interval_seconds=1, sources=[(provider, options)], now=START)
            Asset.objects.create(symbol=f"{provider}-{mode}".upper(), feed=feed)
            feeds.append(feed)
    with rig(tmp_path, **KEYS) as processes:
        processes.worker(concurrency=2, LOG_LEVEL="DEBUG")
        for feed in feeds:
            flow.start_chain(Due(feed.pk, at(0), TRACE))
        wait_until(lambda: FeedEntry.objects.count() == len(feeds), timeout_seconds=60)
        wait_until(lambda: not any(queue_lengths().values()))
        log = processes.log("worker")
    asked = [request for request, _ in httpserver.log if KEY in f"{request.url} {request.headers}"]
    pages = [reverse(f"admin:market_{name}_changelist") for name in ("feed", "feedentry", "asset")]
    pages += [reverse("admin:market_feed_change", args=[feed.pk]) for feed in Feed.objects.all()]
    pages += [reverse("admin:market_feedentry_change", args=[entry.pk]) for entry in FeedEntry.objects.all()]
    shown = "".join(admin_client.get(page).text for page in [*pages, METRICS])

    # It was used, and every mode was met.
    assert len(asked) == len(feeds)
    assert {one.reason for one in Circuit.objects.all()} >= {"unauthorized", "http_500", "rate_limited", "redirect"}
    assert "provider failed" in log
    assert {place: KEY in text for place, text in {"log": log, "rows": _rows(), "pages": shown}.items()} == {
        "log": False,
        "rows": False,
        "pages": False,
    }


SECRET = "canary5f0c2ab417canary5f0c2ab417"
TOKEN = f"123456789:{SECRET}"


def test_what_channels_keep_secret_is_in_no_log_row_or_page(tmp_path, httpserver, admin_client, admin_user, settings):
    address = f"http://127.0.0.1:{httpserver.port}"
    reached = {
        "OUTBOUND_ALLOW": "127.0.0.1",
        "SLACK_HOSTS": "127.0.0.1",
        "TELEGRAM_API_URL": address,
    }
    settings.OUTBOUND_ALLOW, settings.SLACK_HOSTS = [place("127.0.0.1")], ["127.0.0.1"]
    channels = []
    for mode, handler in MODES.items():
        httpserver.expect_request(re.compile(f".*{mode}.*")).respond_with_handler(handler)
        url = f"{address}/{mode}/{SECRET}"
        for kind, config in (
            ("webhook", {"url": f"{address}/{mode}", "secret": f"whsec_{SECRET}"}),
            ("slack", {"url": url}),
        ):
            channels.append(create_channel(owner=admin_user, name=f"{kind} {mode}", kind=kind, config=config))
    httpserver.expect_request(re.compile("/bot.*")).respond_with_handler(MODES["unauthorized"])
    config = {"token": TOKEN, "chat": "42"}
    channels.append(create_channel(owner=admin_user, name="telegram", kind="telegram", config=config))
    with rig(tmp_path, **reached) as processes:
        processes.worker(concurrency=2, LOG_LEVEL="DEBUG")
        for channel in channels:
            send_test(channel=channel, asked_by="ada", now=START)
        flow.notify_due()
        wait_until(lambda: Attempt.objects.exclude(outcome="").count() >= len(channels), timeout_seconds=60)
        wait_until(lambda: not any(queue_lengths().values()))
        log = processes.log("worker")
    asked = [request for request, _ in httpserver.log if SECRET in request.url]
    pages = [reverse(f"admin:notify_{name}_changelist") for name in ("channel", "message", "silence")]
    pages += [reverse("admin:notify_channel_change", args=[channel.pk]) for channel in channels]
    pages += [reverse("admin:notify_message_change", args=[message.pk]) for message in Message.objects.all()]
    shown = "".join(admin_client.get(page).text for page in [*pages, METRICS])

    assert len(asked) >= len(MODES) + 1
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {
        "delivered",
        "transient_failure",
        "permanent_failure",
    }
    assert "message tried" in log
    assert {where: SECRET in text for where, text in {"log": log, "rows": _rows(), "pages": shown}.items()} == {
        "log": False,
        "rows": False,
        "pages": False,
    }
