"""What can be done by a link in a message: acknowledge, or silence for an hour. The link is signed, and expires."""

import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.urls import reverse

from apps.alerts.models import Alert
from apps.alerts.services import acknowledge
from apps.notify.models import Message, Silence
from apps.notify.transports.protocol import Act

ACKNOWLEDGE, SILENCE = "acknowledge", "silence"
ACTS = {ACKNOWLEDGE: "Acknowledge", SILENCE: "Silence 1 h"}
VALID_FOR = timedelta(days=7)
SILENCED_FOR = timedelta(hours=1)
_SALT = "notify.act"


class LinkInvalid(ValueError):
    """The link was not made here, or has expired, or what it is about is gone; the text is for people."""


def act_links(*, message_id: uuid.UUID) -> tuple[Act, ...]:
    """Return the links that stand in a message."""
    return tuple(
        Act(
            label=label,
            url=settings.SITE_URL + reverse("act", args=[signing.dumps([str(message_id), act], salt=_SALT)]),
        )
        for act, label in ACTS.items()
    )


def message_of_link(token: str) -> tuple[Message, str]:
    """Return (message, what is to be done: one of ACTS). Raises LinkInvalid."""
    try:
        message_id, act = signing.loads(token, salt=_SALT, max_age=VALID_FOR)
    except signing.SignatureExpired:
        raise LinkInvalid(f"The link is older than {VALID_FOR.days} days.") from None
    except signing.BadSignature:
        raise LinkInvalid("The link is not one of this site's, or is not whole.") from None
    message = Message.objects.select_related("channel__owner").filter(pk=message_id).first()
    if message is None:
        raise LinkInvalid("The message is gone.")
    return message, act


def act_by_link(*, message: Message, act: str, now: datetime) -> int:
    """Do what a link of the message says for each alert that the message tells of, and return for how many it changed
    something. A second call changes nothing more.

    It is the channel's owner who acts: whoever has the message has the link.
    """
    alerts = Alert.objects.filter(events__owed__message=message).distinct()
    if act == ACKNOWLEDGE:
        note = f"by the link in a message to {message.channel.name}"
        return len(acknowledge(alerts=alerts, by=message.channel.owner, note=note, now=now))
    return _silence(message=message, now=now)


@transaction.atomic
def _silence(*, message: Message, now: datetime) -> int:
    pairs = set(
        Alert.objects.filter(events__owed__message=message, rule__isnull=False).values_list("rule_id", "asset_id")
    )
    owner = message.channel.owner
    in_force = owner.silences.filter(severity="", starts_at__lte=now, ends_at__gt=now)
    missing = sorted(pairs - set(in_force.values_list("rule_id", "asset_id")))
    comment = f"{ACTS[SILENCE]}, by the link in a message to {message.channel.name}"
    silences = [
        Silence(
            owner=owner,
            author=owner,
            rule_id=rule_id,
            asset_id=asset_id,
            starts_at=now,
            ends_at=now + SILENCED_FOR,
            comment=comment,
        )
        for rule_id, asset_id in missing
    ]
    Silence.objects.bulk_create(silences)
    return len(silences)
