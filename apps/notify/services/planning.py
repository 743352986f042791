"""What is owed becomes messages, or is held back."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from apps.alerts.models import AlertEvent
from apps.notify import domain, queries
from apps.notify.models import Channel, Message, Owed

logger = logging.getLogger(__name__)

_EVENTS = {AlertEvent.Kind.OPENED: domain.OPENED, AlertEvent.Kind.RESOLVED: domain.RESOLVED}


def plan(*, channel_id: int, now: datetime) -> bool:
    """Make the message that pays what is due on a channel, and return whether there is something new to be sent.

    As soon as one debt is due, all that wait with it are told in the same message. Where the channel has had as many
    messages in the last minute as it may, they wait on, together. What a silence or quiet hours hold back becomes due
    at their end.
    """
    with transaction.atomic():
        # One planner per channel at a time, and what is read is read after the lock: the debts of one alert, shared out
        # between two planners, would become two messages whose order nothing holds.
        channel = Channel.objects.select_for_update(no_key=True).filter(pk=channel_id).first()
        if channel is None:
            return False
        debts = queries.debts_to_plan(channel_id=channel_id, now=now)
        if not any(debt.due_at <= now for debt in debts) or queries.is_at_its_limit(channel, now=now):
            return False
        debts = _without_moot_reminders(_without_held(debts, now=now))
        # What only waits for company is told early with what is due and told, and not with what is held back.
        if not any(debt.due_at <= now for debt in debts):
            return False
        _write_messages(debts, channel=channel, now=now)
        channel.hurried_at = now
        channel.save(update_fields=["hurried_at"])
    return True


def _without_held(debts: Sequence[Owed], *, now: datetime) -> list[Owed]:
    """Return what nothing holds back; the rest is put off to the end of what does."""
    silences = queries.silences_in_force(now=now)
    free, held = [], []
    for debt in debts:
        hold = queries.hold_on(debt, silences=silences, now=now)
        if hold is None:
            free.append(debt)
            continue
        debt.hold = Owed.Hold.QUIET if hold.silence_id is None else Owed.Hold.SILENCE
        debt.silence_id, debt.due_at = hold.silence_id, hold.until
        held.append(debt)
    # Who ends a silence meanwhile was before us, which is seen here, or waits, and then finds what it holds back. Where
    # it was before us, the debt stays as it is, and whoever plans next looks again.
    ends = queries.lock_silences({debt.silence_id for debt in held} - {None})
    held = [debt for debt in held if debt.silence_id is None or ends.get(debt.silence_id) == debt.due_at]
    Owed.objects.bulk_update(held, ["hold", "silence", "due_at"], batch_size=1_000)
    return free


def _without_moot_reminders(debts: Sequence[Owed]) -> list[Owed]:
    """Return the debts without reminders of what somebody has acknowledged, or what is over: those are forgotten."""
    alerts = {debt.pk: debt.event.alert for debt in debts if debt.repeat}
    moot = {pk for pk, alert in alerts.items() if alert.resolved_at is not None or alert.acknowledged_at is not None}
    Owed.objects.filter(pk__in=moot).delete()
    return [debt for debt in debts if debt.pk not in moot]


def _write_messages(debts: Sequence[Owed], *, channel: Channel, now: datetime) -> None:
    """Write one new message for all of it, but for ends of what an untried message tells: that one tells both."""
    untried = queries.untried_messages(
        channel_id=channel.pk,
        alert_ids={debt.event.alert_id for debt in debts if debt.event.kind == AlertEvent.Kind.RESOLVED},
    )
    new = Message(channel=channel, next_attempt_at=now, created_at=now)
    messages: dict[Message, list[Owed]] = {}
    for debt in debts:
        message = untried.get(debt.event.alert_id, new) if debt.event.kind == AlertEvent.Kind.RESOLVED else new
        messages.setdefault(message, []).append(debt)
        debt.message = message
    for message, paid in messages.items():
        told = [*map(domain.from_data, message.told), *_told_of_all(paid, channel=channel)]
        message.told = [domain.as_data(one) for one in told]
        message.subject, message.text = words_of(message, told, channel=channel)
    if new in messages:
        new.save(force_insert=True)
    merged = [message for message in messages if message is not new]
    Message.objects.bulk_update(merged, ["subject", "text", "told"], batch_size=100)
    Owed.objects.bulk_update(debts, ["message"], batch_size=1_000)


def _told_of_all(debts: Sequence[Owed], *, channel: Channel) -> Iterator[domain.Told]:
    """Give what is told of debts: the event of each, and after the opening of what is over by now its end too, where
    the channel is owed no end."""
    for debt in debts:
        told, alert = told_of(debt), debt.event.alert
        yield told
        if told.event == domain.OPENED and alert.resolved_at is not None and not channel.wants_resolved:
            yield replace(told, event=domain.RESOLVED, at=alert.resolved_at, reason=alert.resolution)


def told_of(debt: Owed) -> domain.Told:
    """Return what is told of a debt. It needs the event, its alert, rule and asset, and the silence that held it."""
    event, alert = debt.event, debt.event.alert
    return domain.Told(
        alert_id=alert.pk,
        event=domain.REMINDER if debt.repeat else _EVENTS[AlertEvent.Kind(event.kind)],
        at=event.at,
        # Why it opened is in its words.
        reason=event.reason if event.kind == AlertEvent.Kind.RESOLVED else "",
        rule=alert.rule_name,
        symbol=alert.symbol,
        severity=alert.severity,
        words=alert.words,
        url=settings.SITE_URL + reverse("admin:alerts_alert_change", args=[alert.pk]),
        held_by=_held_by(debt),
    )


def _held_by(debt: Owed) -> str:
    if debt.hold == Owed.Hold.NONE:
        return ""
    if debt.silence is None:
        return f"quiet hours until {domain.moment(debt.due_at)}"
    return f"the silence “{debt.silence.comment}” until {domain.moment(debt.silence.ends_at)}"


def words_of(message: Message, told: Sequence[domain.Told], *, channel: Channel) -> tuple[str, str]:
    """Return (subject, text) of a message that tells this, by the channel's templates where they can be filled in."""
    subject, text = domain.compose(told, url=url_of(message))
    try:
        return domain.apply_templates(
            told,
            subject_template=channel.subject_template,
            text_template=channel.text_template,
            subject=subject,
            text=text,
        )
    except domain.TemplateInvalid as error:
        # They were checked when they were saved; placeholders may have gone since. An alert is told all the same.
        logger.warning("template not used", extra={"channel": channel.pk, "reason": str(error)})
        return subject, text


def url_of(message: Message) -> str:
    """Return where the message stands on the site, with all that it lists."""
    return settings.SITE_URL + reverse("admin:notify_message_change", args=[message.pk])
