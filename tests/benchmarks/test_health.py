"""The check of everything, on an installation that is large and on one that is empty. One run, ratios."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from django.utils import timezone

from apps.health.checks.feeds import feed_findings
from apps.health.services import check
from apps.market import calendars, partitions
from apps.market.models import Asset, Feed, FeedHead, LatestQuote
from apps.notify.models import Channel, RuleChannel
from apps.rules.models import Rule
from apps.sources.models import FeedSource
from tests.benchmarks.sizes import HEALTH_ASSETS, HEALTH_FEEDS, HEALTH_RULES, HEALTH_RUNS, IDLE_CHANNELS
from tests.benchmarks.timing import milliseconds
from tests.builders import make_owner
from tests.idle_rows import make_idle

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db]


def check_all():
    check(readers=None, now=timezone.now())


def make_large():
    """Make feeds, assets, rules and channels with which nothing is wrong."""
    make_idle(
        owner=make_owner(),
        name="idle",
        feeds=HEALTH_FEEDS,
        assets=HEALTH_ASSETS,
        rules=HEALTH_RULES,
        channels=IDLE_CHANNELS,
        alerts=0,
    )
    now = timezone.now()
    FeedSource.objects.bulk_create(FeedSource(feed=feed, provider="kraken") for feed in Feed.objects.all())
    channel = Channel.objects.first()
    RuleChannel.objects.bulk_create(RuleChannel(rule=rule, channel=channel) for rule in Rule.objects.all())
    Feed.objects.update(is_live=True)
    FeedHead.objects.update(next_slot=now, began_at=now)
    LatestQuote.objects.update(at=now)
    partitions.ensure([(now + timedelta(days=1)).date()])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def test_a_check_of_a_large_installation():
    empty = milliseconds(check_all, runs=HEALTH_RUNS)
    make_large()
    assert check(readers=None, now=timezone.now()) == []
    large = milliseconds(check_all, runs=HEALTH_RUNS)
    closed = timezone.now() - timedelta(days=4)
    Asset.objects.update(calendar="XNYS")
    LatestQuote.objects.update(at=calendars.previous_close("XNYS", closed))
    night = calendars.previous_close("XNYS", closed) + timedelta(hours=5)
    FeedHead.objects.update(next_slot=night)
    partitions.ensure([(night + timedelta(days=1)).date()])
    assert check(readers=None, now=night) == []
    closed_ms = milliseconds(partial(feed_findings, now=night), runs=HEALTH_RUNS)
    print(f"\n  {HEALTH_FEEDS:,} feeds, {HEALTH_ASSETS:,} assets, {HEALTH_RULES:,} rules, none with a problem")
    print(f"  a check             {large:>10.2f} ms   = {large / empty:.1f} x on an empty installation")
    print(f"  feeds and assets    {closed_ms:>10.2f} ms   while the exchange of all assets is closed")
