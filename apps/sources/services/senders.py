"""The clocks of those who push quotes: one that is ahead is measured with each message, and its quotes are set back."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from django.db import transaction

from apps.market.domain import EARLIEST, FUTURE_TOLERANCE, QuoteRejected, RawQuote, read_time
from apps.market.models import Feed
from apps.sources import domain
from apps.sources.domain import Skew
from apps.sources.models import SenderClock

logger = logging.getLogger(__name__)
_SECOND = timedelta(seconds=1)


class Pushed(NamedTuple):
    """Quotes that came in together, by the assets' symbols or by their listings for `push`. received_at: aware UTC;
    sender: whose clock they have, as `SenderClock` says."""

    received_at: datetime
    quotes: Sequence[RawQuote]
    sender: str


def set_back(pushes: Sequence[Pushed], *, feed: Feed) -> list[Pushed]:
    """Return the messages with each quote's own time set back by the skew of its sender, and remember the skew.

    A time that cannot be read, or is more than 60 s ahead, stays, and admission refuses it. How far the clock is ahead
    is true whatever becomes of the quotes, so it is stored in a transaction of its own.
    """
    timed = [_timed(push) for push in pushes]
    measured = [_Measured.of(push) for push in timed]
    clocks = _clocks(feed, {push.sender for push in pushes})
    if all(one.is_right for one in measured):
        skews = [domain.skew_in_force(_skew_of(clocks.get(one.sender)), now=one.received_at) for one in timed]
    else:
        skews = _remember(timed, measured, feed=feed)
    return [_shifted(push, seconds=skew.seconds) for push, skew in zip(timed, skews, strict=True)]


class _Measured(NamedTuple):
    """How far the newest quote of a message is ahead of its receipt: of those that are believed, and of those that are
    refused for it."""

    ahead: timedelta
    refused: timedelta

    @classmethod
    def of(cls, push: Pushed) -> "_Measured":
        ahead = [quote.at - push.received_at for quote in push.quotes if isinstance(quote.at, datetime)]
        nothing = timedelta(0)
        believed = max((one for one in ahead if one <= FUTURE_TOLERANCE), default=nothing)
        return cls(believed, max((one for one in ahead if one > FUTURE_TOLERANCE), default=nothing))

    @property
    def is_right(self) -> bool:
        """Nothing says that the clock is ahead."""
        return self.ahead <= timedelta(0) and not self.refused


def _remember(pushes: Sequence[Pushed], measured: Sequence[_Measured], *, feed: Feed) -> list[Skew]:
    """Return the skew of each message, and store the last one of each sender."""
    skews = []
    with transaction.atomic():
        senders = sorted({push.sender for push, one in zip(pushes, measured, strict=True) if not one.is_right})
        SenderClock.objects.bulk_create(
            [SenderClock(feed=feed, sender=sender) for sender in senders], ignore_conflicts=True
        )
        clocks = _clocks(feed, {push.sender for push in pushes}, is_locked=True)
        for push, one in zip(pushes, measured, strict=True):
            clock = clocks.get(push.sender)
            skew = domain.skew_after(_skew_of(clock), ahead=one.ahead, received_at=push.received_at)
            skews.append(skew)
            if clock is None:
                continue
            before = clock.skew_seconds, clock.refused_seconds
            clock.skew_seconds, clock.ahead_at = skew
            if one.refused:
                clock.refused_seconds, clock.refused_at = ceil(one.refused / _SECOND), push.received_at
            if before != (clock.skew_seconds, clock.refused_seconds):
                facts = {"feed": feed.name, "sender": clock.sender, "seconds": clock.skew_seconds}
                logger.warning("sender ahead", extra=facts | {"refused_seconds": clock.refused_seconds})
        for sender in senders:
            clocks[sender].save()
    return skews


def _clocks(feed: Feed, senders: set[str], *, is_locked: bool = False) -> dict[str, SenderClock]:
    rows = SenderClock.objects.filter(feed=feed, sender__in=senders).order_by("pk")
    return {row.sender: row for row in (rows.select_for_update(no_key=True) if is_locked else rows)}


def _skew_of(clock: SenderClock | None) -> Skew:
    return Skew() if clock is None else Skew(clock.skew_seconds, clock.ahead_at)


def _timed(push: Pushed) -> Pushed:
    """Return the message with those times as datetimes that can be read."""
    return push._replace(quotes=[quote._replace(at=_time_of(quote)) for quote in push.quotes])


def _time_of(quote: RawQuote) -> object:
    if quote.at is None:
        return None
    try:
        return read_time(quote.at)
    except QuoteRejected:
        return quote.at


def _shifted(push: Pushed, *, seconds: int) -> Pushed:
    if not seconds:
        return push
    latest, skew = push.received_at + FUTURE_TOLERANCE, seconds * _SECOND

    def shifted(quote: RawQuote) -> RawQuote:
        is_believed = isinstance(quote.at, datetime) and EARLIEST <= quote.at <= latest
        return quote._replace(at=quote.at - skew) if is_believed else quote

    return push._replace(quotes=[shifted(quote) for quote in push.quotes])
