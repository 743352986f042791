"""How feeds did lately: their rhythm, and what became of their quotes."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from django.db import connection
from django.db.models import F, Max, Min, Prefetch, Q, QuerySet, Sum
from django.db.models.expressions import RawSQL
from django.db.models.functions import TruncMinute

from apps.market.models import Feed, FeedEntry, FeedHead, Quote, SupersededQuote

RECENT_ENTRIES = 20
# By a step into the index for each feed: of a join with the heads, PostgreSQL would expect a third of every log.
_RECENT_ENTRIES = RawSQL(
    """
    SELECT recent.id FROM market_feedhead head, LATERAL (
        SELECT id FROM market_feedentry WHERE feed_id = head.feed_id AND seq > head.seq - %s ORDER BY seq DESC LIMIT %s
    ) recent""",
    [RECENT_ENTRIES, RECENT_ENTRIES],
)
HOURS_SHOWN = 24
ENTRIES_COMPARED, ANSWERS_AT_FIRST = 1_000, 4


def with_recent_entries(feeds: QuerySet[Feed]) -> QuerySet[Feed]:
    """Return the feeds with head, evaluation cursor and `recent`, the quotes among their last entries, newest first:
    two statements, however many feeds there are and however long their logs."""
    recent = FeedEntry.objects.filter(kind=FeedEntry.Kind.QUOTES)
    if connection.vendor == "postgresql":
        recent = recent.filter(pk__in=_RECENT_ENTRIES)
    else:
        recent = recent.filter(seq__gt=F("feed__head__seq") - RECENT_ENTRIES)
    return feeds.select_related("head", "evaluation_cursor").prefetch_related(
        Prefetch("entries", queryset=recent.order_by("-seq"), to_attr="recent")
    )


def effective_interval_seconds(feed: Feed) -> float | None:
    """Return the median gap between the last answers of a feed that came with_recent_entries, by the wall clock; None
    where there are fewer than two since its interval was changed."""
    since = feed.interval_changed_at
    answered = [
        entry.received_at
        for entry in feed.recent  # type: ignore[attr-defined]
        if not entry.failure and (since is None or entry.received_at >= since)
    ]
    return median((later - earlier).total_seconds() for later, earlier in pairwise(answered)) if answered[1:] else None


class QuoteCounts(NamedTuple):
    """What became of the quotes of a while; `rejected` counts those of every reason."""

    accepted: int
    late: int
    rejected: int


def quote_counts(feed_ids: Iterable[int], *, since: datetime) -> dict[int, QuoteCounts]:
    """Return feed id -> what became of the quotes that came from `since` on, without history; two statements."""
    entries = FeedEntry.objects.filter(
        feed__in=list(feed_ids), kind=FeedEntry.Kind.QUOTES, received_at__gte=since
    ).order_by()
    rejected: dict[int, int] = {}
    for feed_id, reasons in entries.exclude(rejected={}).values_list("feed_id", "rejected").iterator():
        rejected[feed_id] = rejected.get(feed_id, 0) + sum(reasons.values())
    rows = entries.values_list("feed_id").annotate(Sum("accepted"), Sum("late"))
    return {feed_id: QuoteCounts(accepted, late, rejected.get(feed_id, 0)) for feed_id, accepted, late in rows}


def hourly_counts(feed_id: int, *, now: datetime) -> dict[str, list[int]]:
    """Return what became of a feed's quotes in the last HOURS_SHOWN hours: name -> count per hour, the newest last.

    Names are accepted, late, repeated and unconfirmed, which are always there, and the reasons of what was rejected.
    Two statements.
    """
    begin = now - timedelta(hours=HOURS_SHOWN)
    entries = FeedEntry.objects.filter(
        feed=feed_id, kind=FeedEntry.Kind.QUOTES, received_at__gt=begin, received_at__lte=now
    )
    counts: dict[str, list[int]] = {name: [0] * HOURS_SHOWN for name in ("accepted", "late", "repeated", "unconfirmed")}

    def count(name: str, at: datetime, quotes: int) -> None:
        hour = max(HOURS_SHOWN - 1 - (now - at) // timedelta(hours=1), 0)
        counts.setdefault(name, [0] * HOURS_SHOWN)[hour] += quotes

    # By the minute, so that little leaves the database and the hours end now.
    minutes = entries.annotate(minute=TruncMinute("received_at")).order_by().values("minute")
    sums = minutes.annotate(*(Sum(name) for name in tuple(counts)))
    for row in sums:
        for name in ("accepted", "late", "repeated", "unconfirmed"):
            count(name, row["minute"], row[f"{name}__sum"])
    rejections = entries.exclude(rejected={}).order_by().values_list("received_at", "rejected")
    for at, reasons in rejections.iterator():
        for reason, quotes in reasons.items():
            count(reason, at, quotes)
    return counts


def last_success_at(feed: Feed) -> datetime | None:
    """Return when a feed that came with_recent_entries was answered last."""
    answered = next((one for one in feed.recent if not one.failure), None)  # type: ignore[attr-defined]
    if answered is None:
        answers = FeedEntry.objects.filter(feed=feed, kind=FeedEntry.Kind.QUOTES, failure="").order_by("-seq")
        answered = answers.first()
    return None if answered is None else answered.received_at


class SameAnswers(NamedTuple):
    """How many of a provider's last answers said the same prices, one after the other; since: when the first came."""

    count: int
    since: datetime | None


def same_answers(feed_id: int, *, provider: str) -> SameAnswers:
    """Return how many of a provider's last answers to a feed say the same: 0 where there is none, 1 where the last
    differs from the one before.

    Of the last ENTRIES_COMPARED entries of the log, read in growing pieces: two statements where prices move.
    """
    last_seq = FeedHead.objects.values_list("seq", flat=True).get(feed_id=feed_id)
    answers = FeedEntry.objects.filter(
        feed=feed_id,
        seq__gt=last_seq - ENTRIES_COMPARED,
        provider=provider,
        kind=FeedEntry.Kind.QUOTES,
        failure="",
    )
    counts, bounds = ("accepted", "late", "repeated", "unconfirmed"), ("first_at", "last_at", "received_at")
    entries = list(answers.order_by("-seq").only("pk", *counts, *bounds, "is_superseded"))
    prices: dict[int, Decimal] = {}
    same = SameAnswers(0, None)
    begin, piece = 0, ANSWERS_AT_FIRST
    while begin < len(entries):
        compared = entries[begin : begin + piece]
        quoted = _prices_in(compared)
        for entry in compared:
            if not (entry.accepted or entry.late or entry.unconfirmed or entry.repeated):
                continue
            if entry.late or entry.unconfirmed or (entry.accepted and entry.pk not in quoted):
                return same
            for asset_id, lowest, highest in quoted.get(entry.pk, ()):
                if lowest != highest or prices.setdefault(asset_id, lowest) != lowest:
                    return same
            same = SameAnswers(same.count + 1, entry.received_at)
        begin, piece = begin + piece, piece * 4
    return same


def _prices_in(entries: Sequence[FeedEntry]) -> dict[int, list[tuple[int, Decimal, Decimal]]]:
    """Return entry id -> (asset id, lowest, highest price) for the quotes of these entries that are stored."""
    with_quotes = [entry for entry in entries if entry.first_at is not None]
    quoted: dict[int, list[tuple[int, Decimal, Decimal]]] = {}
    if not with_quotes:
        return quoted
    # The bounds prune partitions.
    of_these = Q(
        entry__in=[entry.pk for entry in with_quotes],
        at__gte=min(entry.first_at for entry in with_quotes if entry.first_at),
        at__lte=max(entry.last_at for entry in with_quotes if entry.last_at),
    )
    # A provider said what it said, whatever was corrected later.
    is_superseded = any(entry.is_superseded for entry in with_quotes)
    for model in (Quote, SupersededQuote) if is_superseded else (Quote,):
        spans = model.objects.filter(of_these).order_by().values_list("entry_id", "asset_id")
        for entry_id, asset_id, lowest, highest in spans.annotate(Min("price"), Max("price")):
            quoted.setdefault(entry_id, []).append((asset_id, lowest, highest))
    return quoted


def pace_seconds(feed: Feed) -> float:
    """Return how far the last answers of a feed that came with_recent_entries lie apart by the feed's own clock, in
    which windows are measured: for a recording at 60 times its speed that is 60 times the effective interval.

    The interval asked for, where the clock has not moved lately.
    """
    answered = [entry.as_of for entry in feed.recent if not entry.failure]  # type: ignore[attr-defined]
    gaps = [gap for later, earlier in pairwise(answered) if (gap := (later - earlier).total_seconds()) > 0]
    return median(gaps) if gaps else float(feed.interval_seconds)
