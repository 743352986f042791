"""Queries of channels, silences, notifications and messages."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Now, NullIf

from apps.accounts.queries import profile_of
from apps.alerts.models import Alert, AlertEvent
from apps.alerts.queries import alerts_of
from apps.canary import CANARY, is_not_canary
from apps.leases import IS_LEASED, LEASE_HAS_EXPIRED
from apps.market.models import Asset, FeedEntry
from apps.notify import domain
from apps.notify.decision import Decision, decide, refuse
from apps.notify.models import Attempt, Channel, Message, Notification, Silence
from apps.rules.models import Rule

# A message lists at most so many events; the rest comes in the next one.
NOTIFICATIONS_AT_ONCE = 1_000
CHANNELS_AT_ONCE = 500
# Of a channel, and a little for clocks that differ.
GROUP_WAIT_LONGEST = timedelta(seconds=600 + 60)
HEALTH_SPAN = timedelta(days=1)
FAILURES_SPAN = timedelta(days=7)
FAILURES = (Attempt.Outcome.TRANSIENT_FAILURE, Attempt.Outcome.PERMANENT_FAILURE)

# What a silence is at a moment -> the condition.
SILENCE_STATES: dict[str, Callable[[datetime], Q]] = {
    "in force": lambda now: Q(starts_at__lte=now, ends_at__gt=now),
    "to come": lambda now: Q(starts_at__gt=now, ends_at__gt=now),
    "over": lambda now: Q(ends_at__lte=now),
}


def inbox_of(user: AbstractBaseUser) -> QuerySet[Message]:
    """Return the messages in the user's inboxes, newest first."""
    mine = Message.objects.filter(channel__owner=user, channel__kind="inbox", status=Message.Status.DELIVERED)
    return mine.select_related("channel").order_by("-delivered_at")


def unread_in_inbox(user: AbstractBaseUser) -> int:
    """Return how many messages came to the user's inboxes since they last looked, domain.UNREAD_COUNTED at most."""
    seen_at = profile_of(user).inbox_seen_at
    messages = inbox_of(user)
    if seen_at is not None:
        # The first condition is for the index: a message is delivered within a day after it is made.
        messages = messages.filter(created_at__gt=seen_at - HEALTH_SPAN, delivered_at__gt=seen_at)
    return len(messages.order_by().values_list("pk")[: domain.UNREAD_COUNTED])


def messages_seen_by(user: AbstractBaseUser | AnonymousUser, *, inbox_only: bool = False) -> QuerySet[Message]:
    """Return the messages that `user` may see, with their channels: those to their own channels, all for a superuser,
    none for a stranger. inbox_only: only those in an inbox."""
    rows = Message.objects.select_related("channel")
    if inbox_only:
        rows = rows.filter(channel__kind="inbox", status=Message.Status.DELIVERED)
    if not user.is_authenticated:
        return rows.none()
    is_superuser = getattr(user, "is_superuser", False)
    return rows.filter(is_not_canary("channel") if is_superuser else Q(channel__owner=user))


def messages_about(user: AbstractBaseUser | AnonymousUser, alert_ids: Iterable[int]) -> QuerySet[Message]:
    """Return those messages about these alerts that `user` may see, each once for each of them, with its `alert_id`."""
    rows = messages_seen_by(user).filter(members__event__alert__in=alert_ids)
    rows = rows.annotate(alert_id=F("members__event__alert"), member=F("members__pk"))
    # By the first of its members about an alert, and not by DISTINCT, which looks at rows after they are numbered.
    before = Notification.objects.filter(
        message=OuterRef("pk"), event__alert=OuterRef("alert_id"), pk__lt=OuterRef("member")
    )
    return rows.exclude(Exists(before))


def notifications_about(user: AbstractBaseUser | AnonymousUser, alert_ids: Iterable[int]) -> QuerySet[Notification]:
    """Return the notifications of these alerts on the channels that `user` may see, each with its `alert_id`."""
    rows = Notification.objects.filter(event__alert__in=alert_ids, channel__in=channels_seen_by(user))
    return rows.select_related("event", "channel", "message__channel").annotate(alert_id=F("event__alert"))


def attempts_of(message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Attempt]]:
    """Return message id -> its attempts in their order. Whose they are is the caller's business."""
    found: dict[uuid.UUID, list[Attempt]] = {}
    for attempt in Attempt.objects.filter(message__in=list(message_ids)).order_by("message", "number"):
        found.setdefault(attempt.message_id, []).append(attempt)
    return found


def alert_ids_of(message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[int]]:
    """Return message id -> the ids of its alerts, in the order in which the message lists them."""
    found: dict[uuid.UUID, list[int]] = {}
    members = Notification.objects.filter(message__in=message_ids).order_by("pk")
    for message_id, alert_id in members.values_list("message", "event__alert"):
        alert_ids = found.setdefault(message_id, [])
        if alert_id not in alert_ids:
            alert_ids.append(alert_id)
    return found


def channels_to_plan(*, now: datetime, feed_id: int | None = None) -> list[int]:
    """Return the channels with a due notification without a message, but for those at their limit.

    feed_id: looks only at events of this feed's log.
    """
    due = Notification.objects.filter(_is_to_plan(now), message=None).order_by()
    if feed_id is not None:
        due = due.filter(event__entry__feed=feed_id)
    # From what is due to its channels, so that those without anything due are not read.
    chosen = Channel.objects.filter(pk__in=due.values("channel"))
    channels = list(chosen.only("messages_per_minute").order_by("pk"))
    # Channels at their limit would be found again and again, and take the room of others.
    at_limit = _at_their_limit_at(now, channels)
    return [one.pk for one in channels if one.pk not in at_limit][:CHANNELS_AT_ONCE]


def _is_to_plan(now: datetime) -> Q:
    """Match the notifications that `is_to_plan`."""
    was_set_back = Q(deferred_by=Notification.Deferral.NONE, due_at__gt=now + GROUP_WAIT_LONGEST)
    return Q(due_at__lte=now) | was_set_back


def is_to_plan(notification: Notification, *, now: datetime) -> bool:
    """Tell whether a notification is due. One that waits for longer than a group wait was made before the clock was set
    back."""
    is_deferred = notification.deferred_by != Notification.Deferral.NONE
    return notification.due_at <= now or (not is_deferred and notification.due_at > now + GROUP_WAIT_LONGEST)


def notifications_to_plan(*, channel_id: int, now: datetime) -> list[Notification]:
    """Return the channel's notifications without a message that are due or in their group wait, in the order of their
    events, with the related rows that a message needs; at most NOTIFICATIONS_AT_ONCE."""
    waiting = Notification.objects.filter(
        Q(deferred_by=Notification.Deferral.NONE) | Q(due_at__lte=now), channel=channel_id, message=None
    )
    along = ("channel", "silence", "given_up_on", "event__alert__rule", "event__alert__asset")
    rows = waiting.select_related(*along).order_by("due_at", "pk")[:NOTIFICATIONS_AT_ONCE]
    return sorted(rows, key=lambda notification: (notification.event_id, notification.repeat))


def is_at_its_limit(channel: Channel, *, now: datetime) -> bool:
    """Return whether a channel has reached its limit of messages for this minute."""
    if not channel.messages_per_minute:
        return False
    return channel.pk in _at_their_limit_at(now, [channel])


def operator_channels() -> list[Channel]:
    """Return the channels that want the operators' alerts, whose owners may see those now, with their owners."""
    wanted = Channel.objects.filter(wants_system=True, is_enabled=True).select_related("owner").order_by("pk")
    return [one for one in wanted if one.owner.has_perm("alerts.view_system_alerts")]


def rule_notified_last(channel: Channel) -> Rule | None:
    """Return that of the rules which name the channel whose alert is the newest; None where none has one."""
    alerts = Alert.objects.filter(rule__rule_channels__channel=channel).select_related("rule")
    last = alerts.order_by("-opened_at", "-pk").first()
    return last.rule if last is not None else None


def silences_in_force(*, now: datetime) -> list[domain.Silenced]:
    """Return the silences that are in force."""
    return [
        domain.Silenced(one.pk, one.owner_id, one.rule_id, one.asset_id, one.severity, one.ends_at)
        for one in Silence.objects.filter(SILENCE_STATES["in force"](now))
    ]


def lock_silences(silence_ids: Iterable[int]) -> dict[int, datetime]:
    """Return silence id -> when it ends, locked."""
    silences = Silence.objects.select_for_update(no_key=True).filter(pk__in=silence_ids).order_by("pk")
    return dict(silences.values_list("pk", "ends_at"))


def deferral_now(
    notification: Notification, *, silences: Sequence[domain.Silenced], now: datetime
) -> domain.Deferral | None:
    """Return what defers a notification now. Reads its channel, and its event's alert."""
    if notification.channel_id == CANARY:
        # A silence of everybody's alerts is meant for people.
        return None
    alert = notification.event.alert
    return domain.deferral_of(
        now=now,
        rule_id=alert.rule_id,
        asset_id=alert.asset_id,
        owner_id=alert.owner_id,
        severity=alert.severity,
        silences=silences,
        quiet=notification.channel.quiet_hours,
    )


def untried_messages(*, channel_id: int, alert_ids: Iterable[int]) -> dict[int, Message]:
    """Return alert id -> the message with its opening on the channel, locked, where no attempt to send it was begun."""
    rows = Notification.objects.filter(
        channel=channel_id,
        event__alert__in=alert_ids,
        event__kind=AlertEvent.Kind.OPENED,
        message__status=Message.Status.PENDING,
    )
    message_of = dict(rows.order_by("repeat").values_list("event__alert_id", "message_id"))
    # A sender that has claimed one meanwhile holds its lock, or has changed what is asked for here.
    untried = Message.objects.select_for_update(skip_locked=True, no_key=True).filter(
        pk__in=set(message_of.values()), status=Message.Status.PENDING, attempts=0
    )
    found = {message.pk: message for message in untried}
    return {alert_id: found[pk] for alert_id, pk in message_of.items() if pk in found}


def lock_due_reminders(*, now: datetime) -> list[Notification]:
    """Return the notifications whose next reminder is due, with alert and channel, locked; at most
    NOTIFICATIONS_AT_ONCE. Rows that another sweep has locked are passed over."""
    due = Notification.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
    due = due.filter(remind_at__lte=now).select_related("event__alert", "channel")
    return list(due.order_by("remind_at", "pk")[:NOTIFICATIONS_AT_ONCE])


def next_message(channel_id: int) -> Message | None:
    """Return the message to send next on a channel: it is due, or its sender's lease has expired, and no earlier one
    about the same alert is unsent. None while a sender holds a lease on the channel.

    With its trace_id: that of the entry which made its first event; None where no entry did.
    """
    under_way = Message.objects.filter(_is_under_way(), channel=channel_id)
    # By the notifications' own order: the clocks of those who write messages may differ.
    earlier = Notification.objects.filter(
        channel=channel_id,
        message__status__in=Message.UNSENT,
        event__alert__events__notifications__message=OuterRef("pk"),
        event__alert__events__notifications__pk__gt=F("pk"),
    ).exclude(message=OuterRef("pk"))
    due = Message.objects.filter(_is_due(), ~Exists(under_way), ~Exists(earlier), channel=channel_id)
    # By the index's order alone: what is sent again is due at one moment, and would be sorted anew for each message.
    return due.annotate(trace_id=_first_trace_id()).order_by("next_attempt_at").first()


def _first_trace_id() -> Subquery:
    members = Notification.objects.filter(message=OuterRef("pk"), event__entry__isnull=False)
    return Subquery(members.order_by("event").values("event__entry__trace_id")[:1])


def may_be_notified(channel: Channel) -> bool:
    """Tell whether the channel's owner is active; the canary's never is."""
    return channel.pk == CANARY or channel.owner.is_active


def refusal_of(channel: Channel) -> Decision | None:
    """Return why nothing is sent on a channel now, None where it may be. Reads its owner."""
    return refuse(is_enabled=channel.is_enabled, may_be_notified=may_be_notified(channel))


def is_refused_like_others(channel: Channel) -> bool:
    """Tell whether other channels of its kind are refused too, and nothing has got through on any since this one was:
    then the server that they share is to blame."""
    others = Channel.objects.filter(kind=channel.kind, is_enabled=True).exclude(pk=channel.pk)
    if not others.filter(refused_since__isnull=False).exists():
        return False
    delivered = Message.objects.filter(channel__in=others, delivered_at__gte=channel.refused_since)
    return not delivered.exists()


def given_up_with(channel: Channel) -> QuerySet[Message]:
    """Return the unsent messages of a channel that is disabled, but for one that is being sent."""
    return channel.messages.filter(~_is_under_way(), status__in=Message.UNSENT)


def due_in_quiet_hours(channel: Channel) -> QuerySet[Message]:
    """Return the due messages of a channel that its quiet hours defer: those about alerts, but for critical ones where
    the channel allows them."""
    due = channel.messages.filter(_is_due(), kind=Message.Kind.ALERT)
    if not channel.quiet_allow_critical:
        return due
    critical = Notification.objects.filter(message=OuterRef("pk"), event__alert__severity=Rule.Severity.CRITICAL)
    return due.exclude(Exists(critical))


def _is_under_way() -> Q:
    return Q(status=Message.Status.SENDING, next_attempt_at__lte=Now()) & IS_LEASED


def _is_due() -> Q:
    # What is being sent was due too: said of both, so that the index leaves out what waits for a later try.
    is_free = Q(status=Message.Status.PENDING) | (Q(status=Message.Status.SENDING) & LEASE_HAS_EXPIRED)
    return Q(is_free, next_attempt_at__lte=Now())


class DueChannel(NamedTuple):
    """A channel with a due message. is_failing: its last attempt failed."""

    channel_id: int
    is_failing: bool


def due_channels(*, behind: timedelta, now: datetime) -> list[DueChannel]:
    """Return the channels with a due message for which a task is to be dispatched: the message became due after the
    last dispatch, or that was longer ago than `behind`."""
    due = Message.objects.filter(_is_due()).order_by()
    is_forgotten = Q(dispatched_at=None) | Q(dispatched_at__lte=now - behind) | Q(dispatched_at__gt=now + behind)
    is_fresh = Exists(due.filter(channel=OuterRef("pk"), next_attempt_at__gt=OuterRef("dispatched_at")))
    may_resume = Q(resume_at=None) | Q(resume_at__lte=now)
    # From what is due to its channels, so that those without anything due are not read.
    rows = Channel.objects.filter(is_forgotten | is_fresh, may_resume, pk__in=due.values("channel"))
    # The longest ago dispatched comes first, so that slow channels never keep others waiting for ever.
    rows = rows.order_by(F("dispatched_at").asc(nulls_first=True), "pk")
    found = rows.values_list("pk", "failing_since")[:CHANNELS_AT_ONCE]
    return [DueChannel(pk, failing_since is not None) for pk, failing_since in found]


def failing_of(channel_ids: Iterable[int]) -> set[int]:
    """Return the ids of those channels whose last attempt failed."""
    failing = Channel.objects.filter(pk__in=channel_ids, failing_since__isnull=False)
    return set(failing.values_list("pk", flat=True))


def with_last_try(channels: QuerySet[Channel]) -> QuerySet[Channel]:
    """Return the channels, each with these annotations:

    last_delivery: None is never; tried_at, tried_outcome, tried_detail: of the last finished attempt at the newest
    message that was tried, None without one.
    """
    messages = Message.objects.filter(channel=OuterRef("pk")).order_by()
    # By the index of a channel's messages, since an attempt has no channel to be found by.
    tried = Message.objects.filter(channel=OuterRef(OuterRef("pk")), attempts__gt=0)
    tried = tried.exclude(status=Message.Status.SENDING).order_by("-created_at")
    last_try = Attempt.objects.filter(message=Subquery(tried.values("pk")[:1])).exclude(outcome="").order_by("-number")
    return channels.annotate(
        tried_at=Subquery(last_try.values("started_at")[:1]),
        tried_outcome=Subquery(last_try.values("outcome")[:1]),
        tried_detail=Subquery(last_try.values(text=Coalesce(NullIf("detail", Value("")), "reason"))[:1]),
        last_delivery=Subquery(
            messages.filter(status=Message.Status.DELIVERED).order_by("-created_at").values("delivered_at")[:1]
        ),
    )


def with_health(channels: QuerySet[Channel], *, now: datetime) -> QuerySet[Channel]:
    """Return the channels `with_last_try`, each with these annotations as well:

    delivered, failed, failed_attempts: how many messages, and attempts, of messages made in the last day; unsent,
    unplanned: how many messages, and notifications, wait.
    """
    messages = Message.objects.filter(channel=OuterRef("pk")).order_by()
    lately = messages.filter(created_at__gte=now - HEALTH_SPAN)
    # By the creation time of the message, which has an index; attempts have none.
    failures = Attempt.objects.filter(
        message__channel=OuterRef("pk"), message__created_at__gte=now - HEALTH_SPAN, outcome__in=FAILURES
    )
    return with_last_try(channels).annotate(
        delivered=_counted(lately.filter(status=Message.Status.DELIVERED), by="channel"),
        failed=_counted(lately.filter(status=Message.Status.FAILED), by="channel"),
        failed_attempts=_counted(failures.order_by(), by="message__channel"),
        # Excluded and not chosen, so that the database sees that the index of what is due has them all.
        unsent=_counted(messages.exclude(status__in=["delivered", "failed"]), by="channel"),
        unplanned=_counted(Notification.objects.filter(channel=OuterRef("pk"), message=None).order_by(), by="channel"),
    )


def failing(channels: QuerySet[Channel]) -> QuerySet[Channel]:
    """Return those of the channels `with_last_try` that are enabled and whose last attempt failed."""
    is_refused = Q(tried_outcome__in=FAILURES) & (Q(last_delivery=None) | Q(last_delivery__lt=F("tried_at")))
    return channels.filter(is_refused | Q(failing_since__isnull=False), is_enabled=True)


def _counted(rows: QuerySet[Any], *, by: str) -> Coalesce:
    return Coalesce(Subquery(rows.values(by).annotate(count=Count("pk")).values("count")), Value(0))


def last_failure(channel: Channel, *, now: datetime) -> datetime | None:
    """Return when the last attempt failed, of messages made in the last FAILURES_SPAN. For one channel only: for a list
    of many it would take seconds."""
    failures = Attempt.objects.filter(
        message__channel=channel, message__created_at__gte=now - FAILURES_SPAN, outcome__in=FAILURES
    )
    return failures.order_by("-started_at").values_list("started_at", flat=True).first()


def median_milliseconds(channel: Channel, *, now: datetime) -> int | None:
    """Return the median duration of the successful attempts of the last day, None where there is none."""
    tries = Attempt.objects.filter(
        message__channel=channel,
        message__created_at__gte=now - HEALTH_SPAN,
        outcome=Attempt.Outcome.DELIVERED,
        milliseconds__isnull=False,
    )
    taken = tries.order_by("milliseconds").values_list("milliseconds", flat=True)
    count = taken.count()
    return taken[(count - 1) // 2] if count else None


def last_try_failed(channel: Any) -> bool:
    """Tell whether the last attempt on a channel `with_last_try` failed, and nothing was delivered since."""
    last = channel.last_delivery
    return channel.tried_outcome in FAILURES and (last is None or last < channel.tried_at)


def last_test(channel: Channel, *, now: datetime) -> Message | None:
    """Return the last test of a channel within HEALTH_SPAN, None where there was none."""
    tests = channel.messages.filter(kind=Message.Kind.TEST, created_at__gte=now - HEALTH_SPAN)
    return tests.order_by("-created_at").first()


def channel_state(channel: Channel, *, now: datetime) -> tuple[str, str]:
    """Return (state, a sentence on it) of a channel `with_health`: off, asked to wait, failing, works, or untried."""
    if not channel.is_enabled:
        because = f": {channel.switched_off_because}" if channel.switched_off_because else " by its owner"
        return "off", f"Disabled{because}."
    since = f"nothing has got through since {domain.moment(channel.failing_since)}" if channel.failing_since else ""
    if channel.resume_at is not None and channel.resume_at > now:
        asked = f"Rate-limited by the receiver until {domain.moment(channel.resume_at)}"
        return "asked to wait", f"{asked}; {since}." if since else f"{asked}."
    if since:
        return "failing", f"{since[:1].upper()}{since[1:]}."
    tried: Any = channel
    last = tried.last_delivery
    # No column records a failed test, or a failure before the channel was enabled again.
    if last_try_failed(tried):
        because = f": {tried.tried_detail.rstrip('.')}" if tried.tried_detail else ""
        return "failing", f"The last try, at {domain.moment(tried.tried_at)}, did not get through{because}."
    if last is None:
        return "untried", "Nothing was sent on it yet. Send a test."
    return "works", f"It works; the last delivery was at {domain.moment(last)}."


def silences_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Silence]:
    """Return the silences that `user` may see, the last to begin first: those of their own alerts and those of
    everybody's, but for those of others' rules; all for a superuser, none for a stranger."""
    rows = Silence.objects.select_related("owner", "author", "rule", "asset")
    if not user.is_authenticated:
        return rows.none()
    if getattr(user, "is_superuser", False):
        return rows
    return rows.filter(Q(owner=user) | Q(owner=None), Q(rule=None) | Q(rule__owner=user))


def channels_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Channel]:
    """Return the channels that `user` may see: their own, all but the canary's for a superuser, none for a stranger."""
    rows = Channel.objects.all()
    if not user.is_authenticated:
        return rows.none()
    return rows.filter(is_not_canary("owner")) if getattr(user, "is_superuser", False) else rows.filter(owner=user)


def has_notified(channel: Channel) -> bool:
    """Say whether the channel was used, or is about to be, for more than tests: then it stays on record."""
    return channel.notifications.exists() or channel.messages.exclude(kind=Message.Kind.TEST).exists()


def silences_ended_by(user: AbstractBaseUser) -> QuerySet[Silence]:
    """Return the silences that `user` may end: their own, all for a superuser. Everybody's they only see."""
    rows = silences_seen_by(user)
    return rows if getattr(user, "is_superuser", False) else rows.filter(owner=user)


def silences_in_force_of(user: AbstractBaseUser | AnonymousUser, *, now: datetime) -> QuerySet[Silence]:
    """Return those of the silences that `user` may see that are in force, the first to end first."""
    return silences_seen_by(user).filter(SILENCE_STATES["in force"](now)).order_by("ends_at", "pk")


class MessageCounts(NamedTuple):
    """How many messages wait to be sent, and how many have failed."""

    waiting: int
    failed: int


def message_counts_of(user: AbstractBaseUser | AnonymousUser, *, since: datetime) -> MessageCounts:
    """Return how many messages that `user` may see are not sent yet, and how many made from `since` on have failed; two
    statements."""
    seen = messages_seen_by(user)
    # Excluded and not chosen, so that the database sees that the index of what is due has them all.
    waiting = seen.exclude(status__in=["delivered", "failed"]).count()
    return MessageCounts(waiting, seen.filter(status=Message.Status.FAILED, created_at__gte=since).count())


class ChannelThen(NamedTuple):
    """One of a rule's channels at a moment. channel: `with_health`; decision: what is decided about the rule's alert
    once it is due, None where the channel was made later; deferral: what defers it, where that is the decision."""

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
        "rule_id": rule.pk,
        "asset_id": asset.pk,
        "owner_id": rule.owner_id,
        "severity": alert.severity if alert is not None and is_open else rule.severity,
    }
    in_force = silences_in_force(now=moment)
    matching = domain.silences_matching(in_force, **about)
    silences = silences_seen_by(user).in_bulk([one.silence_id for one in matching])
    rows = Channel.objects.filter(rule_channels__rule=rule)
    if not getattr(user, "is_superuser", False):
        rows = rows.filter(owner=user)
    rows = rows.select_related("owner").order_by("name")
    channels = list(with_health(rows, now=now)[:CHANNELS_AT_ONCE])
    at_limit = _at_their_limit_at(moment, channels)

    def decided(channel: Channel) -> ChannelThen:
        if channel.created_at > moment:
            return ChannelThen(channel, None, None)
        deferral = domain.deferral_of(now=moment, silences=in_force, quiet=channel.quiet_hours, **about)
        refusal, is_at_limit = refusal_of(channel), channel.pk in at_limit
        return ChannelThen(channel, decide(refusal=refusal, is_at_limit=is_at_limit, deferral=deferral), deferral)

    notifications = Notification.objects.filter(event__alert=alert, event__kind=AlertEvent.Kind.OPENED, repeat=0)
    rows = (
        set(notifications.values_list("channel_id", flat=True)) if alert is not None else {one.pk for one in channels}
    )
    return NotificationOutlook(
        moment=moment,
        severity=about["severity"],
        silences=[silences[one.silence_id] for one in matching if one.silence_id in silences],
        channels=[decided(one) for one in channels],
        alert=alert,
        is_open=is_open,
        not_notified=[one for one in channels if one.pk not in rows],
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


def _at_their_limit_at(moment: datetime, channels: Iterable[Channel]) -> set[int]:
    limits = {one.pk: one.messages_per_minute for one in channels if one.messages_per_minute}
    lately = Message.objects.filter(
        channel__in=limits,
        kind=Message.Kind.ALERT,
        created_at__gt=moment - timedelta(minutes=1),
        created_at__lte=moment,
    )
    counts = lately.order_by().values_list("channel_id").annotate(count=Count("pk"))
    return {channel_id for channel_id, count in counts if count >= limits[channel_id]}
