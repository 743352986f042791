"""The admin's first page: is it working, and what happened today? Words first, then numbers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from apps.alerts.models import Alert
from apps.alerts.queries import IN_STATE, alerts_of, last_events_of, written_for
from apps.health.domain import SEVERITY, Health, Level
from apps.health.queries import feed_healths
from apps.market.models import Feed
from apps.market.queries import QuoteCounts, quote_counts, with_recent_entries
from apps.notify.domain import describe_end
from apps.notify.queries import message_counts_of, silences_in_force_of
from apps.panel.kit.parts import LINK, Part
from apps.panel.problems import health_part
from apps.reader import active_reader, show_time, zone_name
from apps.rules.queries import RuleCounts, rule_counts_of

FEEDS_SHOWN = 50
EVENTS_SHOWN = 10
SILENCES_SHOWN = 3
NO_QUOTES = QuoteCounts(0, 0, 0)


def add_dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add `parts` to the context of the admin's index: of rows that have an owner the reader's own, of a superuser's
    all. The number of statements does not grow with the rows."""
    user, now = request.user, timezone.now()
    today = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    parts = []
    if user.has_perm("market.view_feed"):
        parts.append(_feeds(now=now, today=today))
    if user.has_perm("alerts.view_alert"):
        parts.append(_alerts(user, now=now, today=today))
    if user.has_perm("rules.view_rule"):
        parts.append(_rules(rule_counts_of(user)))
    if user.has_perm("notify.view_message"):
        parts.append(_messages(user, today=today))
    if parts:
        parts.insert(0, health_part(user, now=now))
    return context | {"parts": parts, "title": "Overview", "now": now, "today": today}


def _feeds(*, now: datetime, today: datetime) -> Part:
    shown = list(with_recent_entries(Feed.objects.order_by("name"))[: FEEDS_SHOWN + 1])
    counts = quote_counts([feed.pk for feed in shown], since=today)
    healths = feed_healths([feed.pk for feed in shown], now=now)
    listed = sorted(shown[:FEEDS_SHOWN], key=lambda feed: -SEVERITY[healths[feed.pk].level])
    sentences = [_describe_feeds([healths[feed.pk] for feed in listed])]
    if len(shown) > FEEDS_SHOWN:
        sentences.append(f"These are {FEEDS_SHOWN} of them.")
    not_evaluated = sum(feed.head.seq - feed.evaluation_cursor.seq for feed in shown)
    if shown:
        total = [sum(numbers) for numbers in zip(NO_QUOTES, *counts.values(), strict=True)]
        sentences.append(f"Today {_plural(total[0], 'quote')} came, {total[1]} of them late; {total[2]} were rejected.")
        sentences.append(
            f"{_plural(not_evaluated, 'entry', 'entries')} to evaluate."
            if not_evaluated
            else "Everything has been evaluated."
        )
    is_well = all(healths[feed.pk].level == Level.WELL for feed in listed)
    return Part(
        title="Feeds",
        sentences=sentences,
        mood="plain" if not shown else "good" if is_well else "bad",
        headers=["feed", "health", "last answer", "interval", "today", "late", "rejected", "to evaluate"],
        rows=[
            [
                format_html(LINK, reverse("admin:market_feed_change", args=[feed.pk]), feed.name),
                healths[feed.pk].level,
                _last_answer(feed, now=now),
                _span(feed.interval_seconds),
                *counts.get(feed.pk, NO_QUOTES),
                feed.head.seq - feed.evaluation_cursor.seq,
            ]
            for feed in listed
        ],
    )


def _describe_feeds(healths: Sequence[Health]) -> Any:
    if not healths:
        add = reverse("admin:market_feed_changelist")
        return format_html(
            f"No feeds yet. {LINK} and its assets, or load a file with manage.py load FILE.", add, "Add one"
        )
    levels = {level: sum(one.level == level for one in healths) for level in reversed(Level)}
    if levels[Level.WELL] == len(healths):
        return "The feed is well." if len(healths) == 1 else f"All {len(healths)} feeds are well."
    said = [f"{count} {'is' if count == 1 else 'are'} {level}" for level, count in levels.items() if count]
    return f"Of {_plural(len(healths), 'feed')}, {', '.join(said)}."


def _last_answer(feed: Any, *, now: datetime) -> str:
    answered = [entry.received_at for entry in feed.recent if not entry.failure]
    if answered:
        return f"{_span(max((now - answered[0]).total_seconds(), 0))} ago"
    return "none yet" if feed.head.began_at is None else "long ago"


def _alerts(user: Any, *, now: datetime, today: datetime) -> Part:
    alerts = alerts_of(user)
    still_open = alerts.filter(resolved_at=None).order_by().count()
    waiting = alerts.filter(IN_STATE[Alert.State.OPEN]).order_by().count()
    opened = alerts.filter(created_at__gte=today).order_by().count()
    events = list(last_events_of(user, limit=EVENTS_SHOWN))
    written_for((one.alert for one in events), reader=active_reader())
    sentences: list[Any] = [
        _describe_open(still_open, waiting=waiting, whose=_whose(user)),
        f"{opened} opened today." if opened else "None opened today.",
    ]
    if user.has_perm("notify.view_silence"):
        sentences += _silences(user, now=now)
    return Part(
        title="Alerts",
        sentences=sentences,
        mood="bad" if waiting else "plain" if still_open else "good",
        headers=[f"at ({zone_name()}, of the market)", "what happened", "alert", "rule", "asset"],
        rows=[
            [
                show_time(event.at, with_zone=False),
                event.get_kind_display(),
                format_html(LINK, reverse("admin:alerts_alert_change", args=[event.alert_id]), event.alert.summary),
                event.alert.rule_name,
                event.alert.symbol,
            ]
            for event in events
        ],
    )


def _whose(user: Any) -> str:
    """Return whose alerts the reader sees; "" for all."""
    if user.is_superuser:
        return ""
    if not user.has_perm("alerts.view_system_alerts"):
        return " of yours"
    return " of yours or about this installation" if user.has_perm("rules.view_rule") else " about this installation"


def _describe_open(still_open: int, *, waiting: int, whose: str) -> Any:
    if not still_open:
        return f"No alert{whose} is open."
    text = f"{_plural(still_open, 'alert')}{whose} {'is' if still_open == 1 else 'are'} open"
    if not waiting:
        return f"{text}, and acknowledged."
    page = reverse("admin:alerts_alert_changelist")
    return format_html("{}, {}.", text, format_html(LINK, f"{page}?state=open", f"{waiting} not acknowledged"))


def _silences(user: Any, *, now: datetime) -> list[Any]:
    """Return which silences are in force; nothing where none is."""
    found = list(silences_in_force_of(user, now=now)[: SILENCES_SHOWN + 1])
    said = [
        format_html(
            "Silenced {}: {}.",
            format_html("until {}", show_time(one.ends_at)) if one.ends_at else describe_end(None),
            format_html(LINK, reverse("admin:notify_silence_change", args=[one.pk]), one.comment),
        )
        for one in found[:SILENCES_SHOWN]
    ]
    if len(found) > SILENCES_SHOWN:
        page = reverse("admin:notify_silence_changelist")
        said.append(format_html("{} are in force.", format_html(LINK, f"{page}?state=in+force", "More silences")))
    return said


def _rules(counts: RuleCounts) -> Part:
    page = reverse("admin:rules_rule_changelist")
    if not counts.rules:
        text = format_html(
            f"No rules yet. {LINK}: then each price is evaluated, and you are notified.", page, "Begin with one"
        )
        return Part(title="Rules", sentences=[text])
    said = [
        f"{getattr(counts, state)} {text}"
        for state, text in [
            ("firing", "firing"),
            ("pending", "pending"),
            ("unknown", "without enough history"),
            ("paused", "paused after a split"),
            ("error", "in error"),
        ]
        if getattr(counts, state)
    ]
    first = f"{_plural(counts.rules, 'rule')}: {', '.join(said)}." if said else None
    return Part(
        title="Rules",
        sentences=[first or f"{_plural(counts.rules, 'rule')}, and none of them holds."],
        mood="bad" if counts.error else "plain" if said else "good",
    )


def _messages(user: Any, *, today: datetime) -> Part:
    counts = message_counts_of(user, since=today)
    page = reverse("admin:notify_message_changelist")
    sentences: list[Any] = [
        f"{_plural(counts.waiting, 'message')} to send." if counts.waiting else "No messages are waiting."
    ]
    if counts.failed:
        failed = format_html(LINK, f"{page}?status=failed", _plural(counts.failed, "message"))
        sentences.append(format_html("Of today's, {} could not be sent. What was given up can be sent again.", failed))
    return Part(title="Messages", sentences=sentences, mood="bad" if counts.failed else "good")


def _plural(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
