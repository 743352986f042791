"""Rules of one person handed to another, with their alerts (ADR 81)."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, transaction
from django.db.models import Q

from apps.alerts.models import Alert, AlertEvent
from apps.market import services as market
from apps.market.queries import assets_chosen
from apps.notify.models import Channel, Notification, Silence
from apps.notify.queries import lasts
from apps.notify.services import enqueue, set_channels
from apps.owned_ids import is_owned
from apps.ownership.locks import why_locked
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleChange
from apps.rules.queries import newest_versions, rules_of

logger = logging.getLogger(__name__)


class HandOverRefused(Exception):
    """Nothing is handed over; the text says why, for people."""


class HandOver(NamedTuple):
    """What goes from one person to another: rules, how many open alerts with them; and the rules that stay, each with
    why."""

    rules: list[Rule]
    open_alerts: int
    staying: list[tuple[Rule, str]]


def plan_hand_over(*, owner: User, to: User) -> HandOver:
    """Return what would go from `owner` to `to`. Raises HandOverRefused."""
    if not to.is_active or to.pk < 0 or to.pk == owner.pk:
        raise HandOverRefused(f"{to} cannot take rules.")
    going, staying = [], []
    rules = list(rules_of(owner).order_by("name"))
    versions = newest_versions([rule.pk for rule in rules])
    taken = set(rules_of(to).values_list("name", flat=True))
    for rule in rules:
        document = versions[rule.pk].document if rule.pk in versions else {}
        why = _why_it_stays(document, owner=owner, to=to)
        if not why and rule.name in taken:
            why = f"{to} has a rule of this name; rename one of the two."
        if why:
            staying.append((rule, why))
        else:
            going.append(rule)
    if len(taken) + len(going) > settings.RULES_PER_OWNER:
        raise HandOverRefused(f"{to} would have more than {settings.RULES_PER_OWNER} rules.")
    return HandOver(going, Alert.objects.filter(rule__in=going, resolved_at=None).count(), staying)


def _why_it_stays(document: object, *, owner: User, to: User) -> str:
    """Return why a rule would mean something else under another owner, or ""."""
    try:
        spec = RuleSpec.read(document)
    except RuleInvalid as error:
        return f"It cannot be read: {error}."
    theirs = assets_chosen(symbols=spec.assets.symbols, owner_id=owner.pk)
    for asset in theirs:
        if is_owned(asset.pk):
            return f"It is on {asset.symbol}, which {owner} alone sees."
    by_symbol = {asset.symbol: asset.pk for asset in theirs}
    for asset in assets_chosen(symbols=spec.assets.symbols, owner_id=to.pk):
        if by_symbol.get(asset.symbol) != asset.pk:
            return f"It is on {asset.symbol}, and {to} has an asset of their own of this symbol."
    return ""


def hand_over_rules(*, owner: User, to: User, channels: Sequence[Channel], now: datetime) -> HandOver:
    """Make the rules of one person another's, with all of their alerts and with the silences of them that last, and
    return what went. They notify these channels of the new owner's from now on, at first of what is open. Raises
    HandOverRefused.

    What they mean stays, so nothing enters a log.
    """
    if any(channel.owner_id != to.pk for channel in channels):
        raise ValueError("rules notify only channels of their owner")
    try:
        return _hand_over(owner=owner, to=to, channels=channels, now=now)
    except OperationalError as error:
        if why := why_locked(error):
            raise HandOverRefused(why) from None
        raise


@transaction.atomic
def _hand_over(*, owner: User, to: User, channels: Sequence[Channel], now: datetime) -> HandOver:
    # In order, so that two hand-overs do not wait for each other; and whoever saves a rule waits here.
    people = User.objects.select_for_update(no_key=True).filter(pk__in=(owner.pk, to.pk)).order_by("pk")
    by_id = {one.pk: one for one in people}
    if by_id.keys() != {owner.pk, to.pk}:
        raise HandOverRefused("One of the two accounts is there no more.")
    list(Rule.objects.select_for_update(no_key=True).filter(owner=owner).order_by("pk"))
    planned = plan_hand_over(owner=by_id[owner.pk], to=by_id[to.pk])
    ids = [rule.pk for rule in planned.rules]
    # Nothing opens meanwhile that would be the old owner's.
    market.lock_logs(
        set(RuleChange.objects.filter(rule__in=ids).order_by().values_list("entry__feed", flat=True).distinct())
    )
    Rule.objects.filter(pk__in=ids).update(owner=to)
    Alert.objects.filter(rule__in=ids).update(owner=to)
    Silence.objects.filter(Q(rule__in=ids) | Q(alert__rule__in=ids), lasts(now), owner=owner).update(owner=to)
    # What waits for the old channels is the new owner's business.
    waiting = Notification.objects.filter(event__alert__rule__in=ids, message=None)
    waiting.filter(channel__owner=owner).delete()
    handed = list(Rule.objects.filter(pk__in=ids).order_by("name"))
    for rule in handed:
        set_channels(rule=rule, channels=channels)
    openings = AlertEvent.objects.filter(
        alert__rule__in=ids, alert__resolved_at=None, kind=AlertEvent.Kind.OPENED
    ).select_related("alert__rule__owner")
    enqueue(list(openings.order_by("pk")), now=now)
    logger.info("rules handed over", extra={"from": owner.pk, "to": to.pk, "rules": ids})
    return planned._replace(rules=handed, open_alerts=len(openings))
