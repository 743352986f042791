"""Messages that a receiver refuses for good: another channel delivers them, or they are made smaller."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from apps.notify import domain, queries
from apps.notify.models import Channel, Message, Notification
from apps.notify.services.channels import channel_that_works
from apps.notify.services.planning import compose_message, url_of

# Of a text that is cut, so many characters are kept.
KEPT_OF_TEXT = 500


def hand_over(*, message_ids: Sequence[uuid.UUID], channel: Channel, now: datetime) -> int:
    """Have another channel of the owner notify of the alert events of messages that were given up, in the caller's
    transaction, and return how many those are: all of which no other channel of the owner notifies or has notified."""
    if not queries.may_be_notified(channel) or channel.owner_id < 0:
        return 0
    elsewhere = Notification.objects.filter(
        ~Q(message__status=Message.Status.FAILED) | Q(message=None),
        event=OuterRef("event"),
        channel__owner=channel.owner_id,
        channel__is_enabled=True,
    ).exclude(channel=channel.pk)
    orphans = Notification.objects.filter(~Exists(elsewhere), message__in=message_ids, repeat=0)
    event_ids = list(orphans.order_by("event").values_list("event", flat=True))
    if not event_ids:
        return 0
    other = channel_that_works(channel.owner, other_than=channel)
    rows = [Notification(event_id=pk, channel=other, due_at=now, given_up_on=channel) for pk in event_ids]
    return len(Notification.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1_000))


def again(messages: QuerySet[Message]) -> int:
    """Have these messages sent once more at once, by a schedule that begins anew, and return how many they are."""
    return messages.update(
        status=Message.Status.PENDING, next_attempt_at=Now(), lease_until=None, attempts_before=F("attempts")
    )


def make_smaller(message: Message, *, sent_again: QuerySet[Message], now: datetime) -> bool:
    """Make a message smaller that its receiver finds too large, and have it sent again, in the caller's transaction:
    one about several alerts in two halves, one about a single alert with less of its text. False where it is as small
    as can be.

    sent_again: the message, where it is still the sender's.
    """
    items = [domain.from_data(one) for one in message.items]
    alert_ids = list(dict.fromkeys(one.alert_id for one in items))
    if len(alert_ids) > 1:
        if again(sent_again):
            _halve(message, items=items, first=set(alert_ids[: len(alert_ids) // 2]), now=now)
        return True
    if len(message.text) <= 2 * KEPT_OF_TEXT:
        return False
    text = f"{message.text[:KEPT_OF_TEXT].rstrip()}…\nAll of it: {url_of(message)}"
    if again(sent_again):
        Message.objects.filter(pk=message.pk).update(text=text)
    return True


def _halve(message: Message, *, items: Sequence[domain.MessageItem], first: set[int], now: datetime) -> None:
    second = Message(channel=message.channel, next_attempt_at=now)
    halves = {
        message: [one for one in items if one.alert_id in first],
        second: [one for one in items if one.alert_id not in first],
    }
    for half, its_items in halves.items():
        half.items = [domain.as_data(one) for one in its_items]
        half.subject, half.text = compose_message(half, its_items, channel=message.channel)
    message.save(update_fields=["items", "subject", "text"])
    second.save(force_insert=True)
    Notification.objects.filter(message=message).exclude(event__alert__in=first).update(message=second)
