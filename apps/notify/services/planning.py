"""Turns pending notifications into messages, or defers them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Least, Now
from django.urls import reverse

from apps.alerts.models import AlertEvent
from apps.alerts.queries import prices_at_end, summaries_of
from apps.alerts.wording import describe_correction
from apps.locales import Reader
from apps.notify import domain, queries
from apps.notify.decision import Decision, decide
from apps.notify.models import Channel, Message, Notification

logger = logging.getLogger(__name__)

_EVENTS = {
    AlertEvent.Kind.OPENED: domain.OPENED,
    AlertEvent.Kind.RESOLVED: domain.RESOLVED,
    AlertEvent.Kind.CORRECTED: domain.CORRECTED,
}
# They join the message with the opening of their alert where nobody has tried to send it.
_JOINING = (AlertEvent.Kind.RESOLVED, AlertEvent.Kind.CORRECTED)


def plan(*, channel_id: int, now: datetime) -> Decision:
    """Create the message for a channel's due notifications, and return that there is something new to send, or why
    not: of several reasons, that of the first notification.

    As soon as one notification is due, the others that wait with it go into the same message. A channel that has
    reached its limit for this minute waits on, with all of its notifications. Notifications that a silence or quiet
    hours defer become due when those end. Those of an alert that was silenced until it is over are not sent then: a
    message with the status silenced records them.
    """
    with transaction.atomic():
        # One planner per channel at a time, and what is read is read after the lock: the notifications of one alert,
        # shared out between two planners, would become two messages in any order.
        locked = Channel.objects.select_for_update(no_key=True, of=("self",)).select_related("owner__profile")
        channel = locked.filter(pk=channel_id).first()
        if channel is None:
            return Decision.NO_CHANNEL
        notifications = queries.notifications_to_plan(channel_id=channel_id, now=now)
        if not any(queries.is_to_plan(notification, now=now) for notification in notifications):
            return Decision.NOTHING_DUE
        if queries.is_at_its_limit(channel, now=now):
            return Decision.AT_LIMIT
        decided = _decide_each(notifications, now=now)
        if silenced := _without_moot_reminders(_defer(decided)):
            _record_silenced(silenced, channel=channel, now=now)
        notifications = _without_moot_reminders([one for one, decision, _ in decided if decision is Decision.SEND])
        # Notifications in their group wait go early with one that is due, but not with one that is deferred.
        if not any(queries.is_to_plan(notification, now=now) for notification in notifications):
            return next((one for _, one, _ in decided if one is not Decision.SEND), Decision.NOTHING_DUE)
        _write_messages(notifications, channel=channel, now=now)
        channel.dispatched_at = now
        channel.save(update_fields=["dispatched_at"])
    return Decision.SEND


_Decided = tuple[Notification, Decision, domain.Deferral | None]


def _decide_each(notifications: Sequence[Notification], *, now: datetime) -> list[_Decided]:
    """Return the decision on each notification of a channel within its limit, with what defers it."""
    alert_ids = {notification.event.alert_id for notification in notifications}
    silences = queries.silences_in_force(now=now, alert_ids=alert_ids)
    deferrals = [queries.deferral_now(one, silences=silences, now=now) for one in notifications]
    return [
        (one, decide(is_at_limit=False, deferral=deferral), deferral)
        for one, deferral in zip(notifications, deferrals, strict=True)
    ]


def _defer(decided: Sequence[_Decided]) -> list[Notification]:
    """Move the due time of each deferred notification to the end of what defers it. Return those that are not sent,
    since their alert was silenced until it is over, and is over now."""
    deferred = []
    for notification, _, deferral in decided:
        if deferral is None:
            continue
        notification.deferred_by = (
            Notification.Deferral.QUIET if deferral.silence_id is None else Notification.Deferral.SILENCE
        )
        notification.silence_id, notification.due_at = deferral.silence_id, deferral.until
        deferred.append(notification)
    # A silence that is ended concurrently is detected here: either its end is committed, and seen by this lock, or it
    # waits for the lock and then finds what was deferred. In the first case the notification stays as it is, and the
    # next planner looks again.
    locked = queries.lock_silences({notification.silence_id for notification in deferred} - {None})
    silenced, later = [], []
    for notification in deferred:
        if notification.silence_id is not None:
            silence = locked.get(notification.silence_id)
            if silence is None or silence.ends_at != notification.due_at:
                continue
            notification.silence = silence
        is_over = notification.due_at is None and notification.event.alert.resolved_at is not None
        (silenced if is_over else later).append(notification)
    Notification.objects.bulk_update(later, ["deferred_by", "silence", "due_at"], batch_size=1_000)
    return silenced


def _record_silenced(notifications: Sequence[Notification], *, channel: Channel, now: datetime) -> None:
    """Write the message that records notifications of silenced alerts. Nobody is sent it."""
    message = Message(channel=channel, status=Message.Status.SILENCED, next_attempt_at=now, created_at=now)
    items = list(_items_of(notifications, channel=channel))
    message.items = [domain.as_data(one) for one in items]
    message.subject, message.text = compose_message(message, items, channel=channel)
    message.save(force_insert=True)
    for notification in notifications:
        notification.message, notification.due_at = message, now
    Notification.objects.bulk_update(notifications, ["deferred_by", "silence", "due_at", "message"], batch_size=1_000)


def _without_moot_reminders(notifications: Sequence[Notification]) -> list[Notification]:
    """Return the notifications without reminders of acknowledged or resolved alerts, which are deleted."""
    alerts = {notification.pk: notification.event.alert for notification in notifications if notification.repeat}
    moot = {pk for pk, alert in alerts.items() if alert.resolved_at is not None or alert.acknowledged_at is not None}
    Notification.objects.filter(pk__in=moot).delete()
    return [notification for notification in notifications if notification.pk not in moot]


def _write_messages(notifications: Sequence[Notification], *, channel: Channel, now: datetime) -> None:
    """Write one new message for all of them, except that a resolution or a correction joins the unsent message with its
    opening."""
    untried = queries.untried_messages(
        channel_id=channel.pk,
        alert_ids={
            notification.event.alert_id for notification in notifications if notification.event.kind in _JOINING
        },
    )
    new = Message(channel=channel, next_attempt_at=now, created_at=now)
    messages: dict[Message, list[Notification]] = {}
    for notification in notifications:
        message = untried.get(notification.event.alert_id, new) if notification.event.kind in _JOINING else new
        messages.setdefault(message, []).append(notification)
        notification.message = message
    for message, members in messages.items():
        items = [*map(domain.from_data, message.items), *_items_of(members, channel=channel)]
        message.items = [domain.as_data(one) for one in items]
        message.subject, message.text = compose_message(message, items, channel=channel)
    if new in messages:
        # Senders go by the database's clock, and ours may be ahead of it.
        new.next_attempt_at = Least(Value(now), Now())
        new.save(force_insert=True)
    merged = [message for message in messages if message is not new]
    Message.objects.bulk_update(merged, ["subject", "text", "items"], batch_size=100)
    Notification.objects.bulk_update(notifications, ["message"], batch_size=1_000)


def _items_of(notifications: Sequence[Notification], *, channel: Channel) -> Iterator[domain.MessageItem]:
    """Yield the item of each notification.

    If an alert has resolved and the channel gets no resolutions, its end follows its opening.
    """
    reader = queries.reader_of_messages(channel)
    alerts = {one.event.alert_id: one.event.alert for one in notifications}
    summaries = summaries_of(alerts.values(), reader=reader)
    resolved = [pk for pk, alert in alerts.items() if alert.resolved_at is not None]
    prices = prices_at_end(resolved) if resolved else {}
    for notification in notifications:
        alert = notification.event.alert
        item = _item_of(notification, summary=summaries[alert.pk], reader=reader)
        price = prices.get(alert.pk, "")
        yield replace(item, price=price) if item.event == domain.RESOLVED else item
        if item.event == domain.OPENED and alert.resolved_at is not None and not channel.wants_resolved:
            over = {"at": alert.resolved_at, "reason": alert.resolution, "detail": "", "price": price}
            yield replace(item, event=domain.RESOLVED, **over)


def item_of(notification: Notification) -> domain.MessageItem:
    """Return the item of a notification. It needs its channel, the event, its alert, rule and asset, and the silence
    that deferred it."""
    reader, alert = queries.reader_of_messages(notification.channel), notification.event.alert
    return _item_of(notification, summary=summaries_of([alert], reader=reader)[alert.pk], reader=reader)


def _item_of(notification: Notification, *, summary: str, reader: Reader) -> domain.MessageItem:
    event, alert = notification.event, notification.event.alert
    is_over = event.kind == AlertEvent.Kind.RESOLVED
    return domain.MessageItem(
        alert_id=alert.pk,
        event=domain.REMINDER if notification.repeat else _EVENTS[AlertEvent.Kind(event.kind)],
        at=event.at,
        # The summary says why it opened.
        reason=event.reason if is_over else "",
        detail=event.detail if is_over else _describe_correction(event, reader=reader),
        rule=alert.rule_name,
        symbol=alert.symbol,
        severity=alert.severity,
        summary=summary,
        url=settings.SITE_URL + reverse("admin:alerts_alert_change", args=[alert.pk]),
        deferred_by=_describe_deferral(notification, reader=reader),
        kind=alert.kind,
    )


def _describe_correction(event: AlertEvent, *, reader: Reader) -> str:
    return describe_correction(event.correction, reader=reader) if event.correction else ""


def _describe_deferral(notification: Notification, *, reader: Reader) -> str:
    if notification.given_up_on is not None:
        return f"the channel {notification.given_up_on}, on which it was given up"
    if notification.deferred_by == Notification.Deferral.NONE:
        return ""
    if notification.silence is None:
        return f"quiet hours {domain.describe_end(notification.due_at, reader=reader)}"
    until = domain.describe_end(notification.silence.ends_at, reader=reader)
    return f"the silence “{notification.silence.comment}” {until}"


def compose_message(message: Message, items: Sequence[domain.MessageItem], *, channel: Channel) -> tuple[str, str]:
    """Return (subject, text) of a message with these items, by the channel's templates where they can be filled in."""
    reader = queries.reader_of_messages(channel)
    subject, text = domain.compose(items, url=url_of(message), reader=reader)
    try:
        return domain.apply_templates(
            items,
            subject_template=channel.subject_template,
            text_template=channel.text_template,
            subject=subject,
            text=text,
            reader=reader,
        )
    except domain.TemplateInvalid as error:
        # They were checked when they were saved, but a placeholder may have been removed since. The alert is sent all
        # the same.
        logger.warning("template not used", extra={"channel": channel.pk, "reason": str(error)})
        return subject, text


def url_of(message: Message) -> str:
    """Return the URL of the message's page, which lists all of it."""
    return settings.SITE_URL + reverse("admin:notify_message_change", args=[message.pk])
