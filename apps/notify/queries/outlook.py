"""Which channels an alert would notify at a moment."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.queries import alerts_of
from apps.market.models import Asset, FeedEntry
from apps.notify import domain
from apps.notify.decision import Decision, decide
from apps.notify.models import Channel, Notification, Silence
from apps.notify.queries.channels import with_health
from apps.notify.queries.planning import CHANNELS_AT_ONCE, at_their_limit_at
from apps.notify.queries.sending import refusal_of
from apps.notify.queries.silences import silences_in_force, silences_seen_by
from apps.rules.models import Rule


class ChannelThen(NamedTuple):
    """One of a rule's channels at a moment. channel: `with_health`; decision: the decision on a
    notification of the rule's alert that is due then, None where the channel was created later; deferral: what defers
    it."""

    channel: Channel
    decision: Decision | None
    deferral: domain.Deferral | None


class NotificationOutlook(NamedTuple):
    """Which channels an alert of a rule on an asset notifies at a moment, and what defers that.

    moment: by the wall clock, as all of notifying; severity: that of the alert where one is open, else the rule's;
    silences: those in force that match such an alert, the one that lasts longest first; channels: the rule's; alert:
    the last that had opened, None where there was none; is_open: it was not over; not_notified: those of the channels
    without a notification of its opening.
    """

    moment: datetime
    severity: str
    silences: list[Silence]
    channels: list[ChannelThen]
    alert: Alert | None
    is_open: bool
    not_notified: list[Channel]


def notification_outlook(
    user: AbstractBaseUser | AnonymousUser,
    *,
    rule: Rule,
    asset: Asset,
    entry: FeedEntry,
    at: datetime | None,
    now: datetime,
) -> NotificationOutlook:
    """Return the outlook after this entry of the log, when the feed's clock showed `at` (None: now).

    It has what `user` may see: their own channels and alerts, and the silences that they may see; all for a superuser.
    Silences, channels and the severity are read as they are now.
    """
    moment = wall_clock_at(entry, at=at, now=now) if at is not None else now
    # By the number of the entry and not by the clock: an entry is evaluated as a whole.
    alerts = alerts_of(user).filter(rule=rule, asset=asset, entry__feed=entry.feed_id, entry__seq__lte=entry.seq)
    alert = alerts.order_by("-entry__seq", "-pk").first()
    is_open = alert is not None and not _is_over(alert, entry=entry)
    about = {
        "alert_id": alert.pk if alert is not None and is_open else None,
        "rule_id": rule.pk,
        "asset_id": asset.pk,
        "owner_id": rule.owner_id,
        "severity": alert.severity if alert is not None and is_open else rule.severity,
    }
    of_alerts = [alert.pk] if alert is not None and is_open else []
    in_force = silences_in_force(now=moment, alert_ids=of_alerts)
    matching = domain.silences_matching(in_force, **about)
    silences = silences_seen_by(user).in_bulk([one.silence_id for one in matching])
    rows = Channel.objects.filter(rule_channels__rule=rule)
    if not getattr(user, "is_superuser", False):
        rows = rows.filter(owner=user)
    rows = rows.select_related("owner").order_by("name")
    channels = list(with_health(rows, now=now)[:CHANNELS_AT_ONCE])
    at_limit = at_their_limit_at(moment, channels)

    def decided(channel: Channel) -> ChannelThen:
        if channel.created_at > moment:
            return ChannelThen(channel, None, None)
        deferral = domain.deferral_of(now=moment, silences=in_force, quiet=channel.quiet_hours, **about)
        refusal, is_at_limit = refusal_of(channel), channel.pk in at_limit
        return ChannelThen(channel, decide(refusal=refusal, is_at_limit=is_at_limit, deferral=deferral), deferral)

    not_notified = []
    if alert is not None:
        openings = Notification.objects.filter(event__alert=alert, event__kind=AlertEvent.Kind.OPENED, repeat=0)
        notified = set(openings.values_list("channel_id", flat=True))
        not_notified = [one for one in channels if one.pk not in notified]
    return NotificationOutlook(
        moment=moment,
        severity=about["severity"],
        silences=[silences[one.silence_id] for one in matching if one.silence_id in silences],
        channels=[decided(one) for one in channels],
        alert=alert,
        is_open=is_open,
        not_notified=not_notified,
    )


def wall_clock_at(entry: FeedEntry, *, at: datetime, now: datetime) -> datetime:
    """Return what the wall clock showed when the feed's clock, after this entry and before the next, showed `at`.

    Of a recording, whose clock is its recording's and may run faster, it is right to the entry.
    """
    latest = entry.received_at + max(at - entry.as_of, timedelta(0))
    following = FeedEntry.objects.filter(feed=entry.feed_id, seq=entry.seq + 1).values_list("received_at", flat=True)
    return min(latest, now, *following)


def _is_over(alert: Alert, *, entry: FeedEntry) -> bool:
    """Return whether an alert had resolved when this entry of its feed's log was evaluated."""
    ends = AlertEvent.objects.filter(alert=alert, kind=AlertEvent.Kind.RESOLVED, entry__seq__lte=entry.seq)
    return ends.exists()
