"""Quotes that other systems send in, appended to the log of a feed with the source `push`."""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from apps.market import domain as market_domain
from apps.market import partitions
from apps.market.models import Feed, FeedEntry, slug_validator
from apps.market.services.log import append_quotes, cache_latest, lock_head, retention, still_here
from apps.sources import queries
from apps.sources.models import FeedSource
from apps.sources.services.senders import Pushed, set_back

PUSH = "push"


class PushRefused(ValueError):
    """A feed takes no quotes from outside; the text is for people, and the same for a feed that is not there."""


def record_pushed(*, feed_name: str, pushes: Sequence[Pushed], now: datetime, trace_id: str) -> FeedEntry:
    """Append what was pushed to the feed's log as one entry, admitted like any provider's answer, and return it.

    A quote without a time gets that of its receipt; the times of a sender whose clock is ahead are set back. A
    quote that comes a second time is counted as repeated and stored once.
    When the feed is due, and who fetches it, is left alone. Raises PushRefused: unknown, paused, without the source
    `push`, or with a recording beside it, whose clock is another.
    """
    feed, source = _feed_taking(feed_name)
    by_receipt = feed.time_policy == Feed.TimePolicy.RECEIPT
    assets = queries.asset_ids_by_external_id(feed)
    asset_ids = assets.of(source)
    admitted = market_domain.together(
        market_domain.admit(
            push.quotes,
            asset_ids=asset_ids,
            as_of=push.received_at,
            assumed_at=push.received_at,
            oldest_at=now - retention(),
            by_receipt=by_receipt,
            signed=assets.signed,
        )
        for push in (pushes if by_receipt else set_back(pushes, feed=feed))
    )
    partitions.ensure(market_domain.days_of(admitted.quotes))
    # COPY's errors come as the driver's own; whoever tries again looks for Django's.
    with connection.wrap_database_errors, transaction.atomic():
        head = lock_head(feed.pk)
        columns = {"as_of": now, "provider": PUSH, "jump_percent": feed.jump_percent, "now": now, "trace_id": trace_id}
        entry, fresh = append_quotes(head, still_here(head, admitted), **columns)
        head.save(update_fields=[*head.APPENDED, "as_of"])
    if fresh:
        newest = {quote.asset_id: (quote.at, quote.price) for quote in fresh}
        cache_latest(feed_ids=[head.pk], newest=newest, interval_seconds=feed.interval_seconds, now=now)
    return entry


def _feed_taking(name: str) -> tuple[Feed, FeedSource]:
    # The pattern first: PostgreSQL is asked for no text that it cannot have.
    feeds = Feed.objects.filter(name=name, is_enabled=True) if slug_validator.regex.match(name) else Feed.objects.none()
    feed = feeds.prefetch_related("sources").first()
    source = next((one for one in feed.sources.all() if one.provider == PUSH), None) if feed is not None else None
    if feed is None or source is None or not feed.is_live:
        raise PushRefused("there is no feed of this name that takes quotes now")
    return feed, source
