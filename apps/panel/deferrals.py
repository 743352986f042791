"""What holds something back, in words."""

from collections.abc import Collection, Iterable
from datetime import datetime

from django.utils import timezone

from apps.notify import domain, queries
from apps.notify.models import Channel, Owed, Silence
from apps.notify.services import WouldSend


def holds_in_words(shown: WouldSend, *, now: datetime) -> str:
    """Return what holds back now what would be sent; "" where nothing does. The channel may be one that is not
    saved."""
    if shown.hold is not None:
        return hold_in_words(shown.hold)
    if shown.channel.pk is not None and queries.is_at_its_limit(shown.channel, now=now):
        return f"It waits: {limit_in_words(shown.channel)} is used up. What is more comes together in the next."
    return ""


def hold_in_words(hold: domain.Hold) -> str:
    """Return what holds back what would be told now."""
    until = domain.moment(hold.until)
    if hold.silence_id is None:
        return f"Quiet hours hold it back until {until}."
    comment = Silence.objects.values_list("comment", flat=True).get(pk=hold.silence_id)
    return f"The silence “{comment}” holds it back until {until}."


def held_in_words(debt: Owed) -> str:
    """Return what holds a debt back, or did till it was told; "" where nothing did. It needs its silence."""
    if debt.hold == Owed.Hold.SILENCE:
        return f"the silence “{debt.silence.comment}”" if debt.silence is not None else "a silence"
    return "quiet hours" if debt.hold == Owed.Hold.QUIET else ""


def at_their_limit(channels: Iterable[Channel], *, now: datetime) -> set[int]:
    """Return the ids of those of the channels that have had as many messages in the last minute as they may."""
    return {pk for pk, one in {one.pk: one for one in channels}.items() if queries.is_at_its_limit(one, now=now)}


def why_it_waits(debt: Owed, *, at_limit: Collection[int]) -> str:
    """Return what a debt waits for that no message pays yet. It needs its silence and its channel; at_limit: the
    channels that have had all they may for now."""
    if debt.hold and debt.due_at > timezone.now():
        return f"the end of {held_in_words(debt)}, at {domain.moment(debt.due_at)}"
    if debt.due_at > timezone.now():
        return f"more alerts, which come with it at {domain.moment(debt.due_at)}"
    if debt.channel_id in at_limit:
        return f"room within {limit_in_words(debt.channel)}, with all else that waits"
    return "the next planning, within seconds"


def limit_in_words(channel: Channel) -> str:
    """Return what a channel may have of messages. It needs a limit."""
    count = channel.messages_per_minute
    return f"the channel's limit of {count} message{'' if count == 1 else 's'} a minute"
