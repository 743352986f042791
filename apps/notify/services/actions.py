"""Actions by a link in a message: acknowledge its alerts, or silence them, for an hour or until they are over. The link
is signed, and expires."""

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse

from apps.alerts.models import Alert
from apps.alerts.queries import lock_open_alerts
from apps.alerts.services import acknowledge
from apps.notify import domain
from apps.notify.models import Message, Silence
from apps.notify.transports.protocol import Action

ACKNOWLEDGE, SILENCE, SILENCE_ALERT = "acknowledge", "silence", "silence_alert"
ACTIONS = {ACKNOWLEDGE: "Acknowledge", SILENCE: "Silence 1 h", SILENCE_ALERT: "Silence until over"}
VALID_FOR = timedelta(days=7)
SILENCED_FOR = timedelta(hours=1)
# A message about more assets of one rule silences the rule.
ASSETS_APART = 10
CLOCKS_DIFFER = timedelta(seconds=30)
_SALT = "notify.action"


class LinkInvalid(ValueError):
    """The link was not made here; the text is for people."""


class LinkOver(LinkInvalid):
    """The link was valid once, and has expired."""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an action link: for how many alerts, or silences, it changed something, and how many it was about.
    Alerts about the installation have no rule, so no link silences them."""

    done: int
    of: int


def action_links(*, message_id: uuid.UUID) -> tuple[Action, ...]:
    """Return the action links of a message. They are the same on every attempt."""
    signer = signing.Signer(salt=_SALT)
    return tuple(
        Action(
            label=label, url=settings.SITE_URL + reverse("action", args=[signer.sign_object([str(message_id), action])])
        )
        for action, label in ACTIONS.items()
    )


def message_of_link(token: str, *, now: datetime) -> tuple[Message, str]:
    """Return (message, action: a key of ACTIONS). Raises LinkInvalid or LinkOver."""
    try:
        message_id, action = signing.Signer(salt=_SALT).unsign_object(token)
    except signing.BadSignature:
        raise LinkInvalid("It is not one of this site's, or a part of it is missing.") from None
    message = Message.objects.select_related("channel__owner").filter(pk=message_id).first()
    if message is None or not message.channel.owner.is_active:
        raise LinkOver("The message that it stands in, or its owner, is gone.")
    if message.created_at < now - VALID_FOR:
        raise LinkOver(f"It is older than {VALID_FOR.days} days.")
    return message, action


def last_items_of(message: Message) -> list[domain.MessageItem]:
    """Return the last item of each alert of a message, in the order of their first items."""
    return domain.last_of_each(map(domain.from_data, message.items))


@transaction.atomic
def perform_action(*, message: Message, action: str, now: datetime) -> Done:
    """Perform the action of a link for each alert of the message. A second call changes nothing more.

    It is recorded as done by the channel's owner, since whoever has the message has the link.
    """
    # Two clicks at once are one after the other.
    Message.objects.select_for_update(no_key=True).get(pk=message.pk)
    alerts = Alert.objects.filter(events__notifications__message=message).distinct()
    if action == ACKNOWLEDGE:
        note = f"by the link in a message to {message.channel.name}"
        acknowledged = acknowledge(alerts=alerts, by=message.channel.owner, note=note, now=now)
        return Done(done=len(acknowledged), of=alerts.count())
    if action == SILENCE_ALERT:
        return _silence_alerts(message=message, alerts=alerts.filter(rule__isnull=False), now=now)
    return _silence(message=message, now=now)


def _silence_alerts(*, message: Message, alerts: QuerySet[Alert], now: datetime) -> Done:
    """Silence those of the alerts that are open, each until it is over."""
    owner = message.channel.owner
    # Locked for the reason given in create_silence.
    still_open = lock_open_alerts(alerts.filter(owner=owner).values_list("pk", flat=True))
    silenced = Silence.objects.filter(alert__in=still_open, ends_at=None).values_list("alert", flat=True)
    missing = sorted(set(still_open) - set(silenced))
    comment = f"{ACTIONS[SILENCE_ALERT]}, by the link in a message to {message.channel.name}"
    silences = [Silence(owner=owner, author=owner, alert_id=pk, starts_at=now, comment=comment) for pk in missing]
    Silence.objects.bulk_create(silences, batch_size=1_000)
    return Done(done=len(silences), of=alerts.count())


def _silence(*, message: Message, now: datetime) -> Done:
    pairs = set(
        Alert.objects.filter(events__notifications__message=message, rule__isnull=False).values_list(
            "rule_id", "asset_id"
        )
    )
    owner = message.channel.owner
    comment = f"{ACTIONS[SILENCE]}, by the link in a message to {message.channel.name}"
    # Of two clicks at once, the first may have read its clock last.
    in_force = owner.silences.filter(severity="", starts_at__lte=now + CLOCKS_DIFFER, ends_at__gt=now)
    # A second click makes none; but one of another origin, which may end in a minute, does not stand for the hour.
    in_force = in_force.filter(Q(comment=comment) | Q(ends_at__gte=now + SILENCED_FOR))
    wanted = _silenced_together(pairs)
    missing = sorted(wanted - set(in_force.values_list("rule_id", "asset_id")), key=str)
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
    Silence.objects.bulk_create(silences, batch_size=1_000)
    return Done(done=len(silences), of=len(wanted))


def _silenced_together(pairs: Iterable[tuple[int, int]]) -> set[tuple[int, int | None]]:
    """Return (rule, asset) of the silences for these; of a rule with many of them, one for all of its assets: nobody
    could end hundreds."""
    assets = Counter(rule_id for rule_id, _ in pairs)
    return {(rule_id, asset_id if assets[rule_id] <= ASSETS_APART else None) for rule_id, asset_id in pairs}
