"""Every page over a large installation: how long the server works on it, and how many bytes go over the wire."""

import time
from datetime import timedelta
from itertools import cycle

import pytest
from django.db import connection

from apps.alerts.models import Alert
from tests.benchmarks.sizes import PAGES_ALERTS, PAGES_ASSETS, PAGES_FEEDS, PAGES_RULES, PAGES_RUNS
from tests.browser.addresses import addresses_of, make_world
from tests.idle_rows import make_idle

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]

SHOWN = 12
COPIED = ("owner", "rule", "version", "asset", "entry", "severity", "summary")


def measure(client, address):
    """Return (bytes compressed, milliseconds: the median of some requests, the answer)."""
    took = []
    for _ in range(PAGES_RUNS):
        began = time.perf_counter()
        answer = client.get(address, headers={"accept": "text/html", "accept-encoding": "gzip"})
        size = sum(map(len, answer.streaming_content)) if answer.streaming else len(answer.content)
        took.append((time.perf_counter() - began) * 1_000)
    return size, sorted(took)[len(took) // 2], answer


def add_past_alerts(count):
    """Have so many alerts that are over, of the rules of those that are open."""
    opened = list(Alert.objects.filter(rule__name__startswith="idle"))
    Alert.objects.bulk_create(
        Alert(
            **{name: getattr(one, name) for name in COPIED},
            opened_at=one.opened_at - timedelta(minutes=number),
            resolved_at=one.opened_at,
            resolution="condition",
        )
        for number, one in zip(range(count), cycle(opened), strict=False)
    )


def test_pages_of_a_large_installation(client):
    person = make_world()
    make_idle(
        owner=person,
        name="idle",
        feeds=PAGES_FEEDS,
        assets=PAGES_ASSETS,
        rules=PAGES_RULES,
        channels=2,
        alerts=PAGES_RULES,
    )
    add_past_alerts(PAGES_ALERTS)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    client.force_login(person)
    found, failed = {}, {}
    for name, address in addresses_of(person):
        size, took, answer = measure(client, address)
        if answer.status_code >= 500:
            failed[name] = answer.status_code
        if answer.status_code == 200 and answer.headers.get("Content-Type", "").startswith("text/html"):
            found[name] = (size, took)
    # Nothing ticks here, and says so.
    assert failed == {"status": 503}
    print(f"\n  {len(found)} pages over {PAGES_ASSETS:,} assets, {PAGES_RULES:,} rules, {PAGES_ALERTS:,} alerts")
    for place, unit in ((0, "bytes"), (1, "ms")):
        print(f"  the most {unit}:")
        for name, values in sorted(found.items(), key=lambda one: -one[1][place])[:SHOWN]:
            print(f"    {name:<55} {values[place]:>12,.0f} {unit}")
