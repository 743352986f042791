"""Rows of a large installation that has nothing to do, made in bulk."""

from datetime import timedelta
from itertools import cycle

from django.db import connection
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import Asset, AssetsChange, EvaluationCursor, Feed, FeedHead, LatestQuote
from apps.notify.models import Channel, Message, Notification
from apps.rules.models import Rule, RuleChange, RuleState, RuleVersion
from tests import builders


def make_idle(*, owner, name, feeds, assets, rules, channels, alerts):
    """Make so many rows of each kind that a tick or a sweep looks at, none of which asks for anything. There are at
    least as many rules as alerts."""
    now = timezone.now()
    made = Feed.objects.bulk_create(Feed(name=f"{name}-{one}", interval_seconds=60) for one in range(feeds))
    FeedHead.objects.bulk_create(
        FeedHead(feed=feed, seq=1, as_of=now, next_slot=now + timedelta(days=1)) for feed in made
    )
    EvaluationCursor.objects.bulk_create(EvaluationCursor(feed=feed, seq=1) for feed in made)
    quoted = Asset.objects.bulk_create(
        Asset(symbol=f"{name}-{one}".upper(), feed=made[one % feeds]) for one in range(assets)
    )
    LatestQuote.objects.bulk_create(LatestQuote(asset=asset, at=now, price=1) for asset in quoted)
    entries = {}
    for feed in made:
        entries[feed.pk] = feed.entries.create(
            seq=1, kind="rules", as_of=now, received_at=now, evaluated_at=now, trace_id=builders.TRACE
        )
    saved = Rule.objects.bulk_create(Rule(owner=owner, name=f"{name} {one}") for one in range(rules))
    watched = []
    for rule, asset in zip(saved, cycle(quoted), strict=False):
        document = {"assets": [asset.symbol], "condition": builders.above(1)}
        watched.append((RuleVersion(rule=rule, number=1, document=document), asset))
    RuleVersion.objects.bulk_create(version for version, _ in watched)
    RuleChange.objects.bulk_create(
        RuleChange(entry=entries[asset.feed_id], rule=version.rule, version=version, asset_ids=[asset.pk])
        for version, asset in watched
    )
    RuleState.objects.bulk_create(
        RuleState(rule=version.rule, asset=asset, version=version, state="firing") for version, asset in watched
    )
    reminded = Channel.objects.bulk_create(
        Channel(owner=owner, name=f"{name} {one}", kind="inbox", repeat_minutes=60) for one in range(channels)
    )
    opened = Alert.objects.bulk_create(
        Alert(
            owner=owner,
            rule=version.rule,
            version=version,
            asset=asset,
            entry=entries[asset.feed_id],
            severity="warning",
            opened_at=now,
            summary="It rose.",
        )
        for version, asset in watched[:alerts]
    )
    events = AlertEvent.objects.bulk_create(AlertEvent(alert=alert, kind="opened", at=now) for alert in opened)
    messages = Message.objects.bulk_create(
        Message(channel=reminded[one % channels], status="delivered", subject="x", text="x", next_attempt_at=now,
                delivered_at=now)
        for one in range(alerts)
    )  # fmt: skip
    Notification.objects.bulk_create(
        Notification(
            event=event, channel=message.channel, message=message, due_at=now, remind_at=now + timedelta(hours=1)
        )
        for event, message in zip(events, messages, strict=True)
    )
    AssetsChange.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
