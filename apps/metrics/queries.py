"""The values of the metrics, read from rows in a fixed number of statements."""

import math
import time
from collections.abc import Iterator, Mapping
from datetime import datetime

from django.db import connection
from django.db.models import Count, Max, Min, Q, Sum

from apps.alerts.models import Alert
from apps.canary import is_not_canary
from apps.health.domain import INTENDED, Code, Level, Subject
from apps.health.models import Check, Problem
from apps.market.models import Asset, Feed, FeedEntry, LatestQuote
from apps.market.queries import every_asset, every_feed
from apps.metrics.domain import Histogram, Sample
from apps.notify.models import Attempt, Channel, DeliveryTotal, Message, Notification
from apps.notify.transports.registry import TRANSPORTS
from apps.owned_ids import LABEL
from apps.rules.models import Rule
from apps.sources.models import FeedSource
from apps.sources.queries import budget_of
from apps.totals import Totals, added, by_code, histogram, summed

# (messages, consumers) of a queue
Depths = Mapping[str, tuple[int, int]]

_QUOTE_OUTCOMES = ("accepted", "late", "repeated", "unconfirmed")
_CONNECTIONS = """
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
           current_setting('max_connections')::int"""


def samples(*, now: datetime) -> Iterator[Sample]:
    """Yield what the rows say at `now`."""
    began = time.monotonic()
    yield from _of_feeds(now=now)
    yield from _of_providers(now=now)
    yield from _of_entries(now=now)
    yield from _of_alerts()
    yield from _of_deliveries(now=now)
    yield from _of_health(now=now)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_CONNECTIONS)
            used, limit = cursor.fetchone()
        yield Sample("fintech_database_connections", used)
        yield Sample("fintech_database_connections_limit", limit)
    yield Sample("fintech_reading_seconds", time.monotonic() - began)


def of_queues(depths: Depths) -> Iterator[Sample]:
    """Yield what the broker says of its queues."""
    for queue, (messages, consumers) in sorted(depths.items()):
        yield Sample("fintech_queue_messages", messages, (queue,))
        yield Sample("fintech_queue_consumers", consumers, (queue,))


def _of_feeds(*, now: datetime) -> Iterator[Sample]:
    assets = dict(Asset.objects.exclude(feed=None).order_by().values_list("feed").annotate(Count("pk")))
    newest_of = LatestQuote.objects.filter(asset__feed__is_live=True).order_by()
    newest = dict(newest_of.values_list("asset__feed").annotate(Max("at")))
    yield from _of_owned_feeds()
    for feed in Feed.objects.select_related("head", "evaluation_cursor", "rollup_cursor").order_by("pk"):
        name, head, cursor = (feed.name,), feed.head, feed.evaluation_cursor
        rollup = getattr(feed, "rollup_cursor", None)
        yield from _of_log(feed.name, head.totals, cursor.totals)
        yield Sample("fintech_log_lag_entries", head.seq - cursor.seq, (feed.name, "evaluation"))
        yield Sample("fintech_log_lag_entries", head.seq - (rollup.seq if rollup else 0), (feed.name, "rollup"))
        yield Sample("fintech_feed_enabled", feed.is_enabled, name)
        yield Sample("fintech_feed_live", feed.is_live, name)
        yield Sample("fintech_feed_interval_seconds", feed.interval_seconds, name)
        yield Sample("fintech_feed_failures", head.failures, name)
        yield Sample("fintech_assets", assets.get(feed.pk, 0), name)
        if feed.pk in newest:
            yield Sample("fintech_feed_newest_quote_age_seconds", _age(newest[feed.pk], now=now), name)


def _of_owned_feeds() -> Iterator[Sample]:
    """Yield what the feeds that have an owner say together, where there is one: none is named."""
    feeds = every_feed().filter(owner__isnull=False).order_by()
    rows = list(
        feeds.values_list(
            "head__totals", "evaluation_cursor__totals", "head__seq", "evaluation_cursor__seq", "rollup_cursor__seq"
        )
    )
    if not rows:
        return
    appended, evaluated, *seqs = zip(*rows, strict=True)
    head, evaluation, rollup = (sum(seq or 0 for seq in one) for one in seqs)
    yield from _of_log(LABEL, added(*appended), added(*evaluated))
    yield Sample("fintech_log_lag_entries", head - evaluation, (LABEL, "evaluation"))
    yield Sample("fintech_log_lag_entries", head - rollup, (LABEL, "rollup"))
    yield Sample("fintech_assets", every_asset().filter(owner__isnull=False).count(), (LABEL,))


def _of_log(feed: str, appended: Totals, evaluated: Totals) -> Iterator[Sample]:
    for kind in FeedEntry.Kind.values:
        yield Sample("fintech_entries_total", appended.get(f"entries:{kind}", 0), (feed, kind))
        yield Sample("fintech_entries_evaluated_total", evaluated.get(f"evaluated:{kind}", 0), (feed, kind))
    for outcome in _QUOTE_OUTCOMES:
        yield Sample("fintech_quotes_total", appended.get(f"quotes:{outcome}", 0), (feed, outcome))
    for kind in (FeedEntry.Kind.HISTORY, FeedEntry.Kind.CORRECTION):
        yield Sample("fintech_past_quotes_total", appended.get(f"past:{kind}", 0), (feed, kind))
    # The commonest of each stands there from the first, so that its first increase is seen.
    for reason, count in ({"missing": 0} | by_code(appended, "rejected")).items():
        yield Sample("fintech_quotes_rejected_total", count, (feed, reason))
    for reason, count in ({"timeout": 0} | by_code(appended, "failed")).items():
        yield Sample("fintech_fetches_failed_total", count, (feed, reason))
    yield Sample("fintech_slots_missed_total", appended.get("missed_slots", 0), (feed,))
    yield Sample("fintech_quote_evaluation_seconds", Histogram(*histogram(evaluated, "quote_seconds")), (feed,))
    yield Sample("fintech_quote_to_alert_seconds", Histogram(*histogram(evaluated, "alert_seconds")), (feed,))
    for event in ("opened", "resolved"):
        known = {f"{Alert.Kind.CONDITION}:{severity}": 0 for severity in Rule.Severity.values}
        for code, count in (known | by_code(evaluated, event)).items():
            kind, _, severity = code.partition(":")
            yield Sample(f"fintech_alerts_{event}_total", count, (feed, kind, severity))


def _of_providers(*, now: datetime) -> Iterator[Sample]:
    for provider in sorted(set(FeedSource.objects.order_by().values_list("provider", flat=True))):
        budget = budget_of(provider, now=now)
        if budget is not None:
            yield Sample("fintech_provider_daily_calls_limit", budget.allowed, (provider,))
            yield Sample("fintech_provider_daily_calls_left", budget.left, (provider,))


def _of_entries(*, now: datetime) -> Iterator[Sample]:
    waiting = FeedEntry.objects.filter(evaluated_at=None).order_by()
    found = waiting.aggregate(oldest=Min("received_at"), count=Count("pk"))
    yield Sample("fintech_entries_not_evaluated", found["count"])
    yield Sample("fintech_oldest_entry_not_evaluated_age_seconds", _age(found["oldest"], now=now))


def _of_alerts() -> Iterator[Sample]:
    shown = Alert.objects.filter(is_not_canary("rule"), resolved_at=None).order_by()
    open_now = shown.values_list("kind", "severity").annotate(Count("pk"))
    counts = {(Alert.Kind.CONDITION.value, severity): 0 for severity in Rule.Severity.values}
    counts |= {(kind, severity): count for kind, severity, count in open_now}
    for labels, count in sorted(counts.items()):
        yield Sample("fintech_alerts_open", count, labels)
    # Those of no rule are in no feed's totals. They are few; those of owners are left out, since they go with them.
    rows = Alert.objects.filter(rule=None, owner=None).order_by().values_list("kind", "severity")
    for kind, severity, opened, resolved in rows.annotate(
        opened=Count("pk"), resolved=Count("pk", filter=Q(resolved_at__isnull=False))
    ):
        yield Sample("fintech_alerts_opened_total", opened, ("", kind, severity))
        yield Sample("fintech_alerts_resolved_total", resolved, ("", kind, severity))


def _of_deliveries(*, now: datetime) -> Iterator[Sample]:
    totals = summed(DeliveryTotal.objects.order_by().values_list("name").annotate(Sum("count")))
    for transport in TRANSPORTS:
        for outcome in Attempt.Outcome.values:
            count = totals.get(f"attempts:{transport}:{outcome}", 0)
            yield Sample("fintech_delivery_attempts_total", count, (transport, outcome))
        took = Histogram(*histogram(totals, f"seconds:{transport}"))
        yield Sample("fintech_message_delivery_seconds", took, (transport,))
    due = Notification.objects.filter(message=None, due_at__lte=now).order_by()
    found = due.aggregate(oldest=Min("due_at"), count=Count("pk"))
    yield Sample("fintech_notifications_due", found["count"])
    yield Sample("fintech_oldest_due_notification_age_seconds", _age(found["oldest"], now=now))
    # As the index of what is due has it.
    unsent = Message.objects.exclude(status__in=Message.SETTLED).order_by()
    found = unsent.aggregate(oldest=Min("created_at"), count=Count("pk"))
    yield Sample("fintech_messages_unsent", found["count"])
    yield Sample("fintech_oldest_unsent_message_age_seconds", _age(found["oldest"], now=now))
    states = (
        Channel.objects.exclude(pk__lt=0)
        .order_by()
        .aggregate(
            working=Count("pk", filter=Q(is_enabled=True, failing_since=None)),
            failing=Count("pk", filter=Q(is_enabled=True, failing_since__isnull=False)),
            off=Count("pk", filter=Q(is_enabled=False)),
        )
    )
    for state, count in states.items():
        yield Sample("fintech_channels", count, (state,))


def _of_health(*, now: datetime) -> Iterator[Sample]:
    codes = dict.fromkeys(Code, 0)
    levels = {(subject, level): 0 for subject in Subject for level in (Level.DEGRADED, Level.STOPPED)}
    rows = Problem.objects.order_by().values_list("subject", "level", "code").annotate(Count("pk"))
    for subject, level, code, count in rows:
        codes[Code(code)] += count
        if code not in INTENDED:
            levels[Subject(subject), Level(level)] += count
    for code, count in codes.items():
        yield Sample("fintech_problems", count, (code.value,))
    for (subject, level), count in levels.items():
        yield Sample("fintech_problems_by_subject", count, (subject.value, level.value))
    check = Check.objects.first() or Check()
    for name, at in (("tick", check.ticked_at), ("check", check.checked_at)):
        yield Sample(f"fintech_{name}_age_seconds", math.inf if at is None else _age(at, now=now))


def _age(at: datetime | None, *, now: datetime) -> float:
    """Return how many seconds ago that was; 0 where there is nothing, or a clock runs ahead."""
    return max((now - at).total_seconds(), 0.0) if at is not None else 0.0
