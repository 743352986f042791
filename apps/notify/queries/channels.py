"""Queries of channels: who may see them, and how healthy they are."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, NullIf

from apps.accounts.queries import reader_of
from apps.alerts.models import Alert
from apps.canary import is_not_canary
from apps.locales import STANDARD, Reader
from apps.notify import domain
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.transports.registry import TRANSPORTS
from apps.rules.models import Rule

HEALTH_SPAN = timedelta(days=1)
FAILURES_SPAN = timedelta(days=7)
FAILURES = (Attempt.Outcome.TRANSIENT_FAILURE, Attempt.Outcome.PERMANENT_FAILURE)


def channels_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Channel]:
    """Return the channels that `user` may see: their own, all but the canary's for a superuser, none for a stranger."""
    rows = Channel.objects.all()
    if not user.is_authenticated:
        return rows.none()
    return rows.filter(is_not_canary("owner")) if getattr(user, "is_superuser", False) else rows.filter(owner=user)


def operator_channels() -> list[Channel]:
    """Return the channels that want the operators' alerts, whose owners may see those now, with their owners."""
    wanted = Channel.objects.filter(wants_system=True, is_enabled=True).select_related("owner").order_by("pk")
    return [one for one in wanted if one.owner.has_perm("alerts.view_system_alerts")]


def reader_of_messages(channel: Channel) -> Reader:
    """Return for whom a channel's messages are written: its owner; nobody in particular where programs read them, and
    where no owner has it yet. Reads the owner with the profile."""
    transport = TRANSPORTS.get(channel.kind)
    if channel.owner_id is None or (transport is not None and transport.is_for_programs):
        return STANDARD
    return reader_of(channel.owner)


def has_notified(channel: Channel) -> bool:
    """Say whether the channel was used, or is about to be, for more than tests: then it stays on record."""
    return channel.notifications.exists() or channel.messages.exclude(kind=Message.Kind.TEST).exists()


def rule_notified_last(channel: Channel) -> Rule | None:
    """Return that of the rules which name the channel whose alert is the newest; None where none has one."""
    alerts = Alert.objects.filter(rule__rule_channels__channel=channel).select_related("rule")
    last = alerts.order_by("-opened_at", "-pk").first()
    return last.rule if last is not None else None


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
        unsent=_counted(messages.exclude(status__in=Message.SETTLED), by="channel"),
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


def channel_state(channel: Channel, *, now: datetime, reader: Reader = STANDARD) -> tuple[str, str]:
    """Return (state, a sentence on it) of a channel `with_health`: off, asked to wait, failing, works, or untried.

    reader: whom it is for.
    """
    if not channel.is_enabled:
        because = f": {channel.switched_off_because}" if channel.switched_off_because else " by its owner"
        return "off", f"Disabled{because}."
    since = (
        f"nothing has got through since {domain.moment(channel.failing_since, reader)}" if channel.failing_since else ""
    )
    if channel.resume_at is not None and channel.resume_at > now:
        asked = f"Rate-limited by the receiver until {domain.moment(channel.resume_at, reader)}"
        return "asked to wait", f"{asked}; {since}." if since else f"{asked}."
    if since:
        return "failing", f"{since[:1].upper()}{since[1:]}."
    tried: Any = channel
    last = tried.last_delivery
    # No column records a failed test, or a failure before the channel was enabled again.
    if last_try_failed(tried):
        because = f": {tried.tried_detail.rstrip('.')}" if tried.tried_detail else ""
        return "failing", f"The last try, at {domain.moment(tried.tried_at, reader)}, did not get through{because}."
    if last is None:
        return "untried", "Nothing was sent on it yet. Send a test."
    return "works", f"It works; the last delivery was at {domain.moment(last, reader)}."
